"""Window reductions: maximum, maximum with its index, mean.

x        (N, C, D, H, W)    any strides           IN
windows  (o + p + q, 3)     first, end, extent    IN
out      (N, C, O, P, Q)    any strides           OUT
indices  (N, C, O, P, Q)    int64, any strides    OUT
Accumulates in the dtype, taps in the order d, h, w. A NaN is larger than anything; the maximum of
no taps is -inf, or the least integer, at index -1. Sums of integers wrap around, their means are
truncated toward zero. Scratch: none.
Tasks: (n, c, o, p), one output row.
Assumes a validated PoolGeometry; raises nothing.
Why: windows of a row that are equally long and far apart are folded side by side in registers (see
_windows), the others (cut short by an edge, or strided) one by one.
"""

from __future__ import annotations

from typing import Any

from .. import pool_drivers
from ._compile import task_range, tile, whole_tile
from ._queue import next_tasks
from ._vector import divide, element_stride, lanes, load, lowest, store
from ._windows import WIDE, argmax_narrow, max_narrow, max_wide, mean_narrow, mean_wide


@tile
def fold(mean, former, value):
    """The sum of two, or the larger one: a NaN if there is one."""
    if mean:
        return former + value
    return value if (value > former) | (value != value) else former


@tile
def regular_span(windows, first, count):
    """The longest run ``begin .. end-1`` of output columns whose windows are equally long and
    equally far apart, and that distance."""
    best_begin, best_end, best_step = 0, 1, 1
    begin = 0
    while begin < count:
        start, end = windows[first + begin, 0], windows[first + begin, 1]
        last = begin + 1
        step = windows[first + last, 0] - start if last < count else 1
        while (
            last < count
            and windows[first + last, 0] == start + (last - begin) * step
            and windows[first + last, 1] - windows[first + last, 0] == end - start
        ):
            last += 1
        if last - begin > best_end - best_begin:
            best_begin, best_end, best_step = begin, last, step
        begin = last
    return best_begin, best_end, best_step


@tile
def row_of(array, task, channels, planes, rows):
    """The offset of a task's output row."""
    rest, p = task // rows, task % rows
    rest, o = rest // planes, rest % planes
    return (
        rest // channels * element_stride(array, 0)
        + rest % channels * element_stride(array, 1)
        + o * element_stride(array, 2)
        + p * element_stride(array, 3)
    )


@tile
def input_plane(x, task, problem):
    """The offset of a task's input plane."""
    plane = task // (problem.o * problem.p)
    n, c = plane // problem.c, plane % problem.c
    return n * element_stride(x, 0) + c * element_stride(x, 1)


