"""Output rows of the direct row: cut into blocks, and the copies of what lies under them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._direct_blocks import (
    Window,
    call_block,
    edge_bits,
    fill_edges,
    kind_for,
    mask_of,
    most_vectors,
    single,
)
from ._emit import Code, Fields, Value

#: Rows that are summed from left to right before the next ones.
ROW_BAND = 12


def _ceil_div(a: Value, b: Value | int) -> Value:
    return (a + b - 1) // b


def sum_plane(
    code: Code, out: Value, x: Value, w: Value, bias: Value, window_at: Value, steps: Value,
    edges: Value, channels: Value, rows: Value, columns: Value, in_place: Value,
) -> None:  # fmt: skip
    """``rows`` output rows of ``columns`` columns of 1 to DIRECT_CHANNELS channels. The input lies
    in place (1), where it may end at any border of the window, or in a padded copy (0)."""
    lanes, window, in_place = code.lanes, _loaded(code, window_at), in_place.equals(1)
    total = _ceil_div(columns, lanes)
    share = _ceil_div(total, most_vectors(code, channels))
    block = _ceil_div(total, share) * lanes
    right = code.load(steps + ((window.steps - 1) * 2 + 1))
    last_h = (window.r - 1) * window.dilation_h
    in_d = (window.at_d >= 0) & (window.at_d + (window.t - 1) * window.dilation_d < window.d)
    band = code.choose(share > 1, ROW_BAND, rows)
    with code.range(0, rows, band) as first, code.range(0, columns, block) as q:
        end = code.least(first + band, rows)
        left = code.least(columns - q, block)
        needed = _ceil_div(left, lanes)
        kind, together = kind_for(code, window, channels, rows, needed)
        at_w = window.at_w + q
        reach = at_w + right + (needed - 1) * lanes
        in_w = (at_w >= 0) & (reach + lanes <= window.w)
        # Vectors between the first and the last one are inside, or all go one by one.
        alone = in_place & (needed > 1) & ((at_w + lanes < 0) | (reach > window.w))
        with code.when(in_place & ~alone):
            fill_edges(code, edges, window, at_w, steps, needed)
        with code.range(first, end, together) as p:
            # The last block has as many rows as all: some come out twice, the same.
            at = code.least(p, rows - together)
            x_p, out_p = x + (window.x_p * at + q), out + (window.p * at + window.q * q)
            at_h = window.at_h + window.stride * at
            under = (together - 1) * window.stride + last_h
            inside = in_d & in_w & (at_h >= 0) & (at_h + under < window.h)
            masked = in_place & ~inside
            with code.either(masked & alone) as (one_by_one, whole):
                with whole:
                    arguments = (out_p, x_p, w, bias, window_at, at_h, steps, edges, left)
                    call_block(code, kind, needed, masked, arguments)
                with one_by_one:
                    _sum_vectors(
                        code, out_p, x_p, w, bias, window_at, window, at_h, at_w, steps, edges,
                        channels, together, left,
                    )  # fmt: skip


def _loaded(code: Code, window_at: Value) -> Window:
    """A window's fields in registers."""
    fields = Fields(code, Window, window_at)
    return Window(*(getattr(fields, name) for name in Window._fields))


def _sum_vectors(
    code: Code, out: Value, x: Value, w: Value, bias: Value, window_at: Value, window: Window,
    at_h: Value, at_w: Value, steps: Value, edges: Value, channels: Value, rows: Value,
    columns: Value,
) -> None:  # fmt: skip
    """The same as a block does, a vector and a row at a time."""
    one = code.of(1)
    with code.range(0, rows) as p, code.range(0, columns, code.lanes) as q:
        fill_edges(code, edges, window, at_w + q, steps, one)
        arguments = (
            out + (window.p * p + window.q * q), x + (window.x_p * p + q), w, bias, window_at,
            at_h + window.stride * p, steps, edges, columns - q,
        )  # fmt: skip
        call_block(code, single(code, channels), one, code.of(1).equals(1), arguments)


