"""Sums over windows of arrays of any dtype and rank: what SciPy's correlations come down to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import functional
from ._core.arrays import Array, Dtype

Pads = Sequence[tuple[int, int]]
#: By the number of axes of a kernel.
CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
#: A dtype that no kernel takes -> one with its values or its bits.
STAND_INS: dict[Dtype, Dtype] = {
    np.dtype(own): np.dtype(other)
    for own, other in (("?", "u1"), ("u2", "i4"), ("u4", "i8"), ("u8", "i8"))
}
#: What kernels take as it is.
COMPUTED = {np.dtype(code) for code in "bBhiqefdFD"}


def correlated(x: Array, weight: Array, padding: Pads | None = None) -> Array:
    """The sums of ``x * weight`` under every position of ``weight``, in their common dtype.

    ``weight`` has the dtype and the number of axes of ``x``, which is as large as it once
    ``padding``'s zeros are around it. Sums of integers are modulo 2**bits, those of bools an "or".
    """
    pads = padding or [(0, 0)] * x.ndim
    dtype = x.dtype
    known = dtype in COMPUTED or dtype in STAND_INS
    if not known or x.ndim not in (1, 2, 3):
        return tap_by_tap(x, weight, pads)
    stand_in = STAND_INS.get(dtype, dtype)
    x, weight = x.astype(stand_in, copy=False), weight.astype(stand_in, copy=False)
    result: Array = CONVOLUTIONS[x.ndim - 1](x[None, None], weight[None, None], padding=pads)[0, 0]
    return result.astype(dtype, copy=False)


def tap_by_tap(x: Array, weight: Array, padding: Pads | None = None) -> Array:
    """As :func:`correlated`, for any dtype and rank; taps that are zero, and all padding, are left
    out instead of multiplied.
    """
    pads = padding or [(0, 0)] * x.ndim
    axes = list(zip(x.shape, weight.shape, pads, strict=True))
    result = np.zeros([n + before + after - k + 1 for n, k, (before, after) in axes], x.dtype)
    for tap in np.ndindex(weight.shape):
        if not weight[tap]:
            continue
        into, read = [], []
        for at, (n, _, (before, _)), extent in zip(tap, axes, result.shape, strict=True):
            first, last = max(before - at, 0), min(before - at + n, extent)
            into.append(slice(first, max(last, first)))
            read.append(slice(first + at - before, max(last, first) + at - before))
        result[tuple(into)] += x[tuple(read)] * weight[tap]
    return result
