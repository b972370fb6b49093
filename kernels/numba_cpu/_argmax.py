"""Output rows of maxima with their indices.

x        a row's taps, any strides    IN
out      a row, any stride            OUT
indices  a row, int64, any stride     OUT
Taps one after another in the order d, h, w: of equal ones the first counts, of several NaN the
last; a window of -inf alone has its first tap's index, an empty one -1.
Why: the places of a vector of maxima are a vector of offsets from the windows' first taps, chosen
by the same comparison.
"""

from __future__ import annotations

from ._compile import tile
from ._lanes import (
    beats,
    choose,
    count_of,
    even,
    lanes_like,
    load_first_lanes,
    load_lanes,
    places_like,
    store_lanes,
    store_places,
)
from ._vector import element_stride, load, lowest, store
from ._windows import tap_count

#: What a place of float32 can count to.
MOST = 2**31 - 1


@tile
def find_one(x, at, problem, rows, taps):
    """The maximum of one window, and where it is counted from the first tap."""
    best, found = lowest(x), 0
    stride = problem.dilation_w * element_stride(x, 4)
    for d in range(rows[0]):
        for h in range(rows[1]):
            row = at + d * rows[2] + h * rows[3]
            index = (d * problem.dilation_d * problem.h + h * problem.dilation_h) * problem.w
            for s in range(taps):
                value = load(x, row + s * stride)
                if (value > best) | (value != value):
                    best, found = value, index + s * problem.dilation_w
    return best, found


@tile
def find_lanes(x, at, step, count, problem, rows, taps):
    """A vector of maxima of windows 1 or 2 elements apart, and their places; only ``count`` lanes
    of windows 1 apart are looked at."""
    best = lanes_like(x, lowest(x))
    found, vector = places_like(best, 0), count_of(x)
    stride = problem.dilation_w * element_stride(x, 4)
    for d in range(rows[0]):
        for h in range(rows[1]):
            tap = at + d * rows[2] + h * rows[3]
            index = (d * problem.dilation_d * problem.h + h * problem.dilation_h) * problem.w
            for s in range(taps):
                if step == 2:
                    value = even_lanes(x, tap)
                elif count >= vector:
                    value = load_lanes(x, tap)
                else:
                    value = load_first_lanes(x, tap, count, best)
                better = beats(best, value)
                best = choose(better, value, best)
                found = choose(better, places_like(best, index + s * problem.dilation_w), found)
                tap += stride
    return best, found


@tile
def even_lanes(x, at):
    """Every second element; nothing behind the last of them is read."""
    vector = count_of(x)
    low = load_lanes(x, at)
    return even(low, load_first_lanes(x, at + vector, vector - 1, low))


@tile
def find_row(x, at, out, to, indices, index_to, problem, windows, stretch, rows, index):
    """A row of one channel; ``index``: of column 0's first tap."""
    first, vector = problem.o + problem.p, count_of(x)
    stride_w, stride_q = element_stride(x, 4), element_stride(out, 4)
    stride_i, step = element_stride(indices, 4), stretch[2] * element_stride(x, 4)
    span = (rows[0] * problem.dilation_d * problem.h + rows[1] * problem.dilation_h) * problem.w
    in_vectors = stride_q == 1 and stride_i == 1 and 1 <= step <= 2 and span <= MOST
    q = 0
    while q < problem.q:
        taps, start = tap_count(windows, first + q, problem.dilation_w), windows[first + q, 0]
        if in_vectors and taps > 0 and stretch[0] <= q and q + vector <= stretch[1]:
            if step == 1:
                best, found = find_lanes(x, at + start * stride_w, 1, vector, problem, rows, taps)
            else:
                best, found = find_lanes(x, at + start * stride_w, 2, vector, problem, rows, taps)
            store_lanes(out, to + q, best)
            store_places(indices, index_to + q, found, index + start, stretch[2])
            q += vector
        else:
            value, place = find_one(x, at + start * stride_w, problem, rows, taps)
            store(out, to + q * stride_q, value)
            empty = rows[0] * rows[1] * taps == 0
            store(indices, index_to + q * stride_i, -1 if empty else index + start + place)
            q += 1


@tile
def find_channels(x, at, out, to, indices, index_to, problem, windows, rows, index, channels):
    """A row of several channels, which lie side by side."""
    first, vector = problem.o + problem.p, count_of(x)
    span = (rows[0] * problem.dilation_d * problem.h + rows[1] * problem.dilation_h) * problem.w
    for q in range(problem.q):
        taps, start = tap_count(windows, first + q, problem.dilation_w), windows[first + q, 0]
        empty = rows[0] * rows[1] * taps == 0
        source = at + start * element_stride(x, 4)
        target = to + q * element_stride(out, 4)
        places = index_to + q * element_stride(indices, 4)
        c = 0
        while c < channels:
            if c + vector <= channels and not empty and span <= MOST:
                best, found = find_lanes(x, source + c, 1, vector, problem, rows, taps)
                store_lanes(out, target + c, best)
                store_places(indices, places + c, found, index + start, 0)
                c += vector
            else:
                value, place = find_one(x, source + c, problem, rows, taps)
                store(out, target + c, value)
                store(indices, places + c, -1 if empty else index + start + place)
                c += 1
