"""Depthwise and depthwise-separable convolutions.

Argument names, order, defaults and shapes are those of ``torch.nn.functional``; torch's tensor is
here any NumPy array (or an object with ``__array__`` or ``__dlpack__``), with any strides.
"""

from __future__ import annotations

from typing import Any

from cnnfast._core.activations import Activation
from cnnfast._core.arrays import Array
from cnnfast._core.calls import convolve_depthwise, convolve_separable


def depthwise_conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int | None = None,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Convolution of each channel with ``m`` kernels of its own: ``conv1d`` with C groups.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array
    weight : (C m, 1, S) array
        In the order of ``weight_layout``, by default "OIW" beside NCW and "WIO" beside NWC;
        out-channels c m ... c m + m - 1 belong to channel c.
    bias : (C m,) array, optional
    groups : int, optional
        The number of channels C, nothing else: here for ``conv1d``'s order of arguments.
    stride, padding, dilation and the keywords
        As for ``conv1d``.

    Returns
    -------
    (N, C m, Q) array, in the input's layout; dtypes as ``conv1d``.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``conv1d``.

    Examples
    --------
    >>> import numpy as np
    >>> signals = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    >>> depthwise_conv1d(signals, np.array([[[1.0, 1.0]], [[-1.0, 1.0]]]))
    array([[[3., 5.],
            [1., 1.]]])
    """
    return convolve_depthwise(
        "depthwise_conv1d", 1, input, weight, bias, stride, padding, dilation, groups,
        padding_mode=padding_mode, padding_value=padding_value, layout=layout,
        weight_layout=weight_layout, activation=activation, out_dtype=out_dtype, out=out,
        backend=backend,
    )  # fmt: skip


def separable_conv1d(
    input: Any,
    depthwise_weight: Any,
    pointwise_weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int | None = None,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Depthwise convolution, then a pointwise one that mixes the channels.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array
    depthwise_weight : (C m, 1, S) array
        As for ``depthwise_conv1d``; stride, padding and dilation are its.
    pointwise_weight : (K, C m, 1) array
        Bias and activation come after it.
    bias : (K,) array, optional
    groups : int, optional
        The number of channels C, nothing else: here for ``conv1d``'s order of arguments.
    stride, padding, dilation and the keywords
        As for ``conv1d``.

    Returns
    -------
    (N, K, Q) array, in the input's layout.
        Between the two the dtype is that of sums (int8 inputs: int32 and then int64).

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``conv1d``.

    Examples
    --------
    >>> import numpy as np
    >>> signals = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    >>> separable_conv1d(signals, np.ones((2, 1, 2)), np.array([[[1.0], [10.0]]]))
    array([[[ 93., 115.]]])
    """
    return convolve_separable(
        "separable_conv1d", 1, input, depthwise_weight, pointwise_weight, bias, stride,
        padding, dilation, groups, padding_mode=padding_mode, padding_value=padding_value,
        layout=layout, weight_layout=weight_layout, activation=activation, out_dtype=out_dtype,
        out=out, backend=backend,
    )  # fmt: skip


def depthwise_conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int | None = None,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Convolution of each channel with ``m`` kernels of its own: ``conv2d`` with C groups.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array
    weight : (C m, 1, R, S) array
        In the order of ``weight_layout``, by default "OIHW" beside NCHW and "HWIO" beside NHWC;
        out-channels c m ... c m + m - 1 belong to channel c.
    bias : (C m,) array, optional
    groups : int, optional
        The number of channels C, nothing else: here for ``conv2d``'s order of arguments.
    stride, padding, dilation and the keywords
        As for ``conv2d``.

    Returns
    -------
    (N, C m, P, Q) array, in the input's layout; dtypes as ``conv2d``.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``conv2d``.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.ones((1, 3, 4, 4))
    >>> depthwise_conv2d(images, np.ones((3, 1, 2, 2)), padding="same").shape
    (1, 3, 4, 4)
    """
    return convolve_depthwise(
        "depthwise_conv2d", 2, input, weight, bias, stride, padding, dilation, groups,
        padding_mode=padding_mode, padding_value=padding_value, layout=layout,
        weight_layout=weight_layout, activation=activation, out_dtype=out_dtype, out=out,
        backend=backend,
    )  # fmt: skip


def separable_conv2d(
    input: Any,
    depthwise_weight: Any,
    pointwise_weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int | None = None,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Depthwise convolution, then a pointwise one that mixes the channels.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array
    depthwise_weight : (C m, 1, R, S) array
        As for ``depthwise_conv2d``; stride, padding and dilation are its.
    pointwise_weight : (K, C m, 1, 1) array
        Bias and activation come after it.
    bias : (K,) array, optional
    groups : int, optional
        The number of channels C, nothing else: here for ``conv2d``'s order of arguments.
    stride, padding, dilation and the keywords
        As for ``conv2d``.

    Returns
    -------
    (N, K, P, Q) array, in the input's layout.
        Between the two the dtype is that of sums (int8 inputs: int32 and then int64).

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``conv2d``.

    Examples
    --------
    >>> import numpy as np
    >>> depthwise, pointwise = np.ones((3, 1, 3, 3)), np.ones((4, 3, 1, 1))
    >>> separable_conv2d(np.ones((1, 3, 5, 5)), depthwise, pointwise)[0, :, 0, 0]
    array([27., 27., 27., 27.])
    >>> depthwise.size + pointwise.size
    39
    """
    return convolve_separable(
        "separable_conv2d", 2, input, depthwise_weight, pointwise_weight, bias, stride,
        padding, dilation, groups, padding_mode=padding_mode, padding_value=padding_value,
        layout=layout, weight_layout=weight_layout, activation=activation, out_dtype=out_dtype,
        out=out, backend=backend,
    )  # fmt: skip
