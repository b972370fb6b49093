"""What stands for the operations of ``_ptx`` in Numba's simulator."""

from __future__ import annotations

from typing import Any

import numpy as np

#: The quiet NaN that conversions to 16 bits give.
_NAN = np.uint16(0x7FFF)


def widen_float16(bits: Any) -> Any:
    """The float32 of a float16's bits."""
    return np.float32(np.uint16(bits).view(np.float16))


def narrow_float16(value: Any) -> Any:
    """The bits of the float16 nearest to a float32."""
    if np.isnan(value):
        return _NAN
    with np.errstate(over="ignore"):
        return np.float16(np.float32(value)).view(np.uint16)


def widen_bfloat16(bits: Any) -> Any:
    """The float32 of a bfloat16's bits."""
    return np.uint32(int(bits) << 16).view(np.float32)


def narrow_bfloat16(value: Any) -> Any:
    """The bits of the bfloat16 nearest to a float32, ties to even."""
    if np.isnan(value):
        return _NAN
    bits = int(np.float32(value).view(np.uint32))
    return np.uint16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def read4(pointer: Any, i: Any) -> Any:
    """Elements ``i`` to ``i + 3``."""
    _check_alignment(pointer, i)
    return pointer[i], pointer[i + 1], pointer[i + 2], pointer[i + 3]


def write4(pointer: Any, i: Any, values: Any) -> None:
    """Store four elements."""
    _check_alignment(pointer, i)
    for j in range(4):
        pointer[i + j] = values[j]


def _check_alignment(pointer: Any, i: Any) -> None:
    if pointer.address(i) % min(4 * pointer.memory.itemsize, 16):
        raise ValueError(f"four elements at an address that a GPU refuses: {pointer.address(i)}")
