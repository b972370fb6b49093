"""Reading, writing and activating single values: device functions by dtype, made once each."""

from __future__ import annotations

from typing import Any

from numba import cuda

from . import ops


@cuda.jit(device=True)
def _read(pointer, i):
    return pointer[i]


@cuda.jit(device=True)
def _write(pointer, i, value):
    pointer[i] = value


@cuda.jit(device=True)
def _read_float16(pointer, i):
    return ops.widen_float16(pointer[i])


@cuda.jit(device=True)
def _write_float16(pointer, i, value):
    pointer[i] = ops.narrow_float16(value)


@cuda.jit(device=True)
def _read_bfloat16(pointer, i):
    return ops.widen_bfloat16(pointer[i])


@cuda.jit(device=True)
def _write_bfloat16(pointer, i, value):
    pointer[i] = ops.narrow_bfloat16(value)


_READERS = {"float16": _read_float16, "bfloat16": _read_bfloat16}
_WRITERS = {"float16": _write_float16, "bfloat16": _write_bfloat16}


def reader(dtype: str) -> Any:
    """``read(pointer, i)``: an element in the type that sums are made in."""
    return _READERS.get(dtype, _read)


def writer(dtype: str) -> Any:
    """``write(pointer, i, value)``: rounds once, to nearest, ties to even."""
    return _WRITERS.get(dtype, _write)
