"""MaxPool, AveragePool, LpPool and their global kin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arguments import shown
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.dtypes import converted, promote
from cnnfast._core.pools import pool
from cnnfast._core.reals import finite

from ._attributes import MOST_AXES, extents, spatial_axes, switch, window


def max_pool(
    x: Any,
    *,
    auto_pad: str | None = "NOTSET",
    ceil_mode: int = 0,
    dilations: Any = None,
    kernel_shape: Any,
    pads: Any = None,
    storage_order: int = 0,
    strides: Any = None,
    return_indices: bool = False,
) -> Any:
    """ONNX's MaxPool.

    Parameters
    ----------
    x : (N, C, ...) array with one to three spatial axes, floats or integers
    auto_pad, ceil_mode, dilations, kernel_shape, pads, storage_order, strides
        The operator's attributes; ``strides`` are 1 by default. An ``auto_pad`` other than "NOTSET"
        decides padding and number of outputs alone.
    return_indices : bool
        Also return the second output.

    Returns
    -------
    (N, C, ...) array of the input's dtype, or that and the maxima's positions.
        These are int64, flat in the whole of ``x``: the first of equals, in row-major order or,
        with a ``storage_order`` of 1, with each plane column-major; -1 where a window has no tap
        in the input.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[1.0, 3.0, 2.0], [4.0, 5.0, 6.0]]])
    >>> max_pool(x, kernel_shape=[2], return_indices=True)
    (array([[[3., 3.],
            [5., 6.]]]), array([[[1, 1],
            [4, 5]]]))
    """
    order = switch("MaxPool", "storage_order", storage_order)
    result = _slide(
        "MaxPool", "max", x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides,
        return_indices,
    )  # fmt: skip
    if not return_indices:
        return result
    maxima, places = result
    return maxima, _in_whole(places, np.shape(x), order)


def average_pool(
    x: Any,
    *,
    auto_pad: str | None = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Any = None,
    kernel_shape: Any,
    pads: Any = None,
    strides: Any = None,
) -> Array:
    """ONNX's AveragePool.

    Parameters
    ----------
    x : (N, C, ...) array with one to three spatial axes, of the dtypes that ``avg_pool2d`` takes
    auto_pad, ceil_mode, count_include_pad, dilations, kernel_shape, pads, strides
        The operator's attributes; ``strides`` are 1 by default, and padding doesn't count. What a
        last window has behind the padding (``ceil_mode``) never counts.

    Returns
    -------
    (N, C, ...) array; dtypes as ``cnnfast.avg_pool2d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> average_pool(np.array([[[1.0, 3.0, 5.0]]]), kernel_shape=[2], pads=[1, 0])
    array([[[1., 2., 4.]]])
    """
    counts = switch("AveragePool", "count_include_pad", count_include_pad)
    result: Array = _slide(
        "AveragePool", "mean", x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides,
        count_include_pad=counts,
    )  # fmt: skip
    return result


def lp_pool(
    x: Any,
    *,
    auto_pad: str | None = "NOTSET",
    ceil_mode: int = 0,
    dilations: Any = None,
    kernel_shape: Any,
    p: float = 2,
    pads: Any = None,
    strides: Any = None,
) -> Array:
    """ONNX's LpPool: ``sum(abs(x) ** p) ** (1 / p)`` over windows.

    Parameters
    ----------
    x : (N, C, ...) array of floats with one to three spatial axes
    auto_pad, ceil_mode, dilations, kernel_shape, p, pads, strides
        The operator's attributes; ``strides`` are 1 by default.

    Returns
    -------
    (N, C, ...) array of the input's dtype. Partial windows aren't scaled up, as torch's are.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> lp_pool(np.array([[[3.0, -4.0, 6.0, 8.0]]]), kernel_shape=[2], strides=[2])
    array([[[ 5., 10.]]])
    """
    return _power_sums(
        "LpPool", x, p,
        lambda powers: _slide(
            "LpPool", "mean", powers, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides,
            divisor_override=1,
        ),
    )  # fmt: skip


def _slide(
    name: str,
    reduction: str,
    x: Any,
    auto_pad: str | None,
    ceil_mode: Any,
    dilations: Any,
    kernel_shape: Any,
    pads: Any,
    strides: Any,
    return_indices: bool = False,
    **how: Any,
) -> Any:
    """A pooling over windows; ``auto_pad`` decides the number of outputs alone."""
    rank = spatial_axes(name, x)
    taps = extents(name, "kernel_shape", kernel_shape, rank)
    arguments = window(name, rank, auto_pad, dilations, pads, strides)
    ceil = switch(name, "ceil_mode", ceil_mode) and not isinstance(arguments["padding"], str)
    return pool(
        name, rank, reduction, x, None, None, None, return_indices, kernel_size=taps,
        ceil_mode=ceil, lenient=True, **arguments, **how,
    )  # fmt: skip


def _power_sums(name: str, x: Any, p: float, summed: Callable[[Array], Array]) -> Array:
    """The p-th root of what ``summed`` makes of the p-th powers of ``abs(x)``."""
    array = as_array(f"{name}: X", x)
    arithmetic = promote(name, (array,), kinds=("float",))
    power = finite(f"{name}: p", p)
    if power <= 0:
        raise ValueError(f"{name}: p must be positive, got {shown(p)}")
    with np.errstate(all="ignore"):
        powers = np.abs(array.astype(arithmetic.computing(1), copy=False))
        if power != 1:
            powers **= power
        sums = summed(powers)
        if power != 1:
            np.power(sums, 1 / power, out=sums)
    return converted(sums, arithmetic.common)


def _in_whole(places: Array, shape: tuple[int, ...], column_major: bool) -> Array:
    """Positions in planes as positions in the whole array; in place."""
    batch, channels, *plane = shape
    inside = places >= 0
    if column_major and len(plane) > 1:
        steps = [math.prod(plane[:axis]) for axis in range(len(plane))]
        at = np.unravel_index(np.where(inside, places, 0), plane)
        np.copyto(places, sum(i * step for i, step in zip(at, steps, strict=True)), where=inside)
    starts = np.arange(batch * channels) * math.prod(plane)
    np.add(places, starts.reshape(batch, channels, *[1] * len(plane)), out=places, where=inside)
    return places


def global_average_pool(x: Any) -> Array:
    """ONNX's GlobalAveragePool: the mean of each channel's plane.

    Parameters
    ----------
    x : (N, C, ...) array with any number of spatial axes, of the dtypes that ``avg_pool2d`` takes

    Returns
    -------
    (N, C, 1, ...) array; dtypes as ``cnnfast.avg_pool2d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> global_average_pool(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[1.5]]]])
    """
    return _whole_planes("GlobalAveragePool", x, _MEANS)


def global_max_pool(x: Any) -> Array:
    """ONNX's GlobalMaxPool: the maximum of each channel's plane.

    Parameters
    ----------
    x : (N, C, ...) array with any number of spatial axes, floats or integers

    Returns
    -------
    (N, C, 1, ...) array of the input's dtype.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> global_max_pool(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[3.]]]])
    """
    return _whole_planes("GlobalMaxPool", x, _MAXIMA)


def global_lp_pool(x: Any, *, p: float = 2) -> Array:
    """ONNX's GlobalLpPool: ``sum(abs(x) ** p) ** (1 / p)`` over each channel's plane.

    Parameters
    ----------
    x : (N, C, ...) array of floats with any number of spatial axes
    p : positive number

    Returns
    -------
    (N, C, 1, ...) array of the input's dtype.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> global_lp_pool(np.array([[[3.0, -4.0]]]))
    array([[[5.]]])
    """

    def summed(powers: Array) -> Array:
        means = _whole_planes("GlobalLpPool", powers, _MEANS)
        means *= math.prod(powers.shape[2:])
        return means

    return _power_sums("GlobalLpPool", x, p, summed)


#: By the number of spatial axes.
_MEANS = (
    functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d,
)  # fmt: skip
_MAXIMA = (
    functional.adaptive_max_pool1d, functional.adaptive_max_pool2d, functional.adaptive_max_pool3d,
)  # fmt: skip


def _whole_planes(name: str, x: Any, adaptive: tuple[Callable[..., Array], ...]) -> Array:
    """A pooling of each plane to one value."""
    array = as_array(f"{name}: X", x)
    if array.ndim < 3 or 0 in array.shape[1:]:
        raise ValueError(
            f"{name}: X must have batch, channels and spatial axes, none but the first empty, "
            f"got shape {array.shape}"
        )
    rank = array.ndim - 2
    if rank > MOST_AXES:
        array = array.reshape(*array.shape[:2], math.prod(array.shape[2:-2]), *array.shape[-2:])
    result = adaptive[array.ndim - 3](array, 1)
    return result.reshape(*array.shape[:2], *[1] * rank)
