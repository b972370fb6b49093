"""Activations by name: those of ``ACTIVATION_CODES`` are fused into kernels, others follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast.kernels.problem import ACTIVATION_CODES

Array = np.ndarray[Any, Any]


def _leaky_relu(x: Array) -> None:
    np.multiply(x, 0.01, out=x, where=x < 0)


@np.errstate(under="ignore")
def _sigmoid(x: Array) -> None:
    # exp(-|x|) never overflows: 1 / (1 + e) on the right of zero, e / (1 + e) on the left.
    small = np.exp(-np.abs(x))
    np.divide(np.where(x < 0, small, 1), 1 + small, out=x)


def _tanh(x: Array) -> None:
    np.tanh(x, out=x)


@np.errstate(under="ignore")
def _silu(x: Array) -> None:
    gate = x.copy()
    _sigmoid(gate)
    np.multiply(x, gate, out=x)


#: Activations that follow the kernel: name -> function that changes an array in place.
FOLLOWING: dict[str, Callable[[Array], None]] = {
    "leaky_relu": _leaky_relu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "silu": _silu,
}


def split_activation(name: str, activation: Any) -> tuple[int, Callable[[Array], None] | None]:
    """The code for the kernel, and what is to follow it (None where the kernel does it all).

    >>> split_activation("conv2d", "relu")
    (1, None)
    """
    if activation is not None and not isinstance(activation, str):
        raise TypeError(f"{name}: activation must be None or a name, got {activation!r}")
    if activation in ACTIVATION_CODES:
        return ACTIVATION_CODES[activation], None
    if activation in FOLLOWING:
        return 0, FOLLOWING[activation]
    names = ", ".join(name for name in (*ACTIVATION_CODES, *FOLLOWING) if name)
    raise ValueError(f"{name}: activation must be None or one of {names}, got {activation!r}")
