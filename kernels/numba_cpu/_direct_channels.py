"""The direct row for one channel per group where channels lie next to each other: vectors of
channels, a few pixels of an output row at a time. Each pixel of the input is loaded once per kernel
row and multiplied into all pixels that see it; padding is zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ._direct_blocks import Window, apply_function, clamp, has_row, store_some
from ._emit import Code, Fields, Value

MOST_PIXELS = 7
#: Vectors of channels that a task computes.
CHANNEL_VECTORS = 2
#: Taps and stride along a row that have a function; 0 is any.
SIZES = ((0, 0), (3, 1), (3, 2), (5, 1), (5, 2))


class Columns(NamedTuple):
    """Along a row: taps, input columns from one to the next and from output to output, the size of
    the input, and how far apart its columns are in memory."""

    taps: Value
    dilation: Value
    stride: Value
    size: Value
    x_w: Value


def _load_pixel(
    code: Code, x: Value, columns: Columns, at: Value, column: Value, lanes: Value
) -> Value:
    """A pixel's channels, zeros outside of the input."""
    value = code.var(code.splat(code.number(0)))
    with code.when(code.inside(at + column, columns.size)):
        place = x + column * columns.x_w
        with code.either(lanes.equals(code.lanes)) as (whole, some):
            with whole:
                value.set(code.vload(place))
            with some:
                value.set(code.vload(place, lanes))
    return value.get()


def _sum_pixels(
    code: Code, taps: int, stride: int, out: Value, x: Value, w: Value, bias: Value,
    window_at: Value, columns_at: Value, at_h: Value, at: Value, count: Value, lanes: Value,
) -> None:  # fmt: skip
    """Up to MOST_PIXELS pixels of a vector; ``at`` is the column of tap 0 of the first one."""
    window: Any = Fields(code, Window, window_at)
    fields = Fields(code, Columns, columns_at)
    columns = Columns(*(getattr(fields, name) for name in Columns._fields))
    w_tap = CHANNEL_VECTORS * code.lanes
    sums = [code.var(code.splat(code.number(0))) for _ in range(MOST_PIXELS)]

    def add(q: int, factor: Value, value: Value) -> None:
        sums[q].set(code.multiply_add(factor, value, sums[q].get()))

    with code.range(0, window.t) as t, code.range(0, window.r) as r:
        d, h = window.at_d + t * window.dilation_d, at_h + r * window.dilation_h
        # A row in the padding has no columns.
        size = code.choose(has_row(code, window, d, h), columns.size, 0)
        row = columns._replace(size=size)
        place = x + (t * window.x_t + r * window.x_r)
        weights = w + (t * window.r + r) * columns.taps * w_tap
        if taps:
            factors = [code.vload(weights + s * w_tap) for s in range(taps)]
            for j in range((MOST_PIXELS - 1) * stride + taps):
                value = _load_pixel(code, place, row, at, code.of(j), lanes)
                for q in range(MOST_PIXELS):
                    if 0 <= j - q * stride < taps:
                        add(q, factors[j - q * stride], value)
        else:
            with code.range(0, columns.taps) as s:
                factor = code.vload(weights + s * w_tap)
                for q in range(MOST_PIXELS):
                    column = s * columns.dilation + columns.stride * q
                    add(q, factor, _load_pixel(code, place, row, at, column, lanes))
    added = code.vload(bias)
    finished = [clamp(code, total.get() + added, window.activation) for total in sums]
    kept = code.buffer(code.real, MOST_PIXELS * code.lanes)
    with code.when(window.activation > 2):
        for q, value in enumerate(finished):
            code.vstore(value, kept + q * code.lanes)
        apply_function(code, kept, code.of(MOST_PIXELS * code.lanes), window.activation)
    for q, value in enumerate(finished):
        changed = code.var(value)
        with code.when(window.activation > 2):
            changed.set(code.vload(kept + q * code.lanes))
        with code.when(count > q):
            store_some(code, changed.get(), out + window.q * q, lanes)


def sum_channels(
    code: Code, out: Value, x: Value, w: Value, bias: Value, window_at: Value, columns_at: Value,
    rows: Value, pixels: Value, channels: Value,
) -> None:  # fmt: skip
    """``rows`` output rows of ``pixels`` pixels of up to CHANNEL_VECTORS vectors of ``channels``
    channels; weights [t][r][s][CHANNEL_VECTORS * lanes], a bias for each lane."""
    window: Any = Fields(code, Window, window_at)
    columns: Any = Fields(code, Columns, columns_at)
    lanes = code.lanes
    with code.range(0, rows) as p, code.range(0, pixels, MOST_PIXELS) as q:
        skipped = q * columns.stride
        x_q, out_q = (
            x + (p * window.x_p + skipped * columns.x_w),
            out + (p * window.p + q * window.q),
        )
        at_h, at = window.at_h + p * window.stride, window.at_w + skipped
        count = code.least(pixels - q, MOST_PIXELS)
        with code.range(0, channels, lanes) as v:
            arguments = (
                out_q + v, x_q + v, w + v, bias + v, window_at, columns_at, at_h, at, count,
                code.least(channels - v, lanes),
            )  # fmt: skip
            known = code.of(1).equals(0)
            for taps, stride in SIZES[1:]:
                right = columns.taps.equals(taps) & columns.stride.equals(stride)
                right = right & columns.dilation.equals(1)
                with code.when(right):
                    code.function("pixels", _sum_pixels, arguments, taps, stride)
                known = known | right
            with code.when(~known):
                code.function("pixels", _sum_pixels, arguments, 0, 0)
