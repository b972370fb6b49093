"""Maxima and means of one output row: columns over a window's taps along d and h, then windows.

x     (N, C, D, H, W)    any strides                      IN
out   (N, C, O, P, Q)    any strides                      OUT
kept  1-D                columns reduced over d and h     SCRATCH
A sum (``mean``) begins with 0, which makes -0 a 0, a maximum with the least value; NaN is larger.
Accumulates in the dtype: each of a window's columns over d and h, then these over w.
Why: whole vectors of columns are reduced over d and h without a shuffle, and shared by the windows
that overlap; where windows are evenly apart, vectors of those are reduced over w.
"""

from __future__ import annotations

from collections.abc import Callable

from ._emit import Code, Value
from ._pool_windows import Pooling, Window, divisor_of, taps_of

#: Bytes of columns that are kept while the windows over them are reduced: half of an L1 cache.
COLUMN_BYTES = 16384


def room_of(code: Code) -> int:
    """Columns that are kept."""
    return COLUMN_BYTES // code.itemsize


def start_of(code: Code, mean: bool) -> Value:
    """What a reduction begins with."""
    if mean:
        return code.number(0)
    return code.number(-(2**63) if code.whole else float("-inf"))


def starts_of(code: Code, mean: bool) -> Value:
    """A vector of it."""
    return code.splat(start_of(code, mean))


def fold(code: Code, mean: bool, former: Value, value: Value) -> Value:
    """The sum, or the larger one: ``value`` where it is NaN, ``former`` where it is or the two are
    equal."""
    if mean:
        return former + value
    return code.larger(former, value)


def divided(code: Code, sums: Value, divisor: Value) -> Value:
    """Sums by a divisor. By a power of two the product by its inverse is the quotient, and takes a
    tenth of the time; integers are truncated, and multiplied by it where it is 0 or -1, at which a
    processor stops."""
    vector = sums.value.type != code.real

    def by(value: Value) -> Value:
        return code.splat(value) if vector else value

    if code.whole:
        traps = (divisor >= -1) & (divisor <= 0)
        quotient = sums / by(code.choose(traps, 1, divisor))
        return code.choose(traps, sums * by(divisor), quotient)
    real = Value(code, code.builder.sitofp(divisor.value, code.real))
    if not vector:
        return sums / real
    result = code.var(sums)
    exact = (divisor & (divisor - 1)).equals(0) & (divisor > 0)
    with code.either(exact) as (then, otherwise):
        with then:
            result.set(sums * by(code.number(1) / real))
        with otherwise:
            result.set(sums / by(real))
    return result.get()


def fold_lanes(
    code: Code, mean: bool, x: Value, window: Window, lanes: Value | None = None
) -> Value:
    """Reduce a vector of columns, or some lanes of one, over the taps along d and h, of which there
    are some."""
    result = code.var(code.vload(x, lanes))

    def add(place: Value) -> None:
        result.set(fold(code, mean, result.get(), code.vload(place, lanes)))

    with code.either(window.d.equals(1) & (window.h <= 3)) as (then, otherwise):
        with then, code.when(window.h >= 2):
            add(x + window.x_h)
            with code.when(window.h.equals(3)):
                add(x + window.x_h * 2)
        with otherwise:
            each_tap(code, window, lambda offset: add(x + offset))
    return result.get()


def each_tap(code: Code, window: Window, add: Callable[[Value], None]) -> None:
    """``add(offset)`` for the taps along d and h but the first."""
    with (
        code.range(0, window.d) as d,
        code.range(code.choose(d.equals(0), 1, 0), window.h) as h,
    ):
        add(d * window.x_d + h * window.x_h)


def fold_columns(code: Code, mean: bool, x: Value, window: Window, count: Value) -> Value:
    """The same of as many of ``count`` columns as fit in a vector; the other lanes are a start."""
    result = code.var(starts_of(code, mean))
    with code.either(count >= code.lanes) as (then, otherwise):
        with then:
            result.set(fold_lanes(code, mean, x, window))
        with otherwise, code.when(count > 0):
            folded = fold_lanes(code, mean, x, window, count)
            if not mean:
                # The lanes beyond are zeros, with which a sum begins.
                mask, start = code.first(count).value, starts_of(code, mean).value
                folded = Value(code, code.builder.select(mask, folded.value, start))
            result.set(folded)
    return result.get()


