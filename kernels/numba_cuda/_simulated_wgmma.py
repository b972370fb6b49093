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


@cache
def wide_step(dtype: str, columns: int) -> Callable[..., Any]:
    """Sums + a b over rows of 128 bytes."""

    def rows_of(array: Array, row: Any, first: int, count: int) -> Array:
        if (array.ctypes.data + int(row) * 16) % 1024:
            raise ValueError("a tile doesn't begin at a multiple of 1024 bytes")
        return (
            int(row)
            + 8 * (first + np.arange(count))[:, None]
            + (np.arange(8) ^ (first + np.arange(count))[:, None] % 8)
        )

    def run(array: Array, row_a: Any, row_b: Any, sums: Any) -> Any:
        thread: Any = threading.current_thread()
        if not vars(thread).pop("cnnfast_published", False):
            raise RuntimeError("a step before what was copied is published")
        lane, _ = _of_warp(("wide", dtype, columns), (int(row_a), int(row_b)))
        chunks = array.view(np.uint32).reshape(-1, 4)
        warp = thread.thread_id // LANES % 4
        places = rows_of(array, row_a, 16 * warp, 16), rows_of(array, row_b, 0, 8 * columns)
        both = [
            _ELEMENTS[dtype](np.ascontiguousarray(chunks[at].reshape(len(at), -1))) for at in places
        ]
        a, b = (each.reshape(len(each), -1) for each in both)
        with np.errstate(invalid="ignore", over="ignore"):
            products = (a @ b.T).reshape(2, 8, columns, 8)
        mine = products[:, lane // 4, :, lane % 4 * 2 : lane % 4 * 2 + 2].swapaxes(0, 1).reshape(-1)
        read = np.concatenate([at.ravel() for at in places])
        pending = vars(thread).setdefault("cnnfast_steps", [])
        pending.append((array, read, chunks[read].copy()))
        return tuple(np.asarray(sums, np.float32) + mine)

    return run
