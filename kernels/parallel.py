"""One pool of Python threads for every engine.

A kernel body is a function ``body(begin, end, worker)`` that runs the tasks ``begin .. end-1`` one
after the other with the GIL released; tasks write to disjoint places, so neither their order nor
the number of threads can change a bit of the result. Threads take chunks from a shared counter.

Why not OpenMP or ``prange``: there is no runtime that aborts in a forked child (GNU OpenMP) or on
concurrent use (Numba's workqueue), nothing to oversubscribe, and no second, parallel compilation of
each Numba body; the price is Python's hand-over to a waiting thread. Why not an executor of the
standard library: its locks aren't reentrant, so a call from a signal handler or a finaliser could
wait for itself. ``SimpleQueue`` is made for that.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

Body = Callable[[int, int, int], None]

#: Chunks a thread takes on average: enough to even out a busy core, few enough to cost nothing.
CHUNKS_PER_THREAD = 8


class _Job:
    """The chunks of one call, and who is at work on them."""

    def __init__(self, body: Body, tasks: int, chunks: int) -> None:
        self.body = body
        self.tasks = tasks
        self.chunks = chunks
        self.counter = itertools.count()
        self.gate = threading.Lock()
        self.closed = False
        self.helping = 0
        self.reports: SimpleQueue[BaseException | None] = SimpleQueue()

    def work(self, worker: int) -> None:
        """Run chunks until there are none left."""
        while not self.closed and (chunk := next(self.counter)) < self.chunks:
            begin, end = (at * self.tasks // self.chunks for at in (chunk, chunk + 1))
            self.body(begin, end, worker)

    def help(self, worker: int) -> None:
        """What a thread of the pool does; nothing if it comes after the call has closed."""
        with self.gate:
            if self.closed:
                return
            self.helping += 1
        report: BaseException | None = None
        try:
            self.work(worker)
        except BaseException as error:
            report = error
        self.reports.put(report)

    def close(self) -> list[BaseException]:
        """Let nobody in any more, wait for those who are, and return their errors."""
        with self.gate:
            self.closed = True
        reports = [self.reports.get() for _ in range(self.helping)]
        return [error for error in reports if error is not None]


def run(body: Body, tasks: int, threads: int) -> None:
    """Run ``tasks`` tasks of ``body`` on the calling thread and up to ``threads - 1`` others.

    An exception in a body, or an interrupt, ends the run after the chunks that are under way, and
    is raised once no thread is at work any more.
    """
    threads = min(threads, tasks)
    if threads <= 1:
        if tasks > 0:
            body(0, tasks, 0)
        return
    job = _Job(body, tasks, min(tasks, threads * CHUNKS_PER_THREAD))
    for worker in range(1, min(threads, _pool.grow(threads - 1) + 1)):
        _pool.queue.put((job, worker))
    try:
        job.work(0)
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
        while True:
            job, worker = self.queue.get()
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
