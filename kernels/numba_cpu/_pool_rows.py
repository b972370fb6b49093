"""Maxima and means of rows of few windows, a vector's number side by side, and what serves a task.

The arrays and the order of the sums are those of ``_pool_folds``.
"""

from __future__ import annotations

from typing import NamedTuple

from ._emit import Code, Value, Variable
from ._pool_channels import fold_channels
from ._pool_folds import (
    divided,
    each_tap,
    fold,
    fold_stretch,
    keep_columns,
    room_of,
    start_of,
    starts_of,
)
from ._pool_slide import SLIDE_TAPS, slide_rows
from ._pool_windows import (
    Pooling,
    Row,
    Tasks,
    Window,
    divisor_of,
    offset_of,
    place_of,
    row_of,
    rows_alike,
    window_of,
)
from ._vector import INT64


class _Rows(NamedTuple):
    """Rows side by side, a vector's number: where they are read and written, counted from the first
    elements; the extents of their windows along d and h, of which the first one is all if
    ``alike``; and whether results of a column lie side by side (``dense``)."""

    sources: Value
    places: Value
    extents: Value
    alike: Variable
    dense: Value


def _find_planes(
    code: Code, pooling: Pooling, rows: _Rows, row: Row, source: Value, place: Value
) -> None:
    """Planes of one row each from ``row`` on, which is read and written there."""
    problem, lanes = pooling.problem, code.lanes
    steps = ((rows.sources, source, pooling.x), (rows.places, place, pooling.out))
    with code.either(row.c + lanes <= problem.c) as (one_image, several):
        with one_image:
            for to, first, array in steps:
                code.vstore(code.splat(first) + code.numbers() * code.splat(array.c), to)
        with several:
            c, at = code.var(row.c), [code.var(source), code.var(place)]
            with code.range(0, lanes) as lane:
                c.set(c.get() + 1)
                image = c.get().equals(problem.c)
                c.set(code.choose(image, 0, c.get()))
                for here, (to, _, array) in zip(at, steps, strict=True):
                    code.store(here.get(), to + lane)
                    next_image = array.n - array.c * (problem.c - 1)
                    here.set(here.get() + code.choose(image, next_image, array.c))


def _find_rows(
    code: Code, mean: bool, kept: Value, pitch: Value, pooling: Pooling, rows: _Rows, row: Row
) -> None:
    """The same of rows of any planes, whose columns are reduced and kept as well."""
    tasks = Tasks(code, pooling, code.of(0), row)
    with code.range(0, code.lanes) as lane:
        window, offset, _, _ = window_of(code, pooling, tasks.row)
        x = pooling.x.data + offset
        code.store(offset_of(pooling.out, tasks.row), rows.places + lane)
        code.store(window.extent, rows.extents + lane)
        with code.when(window.extent.differs(code.load(rows.extents))):
            rows.alike.set(code.of(0))
        to, width = kept + lane * pitch, pooling.problem.w
        with code.either(window.d.equals(0) | window.h.equals(0)) as (then, otherwise):
            with then, code.range(0, width) as w:
                code.store(start_of(code, mean), to + w)
            with otherwise:
                keep_columns(code, mean, to, x, pooling.x.w, window, width)
        tasks.move(code.of(1))


def _fold_group(
    code: Code, mean: bool, sources: list[Value], window: Window, w: Value, count: Value
) -> list[Value]:
    """Columns w ... of rows of one window along d and h, side by side, which hides how long an
    operation takes."""
    sums = [code.var(code.vload(source + w, count)) for source in sources]

    def add(offset: Value) -> None:
        for total, source in zip(sums, sources, strict=True):
            value = code.vload(source + (w + offset), count)
            total.set(fold(code, mean, total.get(), value))

    each_tap(code, window, add)
    return [total.get() for total in sums]


def _part(code: Code, vectors: list[Value]) -> list[Value]:
    """From vectors of as many rows' columns the vectors of each column: every round parts even
    columns from odd ones. Of half as many, each holds the columns of two rows."""
    evens, odds = (range(i, 2 * code.lanes, 2) for i in range(2))
    for _ in range(len(vectors).bit_length() - 1):
        pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
        vectors = [code.shuffle(*pair, which) for which in (evens, odds) for pair in pairs]
    return vectors


def _keep_narrow(
    code: Code, mean: bool, columns: Value, x: Value, sources: Value, window: Window, width: Value
) -> None:
    """The columns of whole planes of no more than half a vector's, in registers."""
    half, vectors = code.halved(), []
    for group in range(0, code.lanes, 8):
        lanes = range(group, min(group + 8, code.lanes))
        places = [x + code.load(sources + lane) for lane in lanes]
        vectors += _fold_group(half, mean, places, window, code.of(0), width)
    pairs = zip(vectors[::2], vectors[1::2], strict=True)
    both = [code.shuffle(*pair, range(code.lanes)) for pair in pairs]
    for i, column in enumerate(_part(code, both)):
        code.vstore(column, columns + i * code.lanes)


def _keep_planes(
    code: Code, mean: bool, kept: Value, pitch: Value, x: Value, sources: Value, window: Window,
    width: Value,
) -> None:  # fmt: skip
    """The columns of whole planes of more."""
    lanes = code.lanes
    with code.range(0, lanes, 4) as lane, code.range(0, width, lanes) as w:
        places = [x + code.load(sources + (lane + i)) for i in range(4)]
        count = code.least(width - w, lanes)
        for i, total in enumerate(_fold_group(code, mean, places, window, w, count)):
            code.vstore(total, kept + (lane + i) * pitch + w)


