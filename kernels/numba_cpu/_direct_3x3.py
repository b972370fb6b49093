"""The direct row for one channel with 3 x 3 taps, stride 1 or 2: depthwise layers and filters of
images. The sums of a block, output rows x vectors of columns, stay in registers beside the weights;
a row of the input is loaded once for all output rows that see it, and lies in place: rows outside
are a row of zeros, columns outside aren't loaded.
"""

from __future__ import annotations

from typing import NamedTuple

from ..blocking import TILE_BYTES
from ._direct_copy import inside_bits, mask_of
from ._direct_stores import Target, apply_function, clamped
from ._emit import Code, Value, Variable

#: Output rows of a block, and vectors of one where rows lie 4 KiB apart.
ROWS = 7
WIDE_VECTORS = 4


class Plane(NamedTuple):
    """A plane of the input: rows ``x_h`` apart, of which output row 0 sees at_h and the next two,
    and output column 0 the columns at_w and the next two; ``zeros`` is as good as a row outside."""

    x_h: Value
    at_h: Value
    at_w: Value
    h: Value
    w: Value
    stride: Value
    zeros: Value


class Weights(NamedTuple):
    """The taps of an out-channel, how far apart those of rows and columns are, and its bias."""

    data: Value
    r: Value
    s: Value
    bias: Value


def _edge_of(code: Code, at: Value, size: Value) -> Value:
    """Which of a vector's columns are inside of a row, to be kept: bits, or, where LLVM would make
    masks of them again and again, numbers, negative ones inside."""
    bits = inside_bits(code, at, size)
    if code.lanes * code.itemsize == TILE_BYTES:
        return bits
    numbers = code.builder.sext(mask_of(code, bits).value, code.of_bits().vector)
    return Value(code, numbers)


def _mask_of(code: Code, edge: Value) -> Value:
    return mask_of(code, edge) if code.lanes * code.itemsize == TILE_BYTES else edge < 0


def _load_taps(code: Code, place: Value, stride: int, edges: list[Value] | None) -> list[Value]:
    """What the three taps of a row meet. A load that crosses a cache line takes as long as two, an
    AVX-512 shuffle runs beside the multiply-adds; of numbers that aren't integers LLVM makes
    permutations of it, which need a register of indices, and a copy."""
    lanes, bits = code.lanes, code.of_bits()

    def load(part: int, at: int) -> Value:
        if edges is None:
            return bits.vload(place + at)
        return bits.vload_masked(place + at, _mask_of(code, edges[part]))

    def few(part: int, at: int, count: int) -> Value:
        return load(part, at) if edges is not None else bits.vload_few(place + at, count)

    if stride == 2:
        low, high, after = load(0, 0), load(1, lanes), few(2, 2 * lanes, 1)
        even = bits.shuffle(low, high, range(0, 2 * lanes, 2))
        odd = bits.shuffle(low, high, range(1, 2 * lanes, 2))
        values = [even, odd, bits.following(even, after, 1)]
    elif lanes * code.itemsize < TILE_BYTES:
        values = [load(s, s) for s in range(3)]
    else:
        low, after = load(0, 0), few(1, lanes, 2)
        values = [low, bits.following(low, after, 1), bits.following(low, after, 2)]
    return [code.from_bits(value) for value in values]


def _add_block(
    code: Code, sums: list[list[Variable]], rows: list[Value], column: Value, factors: list[Value],
    stride: int, edges: list[Value] | None,
) -> None:  # fmt: skip
    """The sums of a block. Its vectors lie side by side: a cache line that two of them read, or
    write, is there once."""
    for i, row in enumerate(rows):
        for v in range(len(sums[0])):
            values = _load_taps(code, row + (column + v * code.lanes), stride, edges)
            for p, line in enumerate(sums):
                if 0 <= i - p * stride < 3:
                    for s, value in enumerate(values):
                        factor = factors[(i - p * stride) * 3 + s]
                        line[v].set(code.multiply_add(factor, value, line[v].get()))


def _store_block(
    code: Code, out: Value, target: Target, sums: list[list[Value]], left: Value
) -> None:
    """Write a block, the first ``left`` columns of its only vector, or all of several."""
    lanes, vectors = code.lanes, len(sums[0])
    places = [
        (out + (target.p * p + v * lanes), y)
        for p, line in enumerate(sums)
        for v, y in enumerate(line)
    ]
    condition = left >= lanes if vectors == 1 else target.streaming.equals(0)
    with code.either(condition) as (plain, otherwise):
        with plain:
            for place, y in places:
                code.vstore(y, place)
        with otherwise:
            for place, y in places:
                if vectors == 1:
                    code.vstore(y, place, left)
                else:
                    code.vstream(y, place)


