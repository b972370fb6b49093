"""Depthwise and depthwise-separable convolutions.

Argument names, order, defaults and shapes are those of ``torch.nn.functional``; torch's tensor is
here any NumPy array (or an object with ``__array__`` or ``__dlpack__``), with any strides.
"""

from __future__ import annotations

from typing import Any

from cnnfast._core.arguments import axis_letters
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.calls import convolve
from cnnfast._core.operand import data_operand


def depthwise_conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: str | None = None,
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
    x = as_array("depthwise_conv1d: input", input)
    channels = data_operand("depthwise_conv1d", x, 1, layout).extent("C")
    return convolve(
        "depthwise_conv1d", 1, x, weight, bias, stride, padding, dilation, channels,
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
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: str | None = None,
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
    pointwise = as_array("separable_conv1d: pointwise_weight", pointwise_weight)
    check_pointwise("separable_conv1d", pointwise, 1, weight_layout, layout)
    between = depthwise_conv1d(
        input, depthwise_weight, None, stride, padding, dilation, padding_mode=padding_mode,
        padding_value=padding_value, layout=layout, weight_layout=weight_layout, backend=backend,
    )  # fmt: skip
    return convolve(
        "separable_conv1d", 1, between, pointwise, bias, 1, 0, 1, 1,
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
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: str | None = None,
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
    x = as_array("depthwise_conv2d: input", input)
    channels = data_operand("depthwise_conv2d", x, 2, layout).extent("C")
    return convolve(
        "depthwise_conv2d", 2, x, weight, bias, stride, padding, dilation, channels,
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
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: str | None = None,
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
    pointwise = as_array("separable_conv2d: pointwise_weight", pointwise_weight)
    check_pointwise("separable_conv2d", pointwise, 2, weight_layout, layout)
    between = depthwise_conv2d(
        input, depthwise_weight, None, stride, padding, dilation, padding_mode=padding_mode,
        padding_value=padding_value, layout=layout, weight_layout=weight_layout, backend=backend,
    )  # fmt: skip
    return convolve(
        "separable_conv2d", 2, between, pointwise, bias, 1, 0, 1, 1,
        layout=layout, weight_layout=weight_layout, activation=activation, out_dtype=out_dtype,
        out=out, backend=backend,
    )  # fmt: skip


def check_pointwise(
    name: str, weight: Array, rank: int, weight_layout: str | None, layout: str | None
) -> None:
    """ValueError unless the weight's kernel is one tap."""
    if weight.ndim != rank + 2:
        raise ValueError(
            f"{name}: pointwise_weight must have {rank + 2} axes, got shape {weight.shape}"
        )
    last = layout is not None and not layout.startswith("NC")
    letters = axis_letters(weight_layout, rank, "OI", not last)
    taps = [
        extent for letter, extent in zip(letters, weight.shape, strict=True) if letter not in "OI"
    ]
    if any(extent != 1 for extent in taps):
        raise ValueError(
            f"{name}: pointwise_weight must have a kernel of one tap, got shape {weight.shape}"
        )
