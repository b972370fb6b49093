"""Conv and ConvTranspose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arrays import Array
from cnnfast.kernels import shapes

from ._attributes import check_kernel_shape, extents, padding, spatial_axes, window

CONVS = (functional.conv1d, functional.conv2d, functional.conv3d)
TRANSPOSED = (
    functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d,
)  # fmt: skip


def conv(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    auto_pad: str | None = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
    activation: Any = None,
) -> Array:
    """ONNX's Conv.

    Parameters
    ----------
    x : (N, C, ...) array with one to three spatial axes, of the dtypes that ``conv2d`` takes
    w : (K, C / group, ...) array, or what ``cnnfast.pack_weight`` makes of one
    b : (K,) array, optional
    auto_pad, dilations, group, kernel_shape, pads, strides
        The operator's attributes: a list has an integer for each spatial axis, ``pads`` first those
        before, then those after the input. An ``auto_pad`` other than "NOTSET" decides the padding
        alone.
    activation
        As for ``cnnfast.conv2d``: what the kernel applies to its results.

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
    >>> conv(np.ones((1, 1, 3, 4)), np.ones((1, 1, 2, 2)), auto_pad="SAME_UPPER", strides=[2, 2])
    array([[[[4., 4.],
             [2., 2.]]]])
    """
    rank = spatial_axes("Conv", x, w)
    check_kernel_shape("Conv", kernel_shape, w)
    arguments = window("Conv", rank, auto_pad, dilations, pads, strides)
    result: Array = CONVS[rank - 1](x, w, b, groups=group, activation=activation, **arguments)
    return result


def conv_transpose(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    auto_pad: str | None = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
    activation: Any = None,
) -> Array:
    """ONNX's ConvTranspose.

    Parameters
    ----------
    x : (N, C, ...) array with one to three spatial axes
    w : (C, K / group, ...) array
    b : (K,) array, optional
    auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
        The operator's attributes. An ``output_shape`` (of the spatial axes) decides the padding
        alone, and so does an ``auto_pad`` of "SAME_UPPER" or "SAME_LOWER", which give ``size *
        stride`` outputs.
    activation
        As for ``cnnfast.conv2d``.

    Returns
    -------
    (N, K, ...) array; dtypes as ``cnnfast.conv2d``. Outputs that no input reaches are the bias.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose(np.array([[[1.0, 2.0]]]), np.ones((1, 1, 3)), strides=[2], output_shape=[4])
    array([[[1., 3., 2., 2.]]])
    """
    name = "ConvTranspose"
    rank = spatial_axes(name, x, w)
    check_kernel_shape(name, kernel_shape, w)
    spread = extents(name, "dilations", dilations, rank, default=1)
    steps = extents(name, "strides", strides, rank, default=1)
    more = extents(name, "output_padding", output_padding, rank, 0, default=0)
    if any(extra >= max(pair) for extra, *pair in zip(more, steps, spread, strict=True)):
        raise ValueError(
            f"{name}: output_padding must be less than strides or dilations, got {more}, "
            f"{steps} and {spread}"
        )
    axes = list(zip(np.shape(x)[2:], np.shape(w)[2:], steps, spread, more, strict=True))
    if output_shape is not None:
        pairs = _to_shape(axes, extents(name, "output_shape", output_shape, rank), auto_pad)
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        pairs = _to_shape(axes, [size * step for size, _, step, *_ in axes], auto_pad)
    else:
        given = padding(name, rank, auto_pad, pads)
        pairs = [(0, 0)] * rank if given == "valid" else given
        pairs = [
            (before, after - extra) for (before, after), extra in zip(pairs, more, strict=True)
        ]
    x, pairs = _reaching(x, pairs, steps, spread)
    result: Array = TRANSPOSED[rank - 1](
        x, w, b, steps, [(before, max(after, 0)) for before, after in pairs],
        [max(-after, 0) for _, after in pairs], group, spread, activation=activation,
    )  # fmt: skip
    return result


def _to_shape(
    axes: Sequence[tuple[int, ...]], outputs: Sequence[int], auto_pad: str | None
) -> list[tuple[int, int]]:
    """What to cut off before and after so that so many outputs are left; below zero: to add."""
    pairs = []
    for axis, extent in zip(axes, outputs, strict=True):
        size, kernel, step, gap, more = axis
        full = shapes.transposed_output_size(size, kernel, step, gap, 0, 0, 0)
        less = max(full + more - extent, 0) // 2
        before = less if auto_pad == "SAME_UPPER" else max(full + more - extent, 0) - less
        pairs.append((before, full - extent - before))
    return pairs


def _reaching(
    x: Any, pairs: list[tuple[int, int]], steps: tuple[int, ...], spread: tuple[int, ...]
) -> tuple[Any, list[tuple[int, int]]]:
    """Zeros behind the input where outputs lie further behind it than output padding may reach."""
    zeros = [
        -(after // step) if -after >= max(step, gap) else 0
        for (_, after), step, gap in zip(pairs, steps, spread, strict=True)
    ]
    if not any(zeros):
        return x, pairs
    moved = zip(pairs, zeros, steps, strict=True)
    pairs = [(before, after + many * step) for (before, after), many, step in moved]
    return np.pad(x, [(0, 0), (0, 0), *((0, many) for many in zeros)]), pairs
