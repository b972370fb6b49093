"""Right before fast: results against float64, within the bound that rounding allows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

import cnnfast
from cnnfast.benchmarks.workloads import Array, ConvWorkload, Workload


class WrongResultError(AssertionError):
    """A contender's result lies outside the bound; it isn't timed."""


def _apply(workload: Workload, arrays: tuple[Array, ...]) -> Array:
    if isinstance(workload, ConvWorkload):
        x, weight = arrays
        return cnnfast.conv2d(x, weight, **workload.arguments, backend="im2col/numpy")
    pool: Any = cnnfast.max_pool2d if workload.reduction == "max" else cnnfast.avg_pool2d
    result: Array = pool(*arrays, **workload.arguments, backend="direct/numpy")
    return result


@lru_cache(maxsize=1)
def _reference(workload: Workload, dtype: str) -> tuple[Array, Array]:
    """The layer in float64, and how far a result in ``dtype`` may lie from it."""
    eps = float(np.finfo(dtype).eps)
    arrays = tuple(array.astype(np.float64) for array in workload.arrays(dtype))
    exact = _apply(workload, arrays)
    magnitude = _apply(workload, tuple(np.abs(array) for array in arrays))
    bound = eps * np.abs(exact) + (workload.reduction_length + 2) * eps * magnitude
    return exact, bound


def check(result: Array, workload: Workload, dtype: str) -> float:
    """The largest error, relative to the largest result; WrongResultError outside the bound.

    The bound is ``eps * |y| + (L + 2) * eps * conv(|x|, |w|)``, elementwise, with L the length of
    the reduction: what any order of the sums stays within.
    """
    exact, bound = _reference(workload, dtype)
    if result.shape != exact.shape or result.dtype != np.dtype(dtype):
        raise WrongResultError(
            f"{workload.name}: expected {dtype} of shape {exact.shape}, "
            f"got {result.dtype} of shape {result.shape}"
        )
    error = np.abs(result - exact)
    wrong = ~(error <= bound)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise WrongResultError(
            f"{workload.name}: {np.count_nonzero(wrong)} of {wrong.size} values are wrong, the "
            f"first at {index}: {result[index]} for {exact[index]}, bound {bound[index]:.2g}"
        )
    return float(error.max() / np.abs(exact).max())
