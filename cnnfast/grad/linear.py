"""Adjoints of fully and locally connected layers."""

from __future__ import annotations

from typing import Any

from cnnfast._core import gradients
from cnnfast._core.arrays import Array


def linear_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    *,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``linear`` in its input: ``grad_output @ weight``.

    ``input_size`` is (..., in_features), ``weight`` (out_features, in_features), ``grad_output``
    (..., out_features); dtypes and errors as ``linear``, complex weights conjugated.

    >>> import numpy as np
    >>> linear_input((2,), np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([1.0, 2.0]))
    array([3., 6.])
    """
    return gradients.linear_input("linear_input", input_size, weight, grad_output, out, backend)


def linear_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    *,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Gradient of ``linear`` in its weight: ``grad_output.T @ input``, rows summed.

    ``input`` is (..., in_features), ``weight_size`` (out_features, in_features), ``grad_output``
    (..., out_features); dtypes and errors as ``linear``, complex inputs conjugated.

    >>> import numpy as np
    >>> linear_weight(np.array([1.0, 2.0]), (2, 2), np.array([1.0, 10.0]))
    array([[ 1.,  2.],
           [10., 20.]])
    """
    return gradients.linear_weight("linear_weight", input, weight_size, grad_output, out, backend)


def linear_bias(grad_output: Any) -> Array:
    """Gradient of ``linear`` in its bias: ``grad_output`` (..., out_features), rows summed.

    >>> import numpy as np
    >>> linear_bias(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    return gradients.row_sums("linear_bias", grad_output)


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

    ``grad_output`` is (N, K, Q) or (N, K, P, Q), or channels last by ``layout``; the result (K,),
    or (K, Q) or (K, P, Q).

    >>> import numpy as np
    >>> locally_connected_bias(np.ones((2, 1, 3))), locally_connected_bias(np.ones((2, 1, 3)), True)
    (array([6.]), array([[2., 2., 2.]]))
    """
    return gradients.channel_sums("locally_connected_bias", grad_output, layout, per_position)
