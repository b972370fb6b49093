"""Memory that is used again: scratch, a buffer per thread, and that of large results.

A page fault per 4 KiB of fresh memory can exceed the computing.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast.kernels.drivers import ALIGNMENT

try:
    import cnnfast.kernels.cython_cpu._memory as _memory
except ImportError:
    _memory = None

Array = np.ndarray[Any, Any]

#: A buffer larger than this is given back after the call that needed it.
KEPT_BYTES = 64 << 20
#: Results of as many bytes come from memory that is used again.
LARGE_RESULT = 1 << 20


class _Shelf:
    """Where a thread keeps its buffer between calls: a list of one array or none."""

    def __init__(self) -> None:
        self.kept: list[Array] = []


_local = threading.local()
#: The shelves of all threads that live; appending, removing and copying a list are atomic.
_shelves: list[weakref.ref[_Shelf]] = []


class scratch:
    """At least ``size`` bytes, 64-byte aligned, for the ``with`` block alone.

    A call inside a call (from a signal handler, say) finds the shelf empty and gets memory of its
    own. After an exception a helping thread may still be writing: the buffer isn't kept.
    """

    __slots__ = ("array", "shelf", "size")

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> Array:
        shelf = getattr(_local, "shelf", None)
        if shelf is None:
            shelf = _local.shelf = _Shelf()
            _shelves.append(weakref.ref(shelf, _shelves.remove))
        self.shelf: _Shelf = shelf
        array = shelf.kept.pop() if shelf.kept else None
        if array is None or array.size < self.size:
            array = aligned(self.size)
        self.array: Array = array
        return array

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.array.size <= KEPT_BYTES:
            self.shelf.kept[:] = [self.array]


def aligned(size: int) -> Array:
    """``size`` uninitialised bytes beginning at a multiple of 64."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def large_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[..., Array] | None:
    """What makes results of that size in memory that is used again; None for ``np.empty``."""
    if _memory is None or math.prod(shape) * dtype.itemsize < LARGE_RESULT:
        return None
    empty: Callable[..., Array] = _memory.empty
    return empty


def release_scratch() -> None:
    """Give back the memory that is kept between calls: scratch, at most 64 MiB per thread, and that
    of large results which are no more, at most 256 MiB.

    >>> release_scratch()
    """
    for reference in tuple(_shelves):
        shelf = reference()
        if shelf is not None:
            shelf.kept.clear()
    if _memory is not None:
        _memory.release()
