"""A pool of Python threads, and the queues that they take tasks from.

A call's ``body(worker)`` runs on the calling thread and on helpers, each once. Inside, compiled
loops take tasks from a queue by an atomic add, with the GIL released, until there are none. Tasks
write to disjoint places, so neither their order nor the number of threads can change a bit of the
result.

Why not OpenMP or ``prange``: there is no runtime that aborts in a forked child (GNU OpenMP) or on
concurrent use (Numba's workqueue), nothing to oversubscribe, and no second, parallel compilation of
each Numba body; the price is Python's hand-over to a waiting thread. Why not an executor of the
standard library: its locks aren't reentrant, so a call from a signal handler or a finaliser could
wait for itself. ``SimpleQueue`` is made for that.

Cython's rows have helpers without Python (``cython_cpu/team.h``), for which all of this holds as
well.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

try:
    from .cython_cpu._team import set_apart
except ImportError:
    set_apart = None

Array = np.ndarray[Any, Any]
Body = Callable[[int], None]

#: Chunks of tasks that a thread takes on average: enough to even out a busy core.
CHUNKS_PER_THREAD = 16


def queue_of(tasks: int, threads: int) -> Array:
    """A queue of tasks as loop bodies take them: the next chunk, chunks, tasks, finished chunks.

    >>> queue_of(100, 2).tolist()
    [0, 32, 100, 0]
    """
    chunks = 1 if threads == 1 else min(tasks, threads * CHUNKS_PER_THREAD)
    return np.array((0, min(chunks, tasks), tasks, 0))


def wait_for(queue: Array) -> None:
    """Return when all tasks of a queue, each of them taken by now, are done."""
    while queue[3] < queue[1]:
        time.sleep(0)


class _Job:
    """A call, and who is at work on it."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.gate = threading.Lock()
        self.closed = False
        self.helping = 0
        #: Where helpers may run, if they were set apart to be woken.
        self.cores: set[int] = set()
        self.reports: SimpleQueue[BaseException | None] = SimpleQueue()

    def help(self, worker: int) -> None:
        """What a thread of the pool does; nothing if it comes after the call has closed."""
        with self.gate:
            if self.closed:
                return
            self.helping += 1
        report: BaseException | None = None
        try:
            self.body(worker)
        except BaseException as error:
            report = error
        self.reports.put(report)

    def close(self) -> list[BaseException]:
        """Let nobody in any more, wait for those who are, and return their errors."""
        with self.gate:
            self.closed = True
        reports = [self.reports.get() for _ in range(self.helping)]
        return [error for error in reports if error is not None]


def run(body: Body, threads: int) -> None:
    """Run ``body(worker)`` on the calling thread (worker 0) and on up to ``threads - 1`` others.

    How many others come, and when, is open: a body takes what work there is from queues. On no
    thread, which is what a call without tasks has, nothing runs. An
    exception in a body, or an interrupt, is raised once no thread is at work any more.
    """
    if threads <= 1:
        if threads == 1:
            body(0)
        return
    job = _Job(body)
    if set_apart is not None and hasattr(os, "sched_getaffinity"):
        job.cores = os.sched_getaffinity(0)
        set_apart(list(_pool.waiting))
    for worker in range(1, min(threads, _pool.grow(threads - 1) + 1)):
        _pool.queue.put((job, worker))
    try:
        body(0)
    except BaseException:
        job.close()
        raise
    errors = job.close()
    if errors:
        raise errors[0]


class _Pool:
    """Threads that wait for jobs."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[tuple[_Job, int]] = SimpleQueue()
        self.size = 0
        #: Native ids of those that wait.
        self.waiting: set[int] = set()
        self.growing = threading.Lock()

    def grow(self, size: int) -> int:
        """Start threads until there are ``size``, and return how many there are.

        Fewer than asked for where the system gives no more, or at the end of the process; a call
        that finds another one starting threads makes do with those that run.
        """
        if self.size < size and self.growing.acquire(blocking=False):
            try:
                while self.size < size:
                    name = f"cnnfast-{self.size + 1}"
                    threading.Thread(target=self.serve, name=name, daemon=True).start()
                    self.size += 1
            except RuntimeError:
                pass
            finally:
                self.growing.release()
        return min(self.size, size)

    def serve(self) -> None:
        """What a thread does all its life."""
        thread = threading.get_native_id()
        while True:
            self.waiting.add(thread)
            job, worker = self.queue.get()
            self.waiting.discard(thread)
            if job.cores:
                os.sched_setaffinity(0, job.cores)
            job.help(worker)
            # The next wait may be long: let go of the arrays.
            del job


_pool = _Pool()


def _forget_pool() -> None:
    """A forked child has none of the parent's threads: it starts with a pool of its own."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
