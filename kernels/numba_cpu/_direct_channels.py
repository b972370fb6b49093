"""The direct row for one channel per group where channels lie next to each other: vectors of
channels, a few pixels of an output row at a time. Each pixel of the input is loaded once per kernel
row and multiplied into all pixels that see it; padding is zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..blocking import TILE_BYTES
from ._direct_stores import Target, apply_function, clamped
from ._emit import Code, Value, Variable

MOST_PIXELS = 7
#: Vectors of channels that a task computes.
CHANNEL_VECTORS = 2
#: Taps and stride along a row that have a function; 0 is any.
SIZES = ((3, 1), (3, 2), (5, 1), (5, 2), (0, 0))


class Rows(NamedTuple):
    """What lies under output rows: taps, how far apart they and the rows are in memory, and where
    tap 0 of the first output is in the input."""

    t: Value
    r: Value
    x_t: Value
    x_r: Value
    x_p: Value
    at_d: Value
    at_h: Value
    d: Value
    h: Value
    dilation_d: Value
    dilation_h: Value
    stride: Value


class Columns(NamedTuple):
    """Along a row: taps, input columns from one to the next and from output to output, the column
    of tap 0 of the first output, the size of the input, how far apart its columns are in memory."""

    taps: Value
    dilation: Value
    stride: Value
    at: Value
    size: Value
    x_w: Value


class Border(NamedTuple):
    """What is read where a block may be outside of the input: a vector of zeros in place of a
    column, and of the others these channels, a mask."""

    zeros: Value
    chosen: Value


def _border_of(code: Code, lanes: Value) -> Border:
    zeros = code.buffer(code.real, code.lanes)
    code.vstore(code.splat(code.number(0)), zeros)
    return Border(zeros, code.first(lanes))


def _load_pixel(
    code: Code, x: Value, columns: Columns, column: Value, border: Border | None
) -> Value:
    """A pixel's channels, zeros for a column outside."""
    place = x + column * columns.x_w
    if border is None:
        return code.vload(place)
    inside = code.inside(columns.at + column, columns.size)
    return code.vload_masked(code.choose(inside, place, border.zeros), border.chosen)


def _add_pixels(
    code: Code, taps: int, stride: int, sums: list[Variable], x: Value, w: Value, columns: Columns,
    border: Border | None,
) -> None:  # fmt: skip
    """One row of taps; ``taps`` and ``stride`` are 0 for any."""
    w_tap = CHANNEL_VECTORS * code.lanes

    def add(q: int, factor: Value, value: Value) -> None:
        sums[q].set(code.multiply_add(factor, value, sums[q].get()))

    if taps == 0:
        with code.range(0, columns.taps) as s:
            factor = code.vload(w + s * w_tap)
            for q in range(MOST_PIXELS):
                column = columns.stride * q + s * columns.dilation
                add(q, factor, _load_pixel(code, x, columns, column, border))
        return
    factors = [code.vload(w + s * w_tap) for s in range(taps)]
    for j in range((MOST_PIXELS - 1) * stride + taps):
        value = _load_pixel(code, x, columns, code.of(j), border)
        for q in range(MOST_PIXELS):
            if 0 <= j - q * stride < taps:
                add(q, factors[j - q * stride], value)


def _sum_row(
    code: Code, taps: int, stride: int, out: Value, target: Target, x: Value, w: Value, bias: Value,
    rows: Rows, columns: Columns, pixels: Value, lanes: Value,
) -> None:  # fmt: skip
    """Blocks of MOST_PIXELS pixels of a row, the last of fewer; what ``out`` and ``x`` point to are
    the channels of the row's first pixel. A block is checked if a part of it is outside."""
    added, zero = code.vload(bias), code.splat(code.number(0))
    reach = columns.stride * (MOST_PIXELS - 1) + (columns.taps - 1) * columns.dilation
    border, all_lanes = _border_of(code, lanes), lanes.equals(code.lanes)
    with code.range(0, pixels, MOST_PIXELS) as first:
        skipped = first * columns.stride
        part = columns._replace(at=columns.at + skipped)
        within = all_lanes & (part.at >= 0) & (part.at + reach < part.size)
        sums = [code.var(zero) for _ in range(MOST_PIXELS)]
        with code.range(0, rows.t) as t, code.range(0, rows.r) as r:
            inside = code.inside(rows.at_d + t * rows.dilation_d, rows.d)
            inside = inside & code.inside(rows.at_h + r * rows.dilation_h, rows.h)
            row = x + (t * rows.x_t + r * rows.x_r + skipped * part.x_w)
            factors = w + (t * rows.r + r) * part.taps * (CHANNEL_VECTORS * code.lanes)
            # A row in the padding has no columns.
            checked = part._replace(size=code.choose(inside, part.size, 0))
            given = taps, stride, sums, row, factors
            with code.either(within & inside) as (then, otherwise):
                with then:
                    _add_pixels(code, *given, part, None)
                with otherwise:
                    _add_pixels(code, *given, checked, border)
        finished = clamped(code, [total.get() + added for total in sums], target.activation)
        for q, y in enumerate(finished):
            with code.when(pixels - first > q):
                place = out + (first + q) * target.q
                with code.either(all_lanes) as (then, otherwise):
                    with then:
                        code.vstore(y, place)
                    with otherwise:
                        code.vstore(y, place, lanes)


