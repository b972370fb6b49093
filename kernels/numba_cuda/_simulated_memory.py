"""``_ptx_memory`` in Numba's simulator: what a GPU refuses, a misaligned address, raises."""

from __future__ import annotations

from typing import Any


def read_if(pointer: Any, i: Any, wanted: Any) -> Any:
    """Element ``i``, or zero."""
    return pointer[i] if wanted else pointer.memory.dtype.type(0)


def read4_if(pointer: Any, i: Any, wanted: Any) -> Any:
    """Elements ``i`` to ``i + 3``, or zeros."""
    if wanted:
        _check_alignment(pointer, i)
    return tuple(read_if(pointer, i + j, wanted) for j in range(4))


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
    if not hasattr(type(pointer), "address"):
        return  # an array of a user's kernel
    if pointer.address(i) % min(4 * pointer.memory.itemsize, 16):
        raise ValueError(f"four elements at an address that a GPU refuses: {pointer.address(i)}")
