"""A pooling as its loops see it: what windows have in common, and the rows of tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._emit import Code, Operand, Value, Variable
from ._vector import INT64
from ._views import View


class Window(NamedTuple):
    """What the windows of an output row share: taps along d and h, the product of the extents, and
    what a tap's step moves in x."""

    d: Value
    h: Value
    extent: Value
    x_d: Value
    x_h: Value


class Stretch(NamedTuple):
    """Windows ``first .. end-1`` of an axis have as many taps and one extent, and begin ``step``
    apart."""

    first: Value
    end: Value
    step: Value


class Pooling(NamedTuple):
    """``windows``: first tap, end and extent of every window, by axes; ``in_w`` the last axis's.

    Output columns ``first .. end-1`` have windows of ``taps`` taps and one extent, ``step`` apart;
    ``rows`` are the output rows of a slice of which the same is true.
    ``slides``: 1 + how far in front of the input's columns the first window begins, where all
    windows are such ones, cut off at the borders, in memory without gaps; else 0. ``last``: 1
    where channels lie side by side; ``widest``: the columns that the widest window spans then."""

    problem: Any
    x: View
    out: View
    windows: Value
    in_w: Value
    first: Value
    end: Value
    step: Value
    taps: Value
    rows: Stretch
    slides: Value
    widest: Value
    last: Value


class Row(NamedTuple):
    """A task's output row."""

    n: Value
    c: Value
    o: Value
    p: Value


