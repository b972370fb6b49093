"""Scratch memory: one buffer per thread, grown on demand, kept for the next call.

A fresh ``np.empty`` costs a page fault per 4 KiB, which can exceed the computing.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from cnnfast.kernels.drivers import ALIGNMENT

#: A buffer larger than this is given back after the call that needed it.
KEPT_BYTES = 64 << 20


class _Buffer:
    """A holder that a weak set can list, so that ``release_scratch`` reaches every thread."""

    def __init__(self) -> None:
        self.array = np.empty(0, np.uint8)


_local = threading.local()
_buffers: weakref.WeakSet[_Buffer] = weakref.WeakSet()


def scratch(size: int) -> np.ndarray[Any, Any]:
    """At least ``size`` bytes, 64-byte aligned, this thread's until its next call."""
    if size > KEPT_BYTES:
        return aligned(size)
    buffer = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = _Buffer()
        _buffers.add(buffer)
    if buffer.array.size < size:
        buffer.array = aligned(size)
    array: np.ndarray[Any, Any] = buffer.array
    return array


def aligned(size: int) -> np.ndarray[Any, Any]:
    """``size`` uninitialised bytes beginning at a multiple of 64."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def release_scratch() -> None:
    """Give back the scratch memory that threads keep between calls (at most 64 MiB each).

    >>> release_scratch()
    """
    for buffer in list(_buffers):
        buffer.array = np.empty(0, np.uint8)
