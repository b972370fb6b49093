"""Adjoints of adaptive pooling."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.pool_gradients import max_backward, mean_backward


def adaptive_avg_pool1d_backward(
    grad_output: Any,
    input: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``adaptive_avg_pool1d``; the output size is ``grad_output``'s.

    Parameters
    ----------
    grad_output : (N, C, Q) array of floats or complex numbers
        Of the shape that the forward call gives.
    input : (N, C, W) array of floats or complex numbers
        With ``layout="NWC"`` channels last.
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
    >>> adaptive_avg_pool1d_backward(np.ones((1, 1, 2)), np.zeros((1, 1, 4))).ravel()[:2]
    array([0.5, 0.5])
    """
    return mean_backward(
        "adaptive_avg_pool1d_backward", 1, grad_output, input, layout, out, backend
    )


def adaptive_max_pool1d_backward(
    grad_output: Any,
    input: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``adaptive_max_pool1d``; the output size is ``grad_output``'s.

    Parameters
    ----------
    grad_output : (N, C, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, W) array of floats
        With ``layout="NWC"`` channels last.
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
    >>> adaptive_max_pool1d_backward(np.ones((1, 1, 2)), x).ravel()[-4:]
    array([0., 1., 0., 1.])
    """
    return max_backward("adaptive_max_pool1d_backward", 1, grad_output, input, layout, out, backend)


def adaptive_avg_pool2d_backward(
    grad_output: Any,
    input: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``adaptive_avg_pool2d``; the output size is ``grad_output``'s.

    Parameters
    ----------
    grad_output : (N, C, P, Q) array of floats or complex numbers
        Of the shape that the forward call gives.
    input : (N, C, H, W) array of floats or complex numbers
        With ``layout="NHWC"`` channels last.
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
    >>> adaptive_avg_pool2d_backward(np.ones((1, 1, 2, 2)), np.zeros((1, 1, 4, 4))).ravel()[:2]
    array([0.25, 0.25])
    """
    return mean_backward(
        "adaptive_avg_pool2d_backward", 2, grad_output, input, layout, out, backend
    )


def adaptive_max_pool2d_backward(
    grad_output: Any,
    input: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``adaptive_max_pool2d``; the output size is ``grad_output``'s.

    Parameters
    ----------
    grad_output : (N, C, P, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, H, W) array of floats
        With ``layout="NHWC"`` channels last.
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
    >>> adaptive_max_pool2d_backward(np.ones((1, 1, 2, 2)), x).ravel()[-4:]
    array([0., 1., 0., 1.])
    """
    return max_backward("adaptive_max_pool2d_backward", 2, grad_output, input, layout, out, backend)


def adaptive_avg_pool3d_backward(
    grad_output: Any,
    input: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``adaptive_avg_pool3d``; the output size is ``grad_output``'s.

    Parameters
    ----------
    grad_output : (N, C, O, P, Q) array of floats or complex numbers
        Of the shape that the forward call gives.
    input : (N, C, D, H, W) array of floats or complex numbers
        With ``layout="NDHWC"`` channels last.
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
    >>> grad, x = np.ones((1, 1, 2, 2, 2)), np.zeros((1, 1, 4, 4, 4))
    >>> adaptive_avg_pool3d_backward(grad, x).ravel()[:2]
    array([0.125, 0.125])
    """
    return mean_backward(
        "adaptive_avg_pool3d_backward", 3, grad_output, input, layout, out, backend
    )


def adaptive_max_pool3d_backward(
    grad_output: Any,
    input: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``adaptive_max_pool3d``; the output size is ``grad_output``'s.

    Parameters
    ----------
    grad_output : (N, C, O, P, Q) array of floats
        Of the shape that the forward call gives.
    input : (N, C, D, H, W) array of floats
        With ``layout="NDHWC"`` channels last.
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
    >>> adaptive_max_pool3d_backward(np.ones((1, 1, 2, 2, 2)), x).ravel()[-4:]
    array([0., 1., 0., 1.])
    """
    return max_backward("adaptive_max_pool3d_backward", 3, grad_output, input, layout, out, backend)
