"""One pool of Python threads for every engine.

A kernel body is a function ``body(begin, end, worker)`` that runs the tasks ``begin .. end-1`` one
after the other with the GIL released; tasks write to disjoint places, so neither their order nor
the number of threads can change a bit of the result. Threads take chunks from a shared counter.

Why not OpenMP or ``prange``: handing a body to this pool costs some tens of microseconds, and in
return there is no runtime that aborts in a forked child (GNU OpenMP) or on concurrent use (Numba's
workqueue), nothing to oversubscribe, and no second, parallel compilation of each Numba body.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Body = Callable[[int, int, int], None]

#: Chunks a thread takes on average: enough to even out a busy core, few enough to cost nothing.
CHUNKS_PER_THREAD = 8

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def run(body: Body, tasks: int, threads: int) -> None:
    """Run ``tasks`` tasks of ``body`` on the calling thread and up to ``threads - 1`` others.

    An exception in a body is raised here once every thread has stopped.
    """
    threads = min(threads, tasks)
    if threads <= 1:
        if tasks > 0:
            body(0, tasks, 0)
        return
    chunks = min(tasks, threads * CHUNKS_PER_THREAD)
    counter = itertools.count()

    def work(worker: int) -> None:
        while (chunk := next(counter)) < chunks:
            body(chunk * tasks // chunks, (chunk + 1) * tasks // chunks, worker)

    pool = _pool_of(threads - 1)
    helpers = [pool.submit(work, worker) for worker in range(1, threads)]
    try:
        work(0)
    finally:
        # A helper that never started has nothing left to do: the pool may be busy with the
        # calls of other threads, and waiting for it could wait for them.
        running = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in running if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]


def _pool_of(size: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # 6 ms that an import needn't cost

    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            # The smaller pool, if any, ends with its last reference, its work done.
            _pool = ThreadPoolExecutor(size, thread_name_prefix="cnnfast")
            _pool_size = size
        return _pool


def _forget_pool() -> None:
    """A forked child has none of the parent's threads: it makes a pool of its own when needed."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
