"""Taking tasks from a queue that several threads share (``parallel.queue_of``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._compile import tile
from ._emit import Code, Value
from ._vector import pointer


@intrinsic
def _fetch_add(typing_context: Any, array: Any, at: Any) -> Any:
    """Add one to an element of an int64 array, and return what it was: one atomic step."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = pointer(context, builder, signature.args[0], *values)
        return builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(array, types.int64), generate


@tile
def next_tasks(queue, begin, end):
    """Let go of the tasks ``begin .. end-1``, and take the next ones; 0, 0 when
    there are none."""
    if begin < end:
        _fetch_add(queue, 3)
    chunk, chunks, tasks = _fetch_add(queue, 0), queue[1], queue[2]
    if chunk >= chunks:
        return 0, 0
    return chunk * tasks // chunks, (chunk + 1) * tasks // chunks


@contextmanager
def each_chunk(code: Code, queue: Value) -> Iterator[tuple[Value, Value]]:
    """The same as a loop of code that is being written: over begin, end."""

    def add(at: int) -> Value:
        place, one = (queue + at).value, ir.Constant(ir.IntType(64), 1)
        return Value(code, code.builder.atomic_rmw("add", place, one, "acq_rel"))

    chunks, tasks = code.load(queue + 1), code.load(queue + 2)
    chunk = code.var(add(0))
    with code.loop_while(lambda: chunk.get() < chunks):
        here = chunk.get()
        yield here * tasks // chunks, (here + 1) * tasks // chunks
        add(3)
        chunk.set(add(0))
