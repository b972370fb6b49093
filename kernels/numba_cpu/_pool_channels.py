"""Maxima and means of rows of many channels that lie side by side: vectors of channels, from kept
columns that the windows of a row share.

The arrays and the order of the sums are those of ``_pool_folds``.
"""

from __future__ import annotations

from ._emit import Code, Value
from ._pool_folds import divided, fold, keep_columns, part_from, room_of, start_of, starts_of
from ._pool_windows import Pooling, Window, divisor_of, taps_of


def _fold_pixels(
    code: Code, mean: bool, kept: Value, low: Value, out: Value, pooling: Pooling, window: Window,
    begin: Value, end: Value, channels: Value,
) -> None:  # fmt: skip
    """The windows of output columns begin .. end-1 from kept columns of some channels, which lie
    side by side; ``kept`` begins with column ``low``."""
    lanes, dilation = code.lanes, pooling.problem.dilation_w
    step = dilation * channels
    with code.range(begin, end) as q:
        in_w = pooling.in_w + q * 3
        taps = taps_of(code, in_w, dilation)
        divisor = divisor_of(code, pooling, window.extent, q)
        columns, place = kept + (code.load(in_w) - low) * channels, out + q * pooling.out.w
        with code.range(0, channels, lanes) as c:
            result = code.var(starts_of(code, mean))
            with code.range(0, taps) as s:
                column = code.vload(columns + c + s * step)
                result.set(fold(code, mean, result.get(), column))
            total = divided(code, result.get(), divisor) if mean else result.get()
            _store_some(code, total, place + c, channels - c)


def _store_some(code: Code, value: Value, place: Value, left: Value) -> None:
    """Write a vector, or what is left of one."""
    with code.either(left >= code.lanes) as (then, otherwise):
        with then:
            code.vstore(value, place)
        with otherwise:
            code.vstore(value, place, left)


def _keep_pixels(
    code: Code, mean: bool, kept: Value, x: Value, step: Value, window: Window, count: Value,
    channels: Value,
) -> None:  # fmt: skip
    """Keep ``count`` pixels' channels, the pixels ``step`` apart."""
    one = code.of(1)
    together = code.choose(step.equals(channels), count, 1)
    with code.range(0, count, together) as i:
        keep_columns(
            code, mean, kept + i * channels, x + i * step, one, window, channels * together
        )


def _fold_wide(
    code: Code, mean: bool, x: Value, out: Value, kept: Value, pooling: Pooling, window: Window,
    q: Value, channels: Value,
) -> None:  # fmt: skip
    """A window of more columns than can be kept of all channels: a part of them after the other,
    and what they give so far in ``out``."""
    lanes, in_w = code.lanes, pooling.in_w + q * 3
    taps = taps_of(code, in_w, pooling.problem.dilation_w)
    divisor = divisor_of(code, pooling, window.extent, q)
    step, some = pooling.problem.dilation_w * pooling.x.w, code.of(room_of(code)) // channels
    start = code.var(start_of(code, mean))
    if mean:
        with code.when(taps.equals(0)):
            start.set(divided(code, start.get(), divisor))
    with code.range(0, channels) as c:
        code.store(start.get(), out + c)
    with code.range(0, taps, some) as s:
        count = code.least(taps - s, some)
        _keep_pixels(code, mean, kept, x + s * step, step, window, count, channels)
        with code.range(0, channels, lanes) as c:
            used = code.least(channels - c, lanes)
            result = code.var(code.vload(out + c, used))
            with code.range(0, count) as i:
                column = code.vload(kept + i * channels + c)
                result.set(fold(code, mean, result.get(), column))
            if mean:
                with code.when((s + count).equals(taps)):
                    result.set(divided(code, result.get(), divisor))
            code.vstore(result.get(), out + c, used)


def fold_channels(
    code: Code, mean: bool, x: Value, out: Value, kept: Value, pooling: Pooling, window: Window,
    channels: Value,
) -> None:  # fmt: skip
    """A row of several channels, which lie side by side: blocks of them, of which ``kept`` holds
    the columns of two windows or more if it can."""
    lanes, room = code.lanes, code.of(room_of(code)) // (pooling.widest * 2 + 1)
    wide = (room < channels) & (room < 4 * lanes)
    most = code.choose(wide, room_of(code) // 2, room // lanes * lanes)
    alone = (channels < most) | (channels <= room)
    block = code.choose(alone, channels, most)
    with code.range(0, channels, block) as c:
        some = code.least(channels - c, block)
        q = code.var(0)
        with code.loop_while(lambda: q.get() < pooling.problem.q):
            here = q.get()
            with code.either(wide) as (then, otherwise):
                with then:
                    first = x + code.load(pooling.in_w + here * 3) * pooling.x.w + c
                    place = out + here * pooling.out.w + c
                    _fold_wide(code, mean, first, place, kept, pooling, window, here, some)
                    q.set(here + 1)
                with otherwise:
                    limit = code.of(room_of(code)) // some
                    end, low, high = part_from(code, pooling, here, limit)
                    first = x + low * pooling.x.w + c
                    _keep_pixels(code, mean, kept, first, pooling.x.w, window, high - low, some)
                    _fold_pixels(code, mean, kept, low, out + c, pooling, window, here, end, some)
                    q.set(end)
