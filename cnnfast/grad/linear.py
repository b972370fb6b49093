"""Adjoints of fully connected layers."""

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

    Parameters
    ----------
    input_size : shape (..., in_features)
    weight : (out_features, in_features) array
    grad_output : (..., out_features) array
        Of the shape that the forward call gives.
    out, backend
        As for ``linear``.

    Returns
    -------
    Array of shape ``input_size``; dtypes as ``linear``, complex weights conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``linear``; also for a weight of one axis.

    Examples
    --------
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

    Parameters
    ----------
    input : (..., in_features) array
    weight_size : shape (out_features, in_features)
    grad_output : (..., out_features) array
        Of the shape that the forward call gives.
    out, backend
        As for ``linear``.

    Returns
    -------
    Array of shape ``weight_size``; dtypes as ``linear``, complex inputs conjugated.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``linear``; also for a weight of one axis.

    Examples
    --------
    >>> import numpy as np
    >>> linear_weight(np.array([1.0, 2.0]), (2, 2), np.array([1.0, 10.0]))
    array([[ 1.,  2.],
           [10., 20.]])
    """
    return gradients.linear_weight("linear_weight", input, weight_size, grad_output, out, backend)


def linear_bias(grad_output: Any) -> Array:
    """Gradient of ``linear`` in its bias: the rows of ``grad_output`` summed.

    Parameters
    ----------
    grad_output : (..., out_features) array
        Of the dtypes that ``linear`` takes.

    Returns
    -------
    (out_features,) array, summed in float64 (integers in int64), in the dtype of sums that
    ``linear`` gives.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> linear_bias(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    return gradients.row_sums("linear_bias", grad_output)
