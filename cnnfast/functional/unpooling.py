"""Max pooling undone as far as it can be: maxima back in their places, zeros elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnfast.kernels import shapes

from .._core.arguments import (
    INDEX_LIMIT,
    integer,
    is_empty_sequence,
    padding_pairs,
    per_axis,
    shown,
)
from .._core.arrays import Array, as_array
from .._core.dtypes import promote
from .._core.operand import CANONICAL_DATA, Operand, data_operand


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str | None = None,
) -> Array:
    """Partial inverse of ``max_pool1d``, as ``torch.nn.functional.max_unpool1d``.

    Parameters
    ----------
    input, indices : (N, C, Q) or (C, Q) arrays
        With ``layout="NWC"`` (N, Q, C) or (Q, C); the rest is as for ``max_unpool2d``.
    kernel_size, stride, padding : int or a sequence of one
    output_size : sequence of ints, optional
    layout : "NCW" or "NWC"

    Returns
    -------
    (N, C, W) array of the input's dtype, in its layout.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool1d(np.array([[5.0, 7.0]]), np.array([[1, 2]]), 2)
    array([[0., 5., 7., 0.]])
    """
    return _unpool(1, input, indices, kernel_size, stride, padding, output_size, layout)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str | None = None,
) -> Array:
    """Partial inverse of ``max_pool2d``, as ``torch.nn.functional.max_unpool2d``: each element in
    the place that its index names, zeros elsewhere.

    Parameters
    ----------
    input : (N, C, P, Q) or (C, P, Q) array, any strides, of the dtypes that ``conv2d`` takes
        With ``layout="NHWC"`` (N, P, Q, C) or (P, Q, C).
    indices : int64 array of the same shape
        Flat positions in the output plane, as ``max_pool2d`` returns them (its -1, for a window
        wholly in the padding, is refused). Of equal ones the last, in the order of the plane, wins.
    kernel_size, stride, padding : int or one per axis (height, width)
        Those of the pooling; ``stride`` is the window by default, ``padding`` also takes (before,
        after) pairs.
    output_size : sequence of ints, optional
        H and W, or the whole shape of the result: by default ``(P - 1) * stride - before - after +
        kernel_size``, from which it must differ by less than the stride.
    layout : "NCHW" or "NHWC"

    Returns
    -------
    (N, C, H, W) array of the input's dtype, in its layout.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> import numpy as np
    >>> maxima, places = np.array([[[5.0, 7.0]]]), np.array([[[5, 2]]])
    >>> max_unpool2d(maxima, places, 2)
    array([[[0., 0., 7., 0.],
            [0., 5., 0., 0.]]])
    """
    return _unpool(2, input, indices, kernel_size, stride, padding, output_size, layout)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str | None = None,
) -> Array:
    """Partial inverse of ``max_pool3d``, as ``torch.nn.functional.max_unpool3d``.

    Parameters
    ----------
    input, indices : (N, C, O, P, Q) or (C, O, P, Q) arrays
        With ``layout="NDHWC"`` the channels last; the rest is as for ``max_unpool2d``.
    kernel_size, stride, padding : int or one per axis (depth, height, width)
    output_size : sequence of ints, optional
    layout : "NCDHW" or "NDHWC"

    Returns
    -------
    (N, C, D, H, W) array of the input's dtype, in its layout.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool3d(np.array([[[[5.0]]]]), np.array([[[[3]]]]), (1, 2, 2))
    array([[[[0., 0.],
             [0., 5.]]]])
    """
    return _unpool(3, input, indices, kernel_size, stride, padding, output_size, layout)


def _unpool(
    rank: int,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
    layout: str | None,
) -> Array:
    name = f"max_unpool{rank}d"
    x, places = as_array(f"{name}: input", input), as_array(f"{name}: indices", indices)
    dtype = promote(name, (x,)).common
    operand = data_operand(name, x, rank, layout)
    if places.shape != x.shape:
        raise ValueError(
            f"{name}: indices must have the input's shape {x.shape}, got {places.shape}"
        )
    plane = _plane(name, operand, rank, kernel_size, stride, padding, output_size)
    extents = dict(zip(CANONICAL_DATA[-rank:], plane, strict=True))
    shape = tuple(extents.get(letter, operand.extent(letter)) for letter in operand.letters)
    if math.prod(shape) >= INDEX_LIMIT:
        raise ValueError(f"{name}: the result's size must be below 2**62, got {math.prod(shape)}")
    check_indices(name, places, plane)
    result = np.zeros(shape, dtype)
    target = Operand.of(shape, operand.layout, operand.batched)
    # Flat, so that the order, and with it which of equal indices wins, is the plane's.
    result.reshape(-1)[_flat_places(target, places)] = operand.canonical(x).reshape(-1)
    return result


def check_indices(name: str, indices: Array, plane: tuple[int, ...]) -> None:
    """TypeError unless indices are int64 of either byte order, ValueError unless they lie in the
    plane of these extents."""
    if indices.dtype.newbyteorder("=") != np.int64:
        raise TypeError(f"{name}: indices must be int64, got dtype {indices.dtype}")
    wrong = indices[(indices < 0) | (indices >= math.prod(plane))]
    if wrong.size:
        raise ValueError(
            f"{name}: an index must be from 0 to {math.prod(plane) - 1}, in the output plane "
            f"{plane}, got {wrong[0]}"
        )


def _flat_places(target: Operand, places: Array) -> Array:
    """Positions in the memory of ``target`` from positions in its planes, in canonical order."""
    images, channels = (
        np.arange(target.extent(letter)) * target.stride_of(letter) for letter in "NC"
    )
    starts = (images[:, None] + channels)[:, :, None, None, None]
    flat: Array = target.canonical(places) * target.stride_of("W") + starts
    return flat.reshape(-1)


def _plane(
    name: str,
    operand: Operand,
    rank: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> tuple[int, ...]:
    """The spatial extents of the result."""
    window = per_axis(f"{name}: kernel_size", kernel_size, rank, 1)
    default = stride is None or is_empty_sequence(stride)
    steps = window if default else per_axis(f"{name}: stride", stride, rank, 1)
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding must be numbers, got {shown(padding)}")
    pairs = padding_pairs(name, padding, (), window, steps, (1,) * rank)
    sizes = [operand.extent(letter) for letter in CANONICAL_DATA[-rank:]]
    rows = zip(sizes, window, steps, pairs, strict=True)
    usual = tuple(
        shapes.transposed_output_size(size, kernel, step, 1, *pair, 0)
        for size, kernel, step, pair in rows
    )
    plane = usual if output_size is None else _given(name, operand, rank, output_size)
    for extent, expected, step in zip(plane, usual, steps, strict=True):
        if output_size is not None and abs(extent - expected) >= step:
            raise ValueError(
                f"{name}: output_size must differ by less than the stride {steps} from {usual}, "
                f"got {plane}"
            )
        if extent < 1:
            raise ValueError(
                f"{name}: the result must not be empty, got size {plane} from input "
                f"{tuple(sizes)}, kernel_size {window}, stride {steps} and padding {pairs}"
            )
    return plane


def _given(name: str, operand: Operand, rank: int, output_size: Any) -> tuple[int, ...]:
    """The spatial extents in the user's ``output_size``."""
    lengths = (rank, len(operand.letters))
    if not isinstance(output_size, (Sequence, np.ndarray)) or isinstance(output_size, (str, bytes)):
        raise TypeError(
            f"{name}: output_size must be a sequence of integers, got {shown(output_size)}"
        )
    if len(output_size) not in lengths:
        raise ValueError(
            f"{name}: output_size must have {lengths[0]} extents, or {lengths[1]} for the whole "
            f"shape, got {shown(output_size)}"
        )
    extents = tuple(integer(f"{name}: output_size", extent, 0) for extent in output_size)
    if len(extents) == rank:
        return extents
    whole = dict(zip(operand.letters, extents, strict=True))
    for letter in "NC":
        if whole.get(letter, operand.extent(letter)) != operand.extent(letter):
            raise ValueError(
                f"{name}: output_size must keep batch and channels of the input's shape "
                f"{operand.shape}, got {shown(output_size)}"
            )
    return tuple(whole[letter] for letter in CANONICAL_DATA[-rank:])
