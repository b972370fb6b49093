"""Window reductions: maximum, maximum with its index, mean.

x        (N, C, D, H, W)    any strides           IN
windows  (o + p + q, 3)     first, end, extent    IN
out      (N, C, O, P, Q)    any strides           OUT
indices  (N, C, O, P, Q)    int64, any strides    OUT
Accumulates in the dtype (int64 wraps): each of a window's columns over d and h, then these over w;
a sum begins with 0. Scratch: none, 16 KiB of stack. Tasks: (n, c, o, p), one output row, or
(n, o, p, c) where channels lie side by side in memory.
A maximum is NaN where its window holds one, and the least value (index -1) where the window is
empty; an index is the flat d x h x w one of the first maximum, or of the last NaN, as in torch.
A mean of int64 is truncated toward zero.
Assumes a validated PoolGeometry; raises nothing.
Why: whole vectors of columns are reduced over d and h without a shuffle, and shared by the windows
that overlap; where windows are evenly apart, vectors of those are reduced over w.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from .. import pool_drivers
from ..problem import PoolProblem
from . import _vector
from ._compile import inner, task_range
from ._emit import Code
from ._entry import Entry, pool_arguments
from ._pool_argmax import find_tasks
from ._pool_folds import COLUMN_BYTES
from ._pool_rows import fold_tasks
from ._pool_windows import pooling_of, side_by_side
from ._queue import each_chunk
from ._vector import INT64
from ._views import fields_of, view_of


def _make_tiles(reduction: str) -> Any:
    """What computes the queue's tasks of a reduction."""

    @intrinsic
    def run(
        typing_context: Any, x: Any, out: Any, indices: Any, problem: Any, windows: Any, queue: Any
    ) -> Any:
        """``indices`` are looked at by argmax alone."""

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            code = Code(context, builder, context.get_data_type(x.dtype))
            source, target = view_of(code, x, given[0]), view_of(code, out, given[1])
            arrays = [source, target]
            if reduction == "argmax":
                arrays.append(view_of(code, indices, given[2]))
            table, tasks = (
                code.of(_vector.pointer(context, builder, array, value, INT64(0)))
                for array, value in ((windows, given[4]), (queue, given[5]))
            )
            named = fields_of(code, PoolProblem, given[3])
            together = side_by_side(named, *arrays)
            pooling = pooling_of(code, named, source, target, table, together)
            with each_chunk(code, tasks) as (begin, end):
                if reduction == "argmax":
                    find_tasks(code, arrays[2], pooling, begin, end)
                else:
                    # Vectors may be read beyond the columns.
                    kept = code.buffer(code.real, COLUMN_BYTES // code.itemsize + code.lanes)
                    fold_tasks(code, reduction == "mean", kept, pooling, begin, end)
            return context.get_dummy_value()

        return types.void(x, out, indices, problem, windows, queue), generate

    return run


_run_max, _run_mean, _run_argmax = map(_make_tiles, ("max", "mean", "argmax"))


@task_range
def max_tiles(x: Any, out: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Maxima of the queue's tasks."""
    _run_max(x, out, out, problem, windows, queue)


@task_range
def mean_tiles(x: Any, out: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Means of the queue's tasks."""
    _run_mean(x, out, out, problem, windows, queue)


@task_range
def argmax_tiles(x: Any, out: Any, indices: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Maxima and their indices of the queue's tasks."""
    _run_argmax(x, out, indices, problem, windows, queue)


_values, _with_indices = pool_arguments(with_indices=False), pool_arguments(with_indices=True)
_max, _mean, _argmax = inner(max_tiles), inner(mean_tiles), inner(argmax_tiles)


@Entry
def run_max(call: Any, x: Any, queue: Any) -> None:
    """The same as C functions."""
    source, out, problem, windows, tasks = _values(call, x, queue)
    _max(source, out, problem, windows, tasks)


@Entry
def run_mean(call: Any, x: Any, queue: Any) -> None:
    """Means."""
    source, out, problem, windows, tasks = _values(call, x, queue)
    _mean(source, out, problem, windows, tasks)


@Entry
def run_argmax(call: Any, x: Any, queue: Any) -> None:
    """Maxima and their indices."""
    source, out, indices, problem, windows, tasks = _with_indices(call, x, queue)
    _argmax(source, out, indices, problem, windows, tasks)


pool = pool_drivers.pool(
    {"max": max_tiles, "mean": mean_tiles, "argmax": argmax_tiles},
    pool_drivers.CompiledPool({}, single={"max": run_max, "mean": run_mean, "argmax": run_argmax}),
)
