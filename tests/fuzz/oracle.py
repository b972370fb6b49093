"""An oracle for the fuzz tests that shares nothing with cnnfast: tables of places.

Every sliding window is a table (windows, taps) of flat places in the input's plane, -1 for what
lies outside. Reading through it is a window, adding through it the adjoint; what a function means
then takes a line of NumPy in int64, float64 or complex128. Arrays are channels first: (N, C, ...).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pairs = Sequence[tuple[int, int]]

#: What sums of integers come back in.
SUMS = {"int8": "int32", "uint8": "int32", "int16": "int64", "int32": "int64", "int64": "int64"}


def kind_of(dtype: Any) -> str:
    """One of integer, float and complex; bfloat16's kind is "V" to NumPy."""
    return {"i": "integer", "u": "integer", "c": "complex"}.get(np.dtype(dtype).kind, "float")


def sum_dtype(common: Any) -> Any:
    """The dtype of sums by the contract."""
    return np.dtype(SUMS.get(np.dtype(common).name, common))


def widened(array: Array, common: Any) -> Array:
    """In the common dtype first, as a caller's promotion would have it, then in the widest."""
    widest = {"integer": np.int64, "float": np.float64, "complex": np.complex128}
    return np.asarray(array.astype(common).astype(widest[kind_of(common)]))


def epsilon(dtype: Any) -> float:
    """``finfo(dtype).eps``, for bfloat16 too; 0 for integers."""
    if np.dtype(dtype).name == "bfloat16":
        return 2.0**-7
    return 0.0 if kind_of(dtype) == "integer" else float(np.finfo(dtype).eps)


def least(dtype: Any) -> float:
    """The spacing of a dtype's floats at zero: what rounding costs there."""
    if np.dtype(dtype).name == "bfloat16":
        return 2.0**-133
    return 0.0 if kind_of(dtype) == "integer" else float(np.finfo(dtype).smallest_subnormal)


def computed_in(common: Any, result: Any) -> Any:
    """The accumulator of floats: float64 where the input or the result is that wide."""
    wide = {"float64", "complex128"} & {np.dtype(common).name, np.dtype(result).name}
    return np.dtype(np.float64 if wide else np.float32)


def axis_places(
    size: int, outputs: int, kernel: int, stride: int, dilation: int, before: int, mode: str
) -> Array:
    """(outputs, kernel) places on an axis; -1 outside of it."""
    at = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - before
    if mode == "replicate":
        return np.asarray(np.clip(at, 0, size - 1))
    if mode == "circular":
        return at % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        return np.minimum(at % period, period - at % period) if size > 1 else at * 0
    return np.where((at >= 0) & (at < size), at, -1)


def combined(axes: Sequence[Array], sizes: Sequence[int]) -> Array:
    """(windows, taps) flat places from the tables of the axes."""
    flat = np.zeros((1, 1), np.int64)
    for table, size in zip(axes, sizes, strict=True):
        both = flat[:, None, :, None] * size + table[None, :, None, :]
        outside = (flat[:, None, :, None] < 0) | (table[None, :, None, :] < 0)
        flat = np.where(outside, -1, both)
        flat = flat.reshape(flat.shape[0] * flat.shape[1], -1)
    return flat


def sliding(
    sizes: Sequence[int], outputs: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int], pads: Pairs, mode: str = "constant",
) -> Array:  # fmt: skip
    """The table of a sliding window."""
    befores = [before for before, _ in pads]
    rows = zip(sizes, outputs, kernel, stride, dilation, befores, strict=True)
    tables: list[Array] = []
    for size, count, taps, step, gap, before in rows:
        tables.append(axis_places(size, count, taps, step, gap, before, mode))
    return combined(tables, sizes)


def read(x: Array, places: Array, fill: Any = 0) -> Array:
    """(N, C, windows, taps) values of ``x`` (N, C, ...), ``fill`` outside."""
    n, c = x.shape[:2]
    flat = x.reshape(n, c, math.prod(x.shape[2:]))
    slot = np.full((n, c, 1), fill, x.dtype)
    return np.concatenate([flat, slot], axis=2)[:, :, places]


def add_back(values: Array, places: Array, sizes: Sequence[int]) -> Array:
    """The adjoint of ``read``: (N, C, windows, taps) added in their places."""
    n, c = values.shape[:2]
    flat = np.zeros((n, c, math.prod(sizes) + 1), values.dtype)
    index: Any = (slice(None), slice(None), places)
    np.add.at(flat, index, values)
    return flat[:, :, :-1].reshape(n, c, *sizes)


