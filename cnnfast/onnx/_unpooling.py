"""MaxUnpool."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array, as_array
from cnnfast.kernels import shapes

from ._attributes import extents, padding


def max_unpool(
    x: Any,
    indices: Any,
    output_shape: Any = None,
    *,
    kernel_shape: Any,
    pads: Any = None,
    strides: Any = None,
) -> Array:
    """ONNX's MaxUnpool: maxima back in their places, zeros elsewhere.

    Parameters
    ----------
    x : (N, C, ...) array with any number of spatial axes, any dtype
    indices : integer array of that shape
        Flat positions in the whole of the pooling's input, as ``max_pool`` returns them. Of equal
        ones the last wins.
    output_shape : integers, optional
        The whole shape of the result: zeros are added behind what the attributes give.
    kernel_shape, pads, strides
        Those of the pooling; ``strides`` are 1 by default.

    Returns
    -------
    (N, C, ...) array of the input's dtype.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool(np.array([[[5.0, 7.0]]]), np.array([[[1, 2]]]), kernel_shape=[2], strides=[2])
    array([[[0., 5., 7., 0.]]])
    """
    name = "MaxUnpool"
    array, places = as_array(f"{name}: X", x), as_array(f"{name}: indices", indices)
    if array.ndim < 3:
        raise ValueError(f"{name}: X must have three axes or more, got shape {array.shape}")
    rank = array.ndim - 2
    taps = extents(name, "kernel_shape", kernel_shape, rank)
    steps = extents(name, "strides", strides, rank, default=1)
    pairs = padding(name, rank, None, pads)
    axes = zip(array.shape[2:], taps, steps, pairs, strict=True)
    pooled = (
        *array.shape[:2],
        *(
            shapes.transposed_output_size(size, tap, step, 1, before, after, 0)
            for size, tap, step, (before, after) in axes
        ),
    )
    if min(pooled[2:]) < 1:
        raise ValueError(f"{name}: the result must not be empty, got shape {pooled}")
    if output_shape is None:
        shape = pooled
    else:
        shape = extents(name, "output_shape", np.asarray(output_shape), rank + 2, 0)
    if any(extent > given for extent, given in zip(pooled, shape, strict=True)):
        raise ValueError(f"{name}: output_shape must be at least {pooled}, got {shape}")
    _check_places(places, array.shape, math.prod(pooled))
    result = np.zeros(pooled, array.dtype)
    result.reshape(-1)[places.reshape(-1)] = array.reshape(-1)
    behind = [(0, given - extent) for extent, given in zip(pooled, shape, strict=True)]
    return result if shape == pooled else np.pad(result, behind)


def _check_places(places: Array, shape: tuple[int, ...], size: int) -> None:
    if places.dtype.kind not in "iu" or places.shape != shape:
        raise ValueError(
            f"MaxUnpool: indices must be integers in the shape of X, {shape}, got dtype "
            f"{places.dtype} and shape {places.shape}"
        )
    wrong = places[(places < 0) | (places >= size)]
    if wrong.size:
        raise ValueError(f"MaxUnpool: an index must be from 0 to {size - 1}, got {wrong[0]}")