def _add_two_rows(
    code: Code, stride: int, sums: Sequence[list[Variable]], x: Value, factors: list[Value],
    rows: Rows, columns: Columns, border: Border | None,
) -> None:  # fmt: skip
    """Two rows below each other with 3 x 3 taps, the weights in registers as well."""
    for r in range(3 + stride):
        size = code.choose(code.inside(rows.at_h + r, rows.h), columns.size, 0)
        row, line = x + rows.x_r * r, columns._replace(size=size)
        for j in range((MOST_PIXELS - 1) * stride + 3):
            value = _load_pixel(code, row, line, code.of(j), border)
            for p, totals in enumerate(sums):
                for q, total in enumerate(totals):
                    if 0 <= j - q * stride < 3 and 0 <= r - p * stride < 3:
                        factor = factors[(r - p * stride) * 3 + j - q * stride]
                        total.set(code.multiply_add(factor, value, total.get()))


def _sum_two_rows(
    code: Code, stride: int, out: Value, target: Target, x: Value, w: Value, bias: Value,
    rows: Rows, columns: Columns, pixels: Value,
) -> None:  # fmt: skip
    """All lanes of MOST_PIXELS pixels and more."""
    added, zero = code.vload(bias), code.splat(code.number(0))
    factors = [code.vload(w + tap * CHANNEL_VECTORS * code.lanes) for tap in range(9)]
    border = _border_of(code, code.of(code.lanes))
    in_rows = (rows.at_h >= 0) & (rows.at_h + (3 + stride) <= rows.h)
    with code.range(0, pixels, MOST_PIXELS) as first:
        # The last block has as many pixels as all: some come out twice, the same.
        q = code.least(first, pixels - MOST_PIXELS)
        part = columns._replace(at=columns.at + q * stride)
        sums = [[code.var(zero) for _ in range(MOST_PIXELS)] for _ in range(2)]
        reach = (MOST_PIXELS - 1) * stride + 3
        whole = in_rows & (part.at >= 0) & (part.at + reach <= part.size)
        given = sums, x + q * stride * columns.x_w, factors, rows, part
        with code.either(whole) as (then, otherwise):
            with then:
                _add_two_rows(code, stride, *given, None)
            with otherwise:
                _add_two_rows(code, stride, *given, border)
        finished = [total.get() + added for totals in sums for total in totals]
        for i, y in enumerate(clamped(code, finished, target.activation)):
            p, pixel = divmod(i, MOST_PIXELS)
            code.vstore(y, out + (target.p * p + (q + pixel) * target.q))


def sum_channels(
    code: Code, out: Value, target: Target, x: Value, w: Value, bias: Value, rows: Rows,
    columns: Columns, count: Value, pixels: Value, channels: Value,
) -> None:  # fmt: skip
    """``count`` output rows of ``pixels`` pixels of up to CHANNEL_VECTORS vectors of ``channels``
    channels; weights [t][r][s][CHANNEL_VECTORS * lanes], a bias for each lane."""
    lanes, wide = code.lanes, code.lanes * code.itemsize == TILE_BYTES
    near = columns.dilation.equals(1)
    two = near & columns.taps.equals(3) & rows.r.equals(3) & rows.t.equals(1)
    two = two & rows.dilation_h.equals(1) & rows.stride.equals(columns.stride)
    two = two & (columns.stride <= 2) & (count >= 2) & (pixels >= MOST_PIXELS)
    two = two & (channels % lanes).equals(0) & code.inside(rows.at_d, rows.d)
    if not wide:
        two = code.of(1).equals(0)
    together = code.choose(two, 2, 1)
    with code.range(0, count, together) as first, code.range(0, channels, lanes) as v:
        # The last rows may come out twice, the same.
        p = code.least(first, count - together)
        part = rows._replace(at_h=rows.at_h + p * rows.stride)
        arguments = (
            out + (p * target.p + v), target, x + (p * rows.x_p + v), w + v, bias + v, part,
            columns, pixels,
        )  # fmt: skip
        if wide:
            for stride in (1, 2):
                with code.when(two & columns.stride.equals(stride)):
                    code.function("two_rows", _sum_two_rows, arguments, stride)
        left, done = code.least(channels - v, lanes), two
        for taps, stride in SIZES:
            right = ~done
            if taps:
                right = right & near & columns.taps.equals(taps) & columns.stride.equals(stride)
            with code.when(right):
                code.function("pixels", _sum_row, (*arguments, left), taps, stride)
            done = done | right
    with code.when(target.activation > 2), code.range(0, count) as p, code.range(0, pixels) as q:
        place = out + (p * target.p + q * target.q)
        apply_function(code, place, channels, target.activation)
