"""What reductions of windows are made of on the GPU: where they begin, how a value joins, and what
is divided at the end."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, float32, float64, int64, uint64

from .program import ACCUMULATED

#: What values of a dtype are reduced in.
KINDS = {"float32": float32, "float64": float64, "int64": int64}


def kind_of_sums(dtype: str) -> Any:
    """Numba's type that values of a dtype are reduced in."""
    return KINDS[ACCUMULATED[dtype]]


def start_of(dtype: str, mean: bool) -> Any:
    """What a reduction begins with: 0, or the least value."""
    whole = dtype == "int64"
    if mean:
        return np.int64(0) if whole else np.dtype(ACCUMULATED[dtype]).type(0)
    return np.int64(-(2**63)) if whole else np.dtype(ACCUMULATED[dtype]).type(-np.inf)


@cuda.jit(device=True)
def larger(value, best):
    """Whether a value takes a maximum's place: NaN does, and of equals the first stays."""
    return (value > best) | (value != value)


@cache
def joined(mean: bool) -> Any:
    """``join(former, value)``: the sum, or the maximum."""

    @cuda.jit(device=True)
    def add(former, value):
        return former + value

    @cuda.jit(device=True)
    def keep(former, value):
        return value if larger(value, former) else former

    return add if mean else keep


@cache
def divided(dtype: str) -> Any:
    """``divide(total, places, inverse)`` of a mean, with ``inverse(places)`` made before, or nearly
    that: of floats the nearest to the quotient. Integers are truncated, and by 0 give 0."""

    @cuda.jit(device=True)
    def divide(total, places, inverse):
        # A quotient takes three times as many instructions.
        nearly = total * inverse
        rest = cuda.fma(-nearly, places, total)
        # Of infinity there is no rest.
        return cuda.fma(rest, inverse, nearly) if rest == rest else nearly

    @cuda.jit(device=True)
    def magnitude(number):
        # That of the least int64 is no int64.
        return uint64(-(number + 1)) + uint64(1) if number < 0 else uint64(number)

    @cuda.jit(device=True)
    def truncate(total, places, inverse):
        if places == 0:
            return int64(0)
        result = int64(magnitude(total) // magnitude(places))
        return -result if (total < 0) != (places < 0) else result

    return truncate if dtype == "int64" else divide


@cache
def inverse_of(dtype: str) -> Any:
    """``inverse(places)`` for ``divided``; integers need none."""
    kind = kind_of_sums(dtype)

    @cuda.jit(device=True)
    def inverse(places):
        return kind(kind(1) / places)

    @cuda.jit(device=True)
    def none(places):
        return places

    return none if dtype == "int64" else inverse
