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

from ._attributes import check_kernel_shape, spatial_axes, window


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
    arrays = {"X": x, "W": w, "offset": offset, "B": b, "mask": mask}
    given = {
        what: as_array(f"{name}: {what}", value)
        for what, value in arrays.items()
        if value is not None
    }
    arithmetic = promote(name, given.values(), kinds=("float",))
    data, filters = given["X"], given["W"]
    keywords = window(name, rank, None, dilations, pads, strides)
    geometry = ConvGeometry.of(data, filters, groups=group, name=name, **keywords)
    parts = integer(f"{name}: offset_group", offset_group, 1)
    computing = arithmetic.computing(1)
    places, factors = _taps(geometry, given, parts, computing)
    planes = converted(data, computing).reshape(len(data), parts, -1, math.prod(data.shape[2:]))
    flat = filters.reshape(len(filters), -1, 1)
    result = np.empty((len(data), len(filters), places[0].shape[-1]), arithmetic.common)
    for n, image in enumerate(planes):
        columns = _sampled(image, [at[n] for at in places], data.shape[2:])
        columns *= factors[n][:, None]
        columns = columns.reshape(1, -1, columns.shape[-1])
        result[n] = functional.conv1d(columns, flat, given.get("B"), groups=group)[0]
    return result.reshape(geometry.out_shape)


def _taps(
    geometry: ConvGeometry, given: dict[str, Array], parts: int, dtype: Any
) -> tuple[list[Array], Array]:
    """Where taps lie, for each spatial axis, and what they are multiplied by: arrays (N, offset
    groups, taps, outputs)."""
    rank, batch = geometry.rank, geometry.batch
    kernel, output = geometry.kernel[-rank:], geometry.output[-rank:]
    if geometry.in_channels % parts:
        raise ValueError(
            f"DeformConv: offset_group must divide the {geometry.in_channels} channels, got {parts}"
        )
    taps = parts * math.prod(kernel)
    for what, many in (("offset", taps * rank), ("mask", taps)):
        shape = (batch, many, *output)
        if what in given and given[what].shape != shape:
            raise ValueError(f"DeformConv: {what} must have shape {shape}, got {given[what].shape}")
    whole = (batch, parts, math.prod(kernel), math.prod(output))
    shifts = given["offset"].astype(dtype).reshape(batch, parts, *kernel, rank, *output)
    places = []
    for axis in range(rank):
        at = np.arange(output[axis]) * geometry.stride[-rank:][axis]
        tap = np.arange(kernel[axis]) * geometry.dilation[-rank:][axis]
        grid = (tap[:, None] + at - geometry.padding[-rank:][axis][0]).astype(dtype)
        across = [1] * (2 * rank)
        across[axis], across[rank + axis] = grid.shape
        moved = shifts[(slice(None),) * (2 + rank) + (axis,)] + grid.reshape(across)
        places.append(moved.reshape(whole))
    mask = given.get("mask")
    factors = np.ones(1, dtype) if mask is None else mask.astype(dtype)
    return places, np.broadcast_to(factors.reshape(whole if mask is not None else 1), whole)


@np.errstate(invalid="ignore", over="ignore")
def _sampled(planes: Array, places: list[Array], sizes: tuple[int, ...]) -> Array:
    """Values (offset groups, channels of one, taps, outputs) of ``planes`` (offset groups,
    channels, pixels) at fractional places, each axis' (offset groups, taps, outputs)."""
    # What is further than a pixel away from all others is zero; NaN stays.
    places = [
        np.where((at <= -1) | (at >= size), -2, at) for at, size in zip(places, sizes, strict=True)
    ]
    first = [np.floor(at) for at in places]
    result = np.zeros((*planes.shape[:2], *places[0].shape[1:]), planes.dtype)
    for corner in product((0, 1), repeat=len(sizes)):
        index = np.zeros(places[0].shape, np.int64)
        weight = np.ones(places[0].shape, planes.dtype)
        inside = np.ones(places[0].shape, bool)
        for at, low, step, size in zip(places, first, corner, sizes, strict=True):
            weight *= at - low if step else 1 - (at - low)
            near = np.nan_to_num(low).astype(np.int64) + step
            inside &= (near >= 0) & (near < size)
            index = index * size + near
        index[~inside] = 0
        for part, plane in enumerate(planes):
            values = np.take(plane, index[part], axis=1)
            values[:, ~inside[part]] = 0
            values *= weight[part]
            result[part] += values
    return result
