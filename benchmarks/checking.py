"""Right before fast: results against float64, within the bound that rounding allows."""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from typing import NamedTuple

import numpy as np

from cnnfast.benchmarks.workloads import Array, ConvWorkload, Workload

#: Taps from which an image's reference is made by Fourier transforms: 0.5 to 2 s instead of 20 for
#: the largest, and in float64 their rounding lies far below the bound of that many products.
TRANSFORMED_TAPS = 49


#: Values compared at a time.
BLOCK = 1 << 18


class WrongResultError(AssertionError):
    """A contender's result lies outside the bound; it isn't timed."""


def apply(workload: Workload, *arrays: Array) -> Array:
    """The workload by NumPy, in the dtype of the arrays."""
    if workload.is_plane and workload.kernel**2 >= TRANSFORMED_TAPS:
        image, filters = arrays
        return np.stack([_transformed(image[0, 0], taps[0]) for taps in filters])[None]
    algorithm = "im2col" if isinstance(workload, ConvWorkload) else "direct"
    result: Array = workload.bound(*arrays, backend=f"{algorithm}/numpy")()
    return result


def _transformed(image: Array, taps: Array) -> Array:
    """The correlation of an image with zeros around it, of the same size."""
    sizes = [_smooth(n + k - 1) for n, k in zip(image.shape, taps.shape, strict=True)]
    product = np.fft.rfft2(image, sizes) * np.fft.rfft2(taps[::-1, ::-1], sizes)
    first = taps.shape[0] // 2, taps.shape[1] // 2
    whole = np.fft.irfft2(product, sizes)
    cut = tuple(slice(at, at + n) for at, n in zip(first, image.shape, strict=True))
    result: Array = whole[cut]
    return result


def _smooth(size: int) -> int:
    """The next size that transforms are quick for.

    >>> _smooth(4126), _smooth(2078)
    (4320, 2160)
    """
    return next(n for n in count(-(-size // 240) * 240, 240) if 2**12 * 3**6 * 5**4 % n == 0)


class _Reference(NamedTuple):
    """The layer in float64, and how far a result in its dtype may lie from it."""

    exact: Array
    bound: Array
    largest: float


@lru_cache(maxsize=1)
def _reference(workload: Workload) -> _Reference:
    eps = float(np.finfo(workload.dtype).eps)
    arrays = tuple(array.astype(np.float64) for array in workload.arrays())
    exact = np.ascontiguousarray(apply(workload, *arrays))
    bound = np.ascontiguousarray(magnitude(workload, arrays))
    bound *= workload.reduction_length + 2
    size = np.abs(exact)
    bound += size
    bound *= eps
    return _Reference(exact, bound, float(size.max()))


def magnitude(workload: Workload, arrays: tuple[Array, ...]) -> Array:
    """The sum of the terms' magnitudes. A maximum's gradient goes where the input itself is
    largest.
    """
    if workload.family == "pool_grad":
        return apply(workload, np.abs(arrays[0]), *arrays[1:])
    return apply(workload, *(np.abs(array) for array in arrays))


def check(result: Array, workload: Workload) -> float:
    """The largest error, relative to the largest result; WrongResultError outside the bound.

    The bound is ``eps * |y| + (L + 2) * eps * conv(|x|, |w|)``, elementwise, with L the length of
    the reduction: what any order of the sums stays within.
    """
    exact, bound, largest = _reference(workload)
    if result.shape != exact.shape or result.dtype != np.dtype(workload.dtype):
        raise WrongResultError(
            f"{workload.name}: expected {workload.dtype} of shape {exact.shape}, "
            f"got {result.dtype} of shape {result.shape}"
        )
    most, wrong, first = 0.0, 0, 0
    flat = np.ascontiguousarray(result).reshape(-1)
    # In blocks: temporaries of a large image's size cost more than the comparison.
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        error = np.abs(flat[block] - exact.reshape(-1)[block])
        most = max(most, float(error.max()))
        outside = np.flatnonzero(~(error <= bound.reshape(-1)[block]))
        first = first if wrong or not outside.size else start + int(outside[0])
        wrong += outside.size
    if wrong:
        index = tuple(int(i) for i in np.unravel_index(first, exact.shape))
        raise WrongResultError(
            f"{workload.name}: {wrong} of {exact.size} values are wrong, the "
            f"first at {index}: {result[index]} for {exact[index]}, bound {bound[index]:.2g}"
        )
    return most / largest
