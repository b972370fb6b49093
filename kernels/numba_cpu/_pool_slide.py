"""Rows whose windows of 2 or 3 columns are 1 or 2 apart, in memory without gaps: columns stay in
registers until the windows over them are reduced.

The arrays and the order of the sums are those of ``_pool_folds``.
"""

from __future__ import annotations

from ._emit import Code, Value
from ._pool_folds import divided, fold, fold_window, starts_of
from ._pool_windows import Pooling, Window, divisor_of
from ._vector import INT64

#: Taps along d and h, at most.
SLIDE_TAPS = 9
#: Where windows span slices, rows of each are asked for so far ahead, for the second cache: into
#: the first one too few at a time are under way.
AHEAD_BYTES = 4096


def _fold_taps_at(
    code: Code, mean: bool, x: Value, offsets: list[Value] | Value, taps: Value, count: Value
) -> Value:
    """Reduce as many of ``count`` columns as fit in a vector over the taps at offsets, all but the
    first one, which is at 0; the other lanes are a start. ``offsets``: a list of them, or where the
    first of ``taps`` is in memory."""

    def reduce(lanes: Value | None) -> Value:
        result = code.var(code.vload(x, lanes))

        def add(offset: Value) -> None:
            result.set(fold(code, mean, result.get(), code.vload(x + offset, lanes)))

        if isinstance(offsets, list):
            for offset in offsets:
                add(offset)
        else:
            with code.range(1, taps) as tap:
                add(code.load(offsets + tap))
        return result.get()

    start = starts_of(code, mean)
    result = code.var(start)
    with code.either(count >= code.lanes) as (then, otherwise):
        with then:
            result.set(reduce(None))
        with otherwise, code.when(count > 0):
            # The lanes beyond are zeros, with which a sum begins.
            folded = reduce(count)
            result.set(folded if mean else code.choose(code.first(count), folded, start))
    return result.get()


def _slide(
    code: Code, mean: bool, step: int, taps: int, before: int, high: int,
    x: Value, out: Value, window: Window, rows: Value, x_p: Value, out_p: Value, width: Value,
    columns: Value, divisor: Value,
) -> None:  # fmt: skip
    """Rows of windows of ``taps`` columns, ``step`` apart: those at the borders as if there were
    columns of starts around, ``before`` of them in front. The rows' windows are alike, of ``high``
    taps along h alone, or any for 0."""
    lanes, count = code.lanes, window.d * window.h
    offsets: list[Value] | Value = [window.x_h * row for row in range(1, high)]
    further = (window.h + step) * window.x_h
    if not high:
        offsets = code.buffer(INT64, SLIDE_TAPS)
        with code.range(0, window.d) as d, code.range(0, window.h) as h:
            code.store(d * window.x_d + h * window.x_h, offsets + (d * window.h + h))
        further = code.choose(window.d > 1, AHEAD_BYTES // code.itemsize, further)
    with code.range(0, rows) as row:
        source, to = x + row * x_p, out + row * out_p
        ahead = source + further

        def reduce(w: Value) -> Value:
            return _fold_taps_at(code, mean, source + w, offsets, count, width - w)

        former, here = code.var(starts_of(code, mean)), code.var(reduce(code.of(0)))
        with code.range(0, columns, lanes) as q:
            w = q * step + lanes
            following = reduce(w)
            _ask_ahead(code, ahead + q * (step * step), step * step, window, high)
            whole = here.get()
            if step == 1:
                tap = [whole, *(_from(code, whole, following, first) for first in (1, 2))]
                former_end = whole
            else:
                evens, odds = _parted(code, whole, following)
                following = reduce(w + lanes)
                tap = [evens, odds, _from(code, evens, following, 1)]
                former_end = odds
            if before:
                tap.insert(0, _from(code, former.get(), former_end, lanes - 1))
            former.set(former_end)
            here.set(following)
            result = tap[0] + starts_of(code, mean) if mean else tap[0]
            for value in tap[1:taps]:
                result = fold(code, mean, result, value)
            if mean:
                result = divided(code, result, divisor)
            with code.either(columns - q >= lanes) as (then, otherwise):
                with then:
                    code.vstore(result, to + q)
                with otherwise:
                    code.vstore(result, to + q, columns - q)


def _ask_ahead(code: Code, place: Value, vectors: int, window: Window, high: int) -> None:
    """A row that is read beside others is no stream that a processor sees; what follows them in
    memory, asked for in order, is."""
    if high:
        for i in range(vectors):
            code.prefetch(place + i * code.lanes)
        return
    with code.when(window.d * window.h > 1), code.either(window.d.equals(1)) as (one, several):
        with one:
            for i in range(vectors):
                code.prefetch(place + i * code.lanes)
        with several, code.range(0, window.d) as d:
            for i in range(vectors):
                code.prefetch(place + d * window.x_d + i * code.lanes, near=False)


def _from(code: Code, low: Value, high: Value, first: int) -> Value:
    """A vector that begins with an element of ``low``."""
    return code.shuffle(low, high, range(first, first + code.lanes))


def _parted(code: Code, low: Value, high: Value) -> tuple[Value, Value]:
    """The elements 0, 2, 4 ... of two vectors side by side, and 1, 3, 5 ..."""
    evens, odds = (code.shuffle(low, high, range(i, 2 * code.lanes, 2)) for i in range(2))
    return evens, odds


def slide_rows(
    code: Code, mean: bool, x: Value, out: Value, pooling: Pooling, window: Window, rows: Value
) -> None:
    """Rows that slide, whose windows are alike."""
    columns, x_p = pooling.problem.q, pooling.rows.step * pooling.x.h
    divisor = divisor_of(code, pooling, window.extent, pooling.first)
    arguments = (
        x, out, window, rows, x_p, pooling.out.h, pooling.problem.w, columns, divisor
    )  # fmt: skip
    for step in (1, 2):
        for taps, before in ((2, 0), (3, 0), (3, 1)):
            right = pooling.step.equals(step) & pooling.taps.equals(taps)
            with code.when(right & pooling.slides.equals(1 + before)):
                square = window.d.equals(1) & window.h.equals(taps)
                with code.either(square) as cases:
                    for high, case in zip((taps, 0), cases, strict=True):
                        with case:
                            code.function(
                                "slide", _slide, arguments, mean, step, taps, before, high
                            )
    if mean:
        inner = pooling.end - pooling.first
        with code.range(0, columns - inner) as i:
            q = code.choose(i < pooling.first, i, i + inner)
            other = divisor_of(code, pooling, window.extent, q).differs(divisor)
            with code.when(other), code.range(0, rows) as row:
                value = fold_window(code, mean, x + row * x_p, pooling, window, q)
                code.store(value, out + row * pooling.out.h + q)
