"""Adjoints of locally connected layers."""

from __future__ import annotations

from typing import Any

from cnnfast._core import gradients
from cnnfast._core.arrays import Array


def locally_connected1d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``locally_connected1d`` in its input.

    Parameters
    ----------
    input_size : shape (N, C, W)
        With ``layout="NWC"`` channels last.
    weight : (Q, K, C / groups, S) array
        Positions, then the order of ``weight_layout``.
    grad_output : (N, K, Q) array
        Of the shape that the forward call gives.
    stride, padding, dilation, groups, layout, weight_layout, out, backend
        As for ``locally_connected1d``; padding in numbers.

    Returns
    -------
    Array of shape ``input_size``; dtypes as ``conv1d``, complex factors conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> kernels = np.array([[[[1.0, 0.0]]], [[[0.0, 1.0]]], [[[1.0, 1.0]]]])
    >>> locally_connected1d_input((1, 1, 4), kernels, np.ones((1, 1, 3)))
    array([[[1., 0., 2., 1.]]])
    """
    return gradients.local_input(
        "locally_connected1d_input", 1, input_size, weight, grad_output, stride=stride,
        padding=padding, dilation=dilation, groups=groups, layout=layout,
        weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def locally_connected1d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``locally_connected1d`` in its weight.

    Parameters
    ----------
    input : (N, C, W) array
        With ``layout="NWC"`` channels last.
    weight_size : shape (Q, K, C / groups, S)
        Positions, then the order of ``weight_layout``.
    grad_output : (N, K, Q) array
        Of the shape that the forward call gives.
    stride, padding, dilation, groups, layout, weight_layout, out, backend
        As for ``locally_connected1d``; padding in numbers.

    Returns
    -------
    Array of shape ``weight_size``; dtypes as ``conv1d``, complex factors conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[1.0, 2.0, 3.0]]])
    >>> locally_connected1d_weight(x, (2, 1, 1, 2), np.array([[[1.0, 10.0]]])).reshape(2, 2)
    array([[ 1.,  2.],
           [20., 30.]])
    """
    return gradients.local_weight(
        "locally_connected1d_weight", 1, input, weight_size, grad_output, stride=stride,
        padding=padding, dilation=dilation, groups=groups, layout=layout,
        weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def locally_connected2d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``locally_connected2d`` in its input.

    Parameters
    ----------
    input_size : shape (N, C, H, W)
        With ``layout="NHWC"`` channels last.
    weight : (P Q, K, C / groups, R, S) array
        Positions, then the order of ``weight_layout``.
    grad_output : (N, K, P, Q) array
        Of the shape that the forward call gives.
    stride, padding, dilation, groups, layout, weight_layout, out, backend
        As for ``locally_connected2d``; padding in numbers.

    Returns
    -------
    Array of shape ``input_size``; dtypes as ``conv2d``, complex factors conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> kernels = np.arange(4.0).reshape(4, 1, 1, 1, 1)
    >>> locally_connected2d_input((1, 1, 2, 2), kernels, np.ones((1, 1, 2, 2)))
    array([[[[0., 1.],
             [2., 3.]]]])
    """
    return gradients.local_input(
        "locally_connected2d_input", 2, input_size, weight, grad_output, stride=stride,
        padding=padding, dilation=dilation, groups=groups, layout=layout,
        weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def locally_connected2d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``locally_connected2d`` in its weight.

    Parameters
    ----------
    input : (N, C, H, W) array
        With ``layout="NHWC"`` channels last.
    weight_size : shape (P Q, K, C / groups, R, S)
        Positions, then the order of ``weight_layout``.
    grad_output : (N, K, P, Q) array
        Of the shape that the forward call gives.
    stride, padding, dilation, groups, layout, weight_layout, out, backend
        As for ``locally_connected2d``; padding in numbers.

    Returns
    -------
    Array of shape ``weight_size``; dtypes as ``conv2d``, complex factors conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the forward function; also for arrays without the batch axis and padding by name.

    Examples
    --------
    >>> import numpy as np
    >>> x, grad = np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 2, 2))
    >>> locally_connected2d_weight(x, (4, 1, 1, 1, 1), grad).ravel()
    array([0., 1., 2., 3.])
    """
    return gradients.local_weight(
        "locally_connected2d_weight", 2, input, weight_size, grad_output, stride=stride,
        padding=padding, dilation=dilation, groups=groups, layout=layout,
        weight_layout=weight_layout, out=out, backend=backend,
    )  # fmt: skip


def locally_connected_bias(
    grad_output: Any, per_position: bool = False, *, layout: str | None = None
) -> Array:
    """Gradient of a locally connected layer in its bias: summed over the batch, and over positions
    unless each has a bias of its own.

    Parameters
    ----------
    grad_output : (N, K, Q) or (N, K, P, Q) array
        Of the dtypes that ``conv2d`` takes.
    per_position : bool
        Whether each output position has a bias of its own.
    layout : "NCW", "NWC", "NCHW" or "NHWC", optional
        Of ``grad_output``; channels first by default.

    Returns
    -------
    (K,) array, or (K, Q) or (K, P, Q) per position, summed in float64 (integers in int64), in the
    dtype of sums that ``conv2d`` gives.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values; also for arrays without the batch axis.

    Examples
    --------
    >>> import numpy as np
    >>> locally_connected_bias(np.ones((2, 1, 3))), locally_connected_bias(np.ones((2, 1, 3)), True)
    (array([6.]), array([[2., 2., 2.]]))
    """
    return gradients.channel_sums("locally_connected_bias", grad_output, layout, per_position)
