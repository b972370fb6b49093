"""Where programs run: on a GPU, or in Numba's simulator; and how arrays of the host get there."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from ..problem import ConvProblem
from . import driver, simulator
from .executor import Bound
from .presence import simulated
from .program import ConvCall, Program, Strides

Array = np.ndarray[Any, Any]

#: The stream that arrays of the host are moved and computed on: the calling thread's own.
STREAM = 2
#: What the simulator stands for.
SIMULATED = 90
#: A view that spans more than this many times its own bytes is moved as a dense copy.
SPREAD = 4
#: Bytes that a kernel's widest loads are aligned to.
ALIGNED = 16
#: Programs that are kept loaded.
KEPT_PROGRAMS = 256


def capability() -> int:
    """The current device's compute capability: 90 for 9.0."""
    if simulated():
        return SIMULATED
    major, minor = driver.capability()
    return 10 * major + minor


def context() -> int:
    """What programs are loaded into: the current context, or 0 in the simulator."""
    return 0 if simulated() else driver.context()


def bind(program: Program, operands: tuple[str, ...]) -> Bound:
    """The program, ready to run in the current context."""
    if simulated():
        raise RuntimeError("the simulator has no arrays on a GPU: give arrays of NumPy's")
    return _bound(program, operands, driver.context())


@lru_cache(maxsize=KEPT_PROGRAMS)
def _bound(program: Program, operands: tuple[str, ...], context: int) -> Bound:
    return Bound(program, operands)


@contextmanager
def scratch(nbytes: int, stream: int) -> Iterator[int]:
    """Memory that a stream may use until it has done what it is given meanwhile."""
    pointer = driver.allocate(nbytes, stream)
    try:
        yield pointer
    finally:
        driver.free(pointer, stream)


def strides_of(array: Array) -> Strides:
    """Element strides of a five-axis view."""
    one, two, three, four, five = (step // array.itemsize for step in array.strides)
    return one, two, three, four, five


def _is_aligned(array: Array) -> bool:
    return bool(array.ctypes.data % ALIGNED == 0)


def conv_program(
    row: Any, problem: ConvProblem, arrays: Sequence[Array], biased: bool, activation: Any
) -> Program:
    """The program of a convolution family's row for five-axis views: first, second, out."""
    first, second, out = arrays
    call = ConvCall(
        problem,
        first.dtype.name,
        strides_of(first),
        strides_of(second),
        strides_of(out),
        biased,
        activation,
        (_is_aligned(first), _is_aligned(second), _is_aligned(out)),
        capability=capability(),
    )
    program: Program = row.program_of(call)
    return program


def pool_program(row: Any, geometry: Any, arrays: Sequence[Array]) -> Program:
    """The program of a pooling row, or of an adjoint's, for five-axis views: first, out and
    indices, if any."""
    from .pooling import call_of

    first, out, *indices = arrays
    places = strides_of(indices[0]) if indices else None
    aligned = _is_aligned(first), _is_aligned(out), all(map(_is_aligned, indices))
    name = first.dtype.name
    call = call_of(geometry, name, strides_of(first), strides_of(out), places, aligned)
    program: Program = row.program_of(call)
    return program


def _span(array: Array) -> tuple[Array, int]:
    """The memory that a view spans, as bytes, and where its first element is in it."""
    low, high = np.lib.array_utils.byte_bounds(array)
    memory = (ctypes.c_ubyte * (high - low)).from_address(low)
    return np.ctypeslib.as_array(memory), array.ctypes.data - low


def compact(array: Array) -> Array:
    """The array, or a dense copy if its elements lie far apart."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return array if high - low <= SPREAD * array.nbytes else array.copy()


def is_dense(array: Array) -> bool:
    """Whether a view spans nothing but its own elements."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return high - low == array.nbytes


def run_on_host_arrays(program: Program, arrays: dict[str, Array], written: set[str]) -> None:
    """Move arrays to the device, run, and copy those ``written``, which are dense, back.

    The arrays lie as the program's strides have them. Waits for the results.
    """
    spans = {name: _span(array) for name, array in arrays.items()}
    run = _run_simulated if simulated() else _run_on_gpu
    run(program, spans, written)


Spans = dict[str, tuple[Array, int]]


def _run_simulated(program: Program, spans: Spans, written: set[str]) -> None:
    scratch = {"scratch": (np.full(program.scratch_bytes, 0xFF, np.uint8), 0)}
    simulator.run(program, spans | scratch)


def _run_on_gpu(program: Program, spans: Spans, written: set[str]) -> None:
    names = (*spans, "scratch")
    ready = bind(program, names)
    # Addresses stay what they are modulo ALIGNED, which programs are made for.
    shifts = [*(span.ctypes.data % ALIGNED for span, _ in spans.values()), 0]
    sizes = [*(span.size for span, _ in spans.values()), program.scratch_bytes]
    places: list[int] = []
    try:
        # One by one: those that are allocated are freed if the next one can't be.
        for size, shift in zip(sizes, shifts, strict=True):
            places.append(driver.allocate(size + shift, STREAM))
        begins = list(map(sum, zip(places, shifts, strict=True)))
        for (name, (span, _)), begin in zip(spans.items(), begins, strict=False):
            if name not in written:
                driver.to_device(begin, span, STREAM)
        firsts = [*(first for _, first in spans.values()), 0]
        ready.run(list(map(sum, zip(begins, firsts, strict=True))), STREAM)
        for (name, (span, _)), begin in zip(spans.items(), begins, strict=False):
            if name in written:
                driver.to_host(span, begin, STREAM)
    finally:
        for place in places:
            driver.free(place, STREAM)
