"""Fuzz cases of convolutions: dense, depthwise, transposed, locally connected; their adjoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .checking import Case, Given
from .draws import (
    ACTIVATIONS,
    BACKENDS,
    COMPLEX,
    FLOATS,
    INTEGERS,
    Draw,
    Window,
    draw_dtypes,
    draw_tier,
    draw_transposed,
    draw_window,
    from_user,
    given,
    ints,
    letters_of,
    pick,
    rarely,
    settings_of,
    size_argument,
    sum_tolerance,
    to_user,
    value_tolerance,
)
from .oracle import Bilinear, activated, computed_in, kind_of, sum_dtype, widened

Array = np.ndarray[Any, Any]

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
    if depthwise and draw(st.booleans()):
        arguments["groups"] = None
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
    if not name.endswith(("_weight", "_input")):
        result, mode, fill, activation = draw_forward(draw, kind, layer, common, arguments)
    operands = {letter: widened(array, common) for letter, array in canonical.items()}
    if conjugated:
        operands[conjugated] = operands[conjugated].conj()
    window = layer.window
    oracle = Bilinear(
        window.places(mode), layer.groups, window.sizes, window.outputs, window.kernel, layer.local
    )
    sizes = {letter: np.abs(array) for letter, array in operands.items()}
    expected = layer.user(target, oracle.target(target, operands, fill))
    size = layer.user(target, oracle.target(target, sizes, abs(fill)))
    if "bias" in arrays:
        added = widened(arrays["bias"].values, common)
        unit = (1,) * len(window.outputs)
        added = added.reshape(-1, *(window.outputs if added.ndim > 1 else unit))
        added = to_user(added[None], layer.last, False)
        with np.errstate(all="ignore"):
            expected, size = expected + added, size + np.abs(added)
    taps = math.prod(window.kernel)
    lengths = {
        "y": layer.shapes["w"][1 + layer.local] * taps,
        "x": layer.shapes["y"][1] // layer.groups * taps,
        "w": max(layer.shapes["x"][0] * math.prod(window.outputs), 1),
    }
    tolerance = sum_tolerance(common, result, tier, lengths[target], size)
    expected = activated(expected, activation)
    tolerance = value_tolerance(activation, tolerance, expected, computed_in(common, result))
    return Case(
        name, arrays, arguments, result, expected, tolerance, None, (FAMILY[target],),
        "integer" if common.name in ("int32", "int64") else "float", settings_of(draw),
    )  # fmt: skip


def draw_forward(
    draw: Draw, kind: str, layer: Layer, common: Any, arguments: dict[str, Any]
) -> tuple[Any, str, Any, str | None]:
    """The result's dtype, padding and activation of a forward call; all go to the arguments."""
    result, mode, fill, activation = sum_dtype(common), "constant", 0, None
    arguments["out_dtype"] = draw_out_dtype(draw, common)
    result = np.dtype(arguments["out_dtype"] or result)
    if kind != "conv_transpose":
        mode, fill = draw_padding_mode(draw, layer, common, arguments)
    if kind_of(common) == "integer":
        activation = draw(pick(None, "relu", "relu6"))
    elif kind_of(result) == "float":
        activation = draw(pick(*ACTIVATIONS))
    arguments["activation"] = activation
    return result, mode, fill, activation