class Copy(NamedTuple):
    """How a copy lies in memory, [row][channel][phase][pitch], and what it is a copy of."""

    pitch: Value
    phases: Value
    channels: Value
    rows: Value
    x_c: Value
    x_h: Value
    x_w: Value
    stride: Value
    at_h: Value
    at_w: Value
    h: Value
    w: Value


def _copy_in_pairs(code: Code, to: Value, x: Value, copy: Any) -> None:
    """A row with a stride of 2: even columns, and odd ones."""
    lanes = code.lanes
    with code.range(0, copy.pitch, lanes) as j:
        at = copy.at_w + j * 2
        from_ = x + at
        low, high = (code.var(code.splat(code.number(0))) for _ in range(2))
        inside = (at >= 0) & (at + 2 * lanes <= copy.w)
        with code.either(inside) as (whole, edge):
            with whole:
                low.set(code.vload(from_))
                high.set(code.vload(from_ + lanes))
            with edge:
                for skipped, part in ((0, low), (lanes, high)):
                    first = at + skipped
                    bits = edge_bits(code, first * -1, copy.w - first)
                    part.set(code.vload_masked(from_ + skipped, mask_of(code, bits)))
        pair = low.get(), high.get()
        code.vstore(code.shuffle(*pair, range(0, 2 * lanes, 2)), to + j)
        with code.when(copy.phases.equals(2)):
            code.vstore(code.shuffle(*pair, range(1, 2 * lanes, 2)), to + copy.pitch + j)


def _copy_row(code: Code, to: Value, x: Value, copy: Any) -> None:
    """Copy a row of the input into ``phases`` rows of ``pitch`` columns: column j of phase f is
    column at_w + j * stride + f, or 0 outside."""
    zero, stride = code.number(0), copy.stride
    with code.range(0, copy.phases) as f:
        row, at = to + f * copy.pitch, copy.at_w + f
        first = code.greatest((at * -1 + stride - 1) // stride, 0)
        end = code.greatest((copy.w - at + stride - 1) // stride, 0)
        first = code.least(code.choose(at < 0, first, 0), copy.pitch)
        end = code.greatest(code.least(code.choose(at < copy.w, end, 0), copy.pitch), first)
        with code.range(0, first) as j:
            code.store(zero, row + j)
        near = copy.x_w.equals(1) & stride.equals(1)
        whole = code.choose(near, first + (end - first) // code.lanes * code.lanes, first)
        with code.range(first, whole, code.lanes) as j:
            code.vstore(code.vload(x + at + j), row + j)
        with code.range(whole, end) as j:
            code.store(code.load(x + (at + j * stride) * copy.x_w), row + j)
        with code.range(end, copy.pitch) as j:
            code.store(zero, row + j)


def copy_rows(code: Code, to: Value, x: Value, in_plane: Value, copy_at: Value) -> None:
    """Copy rows of all channels; zeros unless ``in_plane``."""
    copy: Any = Fields(code, Copy, copy_at)
    step = copy.phases * copy.pitch
    with code.range(0, copy.rows) as i:
        h = copy.at_h + i
        row = to + i * copy.channels * step
        with code.either(code.inside(h, copy.h) & in_plane.equals(1)) as (inside, outside):
            with inside, code.range(0, copy.channels) as c:
                from_, target = x + (c * copy.x_c + h * copy.x_h), row + c * step
                pairs = copy.x_w.equals(1) & copy.stride.equals(2)
                with code.either(pairs) as (then, otherwise):
                    with then:
                        code.function("copy_pairs", _pairs, (target, from_, copy_at))
                    with otherwise:
                        code.function("copy_row", _row, (target, from_, copy_at))
            with outside, code.range(0, copy.channels * step) as j:
                code.store(code.number(0), row + j)


def _pairs(code: Code, to: Value, x: Value, copy_at: Value) -> None:
    _copy_in_pairs(code, to, x, Fields(code, Copy, copy_at))


def _row(code: Code, to: Value, x: Value, copy_at: Value) -> None:
    _copy_row(code, to, x, Fields(code, Copy, copy_at))
