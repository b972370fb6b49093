"""How fuzz cases are drawn: a builder for every group of functions. All that is drawn is valid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from fuzz_oracle import (
    Bilinear, activated, ceil_outputs, computed_in, epsilon, kind_of, same_pads, sliding,
    sum_dtype, widened,
)  # fmt: skip
from fuzzing import OUT_STYLES, STYLES, Case, Given, values_of
from hypothesis import strategies as st

try:
    from ml_dtypes import bfloat16
except ImportError:  # an optional dtype: what is drawn in its place is float16
    bfloat16 = np.float16

Array = np.ndarray[Any, Any]
Draw = Callable[[Any], Any]

FLOATS = ("float32", "float64", "float16", bfloat16)
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
COMPLEX = ("complex64", "complex128")
HUGE = (2**40, 2**61)
BACKENDS = (
    None, None, "tiled", "im2col", "direct", "loop", "reference", "cython", "numba", "numpy", "cuda",
    "tiled/cython", "im2col/cython", "direct/cython", "loop/cython", "tiled/numba", "im2col/numba",
    "direct/numba", "loop/numba", "im2col/numpy", "direct/numpy", "reference/numpy", "loop/numpy",
)  # fmt: skip
ACTIVATIONS = (None, None, "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")


@cache
def ints(low: int, high: int) -> Any:
    """Integers, a strategy made once."""
    return st.integers(low, high)


@cache
def pick(*options: Any) -> Any:
    """One of the options, a strategy made once."""
    return st.sampled_from(options)


def rarely(draw: Draw) -> bool:
    """True once in a dozen times."""
    return bool(draw(ints(0, 11)) == 11)


def letters_of(rank: int) -> str:
    """D, H, W as far as there are."""
    return "DHW"[3 - rank :]


def to_user(canonical: Array, last: bool, batched: bool = True) -> Array:
    """(N, C, ...) in the user's layout, C-contiguous."""
    moved = np.moveaxis(canonical, 1, -1) if last else canonical
    return np.ascontiguousarray(moved if batched else moved[0]).reshape(
        moved.shape if batched else moved.shape[1:]
    )


def from_user(array: Array, last: bool, batched: bool = True) -> Array:
    """(N, C, ...) from the user's layout."""
    whole = array if batched else array[None]
    return np.moveaxis(whole, -1, 1) if last else whole


def given(draw: Draw, shape: Sequence[int], dtype: Any, tier: str) -> Given:
    """An array of random values in memory of a random style."""
    seed = draw(ints(0, 2**20))
    values = values_of(np.random.default_rng(seed), tuple(shape), dtype, tier)
    return Given.make(values, draw(pick(*STYLES)), seed)


def size_argument(draw: Draw, values: Sequence[int]) -> Any:
    """One integer per axis as users write them."""
    form = draw(ints(0, 4))
    if len(set(values)) == 1 and form < 3:
        return (int(values[0]), np.int64(values[0]), [values[0]])[form]
    return (tuple(values), list(values), np.array(values), tuple(map(np.int64, values)))[form % 4]


def settings_of(draw: Draw) -> dict[str, Any]:
    """Threads of the first and the second run, and the memory of ``out``."""
    out = draw(pick(*OUT_STYLES)), draw(ints(0, 999))
    return {"threads": draw(pick((1, 2), (1, 3), (2, 1), (3, 2))), "out": out}


@dataclass
class Window:
    """A sliding window over the spatial axes, and how the user writes it."""

    sizes: list[int]
    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    pads: list[tuple[int, int]]
    outputs: list[int]
    padding: Any

    def places(self, mode: str = "constant") -> Array:
        """The oracle's table."""
        return sliding(
            self.sizes, self.outputs, self.kernel, self.stride, self.dilation, self.pads, mode
        )


