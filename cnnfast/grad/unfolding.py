"""Adjoints of unfold, fold and maximum unpooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array, as_arrays
from cnnfast._core.dtypes import promote
from cnnfast._core.gradients import shape_from
from cnnfast._core.operand import data_operand
from cnnfast.functional.unfolding import fold_named, unfold_named


def unfold_backward(
    grad_output: Any,
    input_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Array:
    """Gradient of ``unfold``: every column added back to its window, which is ``fold``.

    ``grad_output`` is (N, C R S, P Q), ``input_size`` (N, C, H, W), the rest and the errors as
    ``unfold``; the result has shape ``input_size``.

    >>> import numpy as np
    >>> unfold_backward(np.ones((1, 4, 4)), (1, 1, 3, 3), 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    size = shape_from("unfold_backward: input_size", input_size)
    if len(size) != 4:
        raise ValueError(f"unfold_backward: input_size must have 4 axes, got {size}")
    (grad,) = as_arrays("unfold_backward", grad_output=grad_output)
    name = "unfold_backward"
    result = fold_named(name, grad, size[2:], kernel_size, dilation, padding, stride)
    if result.shape != size:
        raise ValueError(
            f"unfold_backward: grad_output of shape {grad.shape} gives {result.shape}, "
            f"not input_size {size}"
        )
    return result


def fold_backward(
    grad_output: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """Gradient of ``fold``: the windows of ``grad_output`` (N, C, H, W), which is ``unfold``.

    The rest and the errors as ``fold``; the result is (N, C R S, P Q).

    >>> import numpy as np
    >>> fold_backward(np.arange(4.0).reshape(1, 1, 2, 2), 2)
    array([[[0.],
            [1.],
            [2.],
            [3.]]])
    """
    (grad,) = as_arrays("fold_backward", grad_output=grad_output)
    if grad.ndim != 4:
        raise ValueError(f"fold_backward: grad_output must have 4 axes, got shape {grad.shape}")
    return unfold_named("fold_backward", grad, kernel_size, dilation, padding, stride)


def _unpool_backward(rank: int, grad_output: Any, indices: Any, layout: str | None) -> Array:
    name = f"max_unpool{rank}d_backward"
    grad, places = as_arrays(name, grad_output=grad_output, indices=indices)
    promote(name, (grad,))
    if places.dtype != np.int64:
        raise TypeError(f"{name}: indices must be int64, got dtype {places.dtype}")
    if grad.ndim != rank + 2 or places.ndim != rank + 2:
        raise ValueError(
            f"{name}: grad_output and indices must have {rank + 2} axes, got shapes {grad.shape} "
            f"and {places.shape}"
        )
    operand, found = (data_operand(name, array, rank, layout) for array in (grad, places))
    kept = {letter: operand.extent(letter) for letter in "NC"}
    if any(found.extent(letter) != extent for letter, extent in kept.items()):
        raise ValueError(
            f"{name}: grad_output and indices must agree in batch and channels, got shapes "
            f"{grad.shape} and {places.shape}"
        )
    canonical = operand.canonical(grad), found.canonical(places)
    planes, flat = (a.reshape(*a.shape[:2], math.prod(a.shape[2:])) for a in canonical)
    wrong = flat[(flat < 0) | (flat >= planes.shape[2])]
    if wrong.size:
        raise ValueError(
            f"{name}: an index must be from 0 to {planes.shape[2] - 1}, got {wrong[0]}"
        )
    result = np.empty(places.shape, grad.dtype.newbyteorder("="))
    target = found.canonical(result)
    target[...] = np.take_along_axis(planes, flat, axis=2).reshape(target.shape)
    return result


def max_unpool1d_backward(grad_output: Any, indices: Any, *, layout: str | None = None) -> Array:
    """Gradient of ``max_unpool1d``: what lies at the indices.

    ``grad_output`` (N, C, W), ``indices`` int64 (N, C, Q), channels last with ``layout="NWC"``;
    the result has the indices' shape. ValueError for an index outside of the plane. Where an index
    comes twice, both get the gradient of the place.

    >>> import numpy as np
    >>> max_unpool1d_backward(np.arange(4.0).reshape(1, 1, 4), np.array([[[1, 2]]]))
    array([[[1., 2.]]])
    """
    return _unpool_backward(1, grad_output, indices, layout)


def max_unpool2d_backward(grad_output: Any, indices: Any, *, layout: str | None = None) -> Array:
    """Gradient of ``max_unpool2d``: what lies at the indices.

    ``grad_output`` (N, C, H, W), ``indices`` int64 (N, C, P, Q), channels last with
    ``layout="NHWC"``; the rest as ``max_unpool1d_backward``.

    >>> import numpy as np
    >>> max_unpool2d_backward(np.arange(4.0).reshape(1, 1, 2, 2), np.array([[[[3]]]]))
    array([[[[3.]]]])
    """
    return _unpool_backward(2, grad_output, indices, layout)


def max_unpool3d_backward(grad_output: Any, indices: Any, *, layout: str | None = None) -> Array:
    """Gradient of ``max_unpool3d``: what lies at the indices.

    ``grad_output`` (N, C, D, H, W), ``indices`` int64 (N, C, O, P, Q), channels last with
    ``layout="NDHWC"``; the rest as ``max_unpool1d_backward``.

    >>> import numpy as np
    >>> max_unpool3d_backward(np.arange(8.0).reshape(1, 1, 2, 2, 2), np.array([[[[[6]]]]]))
    array([[[[[6.]]]]])
    """
    return _unpool_backward(3, grad_output, indices, layout)
