"""Activations, each once: functions that change a float array in place (relu and relu6 an array of
integers too), and which of them kernels fuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cnnfast.kernels.problem import ACTIVATION_CODES

from .arguments import shown
from .normal import normal_cdf

Array = np.ndarray[Any, Any]

#: Elements that are computed at a time where the computation takes temporaries in float64.
BLOCK = 1 << 14


def relu(x: Array) -> None:
    """``max(x, 0)``; NaN and the sign of a zero stay."""
    np.copyto(x, 0, where=x < 0)


def relu6(x: Array) -> None:
    """``min(max(x, 0), 6)``; NaN and the sign of a zero stay."""
    relu(x)
    np.copyto(x, 6, where=x > 6)


@np.errstate(under="ignore", over="ignore", invalid="ignore")
def leaky_relu(x: Array, negative_slope: float = 0.01) -> None:
    """``x`` where that is positive, ``x * negative_slope`` elsewhere."""
    np.multiply(x, x.dtype.type(negative_slope), out=x, where=~(x > 0))


@np.errstate(under="ignore")
def sigmoid(x: Array) -> None:
    """``1 / (1 + exp(-x))``."""
    # exp(-|x|) never overflows: 1 / (1 + e) on the right of zero, e / (1 + e) on the left.
    small = np.exp(-np.abs(x))
    np.divide(np.where(x < 0, small, 1), 1 + small, out=x)


@np.errstate(under="ignore")
def tanh(x: Array) -> None:
    """The hyperbolic tangent."""
    np.tanh(x, out=x)


@np.errstate(under="ignore", invalid="ignore")
def silu(x: Array) -> None:
    """``x * sigmoid(x)``; NaN at minus infinity, as torch has it."""
    gate = x.copy()
    sigmoid(gate)
    np.multiply(x, gate, out=x)


@np.errstate(under="ignore", invalid="ignore")
def gelu(x: Array) -> None:
    """``x`` times the normal distribution function of ``x``; NaN at minus infinity, as torch."""
    for block in _float64_blocks(x):
        block *= normal_cdf(block)


@np.errstate(under="ignore", over="ignore", invalid="ignore")
def gelu_tanh(x: Array) -> None:
    """Hendrycks and Gimpel's approximation ``x * (1 + tanh(u)) / 2`` of gelu, with
    ``u = sqrt(2 / pi) * (x + 0.044715 * x**3)``; NaN at minus infinity, as torch has it.
    """
    for block in _float64_blocks(x):
        # (1 + tanh(u)) / 2 = sigmoid(2u), which loses no digits in the left tail.
        gate = (2 * math.sqrt(2 / math.pi)) * block * (1 + 0.044715 * block * block)
        sigmoid(gate)
        block *= gate


def _float64_blocks(x: Array) -> Iterator[Array]:
    """The elements in float64, a one-dimensional block at a time; what is stored in it gets back
    into ``x``, rounded."""
    with np.nditer(
        x,
        ["buffered", "external_loop", "zerosize_ok"],
        ["readwrite"],
        np.float64,
        casting="same_kind",
        buffersize=BLOCK,
    ) as blocks:
        yield from blocks


#: Activations that follow the kernel: name -> function that changes an array in place.
FOLLOWING: dict[str, Callable[[Array], None]] = {
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "gelu": gelu,
    "silu": silu,
}


def split_activation(
    name: str, activation: Any, kind: str = "float"
) -> tuple[int, Callable[[Array], None] | None]:
    """The code for the kernel, and what is to follow it (None where the kernel does it all).

    ``kind`` is the arithmetic's: integers take those that a kernel applies, complex numbers none.

    >>> split_activation("conv2d", "relu")
    (1, None)
    """
    if activation is not None and not isinstance(activation, str):
        raise TypeError(f"{name}: activation must be None or a name, got {shown(activation)}")
    if activation not in ACTIVATION_CODES and activation not in FOLLOWING:
        names = ", ".join(name for name in (*ACTIVATION_CODES, *FOLLOWING) if name)
        raise ValueError(
            f"{name}: activation must be None or one of {names}, got {shown(activation)}"
        )
    if activation and (kind == "complex" or (kind == "integer" and activation in FOLLOWING)):
        raise TypeError(f"{name}: activation {activation!r} isn't defined for {kind} inputs")
    if activation is None or activation in ACTIVATION_CODES:
        return ACTIVATION_CODES[activation], None
    return 0, FOLLOWING[activation]
