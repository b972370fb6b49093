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
from .arrays import Dtype
from .normal import normal_cdf
from .scalar_functions import address_of, is_device_function, is_scalar_function

Array = np.ndarray[Any, Any]

#: What a call takes as activation: a name, or a scalar function compiled by ``numba.njit``.
Activation = str | Callable[[float], float] | None

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
    name: str, activation: Any, kind: str, dtype: Dtype
) -> tuple[int, Callable[[Array], None] | None]:
    """What the kernel takes as activation, and what is to follow it (None where the kernel does it
    all).

    ``kind`` is the arithmetic's: integers take those that a kernel applies, complex numbers none.
    ``dtype`` is what the kernel computes in, for which a function of the user's is compiled.

    >>> split_activation("conv2d", "relu", "float", np.dtype(np.float32))
    (1, None)
    """
    if is_device_function(activation):
        raise TypeError(
            f"{name}: activation {activation.__name__!r} is a device function, which kernels "
            "apply to arrays on a GPU"
        )
    compiled = is_scalar_function(activation)
    if activation is not None and not isinstance(activation, str) and not compiled:
        raise TypeError(
            f"{name}: activation must be None, a name or a function compiled by numba.njit, "
            f"got {shown(activation)}"
        )
    if not compiled and activation not in ACTIVATION_CODES and activation not in FOLLOWING:
        names = ", ".join(name for name in (*ACTIVATION_CODES, *FOLLOWING) if name)
        raise ValueError(
            f"{name}: activation must be None, one of {names}, or a function compiled by "
            f"numba.njit, got {shown(activation)}"
        )
    if activation and (kind == "complex" or (kind == "integer" and not in_kernel(activation))):
        shown_name = repr(activation) if isinstance(activation, str) else activation.__name__
        raise TypeError(f"{name}: activation {shown_name} isn't defined for {kind} inputs")
    if compiled:
        return address_of(name, activation, dtype), None
    if in_kernel(activation):
        return ACTIVATION_CODES[activation], None
    return 0, FOLLOWING[activation]


def check_device_activation(
    name: str, activation: Any, kind: str, dtype: Dtype
) -> tuple[int, None]:
    """The same for arrays on a GPU, whose kernels apply all that have names and functions of the
    user's, those compiled for a GPU as well."""
    if not is_device_function(activation):
        split_activation(name, activation, kind, dtype)
    elif kind != "float":
        raise TypeError(
            f"{name}: activation {activation.__name__!r} isn't defined for {kind} inputs"
        )
    return 0, None


def in_kernel(activation: Any) -> bool:
    """Whether a kernel has the activation built in.

    >>> in_kernel("relu"), in_kernel("gelu")
    (True, False)
    """
    return activation is None or (isinstance(activation, str) and activation in ACTIVATION_CODES)
