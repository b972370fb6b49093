"""Window reductions: maximum, maximum with its index, mean.

x        (N, C, D, H, W)    any strides           IN
windows  (o + p + q, 3)     first, end, extent    IN
out      (N, C, O, P, Q)    any strides           OUT
indices  (N, C, O, P, Q)    int64, any strides    OUT
Accumulates in the dtype: each of a window's columns over d and h, then these over w (with indices
in the order d, h, w). A NaN is larger than anything; the maximum of no taps is -inf, or the least
integer, at index -1. Sums of integers wrap around, their means are truncated toward zero.
Scratch: none, 16 KiB of stack. Tasks: (n, c, o, p), one output row of one channel, or (n, o, p, c)
where channels lie side by side in memory.
Assumes a validated PoolGeometry; raises nothing.
Why: rows of a range of tasks are computed in one go, for a row takes no longer than a few calls.
"""

from __future__ import annotations

from typing import Any

from .. import drivers
from ._argmax import find_channels, find_row
from ._compile import task_range, tile
from ._pool_channels import fold_channels
from ._pool_rows import fold_stretch, fold_window, slide_row, start_of
from ._queue import next_tasks
from ._vector import divide, element_stride, stack_values, store
from ._windows import (
    columns_before,
    longest_stretch,
    offset_of,
    place_after,
    place_of,
    tap_count,
    taps_at,
    widest_window,
)


@tile
def clear_row(mean, x, out, to, problem, windows, extent, channels):
    """A row of windows that are empty."""
    for q in range(problem.q):
        value = start_of(mean, x)
        if mean:
            divisor = extent * windows[problem.o + problem.p + q, 2]
            if problem.divisor != 0:
                divisor = problem.divisor
            value = divide(value, x.dtype.type(divisor))
        for c in range(channels):
            store(out, to + q * element_stride(out, 4) + c, value)


@tile
def divide_others(x, at, out, to, problem, windows, stretch, rows, extent):
    """Again the windows of a row of means that have another extent than the stretch's."""
    first = problem.o + problem.p
    q = 0
    while q < problem.q:
        if q == stretch[0]:
            q = stretch[1]
        elif windows[first + q, 2] != windows[first + stretch[0], 2]:
            total = fold_window(True, x, at, problem, windows, rows, q)
            store(out, to + q, divide(total, x.dtype.type(extent * windows[first + q, 2])))
            q += 1
        else:
            q += 1


@tile
def fold_row(
    mean, x, out, problem, windows, stretch, widest, before, place, channels, channels_last, kept
):
    """One output row of a mean or a maximum, of one channel or of several."""
    o, p, first = place[2], place[3], problem.o + problem.p
    extent = windows[o, 2] * windows[problem.o + p, 2]
    at, rows = taps_at(x, problem, windows, place)
    to, q = offset_of(out, place), 0
    if rows[0] == 0 or rows[1] == 0:
        clear_row(mean, x, out, to, problem, windows, extent, channels)
    elif channels_last:
        fold_channels(
            mean, x, at, out, to, kept, problem, windows, stretch, widest, rows, extent, channels
        )
    elif before >= 0:
        row = first + stretch[0]
        divisor = extent * windows[row, 2] if problem.divisor == 0 else problem.divisor
        taps = tap_count(windows, row, 1)
        slide_row(mean, x, at, out, to, problem, rows, taps, stretch[2], before, divisor)
        if mean and problem.divisor == 0:
            divide_others(x, at, out, to, problem, windows, stretch, rows, extent)
    else:
        while q < problem.q:
            q = fold_stretch(
                mean, x, at, out, to, kept, problem, windows, stretch, rows, q, extent
            )


@tile
def fold_tasks(mean, x, out, problem, windows, queue):
    """Compute the rows of the queue."""
    channels_last = problem.c > 1 and element_stride(x, 1) == 1 and element_stride(out, 1) == 1
    stretch = longest_stretch(windows, problem.o + problem.p, problem.q)
    widest = widest_window(windows, problem.o + problem.p, problem.q)
    before = -1
    if element_stride(x, 4) == 1 and element_stride(out, 4) == 1:
        before = columns_before(problem, windows, stretch)
    # As many as 16 KiB hold, and a vector that may be read behind them.
    kept = stack_values(x, 4096 + 16)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        task, place = begin, place_of(problem, begin, channels_last)
        while task < end:
            channels = min(problem.c - place[1], end - task) if channels_last else 1
            fold_row(
                mean, x, out, problem, windows, stretch, widest, before, place, channels,
                channels_last, kept,
            )  # fmt: skip
            task, place = task + channels, place_after(problem, place, channels_last)
        begin, end = next_tasks(queue, begin, end)


@task_range
def max_tiles(x: Any, out: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Compute the rows of the queue of maxima."""
    fold_tasks(False, x, out, problem, windows, queue)


@task_range
def mean_tiles(x: Any, out: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Compute the rows of the queue of means."""
    fold_tasks(True, x, out, problem, windows, queue)


@task_range
def argmax_tiles(x: Any, out: Any, indices: Any, problem: Any, windows: Any, queue: Any) -> None:
    """Compute the rows of the queue of maxima and their indices."""
    channels_last = problem.c > 1 and element_stride(x, 1) == 1 and element_stride(out, 1) == 1
    channels_last = channels_last and element_stride(indices, 1) == 1
    stretch = longest_stretch(windows, problem.o + problem.p, problem.q)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        task, place = begin, place_of(problem, begin, channels_last)
        while task < end:
            channels = min(problem.c - place[1], end - task) if channels_last else 1
            at, rows = taps_at(x, problem, windows, place)
            to, index_to = offset_of(out, place), offset_of(indices, place)
            index = windows[place[2], 0] * problem.h + windows[problem.o + place[3], 0]
            index *= problem.w
            if channels_last:
                find_channels(
                    x, at, out, to, indices, index_to, problem, windows, rows, index, channels
                )
            else:
                find_row(
                    x, at, out, to, indices, index_to, problem, windows, stretch, rows, index
                )
            task, place = task + channels, place_after(problem, place, channels_last)
        begin, end = next_tasks(queue, begin, end)


pool = drivers.pool({"max": max_tiles, "mean": mean_tiles, "argmax": argmax_tiles})