@tile
def tap_count(windows, row, dilation):
    """Taps of one window along one axis."""
    return max((windows[row, 1] - windows[row, 0] + dilation - 1) // dilation, 0)


@tile
def fold_window(x, source, steps, counts, start, mean):
    """Fold a single window."""
    total = start
    for d in range(counts[0]):
        for h in range(counts[1]):
            row = source + d * steps[0] + h * steps[1]
            for w in range(counts[2]):
                total = fold(mean, total, load(x, row + w * steps[2]))
    return total


@tile
def fold_tile(x, out, problem, windows, span, task, start, mean):
    """Fold the windows of one output row, beginning with ``start``."""
    p, o = task % problem.p, task // problem.p % problem.o
    columns = problem.o + problem.p
    stride_d, stride_h = element_stride(x, 2), element_stride(x, 3)
    stride_w, stride_q = element_stride(x, 4), element_stride(out, 4)
    source = input_plane(x, task, problem)
    source += windows[o, 0] * stride_d + windows[problem.o + p, 0] * stride_h
    row = row_of(out, task, problem.c, problem.o, problem.p)
    steps = (
        problem.dilation_d * stride_d, problem.dilation_h * stride_h, problem.dilation_w * stride_w,
    )  # fmt: skip
    d_count = tap_count(windows, o, problem.dilation_d)
    h_count = tap_count(windows, problem.o + p, problem.dilation_h)
    begin, end, step = span
    vector = lanes(x)
    in_registers = stride_w == 1 and stride_q == 1 and 1 <= step <= 2 and end - begin >= vector
    q = 0
    while q < problem.q:
        if in_registers and begin <= q < end:
            # The last vector overlaps the one before and writes the same values again.
            q = min(q, end - vector)
        counts = (d_count, h_count, tap_count(windows, columns + q, problem.dilation_w))
        at = source + windows[columns + q, 0] * stride_w
        if in_registers and begin <= q < end:
            if q + WIDE * vector <= end:
                if mean:
                    mean_wide(x, at, steps, counts, step, start, out, row + q)
                else:
                    max_wide(x, at, steps, counts, step, start, out, row + q)
                q += WIDE * vector
            else:
                if mean:
                    mean_narrow(x, at, steps, counts, step, start, out, row + q)
                else:
                    max_narrow(x, at, steps, counts, step, start, out, row + q)
                q += vector
        else:
            store(out, row + q * stride_q, fold_window(x, at, steps, counts, start, mean))
            q += 1


@whole_tile
def max_tile(x, out, problem, windows, span, task):
    """Compute one row of maxima."""
    fold_tile(x, out, problem, windows, span, task, lowest(x), False)


@whole_tile
def mean_tile(x, out, problem, windows, span, task):
    """Compute one row of means."""
    fold_tile(x, out, problem, windows, span, task, x.dtype.type(0), True)
    p, o = task % problem.p, task // problem.p % problem.o
    row = row_of(out, task, problem.c, problem.o, problem.p)
    stride_q = element_stride(out, 4)
    rows = windows[o, 2] * windows[problem.o + p, 2]
    for q in range(problem.q):
        divisor = rows * windows[problem.o + problem.p + q, 2]
        if problem.divisor != 0:
            divisor = problem.divisor
        at = row + q * stride_q
        store(out, at, divide(load(out, at), x.dtype.type(divisor)))


@tile
def argmax_window(
    x, source, steps, counts, start, index, index_steps,
):  # fmt: skip
    """The maximum of a single window and its index."""
    best, best_index = start, index
    for d in range(counts[0]):
        for h in range(counts[1]):
            row = source + d * steps[0] + h * steps[1]
            row_index = index + d * index_steps[0] + h * index_steps[1]
            for w in range(counts[2]):
                value = load(x, row + w * steps[2])
                if value > best or value != value:
                    best, best_index = value, row_index + w * index_steps[2]
    return best, best_index


@whole_tile
def argmax_tile(x, out, indices, problem, windows, span, task):
    """Compute one row of maxima and the flat indices d x h x w where they were found: of equal
    ones the first, of several NaN the last, in a window of -inf alone its first tap."""
    p, o = task % problem.p, task // problem.p % problem.o
    columns = problem.o + problem.p
    stride_d, stride_h, stride_w = element_stride(x, 2), element_stride(x, 3), element_stride(x, 4)
    stride_q, indices_q = element_stride(out, 4), element_stride(indices, 4)
    source = input_plane(x, task, problem)
    source += windows[o, 0] * stride_d + windows[problem.o + p, 0] * stride_h
    first_index = (windows[o, 0] * problem.h + windows[problem.o + p, 0]) * problem.w
    row = row_of(out, task, problem.c, problem.o, problem.p)
    indices_row = row_of(indices, task, problem.c, problem.o, problem.p)
    steps = (
        problem.dilation_d * stride_d, problem.dilation_h * stride_h, problem.dilation_w * stride_w,
    )  # fmt: skip
    index_steps = (
        problem.dilation_d * problem.h * problem.w, problem.dilation_h * problem.w,
        problem.dilation_w,
    )  # fmt: skip
    d_count = tap_count(windows, o, problem.dilation_d)
    h_count = tap_count(windows, problem.o + p, problem.dilation_h)
    start = lowest(x)
    begin, end, step = span
    vector = lanes(x)
    in_registers = (
        stride_w == 1 and stride_q == 1 and indices_q == 1 and 1 <= step <= 2
        and end - begin >= vector and d_count * h_count > 0
        and tap_count(windows, columns + begin, problem.dilation_w) > 0
    )  # fmt: skip
    q = 0
    while q < problem.q:
        if in_registers and begin <= q < end:
            # The last vector overlaps the one before and writes the same values again.
            q = min(q, end - vector)
        counts = (d_count, h_count, tap_count(windows, columns + q, problem.dilation_w))
        at = source + windows[columns + q, 0] * stride_w
        index = first_index + windows[columns + q, 0]
        if in_registers and begin <= q < end:
            argmax_narrow(
                x, at, steps, counts, step, start, index, index_steps,
                out, row + q, indices, indices_row + q,
            )  # fmt: skip
            q += vector
        else:
            if counts[0] * counts[1] * counts[2] == 0:
                index = -1
            best, index = argmax_window(x, at, steps, counts, start, index, index_steps)
            store(out, row + q * stride_q, best)
            store(indices, indices_row + q * indices_q, index)
            q += 1


@task_range
def max_tiles(x: Any, out: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Compute the rows of the queue of maxima."""
    span = regular_span(windows, problem.o + problem.p, problem.q)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            max_tile(x, out, problem, windows, span, task)
        begin, end = next_tasks(queue, begin, end)


@task_range
def mean_tiles(x: Any, out: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Compute the rows of the queue of means."""
    span = regular_span(windows, problem.o + problem.p, problem.q)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            mean_tile(x, out, problem, windows, span, task)
        begin, end = next_tasks(queue, begin, end)


@task_range
def argmax_tiles(x: Any, out: Any, indices: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Compute the rows of the queue of maxima and their indices."""
    span = regular_span(windows, problem.o + problem.p, problem.q)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            argmax_tile(x, out, indices, problem, windows, span, task)
        begin, end = next_tasks(queue, begin, end)


pool = pool_drivers.pool({"max": max_tiles, "mean": mean_tiles, "argmax": argmax_tiles})