class Bilinear:
    """x, w and y of a convolution: each is bilinear in the two others.

    x (N, g c, ...), y (N, g k, outputs...), w (g k, c, taps...), or with windows in front of it
    where every window has weights of its own (``local``).
    """

    def __init__(
        self, places: Array, groups: int, sizes: Sequence[int], outputs: Sequence[int],
        kernel: Sequence[int], local: bool,
    ) -> None:  # fmt: skip
        self.places, self.groups, self.local = places, groups, local
        self.sizes, self.outputs, self.kernel = tuple(sizes), tuple(outputs), tuple(kernel)

    def _x(self, x: Array, fill: Any) -> Array:
        windows = read(x, self.places, fill)
        n, c = windows.shape[:2]
        return windows.reshape(n, self.groups, 1, c // self.groups, *self.places.shape)

    def _y(self, y: Array) -> Array:
        n, k = y.shape[:2]
        windows = self.places.shape[0]
        return y.reshape(n, self.groups, k // self.groups, 1, windows, 1)

    def _w(self, w: Array) -> Array:
        weights = w if self.local else w[None]
        windows, k, c = weights.shape[:3]
        taps = self.places.shape[1]
        split = weights.reshape(windows, self.groups, k // self.groups, c, taps)
        return np.moveaxis(split, 0, 3)[None]

    def target(self, letter: str, given: dict[str, Array], fill: Any = 0) -> Array:
        """The array named ``letter`` from the two others."""
        with np.errstate(all="ignore"):
            if letter == "y":
                sums = (self._x(given["x"], fill) * self._w(given["w"])).sum(axis=(3, 5))
                n, g, k = sums.shape[:3]
                return np.asarray(sums.reshape(n, g * k, *self.outputs))
            if letter == "x":
                parts = (self._y(given["y"]) * self._w(given["w"])).sum(axis=2)
                n, g, c = parts.shape[:3]
                return add_back(parts.reshape(n, g * c, *parts.shape[3:]), self.places, self.sizes)
            products = self._x(given["x"], fill) * self._y(given["y"])
            sums = products.sum(axis=0 if self.local else (0, 4))
            if self.local:
                sums = np.moveaxis(sums, 3, 0)
            g, k, c, taps = sums.shape[-4:]
            assert taps == self.places.shape[1]
            return np.asarray(sums.reshape(*sums.shape[:-4], g * k, c, *self.kernel))


def maxima(x: Array, places: Array, outputs: Sequence[int]) -> tuple[Array, Array]:
    """Maxima of windows and their flat places: the first of equals, the last NaN, -1 for none."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    values, inside = read(x, places, lowest), places >= 0
    missing = np.isnan(values) if x.dtype.kind == "f" else np.zeros(values.shape, bool)
    # The first tap that is inside and equals the maximum.
    best = np.where(inside, values, lowest).max(axis=-1, keepdims=True)
    first = (inside & (values == best)).argmax(axis=-1)
    last = values.shape[-1] - 1 - missing[..., ::-1].argmax(axis=-1)
    chosen = np.where(missing.any(axis=-1), last, first)
    result = np.take_along_axis(values, chosen[..., None], -1)[..., 0]
    where = places[np.arange(len(places)), chosen]
    none = ~inside.any(axis=-1)
    shape = (*x.shape[:2], *outputs)
    return np.where(none, lowest, result).reshape(shape), np.where(none, -1, where).reshape(shape)


def means(x: Array, places: Array, divisors: Array, outputs: Sequence[int]) -> Array:
    """Sums of windows by ``divisors`` (windows,); of integers rounded towards zero."""
    with np.errstate(all="ignore"):
        sums = read(x, places).sum(axis=-1)
        if x.dtype.kind == "i":
            quotients = np.abs(sums) // np.abs(divisors)
            result = quotients * np.sign(sums) * np.sign(divisors)
        else:
            result = sums / divisors
    return np.asarray(result.reshape(*x.shape[:2], *outputs))


def divisors_of(
    sizes: Sequence[int], outputs: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
    pads: Pairs, counts_padding: bool,
) -> Array:  # fmt: skip
    """(windows,) positions of each window inside the input, or inside the padded input."""
    total = np.ones(1, np.int64)
    for size, count, taps, step, (before, after) in zip(
        sizes, outputs, kernel, stride, pads, strict=True
    ):
        starts = np.arange(count) * step - before
        low, high = (-before, size + after) if counts_padding else (0, size)
        inside = np.minimum(starts + taps, high) - np.maximum(starts, low)
        total = (total[:, None] * inside).reshape(-1)
    return total


def adaptive(sizes: Sequence[int], outputs: Sequence[int]) -> tuple[Array, Array]:
    """The places of adaptive windows (short ones filled up with -1) and their lengths."""
    axes, lengths = [], np.ones(1, np.int64)
    for size, count in zip(sizes, outputs, strict=True):
        starts = [i * size // count for i in range(count)]
        ends = [math.ceil((i + 1) * size / count) for i in range(count)]
        longest = max(end - start for start, end in zip(starts, ends, strict=True))
        table = np.array(starts)[:, None] + np.arange(longest)
        axes.append(np.where(table < np.array(ends)[:, None], table, -1))
        spans = np.array(ends) - np.array(starts)
        lengths = (lengths[:, None] * spans).reshape(-1)
    return combined(axes, sizes), lengths


def ceil_outputs(size: int, span: int, stride: int, pair: tuple[int, int], ceil: bool) -> int:
    """Windows on an axis, as torch counts them."""
    room = size + sum(pair) - span
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pair[0] else count


def same_pads(size: int, span: int, stride: int, upper: bool) -> tuple[int, int]:
    """What makes ``ceil(size / stride)`` outputs; an odd zero goes after if ``upper``."""
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    less = total // 2
    return (less, total - less) if upper else (total - less, less)


def activated(values: Array, name: str | None) -> Array:
    """An activation, in float64 or int64."""
    with np.errstate(all="ignore"):
        if name in ("relu", "relu6"):
            positive = np.where(values < 0, 0, values)
            return np.where(positive > 6, 6, positive) if name == "relu6" else positive
        if name == "leaky_relu":
            return np.where(values > 0, values, values * 0.01)
        if name == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-values)))
        if name == "silu":
            return np.asarray(values / (1 + np.exp(-values)))
        if name == "gelu":
            tails = [math.erfc(-value / math.sqrt(2)) / 2 for value in values.ravel()]
            return np.asarray(values * np.reshape(tails, values.shape))
        return np.tanh(values) if name == "tanh" else values
