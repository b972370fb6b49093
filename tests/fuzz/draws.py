"""What every builder of fuzz cases draws: numbers, arrays, windows, layouts, dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .checking import OUT_STYLES, STYLES, Given, values_of
from .oracle import (
    ceil_outputs,
    computed_in,
    epsilon,
    kind_of,
    same_pads,
    sliding,
)  # fmt: skip

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
    None, None, "tiled", "im2col", "direct",
    "loop", "reference", "cython", "numba", "numpy", "cuda",
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


def sum_tolerance(common: Any, result: Any, tier: str, length: int, size: Array) -> Any:
    """``(L + 2) eps_acc ref(|x|, |w|)``, the accumulator's share of the bound; none for integers
    and for small integers in floats. A complex sum is two real ones of twice the length.
    """
    if kind_of(common) == "integer" or tier == "small":
        return 0.0
    terms = length * (2 if kind_of(common) == "complex" else 1) + 2
    return terms * epsilon(computed_in(common, result)) * size


def value_tolerance(
    activation: str | None, tolerance: Any, expected: Array, accumulator: Any
) -> Any:
    """A tolerance behind an activation (slopes are below 1.13; evaluating it takes roundings of its
    own); 0 where it isn't finite, as infinities and NaN are compared as such.
    """
    tolerance = np.asarray(tolerance)
    if activation not in (None, "relu", "relu6"):
        with np.errstate(all="ignore"):
            tolerance = 1.13 * tolerance + 16 * epsilon(accumulator) * (np.abs(expected) + 1e-3)
    return np.where(np.isfinite(tolerance), tolerance, 0)
