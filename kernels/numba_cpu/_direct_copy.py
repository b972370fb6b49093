"""Padded copies of what lies under a task of the direct row."""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir

from ._emit import Code, Value


class Copy(NamedTuple):
    """How a copy lies in memory, ``[channel][phase of rows][phase of columns][plane]``, a plane's
    rows ``pitch`` apart and ``rest`` zeros behind them, and what it is a copy of."""

    pitch: Value
    plane: Value
    rest: Value
    phases_h: Value
    phases_w: Value
    channels: Value
    rows: Value
    x_c: Value
    x_h: Value
    x_w: Value
    stride_h: Value
    stride_w: Value
    at_h: Value
    at_w: Value
    h: Value
    w: Value


def inside_bits(code: Code, at: Value, size: Value) -> Value:
    """Which of a vector's columns are inside of a row, as bits; its first is column ``at``."""
    bits = []
    for number in (at * -1, size - at):
        lanes = code.greatest(code.least(number, code.lanes), 0)
        bits.append(Value(code, code.builder.shl(code.of(1).value, lanes.value)) - 1)
    return bits[1] & (bits[0] ^ -1)


def mask_of(code: Code, bits: Value) -> Value:
    """The mask of bits."""
    number = code.builder.trunc(bits.value, ir.IntType(code.lanes))
    return Value(code, code.builder.bitcast(number, ir.VectorType(ir.IntType(1), code.lanes)))


def _load_row(code: Code, x: Value, at: Value, size: Value) -> Value:
    """A vector of a row of the input from column ``at`` on, zeros outside."""
    value = code.var(code.splat(code.number(0)))
    with code.either((at >= 0) & (at + code.lanes <= size)) as (whole, edge):
        with whole:
            value.set(code.vload(x + at))
        with edge:
            value.set(code.vload_masked(x + at, mask_of(code, inside_bits(code, at, size))))
    return value.get()


def _copy_apart(code: Code, to: Value, x: Value, at: Value, copy: Copy) -> None:
    """Copy a phase of a row, columns at, at + stride_w, ..., an element at a time."""
    stride, first, end = copy.stride_w, code.var(0), code.var(copy.pitch)
    with code.when(at < 0):
        first.set(code.least((stride - at - 1) // stride, copy.pitch))
    with code.when(at + (copy.pitch - 1) * stride >= copy.w):
        behind = (code.greatest(copy.w - at, 0) + stride - 1) // stride
        end.set(code.greatest(code.least(behind, copy.pitch), first.get()))
    with code.range(0, first.get()) as j:
        code.store(code.number(0), to + j)
    with code.range(first.get(), end.get(), scalar=True) as j:
        code.store(code.load(x + (at + j * stride) * copy.x_w), to + j)
    with code.range(end.get(), copy.pitch) as j:
        code.store(code.number(0), to + j)


def _copy_row(code: Code, to: Value, x: Value, copy: Copy) -> None:
    """Copy a row of the input: column j of phase f is column at_w + j * stride_w + f. Up to a
    vector more than ``pitch`` is written."""
    lanes, near = code.lanes, copy.x_w.equals(1)
    with code.when(near & copy.stride_w.equals(1)), code.range(0, copy.pitch, lanes) as j:
        code.vstore(_load_row(code, x, copy.at_w + j, copy.w), to + j)
    with code.when(near & copy.stride_w.equals(2)), code.range(0, copy.pitch, lanes) as j:
        at = copy.at_w + j * 2
        pair = _load_row(code, x, at, copy.w), _load_row(code, x, at + lanes, copy.w)
        code.vstore(code.shuffle(*pair, range(0, 2 * lanes, 2)), to + j)
        with code.when(copy.phases_w.equals(2)):
            code.vstore(code.shuffle(*pair, range(1, 2 * lanes, 2)), to + (copy.plane + j))
    with code.when(~near | (copy.stride_w > 2)), code.range(0, copy.phases_w) as f:
        _copy_apart(code, to + f * copy.plane, x, copy.at_w + f, copy)


def _clear(code: Code, to: Value, copy: Copy, count: Value) -> None:
    """Zeros in each phase of columns."""
    with code.range(0, copy.phases_w) as f, code.range(0, count) as j:
        code.store(code.number(0), to + (f * copy.plane + j))


def copy_plane(code: Code, to: Value, x: Value, in_plane: Value, copy: Copy) -> None:
    """Copy rows of all channels; zeros unless ``in_plane``."""
    height = code.choose(in_plane.equals(1), copy.h, 0)
    with code.range(0, copy.channels) as c, code.range(0, copy.phases_h) as phase:
        plane = to + (c * copy.phases_h + phase) * copy.phases_w * copy.plane
        row = code.var(0)
        with code.range(phase, copy.rows, copy.stride_h) as i:
            h, here = copy.at_h + i, plane + row.get() * copy.pitch
            with code.either(code.inside(h, height)) as (inside, outside):
                with inside:
                    _copy_row(code, here, x + (c * copy.x_c + h * copy.x_h), copy)
                with outside:
                    _clear(code, here, copy, copy.pitch)
            row.set(row.get() + 1)
        _clear(code, plane + row.get() * copy.pitch, copy, copy.rest)
