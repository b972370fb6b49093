"""Fully connected layers."""

from __future__ import annotations

from typing import Any

from cnnfast._core.activations import Activation
from cnnfast._core.arrays import Array, as_arrays, check_out
from cnnfast._core.calls import multiply_rows
from cnnfast._core.dtypes import promote
from cnnfast._core.packed import PackedWeight


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
    x, w, b = as_arrays("linear", input=input, weight=weight, bias=bias)
    if w.ndim != 1:
        given = weight if isinstance(weight, PackedWeight) else w
        return multiply_rows("linear", x, given, b, activation, out, backend)
    return _neuron(x, w, b, activation, out, backend)


def _neuron(
    x: Array, w: Array, b: Array | None, activation: Any, out: Array | None, backend: Any
) -> Array:
    """One neuron's output for every row: a layer of one, without its axis."""
    arithmetic = promote("linear", (x, w, b))
    if x.shape[-1:] != w.shape or not w.size:
        raise ValueError(
            "linear: input (..., in_features) and weight (in_features,) must agree in in_features, "
            f"which isn't 0, got shapes {x.shape} and {w.shape}"
        )
    if b is not None and b.shape != ():
        raise ValueError(
            f"linear: bias must have shape () beside a weight of one axis, got shape {b.shape}"
        )
    if out is not None:
        inputs = [array for array in (x, w, b) if array is not None]
        check_out("linear", out, x.shape[:-1], arithmetic.result, inputs)
    result = multiply_rows(
        "linear", x, w[None], None if b is None else b[None], activation,
        None if out is None else out[..., None], backend,
    )  # fmt: skip
    return result.reshape(result.shape[:-1]) if out is None else out
