"""Adjoints of unfold and fold."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array, as_arrays
from cnnfast._core.gradients import shape_from
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

    Parameters
    ----------
    grad_output : (N, C * R * S, P * Q) array, any strides
        Of the shape that ``unfold`` gives, of the dtypes that ``conv2d`` takes. float16 and
        bfloat16 are summed in float32, integers wrap around.
    input_size : shape (N, C, H, W)
    kernel_size, dilation, padding, stride
        As for ``unfold``.

    Returns
    -------
    Array of shape ``input_size`` and the gradient's dtype.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values; also for arrays without the batch axis.

    Examples
    --------
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
    """Gradient of ``fold``: the windows of ``grad_output``, which is ``unfold``.

    Parameters
    ----------
    grad_output : (N, C, H, W) array, any strides
        Of the shape that ``fold`` gives, of the dtypes that ``conv2d`` takes.
    kernel_size, dilation, padding, stride
        As for ``fold``.

    Returns
    -------
    (N, C * R * S, P * Q) array of the gradient's dtype.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values; also for arrays without the batch axis.

    Examples
    --------
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
