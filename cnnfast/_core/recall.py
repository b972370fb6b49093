"""Calls that are remembered.

A call that repeats an earlier one in everything that its preparation depends on (the function; of
each array dtype, shape, strides and alignment, or that there is none; every other argument with its
exact type; the settings in force) finds what that one prepared: validated, planned, ready for the
arrays. What depends on the arrays' memory or values is looked at in each call.

What a call prepares holds no array of the user's, and the table is bounded. There are no locks:
single operations on a dictionary are atomic, and a lost entry is made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import config
from .recording import recorder, recording
from .scalar_functions import is_device_function, is_scalar_function

#: Calls that are remembered; the oldest makes room for a new one.
KEPT_CALLS = 512

#: A function of a call's name, its arrays and its other arguments that prepares the call: makes
#: of it a function of arrays.
Make = Callable[..., Callable[..., Any]]

_calls: dict[Hashable, Callable[..., Any]] = {}

#: Not empty where what is being prepared isn't to be remembered.
_passing: ContextVar[list[bool] | None] = ContextVar("cnnfast_passing", default=None)

_PLAIN = frozenset({int, str, type(None)})


class _Unusual(Exception):
    """An argument that no key is made of; its call is prepared each time."""


def look_up(
    make: Make, name: str, arrays: tuple[Any, ...], arguments: tuple[Any, ...]
) -> Callable[..., Any] | None:
    """What an earlier, equal call prepared, if it is remembered."""
    if recording():
        return None
    key = signature(make, name, arrays, arguments)
    return None if key is None else _calls.get(key)


def run_again(make: Make, name: str, arrays: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
    """What that gives for the arrays; None if there is none."""
    call = look_up(make, name, arrays, arguments)
    return None if call is None else call(*arrays)


def prepare(
    make: Make, name: str, arrays: tuple[Any, ...], arguments: tuple[Any, ...]
) -> Callable[..., Any]:
    """``make(name, arrays, *arguments)``, remembered for the next call."""
    key = None if recording() else signature(make, name, arrays, arguments)
    found = None if key is None else _calls.get(key)
    if found is not None:
        return found
    token = _passing.set([])
    try:
        made = make(name, arrays, *arguments)
        if _passing.get():
            key = None
    finally:
        _passing.reset(token)
    # Settings that another thread has changed meanwhile are not those that the key names.
    if key is not None and key == signature(make, name, arrays, arguments):
        while len(_calls) >= KEPT_CALLS:
            # Another thread may change the table in between.
            with suppress(RuntimeError, StopIteration):
                _calls.pop(next(iter(_calls)), None)
        _calls[key] = made
    return made


def pass_on() -> None:
    """Don't remember what is being prepared: arrays of the host that move to a GPU, where what is
    allowed (``allow_tf32``) isn't in the signature, and preparing is little beside moving."""
    passing = _passing.get()
    if passing is not None:
        passing.append(True)


def described(
    make: Make, name: str, arrays: tuple[Any, ...], arguments: tuple[Any, ...]
) -> Hashable | None:
    """What equal calls have in common; None for what isn't remembered."""
    backend, *settings = config.planning_settings()
    request = os.environ.get("CNNFAST_BACKEND") if backend is None else backend
    try:
        given = (*map(_array_key, arrays), *map(_argument_key, arguments))
    except _Unusual:
        return None
    return make, name, given, request, *settings


def _array_key(array: Any) -> Hashable:
    if array is None:
        return None
    if type(array) is not np.ndarray:
        raise _Unusual
    flags = array.flags
    return array.dtype, array.shape, array.strides, flags.aligned, flags.writeable


def _argument_key(value: Any, depth: int = 2) -> Hashable:
    """A key that equals only that of the same value of the same type: 1, True and 1.0 differ."""
    kind = type(value)
    if kind in _PLAIN:
        return value  # type: ignore[no-any-return]
    if (kind is tuple or kind is list) and depth:
        return kind, *(_argument_key(item, depth - 1) for item in value)
    if kind is bool:
        return kind, value
    if kind is float:
        return kind, value.hex()
    if isinstance(value, np.dtype) or (kind is type and issubclass(value, np.generic)):
        return kind, value
    if is_scalar_function(value) or is_device_function(value):
        # The key keeps it alive, and with it what it was compiled to.
        return value  # type: ignore[no-any-return]
    raise _Unusual


try:
    from cnnfast.kernels.cython_cpu._signature import Finder
except ImportError:
    signature, find, again = described, look_up, run_again
else:
    find = Finder(
        globals(), "_calls", vars(config), "_workspace", recorder, config.backend_in_force,
        is_scalar_function,
    )  # fmt: skip
    signature, again = find.signature, find.again
