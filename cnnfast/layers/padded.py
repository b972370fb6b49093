"""The adjoint of padding that isn't zeros."""

from __future__ import annotations

import numpy as np

from cnnfast._core.arrays import Array
from cnnfast._core.padding import MODES


def unpad(grad: Array, widths: list[tuple[int, int]], mode: str) -> Array:
    """The gradient in an input whose padded copy has the gradient ``grad``: the middle of it, plus,
    where padding repeats the input, what came back from there.

    >>> unpad(np.array([1.0, 2.0, 3.0, 4.0]), [(1, 1)], "replicate")
    array([3., 7.])
    """
    for axis, (before, after) in enumerate(widths):
        if not before and not after:
            continue
        size = grad.shape[axis] - before - after
        if mode == "constant":
            grad = grad.take(np.arange(before, before + size), axis)
            continue
        keywords: dict[str, str] = {"mode": MODES[mode][0]}
        source = np.pad(np.arange(size), (before, after), **keywords)  # type: ignore[call-overload]
        total = np.zeros((size, *np.delete(grad.shape, axis)), grad.dtype)
        np.add.at(total, source, np.moveaxis(grad, axis, 0))
        grad = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(grad)
