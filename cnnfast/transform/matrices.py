"""A dense layer's weights as a convolution's, and a convolution's as a dense layer's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast._core.arguments import flag, integer, sequence, shown
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.extras import require
from cnnfast._core.operand import Shape
from cnnfast.kernels.problem import taps_of


def linear_to_conv(
    weight: Any, bias: Any, input_shape: tuple[int, ...]
) -> tuple[Array, Array | None]:
    """The convolution that a dense layer over a flattened map is: its kernel is as large as the
    map, so that it fits in one place.

    Parameters
    ----------
    weight : (K, C * H * W) array
    bias : (K,) array or None
    input_shape : (C, H, W)
        The map before it was flattened, without the batch; (C, W) and (C, D, H, W) alike.

    Returns
    -------
    weight : (K, C, H, W) array
        The same numbers in the same memory, where that needs no copy.
    bias : (K,) array or None

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import cnnfast
    >>> rng = np.random.default_rng(0)
    >>> x, weight = rng.integers(-4, 5, (2, 3, 4, 4)), rng.integers(-4, 5, (10, 48))
    >>> kernel, _ = linear_to_conv(weight, None, (3, 4, 4))
    >>> kernel.shape, kernel.size, weight.size
    ((10, 3, 4, 4), 480, 480)
    >>> dense = x.reshape(2, 48) @ weight.T
    >>> bool((cnnfast.conv2d(x, kernel)[:, :, 0, 0] == dense).all())
    True
    """
    shape = _map_shape("linear_to_conv", input_shape)
    dense = as_array("weight", weight)
    if dense.ndim != 2 or dense.shape[1] != math.prod(shape):
        raise ValueError(
            f"linear_to_conv: weight must have shape (out_features, {math.prod(shape)}) for an "
            f"input {shape}, got shape {dense.shape}"
        )
    offsets = _checked_bias("linear_to_conv", bias, dense.shape[0])
    return dense.reshape(dense.shape[0], *shape), offsets


def conv_to_linear(
    weight: Any,
    bias: Any,
    input_shape: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    sparse: bool = False,
) -> tuple[Any, Array | None]:
    """The dense layer that a convolution of an input of one size is: a Toeplitz matrix, zeros where
    a window doesn't reach and the kernel's weights over and over.

    Parameters
    ----------
    weight : (K, C / groups, R, S) array
        Also of a conv1d or conv3d.
    bias : (K,) array or None
    input_shape : (C, H, W)
        Without the batch.
    stride, padding, dilation, groups
        As for ``cnnfast.conv2d``.
    sparse : bool
        Give a ``scipy.sparse.csr_array``, which holds no zeros but the kernel's.

    Returns
    -------
    weight : (K * P * Q, C * H * W) array
        Its transpose is the matrix of the transposed convolution.
    bias : (K * P * Q,) array or None
        Each out-channel's, once for every position.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.
    ModuleNotFoundError
        For ``sparse`` without SciPy.

    Examples
    --------
    >>> matrix, _ = conv_to_linear(np.array([[[1, 2]]]), None, (1, 4))
    >>> matrix
    array([[1, 2, 0, 0],
           [0, 1, 2, 0],
           [0, 0, 1, 2]])
    """
    kernel, wants_sparse = as_array("weight", weight), flag("conv_to_linear: sparse", sparse)
    shape = _map_shape("conv_to_linear", input_shape)
    geometry = ConvGeometry.of(
        (1, *shape), kernel, stride, padding, dilation, groups, rank=len(shape) - 1,
        dtype=kernel.dtype, name="conv_to_linear",
    )  # fmt: skip
    offsets = _checked_bias("conv_to_linear", bias, geometry.out_channels)
    if offsets is not None:
        offsets = np.repeat(offsets, math.prod(geometry.output))
    rows, columns, values = _entries(kernel, geometry)
    extents = math.prod(geometry.out_shape), math.prod(shape)
    if wants_sparse:
        sparse_arrays = require("conv_to_linear: sparse=True", "scipy.sparse")
        return sparse_arrays.csr_array((values, (rows, columns)), shape=extents), offsets
    matrix = np.zeros(extents, kernel.dtype)
    matrix[rows, columns] = values
    return matrix, offsets


def _entries(kernel: Array, geometry: ConvGeometry) -> tuple[Array, Array, Array]:
    """Rows, columns and values of all products that the convolution adds up."""
    problem, taps = geometry.problem, taps_of(geometry.problem)
    groups, extents = problem.g, problem.kernel
    outputs = np.arange(math.prod(geometry.out_shape)).reshape(groups, -1, 1, *problem.output)
    inputs = np.arange(math.prod(geometry.input.shape)).reshape(groups, 1, -1, *problem.size)
    weights = geometry.weight.canonical(kernel)
    weights = weights.reshape(groups, -1, *weights.shape[1:], 1, 1, 1)
    found = []
    for tap in np.ndindex(*extents):
        # The outputs whose tap lies inside the input, and the inputs that they read.
        ranges = [taps[sum(extents[:i]) + tap[i]] for i in range(3)]
        read = [
            np.arange(low, high) * problem.stride[i] + tap[i] * problem.dilation[i] - problem.pad[i]
            for i, (low, high) in enumerate(ranges)
        ]
        rows = outputs[:, :, :, *(slice(low, high) for low, high in ranges)]
        columns = inputs[:, :, :, *np.ix_(*read)]
        triple = np.broadcast_arrays(rows, columns, weights[:, :, :, *tap])
        found.append([part.ravel() for part in triple])
    rows, columns, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, columns, values


def _map_shape(name: str, input_shape: Any) -> Shape:
    extents = sequence(input_shape)
    if extents is None or len(extents) not in (2, 3, 4):
        raise ValueError(
            f"{name}: input_shape must be (C, H, W), or (C, W) or (C, D, H, W), without the batch, "
            f"got {shown(input_shape)}"
        )
    return tuple(integer(f"{name}: input_shape", extent, 1) for extent in extents)


def _checked_bias(name: str, bias: Any, outputs: int) -> Array | None:
    if bias is None:
        return None
    offsets = as_array("bias", bias)
    if offsets.shape != (outputs,):
        raise ValueError(f"{name}: bias must have shape ({outputs},), got {offsets.shape}")
    return offsets
