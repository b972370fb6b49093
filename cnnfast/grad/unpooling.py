"""Adjoints of maximum unpooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array, as_arrays
from cnnfast._core.dtypes import promote
from cnnfast._core.operand import CANONICAL_DATA, data_operand
from cnnfast.functional.unpooling import check_indices


def max_unpool1d_backward(grad_output: Any, indices: Any, *, layout: str | None = None) -> Array:
    """Gradient of ``max_unpool1d``: what lies at the indices.

    Parameters
    ----------
    grad_output : (N, C, W) array, any strides, of the dtypes that ``conv2d`` takes
        Of the shape that the forward call gives; with ``layout="NWC"`` channels last.
    indices : (N, C, Q) array of int64, in the same layout
        Those of the forward call, flat in the plane. Where one comes twice, both get the gradient
        of the place.
    layout
        As for the forward function.

    Returns
    -------
    Array of the shape of ``indices`` and the gradient's dtype.

    Raises
    ------
    ValueError, TypeError
        As the forward function; also for arrays without the batch axis.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool1d_backward(np.arange(4.0).reshape(1, 1, 4), np.array([[[1, 2]]]))
    array([[[1., 2.]]])
    """
    return _unpool_backward(1, grad_output, indices, layout)


def max_unpool2d_backward(grad_output: Any, indices: Any, *, layout: str | None = None) -> Array:
    """Gradient of ``max_unpool2d``: what lies at the indices.

    Parameters
    ----------
    grad_output : (N, C, H, W) array, any strides, of the dtypes that ``conv2d`` takes
        Of the shape that the forward call gives; with ``layout="NHWC"`` channels last.
    indices : (N, C, P, Q) array of int64, in the same layout
        Those of the forward call, flat in the plane. Where one comes twice, both get the gradient
        of the place.
    layout
        As for the forward function.

    Returns
    -------
    Array of the shape of ``indices`` and the gradient's dtype.

    Raises
    ------
    ValueError, TypeError
        As the forward function; also for arrays without the batch axis.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool2d_backward(np.arange(4.0).reshape(1, 1, 2, 2), np.array([[[[3]]]]))
    array([[[[3.]]]])
    """
    return _unpool_backward(2, grad_output, indices, layout)


def max_unpool3d_backward(grad_output: Any, indices: Any, *, layout: str | None = None) -> Array:
    """Gradient of ``max_unpool3d``: what lies at the indices.

    Parameters
    ----------
    grad_output : (N, C, D, H, W) array, any strides, of the dtypes that ``conv2d`` takes
        Of the shape that the forward call gives; with ``layout="NDHWC"`` channels last.
    indices : (N, C, O, P, Q) array of int64, in the same layout
        Those of the forward call, flat in the plane. Where one comes twice, both get the gradient
        of the place.
    layout
        As for the forward function.

    Returns
    -------
    Array of the shape of ``indices`` and the gradient's dtype.

    Raises
    ------
    ValueError, TypeError
        As the forward function; also for arrays without the batch axis.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool3d_backward(np.arange(8.0).reshape(1, 1, 2, 2, 2), np.array([[[[[6]]]]]))
    array([[[[[6.]]]]])
    """
    return _unpool_backward(3, grad_output, indices, layout)


def _unpool_backward(rank: int, grad_output: Any, indices: Any, layout: str | None) -> Array:
    name = f"max_unpool{rank}d_backward"
    grad, places = as_arrays(name, grad_output=grad_output, indices=indices)
    promote(name, (grad,))
    if grad.ndim != rank + 2 or places.ndim != rank + 2:
        raise ValueError(
            f"{name}: grad_output and indices must have {rank + 2} axes, got shapes {grad.shape} "
            f"and {places.shape}"
        )
    operand, found = (data_operand(name, array, rank, layout) for array in (grad, places))
    if any(found.extent(letter) != operand.extent(letter) for letter in "NC"):
        raise ValueError(
            f"{name}: grad_output and indices must agree in batch and channels, got shapes "
            f"{grad.shape} and {places.shape}"
        )
    check_indices(name, places, tuple(map(operand.extent, CANONICAL_DATA[-rank:])))
    canonical = operand.canonical(grad), found.canonical(places)
    planes, flat = (a.reshape(*a.shape[:2], math.prod(a.shape[2:])) for a in canonical)
    result = np.empty(places.shape, grad.dtype.newbyteorder("="))
    target = found.canonical(result)
    target[...] = np.take_along_axis(planes, flat, axis=2).reshape(target.shape)
    return result
