"""What lies beyond an array's edges, by SciPy's names, and filters that run over an array in bands.

A band is padded and converted in one copy that stays in cache, so an image is never copied whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ._core.arrays import Array, Dtype, overlap

Pair = tuple[int, int]
#: Bytes of a band with its borders: as much as a core's L2 holds.
BAND_BYTES = 1 << 21
#: A band has this many times its borders' rows at least, so that few rows are read twice.
BAND_REACHES = 4


def sources(mode: str, extent: int, start: int, stop: int) -> Array:
    """The index that each of start..stop-1 stands for; -1 where it is a constant.

    >>> for mode in ("reflect", "mirror", "nearest", "wrap", "constant"):
    ...     print(mode, sources(mode, 3, -4, 6).tolist())
    reflect [2, 2, 1, 0, 0, 1, 2, 2, 1, 0]
    mirror [0, 1, 2, 1, 0, 1, 2, 1, 0, 1]
    nearest [0, 0, 0, 0, 0, 1, 2, 2, 2, 2]
    wrap [2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    constant [-1, -1, -1, -1, 0, 1, 2, -1, -1, -1]
    """
    index = np.arange(start, stop)
    if mode == "constant":
        return np.where((index >= 0) & (index < extent), index, -1)
    if mode == "nearest":
        return np.clip(index, 0, extent - 1)
    if mode == "wrap":
        return index % extent
    period = 2 * extent if mode == "reflect" else max(2 * extent - 2, 1)
    index %= period
    last = period - 1 if mode == "reflect" else period
    return np.where(index < extent, index, last - index)


@lru_cache(maxsize=1024)
def border(mode: str, extent: int, start: int, stop: int, shift: int) -> slice | Array | None:
    """An index for :func:`sources` plus ``shift``: a slice where that will do, which NumPy copies
    in a fraction of the time; None where all is constant.

    >>> border("reflect", 9, -3, 0, 3), border("constant", 9, 9, 11, 0)
    (slice(5, 2, -1), None)
    """
    index = sources(mode, extent, start, stop)
    if index[0] < 0:
        return None
    index = index + shift
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    if abs(step) != 1 or (np.diff(index) != step).any():
        return index
    last = int(index[-1]) + step
    return slice(int(index[0]), last if last >= 0 else None, step)


def along(axis: int, part: Any) -> tuple[Any, ...]:
    """An index that takes ``part`` of one axis."""
    return (*(slice(None),) * axis, part)


def padded(
    x: Array, reach: Sequence[Pair], modes: Sequence[str], value: Any, dtype: Dtype,
    axis: int = 0, rows: Pair | None = None,
) -> Array:  # fmt: skip
    """A C-contiguous copy of ``x`` in ``dtype`` with (before, after) more elements on each axis;
    of ``rows`` (start, stop) of ``axis`` alone, if given, with what is around those.
    """
    start, stop = rows or (0, x.shape[axis])
    before, after = reach[axis]
    low, high = max(start - before, 0), min(stop + after, x.shape[axis])
    cut = [(before, after) for before, after in reach]
    cut[axis] = (low - start + before, stop + after - high)
    source = x[along(axis, slice(low, high))]
    shape = [sum(pair) + extent for pair, extent in zip(cut, source.shape, strict=True)]
    result = np.empty(shape, dtype)
    inside = tuple(
        slice(pair[0], pair[0] + extent) for pair, extent in zip(cut, source.shape, strict=True)
    )
    with np.errstate(invalid="ignore", over="ignore"):  # the user's own infinities and NaNs
        result[inside] = source
    # This axis first, for its border may be any rows of x; the others' lie in the band.
    for which in (axis, *range(axis), *range(axis + 1, x.ndim)):
        before, after = cut[which]
        lowest = low if which == axis else 0
        extent = shape[which]
        for first, last in ((0, before), (extent - after, extent)):
            if first == last:
                continue
            here = along(which, slice(first, last))
            # Where an element of this border is copied from: rows of x, or of the result itself.
            offset, shift = lowest - before, 0 if which == axis else before
            index = border(modes[which], x.shape[which], first + offset, last + offset, shift)
            if index is None:
                result[here] = value
            elif which == axis:
                target = (*inside[:which], slice(first, last), *inside[which + 1 :])
                result[target] = x[along(which, index)]
            else:
                result[here] = result[along(which, index)]
    return result


def stored(result: Array, out: Array) -> None:
    """``out[...] = result``, floats into integers as C does it: towards zero, modulo 2**bits."""
    with np.errstate(invalid="ignore", over="ignore"):
        if result.dtype.kind == "f" and out.dtype.kind in "biu":
            if out.dtype == np.uint64:
                signed = result.astype(np.int64).view(np.uint64)
                result = np.where(result < 2.0**63, signed, result.astype(np.uint64))
            elif out.dtype.kind == "b":
                result = np.trunc(result)
            else:
                is_narrow = out.dtype.kind == "i" and out.dtype.itemsize <= 4
                result = result.astype(np.int32 if is_narrow else np.int64)
        np.copyto(out, result, casting="unsafe")


def in_bands(
    x: Array, out: Array, reach: Sequence[Pair], modes: Sequence[str], value: Any, dtype: Dtype,
    compute: Callable[[Array], Array],
) -> None:  # fmt: skip
    """``out = compute(x with its borders)``, a band of the longest axis at a time.

    ``compute`` takes a padded, C-contiguous array in ``dtype``, which it may overwrite, and gives
    one without the borders.
    """
    if x.size == 0:
        return
    target = np.empty_like(out) if overlap(x, out) else out
    if x.ndim == 0:
        stored(compute(x.astype(dtype)), target)
    else:
        longest = max(x.shape)
        axis = x.shape.index(longest)
        wider = [extent + sum(pair) for extent, pair in zip(x.shape, reach, strict=True)]
        everything = dtype.itemsize * math.prod(wider)
        rows = max(BAND_BYTES * longest // everything, BAND_REACHES * sum(reach[axis]), 1)
        for start in range(0, longest, rows):
            stop = min(start + rows, longest)
            band = padded(x, reach, modes, value, dtype, axis, (start, stop))
            stored(compute(band), target[along(axis, slice(start, stop))])
    if target is not out:
        out[...] = target
