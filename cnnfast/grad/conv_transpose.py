"""Adjoints of transposed convolutions."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.gradients import channel_sums, conv_input, conv_weight


def conv_transpose1d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``conv_transpose1d`` in its input: a convolution of ``grad_output``.

    Parameters
    ----------
    input_size : shape (N, C, W)
        With ``layout="NWC"`` channels last.
    weight : (C, K / groups, S) array
    grad_output : (N, K, Q) array
        Of the shape that the forward call gives.
    stride, padding, output_padding, groups, dilation, layout, weight_layout, out, backend
        As for ``conv_transpose1d``; padding in numbers.

    Returns
    -------
    Array of shape ``input_size``; dtypes as ``conv1d``, complex weights conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose1d_input((1, 1, 2), np.ones((1, 1, 2)), np.ones((1, 1, 4)), stride=2).max()
    np.float64(2.0)
    """
    return conv_input(
        "conv_transpose1d_input", 1, input_size, weight, grad_output, transposed=True,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        dilation=dilation, layout=layout, weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose1d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``conv_transpose1d`` in its weight.

    Parameters
    ----------
    input : (N, C, W) array
        With ``layout="NWC"`` channels last.
    weight_size : shape (C, K / groups, S)
        In the order of ``weight_layout``.
    grad_output : (N, K, Q) array
        Of the shape that the forward call gives.
    stride, padding, output_padding, groups, dilation, layout, weight_layout, out, backend
        As for ``conv_transpose1d``; padding in numbers.

    Returns
    -------
    Array of shape ``weight_size``; dtypes as ``conv1d``, complex inputs conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x, grad = np.ones((1, 1, 2)), np.ones((1, 1, 4))
    >>> conv_transpose1d_weight(x, (1, 1, 2), grad, stride=2).max()
    np.float64(2.0)
    """
    return conv_weight(
        "conv_transpose1d_weight", 1, input, weight_size, grad_output, transposed=True,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        dilation=dilation, layout=layout, weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose2d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``conv_transpose2d`` in its input: a convolution of ``grad_output``.

    Parameters
    ----------
    input_size : shape (N, C, H, W)
        With ``layout="NHWC"`` channels last.
    weight : (C, K / groups, R, S) array
    grad_output : (N, K, P, Q) array
        Of the shape that the forward call gives.
    stride, padding, output_padding, groups, dilation, layout, weight_layout, out, backend
        As for ``conv_transpose2d``; padding in numbers.

    Returns
    -------
    Array of shape ``input_size``; dtypes as ``conv2d``, complex weights conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> weight, grad = np.ones((1, 1, 2, 2)), np.ones((1, 1, 4, 4))
    >>> conv_transpose2d_input((1, 1, 2, 2), weight, grad, stride=2).max()
    np.float64(4.0)
    """
    return conv_input(
        "conv_transpose2d_input", 2, input_size, weight, grad_output, transposed=True,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        dilation=dilation, layout=layout, weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose2d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``conv_transpose2d`` in its weight.

    Parameters
    ----------
    input : (N, C, H, W) array
        With ``layout="NHWC"`` channels last.
    weight_size : shape (C, K / groups, R, S)
        In the order of ``weight_layout``.
    grad_output : (N, K, P, Q) array
        Of the shape that the forward call gives.
    stride, padding, output_padding, groups, dilation, layout, weight_layout, out, backend
        As for ``conv_transpose2d``; padding in numbers.

    Returns
    -------
    Array of shape ``weight_size``; dtypes as ``conv2d``, complex inputs conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x, grad = np.ones((1, 1, 2, 2)), np.ones((1, 1, 4, 4))
    >>> conv_transpose2d_weight(x, (1, 1, 2, 2), grad, stride=2).max()
    np.float64(4.0)
    """
    return conv_weight(
        "conv_transpose2d_weight", 2, input, weight_size, grad_output, transposed=True,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        dilation=dilation, layout=layout, weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose3d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``conv_transpose3d`` in its input: a convolution of ``grad_output``.

    Parameters
    ----------
    input_size : shape (N, C, D, H, W)
        With ``layout="NDHWC"`` channels last.
    weight : (C, K / groups, T, R, S) array
    grad_output : (N, K, O, P, Q) array
        Of the shape that the forward call gives.
    stride, padding, output_padding, groups, dilation, layout, weight_layout, out, backend
        As for ``conv_transpose3d``; padding in numbers.

    Returns
    -------
    Array of shape ``input_size``; dtypes as ``conv3d``, complex weights conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> weight, grad = np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 4, 4, 4))
    >>> conv_transpose3d_input((1, 1, 2, 2, 2), weight, grad, stride=2).max()
    np.float64(8.0)
    """
    return conv_input(
        "conv_transpose3d_input", 3, input_size, weight, grad_output, transposed=True,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        dilation=dilation, layout=layout, weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose3d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``conv_transpose3d`` in its weight.

    Parameters
    ----------
    input : (N, C, D, H, W) array
        With ``layout="NDHWC"`` channels last.
    weight_size : shape (C, K / groups, T, R, S)
        In the order of ``weight_layout``.
    grad_output : (N, K, O, P, Q) array
        Of the shape that the forward call gives.
    stride, padding, output_padding, groups, dilation, layout, weight_layout, out, backend
        As for ``conv_transpose3d``; padding in numbers.

    Returns
    -------
    Array of shape ``weight_size``; dtypes as ``conv3d``, complex inputs conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x, grad = np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 4, 4, 4))
    >>> conv_transpose3d_weight(x, (1, 1, 2, 2, 2), grad, stride=2).max()
    np.float64(8.0)
    """
    return conv_weight(
        "conv_transpose3d_weight", 3, input, weight_size, grad_output, transposed=True,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        dilation=dilation, layout=layout, weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose_bias(grad_output: Any, *, layout: str | None = None) -> Array:
    """Gradient of a transposed convolution in its bias: the sum over batch and positions.

    Parameters
    ----------
    grad_output : (N, K, Q), (N, K, P, Q) or (N, K, O, P, Q) array
        Of the dtypes that ``conv2d`` takes.
    layout : "NCHW", "NHWC" or their kin of one and three axes, optional
        Of ``grad_output``; channels first by default.

    Returns
    -------
    (K,) array, summed in float64 (integers in int64), in the dtype of sums that ``conv2d`` gives.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values; also for arrays without the batch axis.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose_bias(np.ones((2, 3, 4)))
    array([8., 8., 8.])
    """
    return channel_sums("conv_transpose_bias", grad_output, layout)
