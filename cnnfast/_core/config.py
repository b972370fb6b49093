"""Settings: threads, backend, workspace. From calls, or from the environment when first needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from .arguments import flag, integer
from .request import Request

#: Scratch a single call may take by default; rows that need more make room for others.
DEFAULT_WORKSPACE = 1 << 30

_threads: int | None = None
_workspace: int = DEFAULT_WORKSPACE
#: The number of ``on_threads``; None outside of it.
_threads_in_force: ContextVar[int | None] = ContextVar("cnnfast_threads", default=None)
#: The request of ``use_backend``; None outside of it.
backend_in_force: ContextVar[Request | None] = ContextVar("cnnfast_backend", default=None)


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _environment_integer(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        return integer(name, int(text), 1)
    except ValueError:
        raise ValueError(f"{name} must be a positive integer, got {text!r}") from None


@cache
def _default_threads() -> int:
    return _environment_integer("CNNFAST_NUM_THREADS") or usable_cores()


def get_num_threads() -> int:
    """Threads that a call may use.

    From ``set_num_threads``, else ``CNNFAST_NUM_THREADS``, else the cores of this process.

    >>> get_num_threads() >= 1
    True
    """
    chosen = _threads_in_force.get() or _threads
    return _default_threads() if chosen is None else chosen


def set_num_threads(threads: int | None) -> None:
    """Set the number of threads for every later call; None goes back to the default.

    Results keep their bits whatever the number. ValueError below 1, TypeError for floats.

    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    global _threads
    _threads = None if threads is None else integer("threads", threads, 1)


@contextmanager
def on_threads(threads: int | None) -> Iterator[None]:
    """So many threads for calls inside the ``with`` block, in this thread or task alone; None for
    those of everyone.

    >>> with on_threads(1):
    ...     print(get_num_threads())
    1
    """
    token = _threads_in_force.set(threads)
    try:
        yield
    finally:
        _threads_in_force.reset(token)


def get_workspace_limit() -> int:
    """Bytes of scratch that one call may take."""
    return _workspace


def set_workspace_limit(limit: int | None) -> None:
    """Cap the scratch of one call, in bytes; None goes back to the default of 1 GiB.

    A call uses fewer threads, or another row, rather than more scratch; a backend asked for by name
    that needs more raises BackendUnavailableError with both numbers.

    >>> set_workspace_limit(64 << 20)
    >>> set_workspace_limit(None)
    """
    global _workspace
    _workspace = DEFAULT_WORKSPACE if limit is None else integer("limit", limit, 0)


@cache
def _environment_backend(text: str) -> Request:
    try:
        return Request.parse(text)
    except ValueError as error:
        raise ValueError(f"CNNFAST_BACKEND: {error}") from None


def ambient_backend() -> Request:
    """The backend in force around a call: ``use_backend``, else ``CNNFAST_BACKEND``, else any."""
    chosen = backend_in_force.get()
    if chosen is not None:
        return chosen
    text = os.environ.get("CNNFAST_BACKEND")
    return _environment_backend(text) if text else Request()


def planning_settings() -> tuple[Request | None, int, bool]:
    """What planning depends on besides the call and the environment's backend: the one of
    ``use_backend``, the workspace limit, and whether tf32 is allowed."""
    return backend_in_force.get(), _workspace, get_allow_tf32()


#: Whether float32 on a GPU may be rounded to tf32; None outside of ``allow_tf32``.
_tf32_in_force: ContextVar[bool | None] = ContextVar("cnnfast_tf32", default=None)


def get_allow_tf32() -> bool:
    """Whether float32 arrays on a GPU may be multiplied as tf32 (``allow_tf32``).

    From ``allow_tf32``, else ``CNNFAST_ALLOW_TF32`` (1 or 0), else False.

    >>> get_allow_tf32()
    False
    """
    allowed = _tf32_in_force.get()
    return _default_tf32() if allowed is None else allowed


@cache
def _default_tf32() -> bool:
    return os.environ.get("CNNFAST_ALLOW_TF32") == "1"


@contextmanager
def allow_tf32(allowed: bool = True) -> Iterator[None]:
    """Let float32 arrays on a GPU be multiplied on tensor cores, in this thread or task.

    Each factor is rounded to tf32, which has 10 bits behind the point of a mantissa where float32
    has 23: |error| <= 2**-9 * sum(|x| * |w|) besides float32's own bound. Without it float32 is
    computed in float32 throughout. Arrays of other dtypes, and of the host, aren't concerned.

    >>> with allow_tf32():
    ...     get_allow_tf32()
    True
    """
    token = _tf32_in_force.set(flag("allow_tf32: allowed", allowed))
    try:
        yield
    finally:
        _tf32_in_force.reset(token)


@contextmanager
def use_backend(backend: str | None) -> Iterator[None]:
    """Prefer a backend for every call inside the ``with`` block, in this thread or task alone.

    ``backend`` is an algorithm ("direct", "im2col", "tiled", "loop", "reference"), an engine
    ("cython", "numba", "cuda", "numpy"), or both ("tiled/numba"); None lets the planner decide.
    For a family that has no such algorithm (pooling has no "im2col") the engine alone counts.

    >>> import numpy as np, cnnfast
    >>> with use_backend("im2col/numpy"):
    ...     print(cnnfast.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))[0, 0, 0, 0])
    4.0
    """
    token = backend_in_force.set(Request.parse(backend) if backend is not None else Request())
    try:
        yield
    finally:
        backend_in_force.reset(token)