def fold_window(
    code: Code, mean: bool, x: Value, pooling: Pooling, window: Window, q: Value
) -> Value:
    """Reduce the window of an output column by itself."""
    in_w = pooling.in_w + q * 3
    result = code.var(start_of(code, mean))
    with code.range(code.load(in_w), code.load(in_w + 1), pooling.problem.dilation_w) as w:
        column = x + w * pooling.x.w
        value = code.var(code.load(column))

        def add(offset: Value) -> None:
            value.set(fold(code, mean, value.get(), code.load(column + offset)))

        each_tap(code, window, add)
        result.set(fold(code, mean, result.get(), value.get()))
    if not mean:
        return result.get()
    return divided(code, result.get(), divisor_of(code, pooling, window.extent, q))


def _keep(
    code: Code, mean: bool, to: Value, x: Value, stride: Value, window: Window, count: Value
) -> None:
    """Reduce ``count`` columns of a row, any stride apart, and keep them."""
    lanes = code.lanes
    with code.either(stride.differs(1)) as (then, otherwise):
        with then, code.range(0, count) as w:
            value = code.var(code.load(x + w * stride))

            def add(offset: Value) -> None:
                value.set(fold(code, mean, value.get(), code.load(x + w * stride + offset)))

            each_tap(code, window, add)
            code.store(value.get(), to + w)
        with otherwise:
            many = (window.d * window.h > 4) & (count >= 8 * lanes)
            with code.either(many) as (row_by_row, side_by_side):
                with row_by_row:
                    _keep_rows(code, mean, to, x, window, count)
                with side_by_side:
                    _keep_vectors(code, mean, to, x, window, count)


def _keep_rows(code: Code, mean: bool, to: Value, x: Value, window: Window, count: Value) -> None:
    """Row after row, as memory is read best."""
    lanes = code.lanes
    whole = count // lanes * lanes
    with code.range(0, whole, lanes) as w:
        code.vstore(code.vload(x + w), to + w)
    with code.when(whole < count):
        code.vstore(code.vload(x + whole, count - whole), to + whole)

    def add(offset: Value) -> None:
        row = x + offset
        with code.range(0, whole, lanes) as w:
            code.vstore(fold(code, mean, code.vload(to + w), code.vload(row + w)), to + w)
        with code.when(whole < count):
            value = code.vload(row + whole, count - whole)
            code.vstore(fold(code, mean, code.vload(to + whole), value), to + whole)

    each_tap(code, window, add)


def _keep_vectors(
    code: Code, mean: bool, to: Value, x: Value, window: Window, count: Value
) -> None:
    """Side by side, which hides how long an operation takes."""
    lanes = code.lanes
    whole = count // (4 * lanes) * (4 * lanes)
    with code.range(0, whole, 4 * lanes) as w:
        sums = [code.var(code.vload(x + w + i * lanes)) for i in range(4)]

        def add(offset: Value) -> None:
            for i, total in enumerate(sums):
                value = code.vload(x + offset + w + i * lanes)
                total.set(fold(code, mean, total.get(), value))

        each_tap(code, window, add)
        for i, total in enumerate(sums):
            code.vstore(total.get(), to + w + i * lanes)
    with code.range(whole, count, lanes) as w:
        total_of_some = fold_columns(code, mean, x + w, window, count - w)
        code.vstore(total_of_some, to + w)


def keep_columns(
    code: Code, mean: bool, to: Value, x: Value, stride: Value, window: Window, count: Value
) -> None:
    """The same; up to a vector of ``to`` behind them is overwritten."""
    code.function("keep", _keep, (to, x, stride, window, count), mean)


