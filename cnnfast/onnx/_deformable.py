"""DeformConv: a convolution whose taps are moved, each at each output, by offsets."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arguments import integer
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.dtypes import converted, promote
from cnnfast._core.packed import pack_weight

from ._attributes import check_kernel_shape, spatial_axes, window

#: Elements of the columns that are made at a time.
BLOCK = 1 << 19


def deform_conv(
    x: Any,
    w: Any,
    offset: Any,
    b: Any = None,
    mask: Any = None,
    *,
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    offset_group: int = 1,
    pads: Any = None,
    strides: Any = None,
) -> Array:
    """ONNX's DeformConv: taps at fractions of pixels are interpolated linearly between zeros.

    Parameters
    ----------
    x : (N, C, ...) array of floats with one to three spatial axes
    w : (K, C / group, ...) array
    offset : (N, offset_group * taps * axes, ...) array with the spatial axes of the result
        How far each tap lies from its place, axis by axis.
    b : (K,) array, optional
    mask : (N, offset_group * taps, ...) array, optional
        What each tap is multiplied by.
    dilations, group, kernel_shape, pads, strides
        As for ``conv``.
    offset_group : int
        In-channels fall into this many groups, each with offsets of its own.

    Returns
    -------
    (N, K, ...) array; dtypes as ``cnnfast.conv2d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> x, half = np.array([[[1.0, 2.0, 4.0]]]), np.full((1, 1, 3), 0.5)
    >>> deform_conv(x, np.ones((1, 1, 1)), half)
    array([[[1.5, 3. , 2. ]]])
    """
    name = "DeformConv"
    rank = spatial_axes(name, x, w)
    check_kernel_shape(name, kernel_shape, w)
    data, filters = as_array(f"{name}: X", x), as_array(f"{name}: W", w)
    moves = as_array(f"{name}: offset", offset)
    bias = None if b is None else as_array(f"{name}: B", b)
    factors = None if mask is None else as_array(f"{name}: mask", mask)
    arithmetic = promote(name, (data, filters, moves, bias, factors), kinds=("float",))
    keywords = window(name, rank, None, dilations, pads, strides)
    geometry = ConvGeometry.of(data, filters, groups=group, name=name, **keywords)
    parts = integer(f"{name}: offset_group", offset_group, 1)
    computing = arithmetic.computing(1)
    places, factors = _taps(geometry, moves, factors, parts, computing)
    # A row for each pixel, and one of zeros for what lies outside.
    shape = (len(data), parts, data.shape[1] // parts, math.prod(data.shape[2:]))
    images = converted(data, computing).reshape(shape)
    rows = np.pad(images.swapaxes(2, 3), ((0, 0), (0, 0), (0, 1), (0, 0)))
    taps = np.moveaxis(filters.reshape(*filters.shape[:2], -1), 1, 2)
    layouts: dict[str, Any] = {"groups": group, "layout": "NWC", "weight_layout": "OIW"}
    weight = pack_weight(taps.reshape(len(filters), -1, 1), **layouts)
    result = np.empty((len(data), len(filters), places[0].shape[2]), arithmetic.common)
    block = min(max(1, BLOCK // (data.shape[1] * taps.shape[1])), result.shape[2])
    scratch = np.empty((2, block, taps.shape[1], parts, rows.shape[3]), computing)
    for n, first in product(range(len(data)), range(0, result.shape[2], block)):
        part = slice(first, first + block)
        near = [at[n, :, part] for at in places]
        columns = _sampled(rows[n], near, factors[n, :, part], data.shape[2:], scratch)
        by_group = columns.reshape(*columns.shape[:2], group, -1).swapaxes(1, 2)
        pixels = by_group.reshape(1, len(columns), -1)
        result[n, :, part] = functional.conv1d(pixels, weight, bias, **layouts)[0].T
    return result.reshape(geometry.out_shape)


def _taps(
    geometry: ConvGeometry, offset: Array, mask: Array | None, parts: int, dtype: Any
) -> tuple[list[Array], Array]:
    """Where taps lie, for each spatial axis, and what they are multiplied by: arrays (N, offset
    groups, outputs, taps)."""
    rank, batch = geometry.rank, geometry.batch
    kernel, output = geometry.kernel[-rank:], geometry.output[-rank:]
    if geometry.in_channels % parts:
        raise ValueError(
            f"DeformConv: offset_group must divide the {geometry.in_channels} channels, got {parts}"
        )
    taps = parts * math.prod(kernel)
    for what, array, many in (("offset", offset, taps * rank), ("mask", mask, taps)):
        shape = (batch, many, *output)
        if array is not None and array.shape != shape:
            raise ValueError(f"DeformConv: {what} must have shape {shape}, got {array.shape}")
    whole = (batch, parts, math.prod(kernel), math.prod(output))
    shifts = offset.astype(dtype).reshape(batch, parts, *kernel, rank, *output)
    places = []
    for axis in range(rank):
        at = np.arange(output[axis]) * geometry.stride[-rank:][axis]
        tap = np.arange(kernel[axis]) * geometry.dilation[-rank:][axis]
        grid = (tap[:, None] + at - geometry.padding[-rank:][axis][0]).astype(dtype)
        across = [1] * (2 * rank)
        across[axis], across[rank + axis] = grid.shape
        moved = shifts[(slice(None),) * (2 + rank) + (axis,)] + grid.reshape(across)
        places.append(moved.reshape(whole).swapaxes(2, 3))
    ones = np.broadcast_to(np.ones(1, dtype), whole)
    factors = ones if mask is None else mask.astype(dtype).reshape(whole)
    return places, factors.swapaxes(2, 3)


@np.errstate(invalid="ignore", over="ignore")
def _sampled(
    rows: Array, places: list[Array], factors: Array, sizes: tuple[int, ...], scratch: Array
) -> Array:
    """Values (outputs, taps, channels) at fractional places, of ``rows`` (offset groups, pixels and
    zeros, channels); each axis' places, and the factors, are (offset groups, outputs, taps)."""
    # What is further than a pixel away from all others is zero; NaN stays.
    places = [
        np.where((at <= -1) | (at >= size), -2, at) for at, size in zip(places, sizes, strict=True)
    ]
    lower = [np.floor(at) for at in places]
    parts, outputs, taps = factors.shape
    result, values = scratch[0, :outputs], scratch[1].reshape(-1)[: outputs * taps * rows.shape[2]]
    values = values.reshape(outputs, taps, rows.shape[2])
    result.fill(0)
    for corner in product((0, 1), repeat=len(sizes)):
        index, weight = np.zeros(factors.shape, np.int64), factors
        inside = np.ones(factors.shape, bool)
        for at, low, step, size in zip(places, lower, corner, sizes, strict=True):
            weight = weight * (at - low if step else 1 - (at - low))
            near = np.nan_to_num(low).astype(np.int64) + step
            inside &= (near >= 0) & (near < size)
            index = index * size + near
        index = np.where(inside, index, rows.shape[1] - 1)
        for part in range(parts):
            np.take(rows[part], index[part], axis=0, out=values, mode="clip")
            values *= weight[part][..., None]
            result[:, :, part] += values
    return result.reshape(outputs, taps, -1)
