"""ConvInteger and QLinearConv: convolutions of 8-bit integers, exact in int32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast._core.arguments import shown
from cnnfast._core.arrays import Array, as_array

from ._attributes import check_kernel_shape, spatial_axes, window
from ._convolutions import CONVS


def conv_integer(
    x: Any,
    w: Any,
    x_zero_point: Any = None,
    w_zero_point: Any = None,
    *,
    auto_pad: str | None = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Array:
    """ONNX's ConvInteger: the convolution of ``x - x_zero_point`` and ``w - w_zero_point``.

    Parameters
    ----------
    x : (N, C, ...) array of int8 or uint8 with one to three spatial axes
    w : (K, C / group, ...) array of int8 or uint8
    x_zero_point : scalar of the dtype of ``x``, optional
    w_zero_point : scalar or (K,) array of the dtype of ``w``, optional
    auto_pad, dilations, group, kernel_shape, pads, strides
        As for ``conv``; padding has the value of the zero point.

    Returns
    -------
    (N, K, ...) array of int32.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> conv_integer(np.array([[[2, 3, 4]]], np.uint8), np.ones((1, 1, 2), np.uint8), np.uint8(1))
    array([[[3, 5]]], dtype=int32)
    """
    return _products(
        "ConvInteger", x, w, x_zero_point, w_zero_point, auto_pad, dilations, group, kernel_shape,
        pads, strides,
    )  # fmt: skip


def qlinear_conv(
    x: Any,
    x_scale: Any,
    x_zero_point: Any,
    w: Any,
    w_scale: Any,
    w_zero_point: Any,
    y_scale: Any,
    y_zero_point: Any,
    b: Any = None,
    *,
    auto_pad: str | None = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Array:
    """ONNX's QLinearConv.

    Parameters
    ----------
    x, x_zero_point, w, w_zero_point
        As for ``conv_integer``.
    x_scale, y_scale : positive scalars
    w_scale : positive scalar or (K,) array
    y_zero_point : int8 or uint8 scalar
    b : (K,) array of int32, optional
        In units of ``x_scale * w_scale``.
    auto_pad, dilations, group, kernel_shape, pads, strides
        As for ``conv_integer``.

    Returns
    -------
    (N, K, ...) array of the dtype of ``y_zero_point``.
        Sums are scaled in float32, rounded half to even, moved by the zero point and clipped.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> x, w, zero = np.array([[[2, 3, 4]]], np.uint8), np.ones((1, 1, 2), np.uint8), np.uint8(0)
    >>> qlinear_conv(x, 0.5, zero, w, 1.0, zero, 2.0, zero)
    array([[[1, 2]]], dtype=uint8)
    """
    name = "QLinearConv"
    spatial_axes(name, x, w)
    many = np.shape(w)[0]
    zero = _one_or_each(name, "y_zero_point", y_zero_point, 1)
    limits = np.iinfo(_bytes_only(name, "y_zero_point", zero))
    bias = None if b is None else as_array(f"{name}: B", b)
    if bias is not None and (bias.dtype != np.int32 or bias.shape != (many,)):
        raise ValueError(
            f"{name}: B must be int32 of shape {(many,)}, got {bias.dtype} of shape {bias.shape}"
        )
    factor = _factor(name, many, x_scale=x_scale, w_scale=w_scale, y_scale=y_scale)
    sums = _products(
        name, x, w, x_zero_point, w_zero_point, auto_pad, dilations, group, kernel_shape, pads,
        strides,
    )  # fmt: skip
    per_channel = (-1, *[1] * (sums.ndim - 2))
    if bias is not None:
        sums += bias.reshape(per_channel)
    scaled = sums.astype(np.float32)
    scaled *= factor.reshape(per_channel)
    # What is rounded is the value without the zero point, as onnxruntime has it.
    np.rint(scaled, out=scaled)
    scaled += np.float32(zero[0])
    np.clip(scaled, limits.min, limits.max, out=scaled)
    return scaled.astype(zero.dtype)


def _products(
    name: str,
    x: Any,
    w: Any,
    x_zero_point: Any,
    w_zero_point: Any,
    auto_pad: str | None,
    dilations: Any,
    group: int,
    kernel_shape: Any,
    pads: Any,
    strides: Any,
) -> Array:
    """Sums of (x - x zero) (w - w zero): those of x w on kernels for bytes, and the rest behind."""
    rank = spatial_axes(name, x, w)
    check_kernel_shape(name, kernel_shape, w)
    data, filters = as_array(f"{name}: X", x), as_array(f"{name}: W", w)
    x_zero = _zero_point(name, "x_zero_point", x_zero_point, data, 1)
    w_zero = _zero_point(name, "w_zero_point", w_zero_point, filters, len(filters))
    if data.dtype != filters.dtype:
        (data, x_zero), (filters, w_zero) = _signed(data, x_zero), _signed(filters, w_zero)
    zero = int(x_zero[0])
    keywords = window(name, rank, auto_pad, dilations, pads, strides)
    keywords |= {"groups": group, "padding_value": zero}
    sums: Array = CONVS[rank - 1](data, filters, **keywords)
    per_channel = (-1, *[1] * rank)
    if zero:
        totals = filters.sum(axis=tuple(range(1, filters.ndim)), dtype=np.int32)
        sums -= (zero * totals).reshape(per_channel)
    if w_zero.any():
        ones = np.ones((group, *filters.shape[1:]), filters.dtype)
        covered = CONVS[rank - 1](data, ones, **keywords)
        covered -= zero * math.prod(filters.shape[1:])
        each = np.broadcast_to(w_zero, len(filters)).reshape(1, group, -1, *[1] * rank)
        split = sums.reshape(len(sums), group, len(filters) // group, *sums.shape[2:])
        split -= each * covered[:, :, None]
    return sums


def _signed(array: Array, zero: Array) -> tuple[Array, Array]:
    """The same differences from the zero point in int8."""
    if array.dtype == np.int8:
        return array, zero
    return (array ^ np.uint8(128)).view(np.int8), zero - 128


def _bytes_only(name: str, what: str, array: Array) -> Any:
    if array.dtype.name not in ("int8", "uint8"):
        raise TypeError(f"{name}: {what} must be int8 or uint8, got dtype {array.dtype}")
    return array.dtype


def _zero_point(name: str, what: str, value: Any, of: Array, many: int) -> Array:
    """A zero point as int32, one or ``many``; 0 where there is none."""
    dtype = _bytes_only(name, what.removesuffix("_zero_point").upper(), of)
    if value is None:
        return np.zeros(1, np.int32)
    zero = _one_or_each(name, what, value, many)
    if zero.dtype != dtype:
        raise TypeError(f"{name}: {what} must have the dtype {dtype}, got {zero.dtype}")
    return zero.astype(np.int32)


def _one_or_each(name: str, what: str, value: Any, many: int) -> Array:
    array = as_array(f"{name}: {what}", value)
    if array.ndim > 1 or array.size not in (1, many):
        each = f" or have shape {(many,)}" if many > 1 else ""
        raise ValueError(f"{name}: {what} must be a scalar{each}, got shape {array.shape}")
    return array.reshape(-1)


def _factor(name: str, many: int, **scales: Any) -> Array:
    """From units of the products to units of the result, in float32."""
    x_scale, w_scale, y_scale = (
        _one_or_each(name, what, value, many if what == "w_scale" else 1).astype(np.float32)
        for what, value in scales.items()
    )
    with np.errstate(all="ignore"):
        factor: Array = x_scale * w_scale / y_scale
    if not np.isfinite(factor).all():
        raise ValueError(
            f"{name}: x_scale * w_scale / y_scale must be finite, got "
            f"{', '.join(f'{what} {shown(value)}' for what, value in scales.items())}"
        )
    return factor