def part_from(code: Code, pooling: Pooling, q: Value, limit: Value) -> tuple[Value, Value, Value]:
    """Output columns q .. end-1 read the columns low .. high-1, no more than ``limit`` of them:
    end, low, high."""
    in_w, columns, width = pooling.in_w, pooling.problem.q, pooling.problem.w
    end, low, high = code.var(columns), code.var(0), code.var(width)
    with code.when(width > limit):
        first, last = code.load(in_w + q * 3), code.load(in_w + q * 3 + 1)
        regular = (q >= pooling.first) & (q < pooling.end) & (last - first <= limit)
        with code.either(regular) as (then, otherwise):
            with then:
                step = code.greatest(pooling.step, 1)
                more = code.least((limit - last + first) // step, pooling.end)
                more = code.choose(pooling.step.equals(0), pooling.end, more)
                end.set(code.least(q + more + 1, pooling.end))
                low.set(first)
                high.set(code.load(in_w + (end.get() * 3 - 2)))
            with otherwise:
                until = code.choose(q < pooling.first, pooling.first, columns)
                low.set(width)
                high.set(code.of(0))
                end.set(q)

                def fits() -> Value:
                    window = in_w + code.least(end.get(), columns - 1) * 3
                    least = code.least(low.get(), code.load(window))
                    most = code.greatest(high.get(), code.load(window + 1))
                    return (end.get() < until) & (most - least <= limit)

                with code.loop_while(fits):
                    window = in_w + end.get() * 3
                    low.set(code.least(low.get(), code.load(window)))
                    high.set(code.greatest(high.get(), code.load(window + 1)))
                    end.set(end.get() + 1)
    return end.get(), low.get(), high.get()


def _load_windows(code: Code, place: Value, step: Value) -> Value:
    """A vector of kept columns, ``step`` apart."""
    lanes = code.lanes
    result = code.var(code.vload(place))
    evens = range(0, 2 * lanes, 2)
    with code.when(step.differs(1)), code.either(step.equals(2)) as (then, otherwise):
        with then:
            low, high = code.vload(place), code.vload(place + lanes)
            result.set(code.shuffle(low, high, evens))
        with otherwise, code.either(step.equals(4)) as (four, any_step):
            with four:
                parts = [code.vload(place + i * lanes) for i in range(4)]
                low, high = (code.shuffle(parts[i], parts[i + 1], evens) for i in (0, 2))
                result.set(code.shuffle(low, high, evens))
            with any_step:
                result.set(code.vload_apart(place, step))
    return result.get()


def fold_stretch(
    code: Code, mean: bool, x: Value, out: Value, kept: Value, pooling: Pooling, window: Window,
    q: Value,
) -> Value:  # fmt: skip
    """Reduce the windows of a row from output column q on whose columns fit in ``kept``; the next
    q."""
    dilation, stride, lanes = pooling.problem.dilation_w, pooling.out.w, code.lanes
    end, low, high = part_from(code, pooling, q, code.of(room_of(code)))
    following = code.var(code.greatest(end, q + 1))
    with code.either(end.equals(q)) as (then, otherwise):
        with then:
            code.store(fold_window(code, mean, x, pooling, window, q), out + q * stride)
        with otherwise:
            stride_w = pooling.x.w
            keep_columns(code, mean, kept, x + low * stride_w, stride_w, window, high - low)
            inner, at = code.least(pooling.end, end), code.var(q)
            with code.loop_while(lambda: at.get() < end):
                here = at.get()
                in_w = pooling.in_w + here * 3
                columns = kept + (code.load(in_w) - low)
                divisor = divisor_of(code, pooling, window.extent, here)
                alone = (here < pooling.first) | (here + lanes > inner)
                with code.either(alone) as (one, several):
                    with one:
                        value = code.var(start_of(code, mean))
                        with code.range(0, taps_of(code, in_w, dilation)) as s:
                            tap = code.load(columns + s * dilation)
                            value.set(fold(code, mean, value.get(), tap))
                        total = value.get()
                        if mean:
                            total = divided(code, total, divisor)
                        code.store(total, out + here * stride)
                        at.set(here + 1)
                    with several:
                        result = code.var(starts_of(code, mean))
                        with code.range(0, pooling.taps) as s:
                            tap = _load_windows(code, columns + s * dilation, pooling.step)
                            result.set(fold(code, mean, result.get(), tap))
                        total = result.get()
                        if mean:
                            total = divided(code, total, divisor)
                        place = out + here * stride
                        with code.either(stride.equals(1)) as (near, apart):
                            with near:
                                code.vstore(total, place)
                            with apart:
                                code.vstore_apart(total, place, stride, lanes)
                        at.set(here + lanes)
    return following.get()
