"""Adjoints of maximum and average pooling."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.pool_gradients import max_backward, mean_backward


def max_pool1d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``max_pool1d``: each output's goes to where its maximum was.

    Parameters
    ----------
    grad_output : (N, C, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, W) array of floats
        With ``layout="NWC"`` channels last.
    kernel_size, stride, padding, dilation, ceil_mode
        As for ``max_pool1d``; padding in numbers.
    layout, out, backend
        As for the forward function.

    Returns
    -------
    Array of the input's shape, in the dtype that both promote to.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(4.0).reshape(1, 1, 4)
    >>> max_pool1d_backward(np.ones((1, 1, 2)), x, 2).ravel()[-4:]
    array([0., 1., 0., 1.])
    """
    return max_backward(
        "max_pool1d_backward", 1, grad_output, input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip


def max_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``max_pool2d``: each output's goes to where its maximum was.

    Parameters
    ----------
    grad_output : (N, C, P, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, H, W) array of floats
        With ``layout="NHWC"`` channels last.
    kernel_size, stride, padding, dilation, ceil_mode
        As for ``max_pool2d``; padding in numbers.
    layout, out, backend
        As for the forward function.

    Returns
    -------
    Array of the input's shape, in the dtype that both promote to.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> max_pool2d_backward(np.ones((1, 1, 2, 2)), x, 2).ravel()[-4:]
    array([0., 1., 0., 1.])
    """
    return max_backward(
        "max_pool2d_backward", 2, grad_output, input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip


def max_pool3d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``max_pool3d``: each output's goes to where its maximum was.

    Parameters
    ----------
    grad_output : (N, C, O, P, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, D, H, W) array of floats
        With ``layout="NDHWC"`` channels last.
    kernel_size, stride, padding, dilation, ceil_mode
        As for ``max_pool3d``; padding in numbers.
    layout, out, backend
        As for the forward function.

    Returns
    -------
    Array of the input's shape, in the dtype that both promote to.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(64.0).reshape(1, 1, 4, 4, 4)
    >>> max_pool3d_backward(np.ones((1, 1, 2, 2, 2)), x, 2).ravel()[-4:]
    array([0., 1., 0., 1.])
    """
    return max_backward(
        "max_pool3d_backward", 3, grad_output, input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip


def avg_pool1d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``avg_pool1d``: each output's is shared by its window.

    Parameters
    ----------
    grad_output : (N, C, Q) array of floats or complex numbers
        Of the shape that the forward call gives.
    input : (N, C, W) array of floats or complex numbers
        With ``layout="NWC"`` channels last.
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As for ``avg_pool1d``; padding in numbers.
    layout, out, backend
        As for the forward function.

    Returns
    -------
    Array of the input's shape, in the dtype that both promote to; complex numbers by parts.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool1d_backward(np.ones((1, 1, 2)), np.zeros((1, 1, 4)), 2).ravel()[:2]
    array([0.5, 0.5])
    """
    return mean_backward(
        "avg_pool1d_backward", 1, grad_output, input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )  # fmt: skip


def avg_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``avg_pool2d``: each output's is shared by its window.

    Parameters
    ----------
    grad_output : (N, C, P, Q) array of floats or complex numbers
        Of the shape that the forward call gives.
    input : (N, C, H, W) array of floats or complex numbers
        With ``layout="NHWC"`` channels last.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As for ``avg_pool2d``; padding in numbers.
    layout, out, backend
        As for the forward function.

    Returns
    -------
    Array of the input's shape, in the dtype that both promote to; complex numbers by parts.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool2d_backward(np.ones((1, 1, 2, 2)), np.zeros((1, 1, 4, 4)), 2).ravel()[:2]
    array([0.25, 0.25])
    """
    return mean_backward(
        "avg_pool2d_backward", 2, grad_output, input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip


def avg_pool3d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``avg_pool3d``: each output's is shared by its window.

    Parameters
    ----------
    grad_output : (N, C, O, P, Q) array of floats or complex numbers
        Of the shape that the forward call gives.
    input : (N, C, D, H, W) array of floats or complex numbers
        With ``layout="NDHWC"`` channels last.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As for ``avg_pool3d``; padding in numbers.
    layout, out, backend
        As for the forward function.

    Returns
    -------
    Array of the input's shape, in the dtype that both promote to; complex numbers by parts.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool3d_backward(np.ones((1, 1, 2, 2, 2)), np.zeros((1, 1, 4, 4, 4)), 2).ravel()[:2]
    array([0.125, 0.125])
    """
    return mean_backward(
        "avg_pool3d_backward", 3, grad_output, input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip
