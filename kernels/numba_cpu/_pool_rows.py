"""Output rows of maxima and means: columns over a window's taps along d and h, then these over w.

x        rows, any strides; whole vectors where it is unit     IN
kept     16 KiB of columns                                     SCRATCH
out      a row, any stride                                     OUT
Accumulates in the dtype; a sum begins with 0, a maximum with the least value.
``rows`` are taps along d and h, and what a step along each moves; there are some of both.
Why: whole vectors of columns are reduced over d and h without a shuffle, and shared by the windows
that overlap; where windows are evenly apart, vectors of those are reduced over w.
"""

from __future__ import annotations

from ._compile import tile
from ._lanes import (
    add_lanes,
    count_of,
    divide_lanes,
    even,
    from_last,
    from_second,
    from_third,
    lanes_like,
    larger_lanes,
    load_first_lanes,
    load_lanes,
    odd,
    store_first_lanes,
    store_lanes,
)
from ._vector import divide, element_stride, load, lowest, prefetch_to_read, store
from ._windows import part_from, tap_count

#: Bytes of columns that are kept while the windows over them are reduced: half of an L1 cache.
COLUMN_BYTES = 16384


@tile
def start_of(mean, x):
    """What a reduction begins with."""
    return x.dtype.type(0) if mean else lowest(x)


@tile
def fold(mean, former, value):
    """The sum of two vectors, or the larger values."""
    if mean:
        return add_lanes(former, value)
    return larger_lanes(former, value)


@tile
def fold_one(mean, former, value):
    """The sum of two, or the larger one: a NaN if there is one."""
    if mean:
        return former + value
    return value if (value > former) | (value != value) else former


@tile
def fold_lanes(mean, x, at, rows):
    """Columns side by side, a vector of them."""
    total = load_lanes(x, at)
    if rows[0] == 1 and rows[1] <= 3:
        if rows[1] >= 2:
            total = fold(mean, total, load_lanes(x, at + rows[3]))
        if rows[1] == 3:
            total = fold(mean, total, load_lanes(x, at + 2 * rows[3]))
        return total
    for d in range(rows[0]):
        for h in range(1 if d == 0 else 0, rows[1]):
            total = fold(mean, total, load_lanes(x, at + d * rows[2] + h * rows[3]))
    return total


@tile
def fold_columns(mean, x, at, rows, count, start):
    """The same of as many of ``count`` columns as fit; the other lanes are of ``start``."""
    if count >= count_of(x):
        return fold_lanes(mean, x, at, rows)
    total = start
    if count > 0:
        total = load_first_lanes(x, at, count, start)
        for d in range(rows[0]):
            for h in range(1 if d == 0 else 0, rows[1]):
                tap = at + d * rows[2] + h * rows[3]
                total = fold(mean, total, load_first_lanes(x, tap, count, start))
    return total


@tile
def put(out, at, value, count):
    """As many of ``count`` lanes as there are."""
    if count >= count_of(out):
        store_lanes(out, at, value)
    else:
        store_first_lanes(out, at, value, count)


@tile
def slide(mean, step, before, x, at, out, to, problem, rows, taps, divisor):
    """A row whose windows of 2 or 3 columns are 1 or 2 apart, in registers: those at the borders as
    if there were columns of starts around, ``before`` of them in front."""
    start = lanes_like(x, start_of(mean, x))
    zero = lanes_like(x, x.dtype.type(0))
    vector, width, columns = count_of(x), problem.w, problem.q
    ahead = at + (rows[1] + step) * rows[3]
    former, w = start, vector
    here = fold_columns(mean, x, at, rows, width, start)
    for q in range(0, columns, vector):
        following = fold_columns(mean, x, at + w, rows, width - w, start)
        for i in range(step * step):
            prefetch_to_read(x, ahead + q * step * step + i * vector)
        if step == 1:
            second, third = from_second(here, following), from_third(here, following)
            first, last = here, here
        else:
            first, last = even(here, following), odd(here, following)
            following = fold_columns(
                mean, x, at + w + vector, rows, width - w - vector, start
            )  # fmt: skip
            second, third = last, from_second(first, following)
        if before:
            first, second, third = from_last(former, last), first, second
        former, here = last, following
        total = add_lanes(first, zero) if mean else first
        total = fold(mean, total, second)
        if taps == 3:
            total = fold(mean, total, third)
        if mean:
            total = divide_lanes(total, divisor)
        put(out, to + q, total, columns - q)
        w += step * vector