def _sum_plane(
    code: Code, together: int, vectors: int, stride: int, out: Value, target: Target, x: Value,
    weights: Weights, plane: Plane, rows: Value, begin: Value, end: Value,
) -> None:  # fmt: skip
    """Blocks of ``together`` rows and ``vectors`` vectors; more than one of those read no
    padding."""
    lanes, zero = code.lanes, code.splat(code.number(0))
    taps = [(r, s) for r in range(3) for s in range(3)]
    factors = [
        code.splat(code.load(weights.data + (weights.r * r + weights.s * s))) for r, s in taps
    ]
    added = code.splat(code.load(weights.bias))
    outside = _edge_of(code, code.of(0), code.of(0))
    edges_at, edges = code.var(-1), [code.var(outside) for _ in range(3)]
    # Of the loads of _load_taps.
    apart = 1 if stride == 1 and lanes * code.itemsize < TILE_BYTES else lanes
    with code.range(0, rows, together) as first:
        # The last block has as many rows as all: some come out twice, the same.
        p = code.least(first, rows - together)
        lines = []
        for i in range((together - 1) * stride + 3):
            h = plane.at_h + p * stride + i
            inside = x + (h * plane.x_h + plane.at_w)
            lines.append(code.choose(code.inside(h, plane.h), inside, plane.zeros))
        with code.range(begin, end, vectors * lanes) as q:
            sums = [[code.var(zero) for _ in range(vectors)] for _ in range(together)]
            if vectors > 1:
                _add_block(code, sums, lines, q, factors, stride, None)
            else:
                at = plane.at_w + q * stride
                whole = (at >= 0) & (at + (stride * lanes + 3 - stride) <= plane.w)
                with code.either(whole) as (then, otherwise):
                    with then:
                        _add_block(code, sums, lines, q * stride, factors, stride, None)
                    with otherwise:
                        with code.when(edges_at.get().differs(q)):
                            for s, edge in enumerate(edges):
                                edge.set(_edge_of(code, at + s * apart, plane.w))
                            edges_at.set(q)
                        chosen = [edge.get() for edge in edges]
                        _add_block(code, sums, lines, q * stride, factors, stride, chosen)
            finished = [
                clamped(code, [total.get() + added for total in line], target.activation)
                for line in sums
            ]
            _store_block(code, out + (p * target.p + q), target, finished, end - q)


def sum_3x3(
    code: Code, out: Value, target: Target, x: Value, weights: Weights, plane: Plane, rows: Value,
    columns: Value,
) -> None:  # fmt: skip
    """``rows`` output rows of ``columns`` columns, which lie side by side."""
    lanes, given = code.lanes, (out, target, x, weights, plane, rows)
    begin, end, at_w = code.var(0), code.var(0), plane.at_w
    wide_rows = 4 if lanes * code.itemsize == TILE_BYTES else 2
    # Rows that are a multiple of 4 KiB apart share the same few places of an L1 cache.
    crowded = (plane.x_h * code.itemsize % 4096).equals(0) | target.streaming.equals(1)
    with code.when(plane.stride.equals(1) & crowded & (rows >= wide_rows)):
        wide = WIDE_VECTORS * lanes
        first = code.choose(at_w < 0, (at_w * -1 + (lanes - 1)) // lanes * lanes, 0)
        inside = code.least(plane.w - at_w - 2, columns) - first
        with code.when(inside >= wide):
            begin.set(first)
            end.set(first + inside // wide * wide)
            arguments = *given, begin.get(), end.get()
            code.function("plane", _sum_plane, arguments, wide_rows, WIDE_VECTORS, 1)
            with code.when(target.streaming.equals(1)):
                # Threads that are told of the sums see them.
                code.builder.fence("seq_cst")
    for stride in (1, 2):
        for together, fits in ((ROWS, rows >= ROWS), (1, rows < ROWS)):
            with code.when(plane.stride.equals(stride) & fits):
                constants = together, 1, stride
                with code.when(begin.get() > 0):
                    left = *given, code.of(0), begin.get()
                    code.function("plane", _sum_plane, left, *constants)
                code.function("plane", _sum_plane, (*given, end.get(), columns), *constants)
    with code.when(target.activation > 2), code.range(0, rows) as p:
        apply_function(code, out + p * target.p, columns, target.activation)
