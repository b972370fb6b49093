"""Output rows of maxima and means of several channels that lie side by side.

As in _pool_rows, with vectors of channels.
"""

from __future__ import annotations

from ._compile import tile
from ._lanes import count_of, divide_lanes, lanes_like, load_first_lanes, load_lanes
from ._pool_rows import COLUMN_BYTES, fold, fold_window, keep_columns, put, start_of
from ._vector import divide, element_stride, store
from ._windows import part_from, tap_count


@tile
def fold_pixels(mean, x, kept, low, channels, out, to, problem, windows, extent, q, end):
    """The windows of output columns ``q .. end-1`` from kept columns, of which the first is
    ``low``."""
    first, dilation, vector = problem.o + problem.p, problem.dilation_w, count_of(x)
    start = lanes_like(x, start_of(mean, x))
    for i in range(q, end):
        taps = tap_count(windows, first + i, dilation)
        divisor = extent * windows[first + i, 2] if problem.divisor == 0 else problem.divisor
        at = (windows[first + i, 0] - low) * channels
        for c in range(0, channels, vector):
            total = start
            for s in range(taps):
                total = fold(mean, total, load_lanes(kept, at + s * dilation * channels + c))
            if mean:
                total = divide_lanes(total, divisor)
            put(out, to + i * element_stride(out, 4) + c, total, channels - c)


@tile
def fold_wide(mean, x, at, kept, out, to, problem, windows, rows, divisor, q, channels):
    """A window of more columns than can be kept of all channels: a part of them after the other,
    and what they give so far in ``out``."""
    row, vector = problem.o + problem.p + q, count_of(x)
    taps, some = tap_count(windows, row, problem.dilation_w), COLUMN_BYTES // x.itemsize // channels
    step, start = problem.dilation_w * element_stride(x, 4), start_of(mean, x)
    for c in range(channels):
        value = divide(start, x.dtype.type(divisor)) if mean and taps == 0 else start
        store(out, to + c, value)
    for s in range(0, taps, some):
        count = min(some, taps - s)
        if step == channels:
            keep_columns(mean, kept, 0, x, at + s * step, 1, rows, count * channels)
        else:
            for i in range(count):
                keep_columns(mean, kept, i * channels, x, at + (s + i) * step, 1, rows, channels)
        for c in range(0, channels, vector):
            lanes = min(channels - c, vector)
            total = load_first_lanes(out, to + c, lanes, lanes_like(x, start))
            for i in range(count):
                total = fold(mean, total, load_lanes(kept, i * channels + c))
            if mean and s + count == taps:
                total = divide_lanes(total, divisor)
            put(out, to + c, total, lanes)


@tile
def fold_channels(mean, x, at, out, to, kept, problem, windows, stretch, widest, rows, extent, every):
    """A row of ``every`` channels: blocks of them, of which ``kept`` holds the columns of two
    windows or more if it can."""
    first, vector = problem.o + problem.p, count_of(x)
    most = COLUMN_BYTES // x.itemsize
    stride_w, stride_q = element_stride(x, 4), element_stride(out, 4)
    room = most // (2 * widest + 1)
    wide = room < every and room < 4 * vector
    block = every if every <= room else min(every, most // 2 if wide else room // vector * vector)
    for c in range(0, every, block):
        channels, q = min(block, every - c), 0
        while q < problem.q:
            low = windows[first + q, 0]
            if wide:
                divisor = extent * windows[first + q, 2]
                if problem.divisor != 0:
                    divisor = problem.divisor
                fold_wide(mean, x, at + low * stride_w + c, kept, out, to + q * stride_q + c, problem, windows, rows, divisor, q, channels)
                q += 1
                continue
            end, low, high = part_from(problem, windows, stretch, q, most // channels)
            if stride_w == channels:
                keep_columns(mean, kept, 0, x, at + low * stride_w + c, 1, rows, (high - low) * channels)
            else:
                for w in range(high - low):
                    keep_columns(mean, kept, w * channels, x, at + (low + w) * stride_w + c, 1, rows, channels)
            fold_pixels(mean, x, kept, low, channels, out, to + c, problem, windows, extent, q, end)
            q = end
