"""What the windows of a pooling have in common, and where its rows are."""

from __future__ import annotations

from ._compile import tile
from ._vector import element_stride


@tile
def tap_count(windows, row, dilation):
    """Taps of one window along one axis."""
    span = windows[row, 1] - windows[row, 0]
    if dilation == 1:
        return span
    return (span + dilation - 1) // dilation


@tile
def longest_stretch(windows, first, count):
    """The longest run ``begin .. end-1`` of output columns with windows of one length and one
    extent, equally far apart, and that distance."""
    best_begin, best_end, best_step = 0, 0, 0
    begin = 0
    while begin < count:
        row = first + begin
        end = begin + 1
        step = windows[row + 1, 0] - windows[row, 0] if end < count else 0
        length = windows[row, 1] - windows[row, 0]
        while (
            end < count
            and windows[first + end, 0] - windows[first + end - 1, 0] == step
            and windows[first + end, 1] - windows[first + end, 0] == length
            and windows[first + end, 2] == windows[row, 2]
        ):
            end += 1
        if end - begin > best_end - best_begin:
            best_begin, best_end, best_step = begin, end, step
        begin = end
    return best_begin, best_end, best_step


@tile
def widest_window(windows, first, count):
    """The columns that the widest window spans."""
    widest = 0
    for q in range(first, first + count):
        widest = max(widest, windows[q, 1] - windows[q, 0])
    return widest


@tile
def columns_before(problem, windows, stretch):
    """How far in front of the columns the first window begins, if all windows are those of the
    stretch, 2 or 3 columns and 1 or 2 apart, cut off at the borders; -1 if they aren't."""
    first, step = problem.o + problem.p, stretch[2]
    taps = windows[first + stretch[0], 1] - windows[first + stretch[0], 0]
    before = step * stretch[0] - windows[first + stretch[0], 0]
    if problem.dilation_w != 1 or step < 1 or step > 2 or taps < 2 or taps > 3:
        return -1
    if before < 0 or before > taps - 2:
        return -1
    for q in range(problem.q):
        start = q * step - before
        if windows[first + q, 0] != max(start, 0):
            return -1
        if windows[first + q, 1] != min(start + taps, problem.w):
            return -1
    return before


@tile
def place_of(problem, task, channels_last):
    """The n, c, o, p of a task: tasks are (n, c, o, p), where channels lie side by side
    (n, o, p, c)."""
    c = 0
    if channels_last:
        c, task = task % problem.c, task // problem.c
    p, task = task % problem.p, task // problem.p
    o, task = task % problem.o, task // problem.o
    if not channels_last:
        c, task = task % problem.c, task // problem.c
    return task, c, o, p


@tile
def place_after(problem, place, channels_last):
    """The next row's, of the same channel; where channels lie side by side, of the first one."""
    n, c, o, p = place
    if channels_last:
        c = 0
    p += 1
    if p == problem.p:
        p, o = 0, o + 1
        if o == problem.o:
            o = 0
            c += 1
            if channels_last or c == problem.c:
                n, c = n + 1, 0
    return n, c, o, p


@tile
def offset_of(array, place):
    """Where an output row begins."""
    n, c, o, p = place
    return (
        n * element_stride(array, 0) + c * element_stride(array, 1)
        + o * element_stride(array, 2) + p * element_stride(array, 3)
    )  # fmt: skip


@tile
def taps_at(x, problem, windows, place):
    """Of an output row's windows: where column 0 of the first taps is, taps along d and h, and what
    a tap's step moves."""
    n, c, o, p = place
    h = problem.o + p
    first = n * element_stride(x, 0) + c * element_stride(x, 1)
    first += windows[o, 0] * element_stride(x, 2) + windows[h, 0] * element_stride(x, 3)
    rows = (
        tap_count(windows, o, problem.dilation_d), tap_count(windows, h, problem.dilation_h),
        problem.dilation_d * element_stride(x, 2), problem.dilation_h * element_stride(x, 3),
    )  # fmt: skip
    return first, rows


@tile
def part_from(problem, windows, stretch, q, limit):
    """The output columns ``q .. end-1`` read the columns ``low .. high-1``, ``limit`` of them at
    most: ``end, low, high``."""
    first = problem.o + problem.p
    if problem.w <= limit:
        return problem.q, 0, problem.w
    low, span = windows[first + q, 0], windows[first + q, 1] - windows[first + q, 0]
    if span > limit:
        return q, low, low
    if stretch[0] <= q < stretch[1]:
        more = (limit - span) // stretch[2] if stretch[2] else stretch[1]
        end = min(q + more + 1, stretch[1])
        return end, low, windows[first + end - 1, 1]
    end, high, last = q, low, stretch[0] if q < stretch[0] else problem.q
    while end < last:
        lower, higher = min(low, windows[first + end, 0]), max(high, windows[first + end, 1])
        if higher - lower > limit:
            break
        low, high = lower, higher
        end += 1
    return end, low, high