def _part_columns(code: Code, columns: Value, kept: Value, pitch: Value) -> None:
    """The vectors of each column from rows of kept ones, ``pitch`` apart."""
    with code.range(0, pitch, code.lanes) as w:
        rows = [code.vload(kept + w + pitch * lane) for lane in range(code.lanes)]
        for i, column in enumerate(_part(code, rows)):
            code.vstore(column, columns + (w + i) * code.lanes)


def _fold_vectors(code: Code, mean: bool, columns: Value, rows: _Rows, pooling: Pooling) -> None:
    """The windows of rows from the vectors of their columns."""
    problem, lanes = pooling.problem, code.lanes
    values = code.buffer(code.real, lanes)
    out, alike = pooling.out.data, rows.alike.get().equals(1)
    with code.range(0, problem.q) as q:
        in_w, at = pooling.in_w + q * 3, q * pooling.out.w
        result = code.var(starts_of(code, mean))
        with code.range(code.load(in_w), code.load(in_w + 1), problem.dilation_w) as w:
            result.set(fold(code, mean, result.get(), code.vload(columns + w * lanes)))
        if mean:
            with code.when(alike):
                divisor = divisor_of(code, pooling, code.load(rows.extents), q)
                result.set(divided(code, result.get(), divisor))
        with code.either(rows.dense) as (dense, apart):
            with dense:
                code.vstore(result.get(), out + (code.load(rows.places) + at))
            with apart:
                code.vstore(result.get(), values)
                with code.range(0, lanes) as lane:
                    value = code.var(code.load(values + lane))
                    if mean:
                        with code.when(~alike):
                            extent = code.load(rows.extents + lane)
                            divisor = divisor_of(code, pooling, extent, q)
                            value.set(divided(code, value.get(), divisor))
                    code.store(value.get(), out + (code.load(rows.places + lane) + at))


def _fold_rows(code: Code, mean: bool, kept: Value, pooling: Pooling, row: Row) -> None:
    """Reduce a vector of rows of few windows side by side, from ``row`` on."""
    lanes, problem, width = code.lanes, pooling.problem, pooling.problem.w
    sources, places, extents = (code.buffer(INT64, lanes) for _ in range(3))
    planes = (problem.o * problem.p).equals(1)
    dense = planes & (row.c + lanes <= problem.c) & pooling.out.c.equals(1)
    rows = _Rows(sources, places, extents, code.var(1), dense)
    pitch = (width + (lanes - 1)) // lanes * lanes
    columns = kept + pitch * lanes
    window, source, _, _ = window_of(code, pooling, row)
    code.store(window.extent, rows.extents)
    with code.either(planes & pooling.x.w.equals(1)) as (whole, others):
        with whole:
            place = offset_of(pooling.out, row)
            _find_planes(code, pooling, rows, row, source, place)
            arguments = pooling.x.data, rows.sources, window, width
            with code.either(width <= lanes // 2) as (narrow, wide):
                with narrow:
                    _keep_narrow(code, mean, columns, *arguments)
                with wide:
                    _keep_planes(code, mean, kept, pitch, *arguments)
                    _part_columns(code, columns, kept, pitch)
        with others:
            _find_rows(code, mean, kept, pitch, pooling, rows, row)
            _part_columns(code, columns, kept, pitch)
    _fold_vectors(code, mean, columns, rows, pooling)


def _clear_row(
    code: Code, mean: bool, out: Value, pooling: Pooling, window: Window, channels: Value
) -> None:
    """A row of windows that are empty."""
    with code.range(0, pooling.problem.q) as q:
        value = start_of(code, mean)
        if mean:
            value = divided(code, value, divisor_of(code, pooling, window.extent, q))
        with code.range(0, channels) as c:
            code.store(value, out + q * pooling.out.w + c)


def fold_tasks(
    code: Code, mean: bool, kept: Value, pooling: Pooling, begin: Value, end: Value
) -> None:
    """Tasks begin .. end-1."""
    problem, lanes = pooling.problem, code.lanes
    few = (problem.q < lanes) & (problem.w <= room_of(code) // (2 * lanes) - lanes)
    tasks = Tasks(code, pooling, begin, row_of(code, pooling, begin))
    with code.loop_while(lambda: tasks.task.get() < end):
        here, row = tasks.task.get(), tasks.row
        window, offset, _, _ = window_of(code, pooling, row)
        x = pooling.x.data + offset
        out = place_of(pooling.out, row)
        last = pooling.last.equals(1)
        channels = code.choose(last, code.least(problem.c - row.c, end - here), 1)
        slides = (pooling.slides > 0) & (window.d * window.h <= SLIDE_TAPS)
        rows = code.var(1)
        with code.either(window.d.equals(0) | window.h.equals(0)) as (empty, some):
            with empty:
                _clear_row(code, mean, out, pooling, window, channels)
            with some, code.either(last) as (then, otherwise):
                with then:
                    arguments = (x, out, kept, pooling, window, channels)
                    code.function("channels", fold_channels, arguments, mean)
                with otherwise, code.either(slides) as (sliding, any_row):
                    with sliding:
                        rows.set(rows_alike(code, pooling, row, end - here))
                        slide_rows(code, mean, x, out, pooling, window, rows.get())
                    with any_row, code.either(few & (end - here >= lanes)) as (short, one):
                        with short:
                            code.function("rows", _fold_rows, (kept, pooling, row), mean)
                            rows.set(code.of(lanes))
                        with one:
                            q = code.var(0)
                            with code.loop_while(lambda: q.get() < problem.q):
                                arguments = (x, out, kept, pooling, window, q.get())
                                q.set(fold_stretch(code, mean, *arguments))
        tasks.move(rows.get() * channels, rows.get())
