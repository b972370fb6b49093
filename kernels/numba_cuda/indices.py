"""32-bit index arithmetic: Numba makes 64-bit integers of sums and quotients of 32-bit ones, and a
64-bit division is a call on a GPU. The compiler narrows what is cast back at once."""

from __future__ import annotations

from numba import cuda, int32, uint32


@cuda.jit(device=True)
def split(a, b):
    """``a // b, a % b`` of numbers that aren't negative."""
    quotient = uint32(uint32(a) // uint32(b))
    return int32(quotient), int32(uint32(a) - quotient * uint32(b))
