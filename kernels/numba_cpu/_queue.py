"""Taking tasks from a queue that several threads share (``parallel.queue_of``)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._compile import tile
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