def taps_of(code: Code, window: Value, dilation: Value) -> Value:
    """How many taps a window has along its axis."""
    span = code.load(window + 1) - code.load(window)
    taps = code.var(span)
    with code.when(dilation.differs(1)):
        taps.set((span + dilation - 1) // dilation)
    return taps.get()


def _store_stretch(code: Code, windows: Value, count: Value, place: Value) -> None:
    """The longest stretch of an axis' windows."""
    best = [code.var(0) for _ in range(3)]
    first = code.var(0)
    with code.loop_while(lambda: first.get() < count):
        begin = first.get()
        window = windows + begin * 3
        start, span = code.load(window), code.load(window + 1) - code.load(window)
        second = windows + code.least(begin + 1, count - 1) * 3
        step = code.load(second) - start
        last = code.var(begin + 1)

        def goes_on() -> Value:
            at = last.get()
            other = windows + code.least(at, count - 1) * 3
            here = code.load(other)
            same = here.equals(start + (at - begin) * step)
            same &= (code.load(other + 1) - here).equals(span)
            return same & code.load(other + 2).equals(code.load(window + 2)) & (at < count)

        with code.loop_while(goes_on):
            last.set(last.get() + 1)
        with code.when(last.get() - begin > best[1].get() - best[0].get()):
            for variable, value in zip(best, (begin, last.get(), step), strict=True):
                variable.set(value)
        first.set(last.get())
    for i, part in enumerate(best):
        code.store(part.get(), place + i)


def _stretch_of(code: Code, windows: Value, count: Value) -> Stretch:
    place = code.buffer(INT64, 3)
    code.function("stretch", _store_stretch, (windows, count, place))
    return Stretch(*(code.load(place + i) for i in range(3)))


def _slides_of(
    code: Code, x: View, out: View, problem: Any, in_w: Value, first: Value, step: Value,
    taps: Value,
) -> Value:  # fmt: skip
    """``Pooling.slides``."""
    before = step * first - code.load(in_w + first * 3)
    good = x.w.equals(1) & out.w.equals(1) & problem.dilation_w.equals(1)
    good = good & (step >= 1) & (step <= 2) & (taps >= 2) & (taps <= 3)
    good = good & (before >= 0) & (before <= taps - 2)
    slides = code.var(0)
    with code.when(good):
        slides.set(before + 1)
        with code.range(0, problem.q) as q:
            start = q * step - before
            window = in_w + q * 3
            other = code.load(window).differs(code.greatest(start, 0))
            end = code.least(start + taps, problem.w)
            with code.when(other | code.load(window + 1).differs(end)):
                slides.set(code.of(0))
    return slides.get()


def side_by_side(problem: Any, *arrays: View) -> Value:
    """Whether arrays have several channels, side by side."""
    several = problem.c > 1
    for array in arrays:
        several = several & array.c.equals(1)
    return several


def pooling_of(
    code: Code, problem: Any, x: View, out: View, windows: Value, together: Value
) -> Pooling:
    """All that is known before the first task."""
    in_w = windows + (problem.o + problem.p) * 3
    first, end, step = _stretch_of(code, in_w, problem.q)
    rows = _stretch_of(code, windows + problem.o * 3, problem.p)
    taps = taps_of(code, in_w + first * 3, problem.dilation_w)
    widest = code.var(0)
    with code.when(together), code.range(0, problem.q) as q:
        span = code.load(in_w + q * 3 + 1) - code.load(in_w + q * 3)
        widest.set(code.greatest(widest.get(), span))
    slides = _slides_of(code, x, out, problem, in_w, first, step, taps)
    last = code.choose(together, 1, 0)
    return Pooling(
        problem, x, out, windows, in_w, first, end, step, taps, rows, slides, widest.get(), last
    )  # fmt: skip


def row_of(code: Code, pooling: Pooling, task: Value) -> Row:
    """The row of a task. Tasks are (n, c, o, p), where channels lie side by side (n, o, p, c)."""
    problem, last = pooling.problem, pooling.last.equals(1)
    inner = code.choose(last, task % problem.c, 0)
    task = code.choose(last, task // problem.c, task)
    p, task = task % problem.p, task // problem.p
    o, task = task % problem.o, task // problem.o
    c = code.choose(last, inner, task % problem.c)
    return Row(code.choose(last, task, task // problem.c), c, o, p)


class Tasks:
    """A walk from a task, whose row is given, to others behind it."""

    def __init__(self, code: Code, pooling: Pooling, begin: Value, row: Row) -> None:
        self.code, self.pooling = code, pooling
        self.task = code.var(begin)
        self.places = [code.var(place) for place in row]

    @property
    def row(self) -> Row:
        """The row of the task."""
        return Row(*(place.get() for place in self.places))

    def move(self, tasks: Value, rows: Operand = 1) -> None:
        """Go on to the row ``rows`` after this one, which is ``tasks`` further: of the same
        channel, or of the first one where channels lie side by side."""
        code, problem, last = self.code, self.pooling.problem, self.pooling.last.equals(1)
        n, c, o, p = self.places
        self.task.set(self.task.get() + tasks)
        p.set(p.get() + rows)
        o.set(o.get() + _carry_of(code, p, problem.p))
        planes = _carry_of(code, o, problem.o)
        c.set(code.choose(last, 0, c.get() + planes))
        images = _carry_of(code, c, problem.c)
        n.set(n.get() + code.choose(last, planes, images))


def _carry_of(code: Code, index: Variable, count: Value) -> Value:
    """Bring an index back into its axis of ``count``: how often that is exceeded."""
    carry = code.var(0)
    with code.when(count.equals(1)):
        carry.set(index.get())
        index.set(code.of(0))
    with code.loop_while(lambda: index.get() >= count):
        index.set(index.get() - count)
        carry.set(carry.get() + 1)
    return carry.get()


def rows_alike(code: Code, pooling: Pooling, row: Row, tasks: Value) -> Value:
    """Rows from ``row`` on whose windows are alike, one slice's and ``tasks`` at most."""
    left = pooling.rows.end - row.p
    alone = (row.p < pooling.rows.first) | (left < 1)
    return code.choose(alone, 1, code.least(left, tasks))


def offset_of(array: View, row: Row) -> Value:
    """The same, counted from its first element."""
    return row.n * array.n + row.c * array.c + row.o * array.d + row.p * array.h


def place_of(array: View, row: Row) -> Value:
    """Where a row begins in an array of outputs."""
    return array.data + offset_of(array, row)


def window_of(code: Code, pooling: Pooling, row: Row) -> tuple[Window, Value, Value, Value]:
    """The windows of a row, where in x its column 0 is, counted from the first element, and its
    first taps along d and h."""
    problem, x = pooling.problem, pooling.x
    in_d, in_h = pooling.windows + row.o * 3, pooling.windows + (problem.o + row.p) * 3
    d, h = code.load(in_d), code.load(in_h)
    place = row.n * x.n + row.c * x.c + d * x.d + h * x.h
    window = Window(
        taps_of(code, in_d, problem.dilation_d),
        taps_of(code, in_h, problem.dilation_h),
        code.load(in_d + 2) * code.load(in_h + 2),
        problem.dilation_d * x.d,
        problem.dilation_h * x.h,
    )
    return window, place, d, h


def divisor_of(code: Code, pooling: Pooling, extent: Value, q: Value) -> Value:
    """What the sum over the window of column q is divided by."""
    fixed = pooling.problem.divisor
    return code.choose(fixed.equals(0), extent * code.load(pooling.in_w + q * 3 + 2), fixed)
