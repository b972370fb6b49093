"""Fully connected layers."""

from __future__ import annotations

from typing import Any

from cnnfast._core.activations import Activation
from cnnfast._core.arrays import Array
from cnnfast._core.calls import multiply_rows


def linear(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Fully connected layer ``input @ weight.T + bias``, as ``torch.nn.functional.linear``.

    Parameters
    ----------
    input : (..., in_features) array
    weight : (out_features, in_features) or (in_features,) array
    bias : (out_features,) array, optional
        Of shape () beside a weight of one axis.
    activation, out, backend
        As for ``conv2d``.

    Returns
    -------
    (..., out_features) array, without the last axis for a weight of one axis; dtypes as ``conv2d``.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``conv2d``.

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    array([11.,  2.])
    >>> linear(np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([3.0, 4.0]), 1.0)
    array([12.,  5.])
    """
    return multiply_rows("linear", input, weight, bias, activation, out, backend)
