"""Adjoints of power-average pooling."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.pool_gradients import power_backward


def lp_pool1d_backward(
    grad_output: Any,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``lp_pool1d``; for p of 1 or more nothing flows from a window of zeros.

    Parameters
    ----------
    grad_output : (N, C, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, W) array of floats
        With ``layout="NWC"`` channels last.
    norm_type, kernel_size, stride, ceil_mode
        As for ``lp_pool1d``.
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
    >>> lp_pool1d_backward(np.ones((1, 1, 2)), np.ones((1, 1, 4)), 1, 2).ravel()[:2]
    array([1., 1.])
    """
    return power_backward(
        "lp_pool1d_backward", 1, grad_output, input, norm_type, layout, out, backend,
        kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode,
    )  # fmt: skip


def lp_pool2d_backward(
    grad_output: Any,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``lp_pool2d``; for p of 1 or more nothing flows from a window of zeros.

    Parameters
    ----------
    grad_output : (N, C, P, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, H, W) array of floats
        With ``layout="NHWC"`` channels last.
    norm_type, kernel_size, stride, ceil_mode
        As for ``lp_pool2d``.
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
    >>> lp_pool2d_backward(np.ones((1, 1, 2, 2)), np.ones((1, 1, 4, 4)), 1, 2).ravel()[:2]
    array([1., 1.])
    """
    return power_backward(
        "lp_pool2d_backward", 2, grad_output, input, norm_type, layout, out, backend,
        kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode,
    )  # fmt: skip


def lp_pool3d_backward(
    grad_output: Any,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``lp_pool3d``; for p of 1 or more nothing flows from a window of zeros.

    Parameters
    ----------
    grad_output : (N, C, O, P, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, D, H, W) array of floats
        With ``layout="NDHWC"`` channels last.
    norm_type, kernel_size, stride, ceil_mode
        As for ``lp_pool3d``.
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
    >>> lp_pool3d_backward(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 4, 4, 4)), 1, 2).ravel()[:2]
    array([1., 1.])
    """
    return power_backward(
        "lp_pool3d_backward", 3, grad_output, input, norm_type, layout, out, backend,
        kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode,
    )  # fmt: skip
