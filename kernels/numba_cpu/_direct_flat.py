"""The direct row over a padded copy of the input: a plane of output rows is one stretch of sums,
``pitch`` apart row from row, and what lies between rows isn't stored. A block is as many vectors of
the stretch times 1 to 4 out-channels as the registers hold; it takes one load per vector and one
factor per channel a tap.
"""

from __future__ import annotations

from typing import NamedTuple

from ..blocking import DIRECT_CHANNELS, TILE_BYTES
from ._direct_stores import Target, store_row
from ._emit import Code, Value


class Flat(NamedTuple):
    """A tap's weights are next to each other, its inputs ``steps`` from the first output's. Behind
    the last place of a copy there is room for a vector, ``exact`` is 1 where there may be none."""

    taps: Value
    steps: Value
    rows: Value
    columns: Value
    pitch: Value
    exact: Value


def _store_block(
    code: Code, out: Value, target: Target, sums: Value, bias: Value, flat: Flat, channels: Value,
    at: Value, count: Value,
) -> None:  # fmt: skip
    """Write what a block has of each row: ``count`` sums of each channel, from place ``at`` on."""
    row = code.var(at // flat.pitch)
    q, from_ = code.var(at - row.get() * flat.pitch), code.var(0)
    with code.loop_while(lambda: (from_.get() < count) & (row.get() < flat.rows)):
        here, first = from_.get(), q.get()
        columns = code.least(count - here, flat.columns - first)
        place = out + (row.get() * target.p + first * target.q)
        with code.range(0, channels) as k:
            added = code.splat(code.load(bias + k))
            sums_k = sums + (k * count + here)
            arguments = target.q, sums_k, added, columns, target.activation
            store_row(code, place + k * target.k, *arguments)
        from_.set(here + (flat.pitch - first))
        row.set(row.get() + 1)
        q.set(code.of(0))


def _sum_blocks(
    code: Code, channels: int, vectors: int, out: Value, target: Target, x: Value, w: Value,
    bias: Value, flat: Flat, begin: Value, end: Value,
) -> None:  # fmt: skip
    """Blocks of ``vectors`` vectors of ``channels`` channels, as long as there are as many."""
    lanes, zero = code.lanes, code.splat(code.number(0))
    step = vectors * lanes
    sums = code.buffer(code.real, channels * step + lanes)
    with code.range(begin, end - (step - 1), step) as at:
        registers = [[code.var(zero) for _ in range(vectors)] for _ in range(channels)]
        with code.range(0, flat.taps) as tap:
            place, factors = x + (at + code.load(flat.steps + tap)), w + tap * channels
            factor = [code.splat(code.load(factors + k)) for k in range(channels)]
            for v in range(vectors):
                value = code.vload(place + v * lanes)
                for k in range(channels):
                    total = registers[k][v]
                    total.set(code.multiply_add(factor[k], value, total.get()))
        for k in range(channels):
            for v in range(vectors):
                code.vstore(registers[k][v].get(), sums + (k * vectors + v) * lanes)
        arguments = out, target, sums, bias, flat, code.of(channels), at, code.of(step)
        code.function("store_block", _store_block, arguments)


def sum_flat(
    code: Code, out: Value, target: Target, x: Value, w: Value, bias: Value, flat: Flat,
    channels: Value,
) -> None:  # fmt: skip
    """All rows of 1 to 4 channels."""
    places = (flat.rows - 1) * flat.pitch + flat.columns
    whole_vectors = (places + code.lanes - 1) // code.lanes * code.lanes
    end = code.choose(flat.exact.equals(1), places, whole_vectors)
    given = out, target, x, w, bias, flat
    # Sums beside the factors and a value: 24 of 32 registers, or 8 to 12 of 16.
    wide = code.lanes * code.itemsize == TILE_BYTES
    for i, vectors in enumerate((12, 12, 8, 6) if wide else (12, 6, 3, 2)):
        with code.when(channels.equals(i + 1)):
            done = code.var(0)
            sizes = (vectors, vectors // 2, 1) if i + 1 == DIRECT_CHANNELS else (vectors, 1)
            for size in sizes:
                step = size * code.lanes
                first = done.get()
                done.set(first + (end - first) // step * step)
                code.function("blocks", _sum_blocks, (*given, first, done.get()), i + 1, size)
                # The rest as one more block that ends with it: some come out twice, the same.
                again = (end - done.get() > size // 2 * code.lanes) & (end >= step)
                with code.when(again):
                    code.function("blocks", _sum_blocks, (*given, end - step, end), i + 1, size)
                    done.set(end)