@tile
def slide_row(mean, x, at, out, to, problem, rows, taps, step, before, divisor):
    """A row whose windows slide, each kind by code of its own."""
    if step == 1 and before == 0:
        slide(mean, 1, False, x, at, out, to, problem, rows, taps, divisor)
    elif step == 1:
        slide(mean, 1, True, x, at, out, to, problem, rows, taps, divisor)
    elif before == 0:
        slide(mean, 2, False, x, at, out, to, problem, rows, taps, divisor)
    else:
        slide(mean, 2, True, x, at, out, to, problem, rows, taps, divisor)


@tile
def fold_window(mean, x, at, problem, windows, rows, q):
    """The window of an output column by itself, not divided."""
    row, stride = problem.o + problem.p + q, element_stride(x, 4)
    total = start_of(mean, x)
    for w in range(windows[row, 0], windows[row, 1], problem.dilation_w):
        column = at + w * stride
        value = load(x, column)
        for d in range(rows[0]):
            for h in range(1 if d == 0 else 0, rows[1]):
                value = fold_one(mean, value, load(x, column + d * rows[2] + h * rows[3]))
        total = fold_one(mean, total, value)
    return total


@tile
def keep_columns(mean, kept, to, x, at, stride, rows, count):
    """Reduce ``count`` columns, any stride apart, and keep them."""
    vector, start = count_of(x), lanes_like(x, start_of(mean, x))
    if stride != 1:
        for w in range(count):
            kept[to + w] = load(x, at + w * stride)
        for d in range(rows[0]):
            for h in range(1 if d == 0 else 0, rows[1]):
                row = at + d * rows[2] + h * rows[3]
                for w in range(count):
                    kept[to + w] = fold_one(mean, kept[to + w], load(x, row + w * stride))
    elif rows[0] * rows[1] > 4 and count >= 8 * vector:
        # Row after row, as memory is read best.
        for w in range(0, count, vector):
            put(kept, to + w, fold_columns(mean, x, at + w, (1, 1, 0, 0), count - w, start), count - w)
        for d in range(rows[0]):
            for h in range(1 if d == 0 else 0, rows[1]):
                row, w = at + d * rows[2] + h * rows[3], 0
                while w + vector <= count:
                    former = load_lanes(kept, to + w)
                    store_lanes(kept, to + w, fold(mean, former, load_lanes(x, row + w)))
                    w += vector
                while w < count:
                    kept[to + w] = fold_one(mean, kept[to + w], load(x, row + w))
                    w += 1
    else:
        for w in range(0, count, vector):
            put(kept, to + w, fold_columns(mean, x, at + w, rows, count - w, start), count - w)


@tile
def fold_stretch(mean, x, at, out, to, kept, problem, windows, stretch, rows, q, extent):
    """The windows of a row from output column ``q`` on whose columns fit in ``kept``; the next q."""
    first, stride = problem.o + problem.p, element_stride(out, 4)
    dilation, most = problem.dilation_w, COLUMN_BYTES // x.itemsize
    end, low, high = part_from(problem, windows, stretch, q, most)
    if end == q:
        total = fold_window(mean, x, at, problem, windows, rows, q)
        store(out, to + q * stride, total)
        end = q + 1
    else:
        stride_w = element_stride(x, 4)
        keep_columns(mean, kept, 0, x, at + low * stride_w, stride_w, rows, high - low)
        i = q
        while i < end:
            count = max(min(end, stretch[1]) - i, 1) if i >= stretch[0] else 1
            taps = tap_count(windows, first + i, dilation)
            fold_evenly(
                mean, x, kept, windows[first + i, 0] - low, stretch[2], dilation, taps, out,
                to + i * stride, stride, count,
            )  # fmt: skip
            i += count
    if mean:
        for i in range(q, end):
            divisor = extent * windows[first + i, 2] if problem.divisor == 0 else problem.divisor
            total = load(out, to + i * stride)
            store(out, to + i * stride, divide(total, x.dtype.type(divisor)))
    return end


@tile
def fold_evenly(mean, x, kept, column, step, dilation, taps, out, to, stride, count):
    """``count`` windows of kept columns, ``step`` apart."""
    vector, w = count_of(x), 0
    if stride == 1 and 1 <= step <= 2:
        while w + vector <= count:
            total = lanes_like(x, start_of(mean, x))
            for s in range(taps):
                at = column + w * step + s * dilation
                value = load_lanes(kept, at)
                if step == 2:
                    # The last element of the second vector is behind the last window.
                    value = even(value, load_lanes(kept, at + vector))
                total = fold(mean, total, value)
            store_lanes(out, to + w, total)
            w += vector
    while w < count:
        total = start_of(mean, x)
        for s in range(taps):
            total = fold_one(mean, total, kept[column + w * step + s * dilation])
        store(out, to + w * stride, total)
        w += 1