def draw_pads(
    draw: Draw, sizes: list[int], spans: list[int], stride: list[int], most: list[int], named: bool
) -> tuple[list[tuple[int, int]], Any]:
    """Padding of at most ``most``, and how it is written."""
    form = draw(pick("number", "none", "pairs", "axes", *(("named",) if named else ())))
    rank = len(sizes)
    if form == "named":
        name = draw(pick("valid", "same_upper", "same_lower", "same"))
        if name == "valid":
            return [(0, 0)] * rank, name
        if name == "same" and any(step != 1 for step in stride):
            name = "same_upper"
        rows = zip(sizes, spans, stride, strict=True)
        return [same_pads(*row, name != "same_lower") for row in rows], name
    if form == "pairs":
        pads = [(draw(ints(0, top)), draw(ints(0, top))) for top in most]
        return pads, draw(pick(tuple, list))(pads)
    if form == "none":
        return [(0, 0)] * rank, 0
    widths = [draw(ints(0, top)) for top in most]
    if form == "number":
        widths = [min(widths)] * rank
    return [(width, width) for width in widths], size_argument(draw, widths)


def draw_window(draw: Draw, rank: int, *, pooling: bool = False, named: bool = True) -> Window:
    """A window that fits."""
    most, taps = {1: (24, 5), 2: (7, 4), 3: (4, 3)}[rank]
    sizes = [draw(ints(1, most)) for _ in range(rank)]
    kernel = [draw(ints(1, taps)) for _ in range(rank)]
    dilation = [draw(ints(1, 3)) if taps > 1 else 1 for taps in kernel]
    stride = [draw(ints(1, 3)) for _ in range(rank)]
    if rarely(draw):
        stride[-1] = draw(pick(*HUGE))
    if rarely(draw) and kernel[0] == 1:
        dilation[0] = draw(pick(*HUGE))
    spans = [gap * (taps - 1) + 1 for gap, taps in zip(dilation, kernel, strict=True)]
    most_pads = [taps // 2 if pooling else min(taps + 1, 4) for taps in kernel]
    sizes = [max(size, span - 4 * (not pooling)) for size, span in zip(sizes, spans, strict=True)]
    pads, padding = draw_pads(draw, sizes, spans, stride, most_pads, named)
    for axis, (span, pair) in enumerate(zip(spans, pads, strict=True)):
        short = max(span - sizes[axis] - sum(pair), 0)
        # A named padding of a larger input is another one: those start from inputs that fit.
        sizes[axis] += short
        if isinstance(padding, str) and short:
            pads[axis] = (
                (0, 0)
                if padding == "valid"
                else same_pads(sizes[axis], span, stride[axis], padding != "same_lower")
            )
    outputs = [ceil_outputs(*row, False) for row in zip(sizes, spans, stride, pads, strict=True)]
    return Window(sizes, kernel, stride, dilation, pads, outputs, padding)


def draw_transposed(draw: Draw, rank: int) -> tuple[Window, list[int]]:
    """A window whose inputs are its ``outputs``, and the output padding."""
    most, taps = {1: (12, 5), 2: (5, 3), 3: (3, 3)}[rank]
    inputs = [draw(ints(1, most)) for _ in range(rank)]
    kernel = [draw(ints(1, taps)) for _ in range(rank)]
    stride, dilation = ([draw(ints(1, 3)) for _ in range(rank)] for _ in range(2))
    if rarely(draw) and inputs[-1] == 1:
        stride[-1] = draw(pick(*HUGE))
    extra = [
        draw(ints(0, min(max(step, gap) - 1, 2)))
        for step, gap in zip(stride, dilation, strict=True)
    ]
    spans = [gap * (taps - 1) + 1 for gap, taps in zip(dilation, kernel, strict=True)]
    full = [
        (count - 1) * step + span + more
        for count, step, span, more in zip(inputs, stride, spans, extra, strict=True)
    ]
    tops = [min((size - 1) // 2, 3) for size in full]
    pads, padding = draw_pads(draw, inputs, spans, stride, tops, False)
    sizes = [size - sum(pair) for size, pair in zip(full, pads, strict=True)]
    return Window(sizes, kernel, stride, dilation, pads, inputs, padding), extra


def draw_tier(draw: Draw, kind: str) -> str:
    """Which values."""
    if kind == "float":
        return str(draw(pick("small", "full", "full", "special")))
    return str(draw(pick("small", "full")))


def draw_dtypes(draw: Draw, count: int, kinds: Sequence[Any]) -> list[Any]:
    """As many dtypes: mostly all the same."""
    first = draw(pick(*kinds))
    if draw(ints(0, 5)) or first is bfloat16:
        return [first] * count
    others = [dtype for dtype in kinds if dtype is not bfloat16]
    return [first] + [draw(pick(*others)) for _ in range(count - 1)]


#: (kind, role) -> target, {letter of a given array: its parameter}, letter that is conjugated.
ROLES: dict[tuple[str, str], tuple[str, dict[str, str], str]] = {
    ("conv", "forward"): ("y", {"x": "input", "w": "weight"}, ""),
    ("conv", "input"): ("x", {"w": "weight", "y": "grad_output"}, "w"),
    ("conv", "weight"): ("w", {"x": "input", "y": "grad_output"}, "x"),
    ("conv_transpose", "forward"): ("x", {"y": "input", "w": "weight"}, ""),
    ("conv_transpose", "input"): ("y", {"x": "grad_output", "w": "weight"}, "w"),
    ("conv_transpose", "weight"): ("w", {"x": "grad_output", "y": "input"}, "y"),
}
FAMILY = {"y": "fprop", "x": "dgrad", "w": "wgrad"}


@dataclass
class Layer:
    """The shapes of a convolution's x, w and y in canonical axes, and the user's layouts."""

    window: Window
    extra: list[int] | None
    shapes: dict[str, tuple[int, ...]]
    groups: int
    last: bool
    batched: bool
    local: bool
    axes: str  #: of w in canonical order, as the user names them
    letters: str  #: of w as the user has it
    arguments: dict[str, Any]

    def user_shape(self, letter: str) -> tuple[int, ...]:
        """Of x, w or y in the user's layout."""
        shape = self.shapes[letter]
        if letter == "w":
            own = dict(zip(self.axes, shape[self.local :], strict=True))
            return shape[: self.local] + tuple(own[axis] for axis in self.letters)
        whole = (shape[0], *shape[2:], shape[1]) if self.last else shape
        return whole if self.batched else whole[1:]

    def canonical(self, letter: str, array: Array) -> Array:
        """From the user's layout."""
        if letter != "w":
            return from_user(array, self.last, self.batched)
        order = [self.letters.index(axis) + self.local for axis in self.axes]
        return array.transpose(([0] if self.local else []) + order)

    def user(self, letter: str, array: Array) -> Array:
        """To the user's layout."""
        if letter != "w":
            return to_user(array, self.last, self.batched)
        order = [self.axes.index(axis) + self.local for axis in self.letters]
        return array.transpose(([0] if self.local else []) + order)


def draw_layer(draw: Draw, kind: str, rank: int, role: str, depthwise: bool = False) -> Layer:
    """A layer of any kind and its arguments."""
    forward, transposed, local = role == "forward", kind == "conv_transpose", kind == "local"
    if transposed:
        window, extra = draw_transposed(draw, rank)
    else:
        window, extra = draw_window(draw, rank, named=forward), None
    groups, c, k = draw(ints(1, 3)), draw(ints(1, 3)), draw(ints(1, 3))
    if depthwise:
        c = 1
    elif rarely(draw):
        c, k = draw(pick((17, 2), (2, 17), (9, 9), (1, 33)))
    n = draw(pick(1, 2, 3, 0))
    batched = not forward or n != 1 or draw(st.booleans())
    letter_axes = ("IO" if transposed else "OI") + letters_of(rank)
    last = draw(pick(None, False, True))
    layout = None if last is None else f"N{letters_of(rank)}C" if last else f"NC{letters_of(rank)}"
    usual = letters_of(rank) + ("OI" if transposed else "IO") if last else letter_axes
    given_letters = "".join(draw(st.permutations(usual))) if rarely(draw) else None
    count = math.prod(window.outputs)
    shapes = {
        "x": (n, groups * c, *window.sizes),
        "y": (n, groups * k, *window.outputs),
        "w": ((count,) if local else ()) + (groups * k, c, *window.kernel),
    }
    arguments = {
        "stride": size_argument(draw, window.stride), "padding": window.padding,
        "dilation": size_argument(draw, window.dilation), "groups": groups,
        "layout": layout, "weight_layout": given_letters,
    }  # fmt: skip
    if depthwise:
        del arguments["groups"]
    if extra is not None:
        arguments["output_padding"] = size_argument(draw, extra)
    # The axes of w that the user calls I and O: a transposed layer's are exchanged.
    return Layer(
        window, extra, shapes, groups, bool(last), batched, local, letter_axes,
        given_letters or usual, arguments,
    )  # fmt: skip


def bilinear_case(draw: Draw, kind: str, role: str, rank: int, depthwise: bool = False) -> Case:
    """Convolutions of every kind, and their adjoints in input and weight."""
    layer = draw_layer(draw, kind, rank, role, depthwise)
    base = "depthwise_conv" if depthwise else "locally_connected" if kind == "local" else kind
    name = f"{base}{rank}d" + ("" if role == "forward" else f"_{role}")
    target, parameters, conjugated = ROLES["conv" if kind == "local" else kind, role]
    dtypes = draw_dtypes(draw, 3, (*FLOATS, *FLOATS, *INTEGERS, *COMPLEX))
    pairs = zip(parameters.values(), dtypes, strict=False)
    kinds = {kind_of(dtype) for dtype in dtypes}
    tier = draw_tier(draw, "float") if kinds == {"float"} else draw_tier(draw, "other")
    arrays, canonical = {}, {}
    for letter, (parameter, dtype) in zip(parameters, pairs, strict=True):
        arrays[parameter] = given(draw, layer.user_shape(letter), dtype, tier)
        canonical[letter] = layer.canonical(letter, arrays[parameter].values)
    arguments: dict[str, Any] = {**layer.arguments, "backend": draw(pick(*BACKENDS))}
    if role != "forward":
        missing = "w" if role == "weight" else next(key for key in "xyw" if key not in parameters)
        arguments["weight_size" if role == "weight" else "input_size"] = layer.user_shape(missing)
    else:
        channels = layer.shapes[target][1]
        per_position = layer.local and draw(st.booleans())
        shape = (channels, *layer.window.outputs) if per_position else (channels,)
        if draw(st.booleans()):
            arrays["bias"] = given(draw, shape, dtypes[2], tier)
    return finish(draw, name, kind, layer, target, conjugated, arrays, canonical, arguments, tier)


def draw_padding_mode(draw: Draw, layer: Layer, common: Any, arguments: dict[str, Any]) -> Any:
    """The mode, and the value outside; both go to the arguments."""
    window, mode = (
        layer.window,
        draw(pick("constant", "constant", "replicate", "reflect", "circular")),
    )
    slack = {"reflect": -1, "circular": 0}.get(mode, 99)
    rows = zip(window.sizes, window.pads, strict=True)
    if any(max(pair) > max(size + slack, 0) for size, pair in rows):
        mode = "constant"
    value = draw(pick(0, 0, 1, 3, 0.5)) if kind_of(common) != "integer" else draw(pick(0, 0, 1, 3))
    if mode != "constant":
        value = 0
    arguments.update(padding_mode=mode, padding_value=value)
    return mode, value


def draw_out_dtype(draw: Draw, common: Any) -> Any:
    """None, or a dtype of the same kind or a wider one."""
    if draw(ints(0, 5)):
        return None
    ranks = {"integer": INTEGERS + FLOATS + COMPLEX, "float": FLOATS + COMPLEX, "complex": COMPLEX}
    return draw(pick(*ranks[kind_of(common)]))


def finish(
    draw: Draw, name: str, kind: str, layer: Layer, target: str, conjugated: str,
    arrays: dict[str, Given], canonical: dict[str, Array], arguments: dict[str, Any], tier: str,
) -> Case:  # fmt: skip
    """The expectation and the tolerance of a bilinear case."""
    common = np.result_type(*(array.values.dtype for array in arrays.values()))
    result, mode, fill, activation = sum_dtype(common), "constant", 0, None
    if "_weight" not in name and "_input" not in name:
        options = ACTIVATIONS if kind_of(common) == "float" else (None, "relu", "relu6")
        activation = draw(pick(*options)) if kind_of(common) != "complex" else None
        arguments["activation"] = activation
        if kind != "local":
            arguments["out_dtype"] = draw_out_dtype(draw, common)
            result = np.dtype(arguments["out_dtype"] or result)
        if kind == "conv":
            mode, fill = draw_padding_mode(draw, layer, common, arguments)
    if kind_of(common) == "float" and kind_of(result) == "complex":
        arguments["activation"] = activation = None
    operands = {letter: widened(array, common) for letter, array in canonical.items()}
    if conjugated:
        operands[conjugated] = operands[conjugated].conj()
    window = layer.window
    oracle = Bilinear(
        window.places(mode), layer.groups, window.sizes, window.outputs, window.kernel, layer.local
    )
    exact = oracle.target(target, operands, fill)
    expected = layer.user(target, exact)
    bias = arrays.get("bias")
    size = layer.user(
        target, oracle.target(target, {k: np.abs(v) for k, v in operands.items()}, abs(fill))
    )
    if bias is not None:
        added = widened(bias.values, common).reshape(
            -1, *(window.outputs if bias.values.ndim > 1 else (1,) * len(window.outputs))
        )
        with np.errstate(all="ignore"):
            expected = expected + to_user(added[None], layer.last, False)
            size = size + np.abs(to_user(added[None], layer.last, False))
    length = {"y": layer.shapes["w"][-1 - len(window.kernel)] * math.prod(window.kernel),
              "x": layer.shapes["y"][1] // layer.groups * math.prod(window.kernel),
              "w": max(layer.shapes["x"][0] * math.prod(window.outputs), 1)}[target]  # fmt: skip
    tolerance = sum_tolerance(common, result, tier, length, size)
    if activation not in (None, "relu", "relu6"):
        expected = activated(expected, activation)
        # Slopes are below 1.13; evaluating takes some roundings of its own.
        tolerance = 1.13 * np.asarray(tolerance) + 16 * epsilon(computed_in(common, result)) * (
            np.abs(expected) + 1e-3
        )
    else:
        expected = activated(expected, activation)
    with np.errstate(invalid="ignore"):
        tolerance = np.where(np.isfinite(tolerance), tolerance, 0)
    return Case(
        name, arrays, arguments, result, expected, tolerance, None, (FAMILY[target],),
        "integer" if common.name in ("int32", "int64") else "float", settings_of(draw),
    )  # fmt: skip


def sum_tolerance(common: Any, result: Any, tier: str, length: int, size: Array) -> Any:
    """``(L + 2) eps_acc ref(|x|, |w|)``, the accumulator's share of the bound; none for integers
    and for small integers in floats. A complex sum is two real ones of twice the length.
    """
    if kind_of(common) == "integer" or tier == "small":
        return 0.0
    terms = length * (2 if kind_of(common) == "complex" else 1) + 2
    return terms * epsilon(computed_in(common, result)) * size
