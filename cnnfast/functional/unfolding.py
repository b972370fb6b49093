"""Windows of images as columns of a matrix, and back: unfold (im2col) and fold (col2im)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._core.arguments import per_axis
from .._core.arrays import Array, as_array
from .._core.axes import Axes
from .._core.columns import fold_windows, problem_of, windows_view
from .._core.dtypes import converted, promote
from .._core.operand import data_operand

RANK = 2


def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """The windows of images, each as a column, as ``torch.nn.functional.unfold`` (im2col).

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, any strides
        Of the dtypes that ``conv2d`` takes.
    kernel_size, dilation, stride : int or one per axis (height, width)
    padding : int, one per axis, (before, after) pairs, or a name, as for ``conv2d``

    Returns
    -------
    (N, C * R * S, P * Q) array of the input's dtype, without N if the input has none: a row for
    each channel and tap, a column for each window.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> unfold(np.arange(9).reshape(1, 3, 3), (2, 2))
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    return unfold_named("unfold", input, kernel_size, dilation, padding, stride)


def unfold_named(
    name: str, input: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Array:
    """``unfold``; ``name`` is what errors say."""
    x = as_array(f"{name}: input", input)
    arithmetic = promote(name, (x,))
    operand = data_operand(name, x, RANK, None)
    window = per_axis(f"{name}: kernel_size", kernel_size, RANK, 1)
    sizes = [operand.extent(letter) for letter in "HW"]
    axes = Axes.of(name, sizes, window, stride, padding, dilation)
    problem = problem_of(name, operand.extent("N"), operand.extent("C"), axes)
    windows = windows_view(operand.canonical(x), problem)
    columns = np.empty(windows.shape, arithmetic.common)
    columns[...] = windows
    rows = problem.c * math.prod(problem.kernel)
    result = columns.reshape(windows.shape[0], rows, math.prod(problem.output))
    return result if operand.batched else result[0]


def fold(
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Array:
    """Images as sums of windows, as ``torch.nn.functional.fold`` (col2im): each column is added in
    the place that ``unfold`` takes it from.

    Parameters
    ----------
    input : (N, C * R * S, P * Q) or (C * R * S, P * Q) array, any strides
        Of the dtypes that ``conv2d`` takes. float16 and bfloat16 are summed in float32, integers
        wrap around.
    output_size : int or one per axis (height, width)
        Extents H and W of the images.
    kernel_size, dilation, stride : int or one per axis (height, width)
    padding : int, one per axis, (before, after) pairs, or a name, as for ``conv2d``

    Returns
    -------
    (N, C, H, W) array of the input's dtype, without N if the input has none.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> fold(unfold(np.ones((1, 3, 3)), 2), (3, 3), 2)
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    return fold_named("fold", input, output_size, kernel_size, dilation, padding, stride)


def fold_named(
    name: str,
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
    rank: int = RANK,
) -> Array:
    """``fold`` of images with one to three axes; ``name`` is what errors say."""
    x = as_array(f"{name}: input", input)
    arithmetic = promote(name, (x,))
    sizes = per_axis(f"{name}: output_size", output_size, rank, 1)
    window = per_axis(f"{name}: kernel_size", kernel_size, rank, 1)
    axes = Axes.of(name, sizes, window, stride, padding, dilation)
    channels = _check_columns(name, x, axes, rank)
    columns = x if x.ndim == 3 else x[None]
    problem = problem_of(name, len(columns), channels, axes)
    narrow = arithmetic.kind == "float"
    dtype = arithmetic.computing(1) if narrow else arithmetic.common
    out = np.empty((len(columns), channels, *problem.size), dtype)
    split = columns.reshape(*out.shape[:2], *problem.kernel, *problem.output)
    fold_windows(split, out, problem)
    result = converted(out.reshape(*out.shape[:2], *sizes), arithmetic.common)
    return result if x.ndim == 3 else result[0]


def _check_columns(name: str, x: Array, axes: Axes, rank: int) -> int:
    """The channels of the images; ValueError where the columns don't fit the windows."""
    taps, windows = math.prod(axes.kernel), math.prod(axes.output)
    if x.ndim not in (2, 3) or 0 in x.shape[-2:]:
        raise ValueError(
            f"{name}: input must have axes N, C * R * S and P * Q (the batch may be missing or "
            f"empty, the others not), got shape {x.shape}"
        )
    if x.shape[-2] % taps:
        raise ValueError(
            f"{name}: the input's rows must be a multiple of the {taps} taps of kernel_size "
            f"{axes.kernel[-rank:]}, got {x.shape[-2]} in shape {x.shape}"
        )
    if x.shape[-1] != windows:
        outputs = " x ".join(map(str, axes.output[-rank:]))
        raise ValueError(
            f"{name}: the input must have a column for each of the {outputs} = {windows} windows, "
            f"got {x.shape[-1]} in shape {x.shape}"
        )
    return int(x.shape[-2]) // taps
