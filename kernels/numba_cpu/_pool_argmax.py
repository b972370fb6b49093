"""Maxima with their indices: taps one after another in the order d, h, w, since of equal ones the
first counts, and of several NaN the last.

x        (N, C, D, H, W)    any strides           IN
out      (N, C, O, P, Q)    any strides           OUT
indices  (N, C, O, P, Q)    int64, any strides    OUT
An index is counted from a window's first tap, in integers as wide as the elements, and written as
the flat one of the plane.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir

from ._emit import Code, Value
from ._pool_folds import start_of, starts_of
from ._pool_windows import Pooling, Tasks, Window, place_of, row_of, taps_of, window_of
from ._vector import INT64
from ._views import View

MOST_INDEX = 2**31 - 1


class Places(NamedTuple):
    """How a tap's step moves the flat index, and the index of column 0's first tap."""

    d: Value
    h: Value
    first: Value


def _each_tap(
    code: Code, pooling: Pooling, window: Window, places: Places, taps: Value, visit: Any
) -> None:
    """``visit(offset, index)`` for every tap."""
    dilation = pooling.problem.dilation_w
    step = dilation * pooling.x.w
    with code.range(0, window.d) as d, code.range(0, window.h) as h, code.range(0, taps) as s:
        offset = d * window.x_d + h * window.x_h + s * step
        visit(offset, d * places.d + h * places.h + s * dilation)


def _find_lanes(
    code: Code, stride: int | Value, x: Value, pooling: Pooling, window: Window, places: Places,
    taps: Value, lanes: Value | None = None,
) -> tuple[Value, Value]:  # fmt: skip
    """Reduce windows that begin ``stride`` apart: their values, and where they are."""
    bits = ir.IntType(8 * code.itemsize)
    indices = ir.VectorType(bits, code.lanes)
    best = code.var(starts_of(code, mean=False))
    found = code.var(Value(code, ir.Constant(indices, None)))

    def visit(offset: Value, index: Value) -> None:
        place = x + offset
        if isinstance(stride, Value):
            value = code.vload_apart(place, stride)
        elif stride == 2:
            # Two overlapping vectors end with the last element that is needed, not behind it.
            low, high = code.vload(place), code.vload(place + (code.lanes - 1))
            which = [i + (i >= code.lanes) for i in range(0, 2 * code.lanes, 2)]
            value = code.shuffle(low, high, which)
        else:
            value = code.vload(place, lanes)
        better = (value > best.get()) | value.is_nan()
        here = index.value if bits == INT64 else code.builder.trunc(index.value, bits)
        best.set(code.choose(better, value, best.get()))
        found.set(code.choose(better, code.splat(Value(code, here)), found.get()))

    _each_tap(code, pooling, window, places, taps, visit)
    return best.get(), found.get()


def _find_one(
    code: Code, x: Value, pooling: Pooling, window: Window, places: Places, taps: Value
) -> tuple[Value, Value]:
    """The maximum of one window, and where it is counted from the first tap."""
    best, found = code.var(start_of(code, mean=False)), code.var(0)

    def visit(offset: Value, index: Value) -> None:
        value = code.load(x + offset)
        with code.when((value > best.get()) | value.is_nan()):
            best.set(value)
            found.set(index)

    _each_tap(code, pooling, window, places, taps, visit)
    return best.get(), found.get()


def _as_indices(code: Code, found: Value, first: Value, step: Value | int) -> Value:
    """``first + lane * step + found`` as int64."""
    wide = ir.VectorType(INT64, code.lanes)
    lanes = Value(code, ir.Constant(wide, list(range(code.lanes))))
    if found.value.type != wide:
        found = Value(code, code.builder.sext(found.value, wide))
    return found + lanes * code.splat(code.of(step)) + code.splat(first)


def _store_at(code: Code, value: Value, place: Value, stride: Value) -> None:
    with code.either(stride.equals(1)) as (then, otherwise):
        with then:
            code.vstore(value, place)
        with otherwise:
            code.vstore_apart(value, place, stride, code.lanes)


def _find_row(
    code: Code, x: Value, out: Value, to: Value, indices: View, pooling: Pooling, window: Window,
    places: Places,
) -> None:  # fmt: skip
    """A row of one channel; ``to`` is where its indices go."""
    problem, lanes = pooling.problem, code.lanes
    wide = (window.d - 1) * places.d + window.h * places.h > MOST_INDEX
    last = code.choose(wide | pooling.taps.equals(0), -1, pooling.end - lanes)
    q = code.var(0)
    with code.loop_while(lambda: q.get() < problem.q):
        # The last vector of the stretch begins early enough to end with it: a window by itself
        # takes longer than a vector of them.
        late = (q.get() > last) & (q.get() < pooling.end) & (last >= pooling.first)
        here = code.choose(late, last, q.get())
        in_w = pooling.in_w + here * 3
        taps, first = taps_of(code, in_w, problem.dilation_w), code.load(in_w)
        begin, index = x + first * pooling.x.w, places.first + first
        value_at, index_at = out + here * pooling.out.w, to + here * indices.w
        alone = (here < pooling.first) | (here > last)
        with code.either(alone) as (one, several):
            with one:
                best, found = _find_one(code, begin, pooling, window, places, taps)
                code.store(best, value_at)
                code.store(code.choose(taps.equals(0), -1, index + found), index_at)
                q.set(here + 1)
            with several:
                step = pooling.step * pooling.x.w
                values = code.var(starts_of(code, mean=False))
                wanted = ir.Constant(ir.VectorType(INT64, lanes), None)
                flat = code.var(Value(code, wanted))

                def find(stride: int | Value) -> None:
                    vectors = _find_lanes(code, stride, begin, pooling, window, places, taps)
                    values.set(vectors[0])
                    flat.set(_as_indices(code, vectors[1], index, pooling.step))

                with code.either(step.equals(1)) as (near, apart):
                    with near:
                        find(1)
                    with apart, code.either(step.equals(2)) as (second, any_step):
                        with second:
                            find(2)
                        with any_step:
                            find(step)
                _store_at(code, values.get(), value_at, pooling.out.w)
                _store_at(code, flat.get(), index_at, indices.w)
                q.set(here + lanes)


def _find_pixels(
    code: Code, x: Value, out: Value, to: Value, indices: View, pooling: Pooling, window: Window,
    places: Places, channels: Value,
) -> None:  # fmt: skip
    """A row of several channels, which lie side by side."""
    problem, lanes = pooling.problem, code.lanes
    wide = (window.d - 1) * places.d + window.h * places.h > MOST_INDEX
    with code.range(0, problem.q) as q:
        in_w = pooling.in_w + q * 3
        taps, first = taps_of(code, in_w, problem.dilation_w), code.load(in_w)
        begin, index = x + first * pooling.x.w, places.first + first
        value_at, index_at = out + q * pooling.out.w, to + q * indices.w
        with code.either(wide | taps.equals(0)) as (alone, together):
            with alone, code.range(0, channels) as c:
                best, found = _find_one(code, begin + c, pooling, window, places, taps)
                code.store(best, value_at + c)
                code.store(code.choose(taps.equals(0), -1, index + found), index_at + c)
            with together, code.range(0, channels, lanes) as c:
                left = channels - c

                def find(some: Value | None) -> None:
                    vectors = _find_lanes(code, 1, begin + c, pooling, window, places, taps, some)
                    code.vstore(vectors[0], value_at + c, some)
                    code.vstore(_as_indices(code, vectors[1], index, 0), index_at + c, some)

                with code.either(left >= lanes) as (whole, rest):
                    with whole:
                        find(None)
                    with rest:
                        find(left)


def find_tasks(code: Code, indices: View, pooling: Pooling, begin: Value, end: Value) -> None:
    """Tasks begin .. end-1."""
    problem, last = pooling.problem, pooling.last.equals(1)
    tasks = Tasks(code, pooling, begin, row_of(code, pooling, begin))
    with code.loop_while(lambda: tasks.task.get() < end):
        here, row = tasks.task.get(), tasks.row
        window, offset, d, h = window_of(code, pooling, row)
        x = pooling.x.data + offset
        plane = problem.h * problem.w
        places = Places(
            problem.dilation_d * plane, problem.dilation_h * problem.w,
            d * plane + h * problem.w,
        )  # fmt: skip
        out, to = place_of(pooling.out, row), place_of(indices, row)
        channels = code.choose(last, code.least(problem.c - row.c, end - here), 1)
        with code.either(window.d.equals(0) | window.h.equals(0)) as (empty, some):
            with empty, code.range(0, problem.q) as q, code.range(0, channels) as c:
                code.store(start_of(code, mean=False), out + q * pooling.out.w + c)
                code.store(code.of(-1), to + q * indices.w + c)
            with some, code.either(last) as (then, otherwise):
                arguments = (x, out, to, indices, pooling, window, places)
                with then:
                    code.function("find_pixels", _find_pixels, (*arguments, channels))
                with otherwise:
                    code.function("find_row", _find_row, arguments)
        tasks.move(channels)
