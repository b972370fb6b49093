"""How this engine's functions are compiled: once per dtype, on first use, cached on disk.

Tile functions are ``@tile``: plain sequential ``njit`` functions, polymorphic, for the engine's own
loops and for a user's njit code. Range functions are ``@task_range``: what ``drivers`` calls.

Why a signature of our own: left to itself Numba compiles a range function again for every
combination of memory layout and writeability of its arrays, seconds each. Any array of a dtype fits
the one signature made here.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.caching import FunctionCache

#: Arrays that bodies write to, by parameter name; all others are read only.
WRITTEN = frozenset({"out", "indices", "packed", "local", "sums", "queue"})


_compiling = threading.RLock()


def _forget_lock() -> None:
    """In a forked child, the thread that held the lock isn't there any more."""
    global _compiling
    _compiling = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


def tile(function: Callable[..., Any]) -> Any:
    """Compile a sequential function: GIL released, nothing raised, not even by a division."""
    return _njit(function, forceinline=True)


def whole_tile(function: Callable[..., Any]) -> Any:
    """The tile function of one task: it becomes part of the engine's own range function, which
    halves the time to compile the two, and stays a function of its own for a user's code."""
    return _njit(function, inline=_called_from_here)


def _called_from_here(call: Any, caller: Any, callee: Any) -> bool:
    return bool(caller.func_id.modname.startswith(__package__))


def task_range(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a range function lazily, once per dtype of its first array."""
    parameters = inspect.signature(function).parameters
    compiled: dict[np.dtype[Any], Callable[..., None]] = {}

    def compile_for(arguments: tuple[Any, ...]) -> Callable[..., None]:
        with _compiling:
            dtype = arguments[0].dtype
            if dtype not in compiled:
                dispatcher = _njit(function)
                enable_cache(dispatcher)
                dispatcher.compile(
                    tuple(
                        _type_of(name, argument)
                        for name, argument in zip(parameters, arguments, strict=True)
                    )
                )
                dispatcher.disable_compile()
                compiled[dtype] = dispatcher
            return compiled[dtype]

    def call(*arguments: Any) -> None:
        body = compiled.get(arguments[0].dtype) or compile_for(arguments)
        body(*arguments)

    call.__doc__, call.__name__ = function.__doc__, function.__name__
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


def inner(range_function: Any) -> Any:
    """A range function for other compiled functions to call."""
    return _njit(range_function.__wrapped__, inline="always")


def compile_entry(function: Callable[..., None], kinds: tuple[types.Type, ...]) -> Any:
    """Compile a function of C types, as one that C code can call; the dispatcher owns the code."""
    with _compiling:
        dispatcher = numba.njit(
            nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True
        )(function)
        enable_cache(dispatcher)
        dispatcher.compile(kinds)
    return dispatcher


def _njit(function: Callable[..., Any], **options: Any) -> Any:
    return numba.njit(
        nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True, **options
    )(function)


def _type_of(name: str, argument: Any) -> types.Type:
    """The type a parameter is compiled for: any layout from three axes on, else contiguous."""
    if not isinstance(argument, np.ndarray):
        return numba.typeof(argument)
    layout = "A" if argument.ndim > 2 else "C"
    element = numba.from_dtype(argument.dtype)
    return types.Array(element, argument.ndim, layout, readonly=name not in WRITTEN)


class EngineCache(FunctionCache):
    """Numba's cache, fresh only as long as every file of the engine is.

    Numba looks at the one file a function stands in, but a compiled kernel contains functions of
    other files too. A cache that can't be written is no error.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = self._impl.locator.get_source_stamp(), engine_stamp()

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


@cache
def engine_stamp() -> str:
    """A digest of the sources that end up in compiled kernels."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted([*here.glob("*.py"), *here.parent.glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def cache_of(function: Callable[..., Any], kind: type[EngineCache] = EngineCache) -> Any:
    """A function's cache on disk, None where no directory can be written (Numba raises RuntimeError
    there)."""
    with contextlib.suppress(RuntimeError):
        return kind(function)
    return None


def enable_cache(dispatcher: Any) -> None:
    """Cache a function's code on disk."""
    if (cache := cache_of(dispatcher.py_func)) is not None:
        dispatcher._cache = cache
