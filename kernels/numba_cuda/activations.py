"""Activations as device functions of one number: what a kernel applies in its last store.

Sums are float32 or float64 and so are these; relu and relu6 take integers too. NaN stays NaN.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from numba import cuda


@cuda.jit(device=True)
def _identity(x):
    return x


@cuda.jit(device=True)
def _relu(x):
    return type(x)(0) if x < 0 else x


@cuda.jit(device=True)
def _relu6(x):
    if x > 6:
        return type(x)(6)
    return type(x)(0) if x < 0 else x


@cuda.jit(device=True)
def _leaky_relu(x):
    return x if x > 0 else x * type(x)(0.01)


@cuda.jit(device=True)
def _sigmoid(x):
    # exp(-|x|) never overflows: 1 / (1 + e) on the right of zero, e / (1 + e) on the left.
    one = type(x)(1)
    small = type(x)(math.exp(-abs(x)))
    return (small if x < 0 else one) / (one + small)


@cuda.jit(device=True)
def _tanh(x):
    return type(x)(math.tanh(x))


@cuda.jit(device=True)
def _silu(x):
    return x * _sigmoid(x)


@cuda.jit(device=True)
def _gelu(x):
    half, scale = type(x)(0.5), type(x)(-math.sqrt(0.5))
    return x * (half * type(x)(math.erfc(x * scale)))


#: By the names and the codes (``problem.ACTIVATION_CODES``) that calls give.
NAMED = {
    None: _identity,
    0: _identity,
    "relu": _relu,
    1: _relu,
    "relu6": _relu6,
    2: _relu6,
    "leaky_relu": _leaky_relu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "silu": _silu,
    "gelu": _gelu,
}


def activation_of(activation: Any) -> Any:
    """The device function of an activation: a name, a code, a function compiled by
    ``numba.njit`` (compiled again for the device), or a device function, which is taken as it is.
    """
    if activation is None or isinstance(activation, str | int):
        return NAMED[activation]
    return _for_device(activation)


@cache
def _for_device(function: Any) -> Any:
    known = isinstance(function, type(_identity))
    scalar = function if known else cuda.jit(device=True)(function.py_func)

    @cuda.jit(device=True)
    def in_own_type(x):
        # A float64 constant makes float64 of what it meets.
        return type(x)(scalar(x))

    return in_own_type
