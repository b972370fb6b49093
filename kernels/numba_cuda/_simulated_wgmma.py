"""What stands for the operations of ``_ptx_wgmma`` in Numba's simulator.

A step without what it needs raises, and so does a tile that changes while it is multiplied.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ._simulated import _ELEMENTS, LANES, _of_warp

Array = np.ndarray[Any, Any]


def until_swizzle(array: Array, i: Any) -> int:
    """How many 16 bytes behind element ``i`` a multiple of 1024 bytes is."""
    return int(-(array.ctypes.data + int(i) * array.itemsize) % 1024 // 16)


def publish() -> None:
    """Shared memory as this thread wrote it is what will be multiplied."""
    thread: Any = threading.current_thread()
    thread.cnnfast_published = True


@cache
def wide_wait(groups: int) -> Callable[[], None]:
    """Until all but the latest so many steps are finished: their operands aren't read any more."""

    def wait_for() -> None:
        pending = vars(threading.current_thread()).setdefault("cnnfast_steps", [])
        while len(pending) > groups:
            array, places, before = pending.pop(0)
            if not np.array_equal(before, array.view(np.uint32).reshape(-1, 4)[places]):
                raise RuntimeError("a tile changed while it was multiplied")

    return wait_for


def _rows(array: Array, row: Any, first: int, count: int) -> Array:
    """Elements of ``array`` (16 bytes) that rows of 8 chunks lie in: ``[row][chunk]``."""
    if (array.ctypes.data + int(row) * 16) % 1024:
        raise ValueError("a tile doesn't begin at a multiple of 1024 bytes")
    rows = first + np.arange(count)[:, None]
    return np.asarray(int(row) + 8 * rows + (np.arange(8) ^ rows % 8))


@cache
def wide_step(dtype: str, columns: int, depth: int = 0) -> Callable[..., Any]:
    """Sums + a b over rows of 128 bytes, or over ``depth`` rows of 64 channels."""

    def taken(array: Array, row: Any, first: int, count: int) -> tuple[Array, Array]:
        """Elements of ``array``, and the operand [channel][reduction] that they make."""
        chunks = array.view(np.uint32).reshape(-1, 4)
        if depth:
            panels = [_rows(array, row, depth * i, depth) for i in range(-(-(first + count) // 64))]
            at = np.stack(panels, 1)
            values = chunks[at].reshape(depth, -1).view(np.uint32)
            turned = _ELEMENTS[dtype](np.ascontiguousarray(values)).reshape(depth, -1).T
            return at, turned[first : first + count]
        at = _rows(array, row, first, count)
        return at, _ELEMENTS[dtype](np.ascontiguousarray(chunks[at].reshape(count, -1)))

    def run(array: Array, row_a: Any, row_b: Any, sums: Any) -> Any:
        thread: Any = threading.current_thread()
        if not vars(thread).pop("cnnfast_published", False):
            raise RuntimeError("a step before what was copied is published")
        lane, _ = _of_warp(("wide", dtype, columns), (int(row_a), int(row_b)))
        warp = thread.thread_id // LANES % 4
        at_a, a = taken(array, row_a, 16 * warp, 16)
        at_b, b = taken(array, row_b, 0, 8 * columns)
        with np.errstate(invalid="ignore", over="ignore"):
            products = a.reshape(16, -1) @ b.reshape(8 * columns, -1).T
        tiles = products.reshape(2, 8, columns, 8)
        mine = tiles[:, lane // 4, :, lane % 4 * 2 : lane % 4 * 2 + 2].swapaxes(0, 1).reshape(-1)
        read = np.concatenate([at_a.ravel(), at_b.ravel()])
        pending = vars(thread).setdefault("cnnfast_steps", [])
        pending.append((array, read, array.view(np.uint32).reshape(-1, 4)[read].copy()))
        return tuple(np.asarray(sums, np.float32) + mine)

    return run
