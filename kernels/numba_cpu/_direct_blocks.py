"""The blocks of the direct row: output rows x vectors of columns x out-channels whose sums stay in
registers over all taps, each size a function of its own.

Loads at any column but every 16th cross a cache line and take 1.5 cycles each of a processor that
multiplies one vector per cycle: they are shared by out-channels, or, where there is one, by the
output rows that see an input row.
Accumulates in the dtype, in the order t, r, s, c, one fused multiply-add per product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir

from ..blocking import DIRECT_CHANNELS, TILE_BYTES
from ._emit import Code, Fields, Value
from ._vector import INT64

#: Vectors of a block: of one channel, and of several, which load each of them for all.
MOST_VECTORS = 4
MOST_BESIDE = 2


class Window(NamedTuple):
    """What lies under output rows: taps, how far apart they and the rows are in memory, and, to
    tell what is padding, in the input, where tap 0 of the first output is at (at_d, at_h, at_w).
    ``k``, ``p``, ``q``: how far apart outputs are."""

    t: Value
    r: Value
    steps: Value
    x_t: Value
    x_r: Value
    x_p: Value
    at_d: Value
    at_h: Value
    at_w: Value
    d: Value
    h: Value
    w: Value
    dilation_d: Value
    dilation_h: Value
    stride: Value
    k: Value
    p: Value
    q: Value
    activation: Value


class Kind(NamedTuple):
    """Blocks of 1, 2, ... vectors: how many output rows they have. Those of ``shared`` rows load an
    input row once for all output rows that see it."""

    shared: bool
    channels: int
    least_r: int
    rows: tuple[int, ...]


def kinds_of(code: Code) -> list[Kind]:
    """The first one that fits is taken: 24 sums of 32 registers, or 12 of 16."""
    if code.lanes * code.itemsize == TILE_BYTES:
        shared = ((7, 7, 6, 6), (3, 3, 3, 3))
        apart = ((7, 7, 6, 4), (6, 6), (4, 4), (4, 3))
    else:
        shared = ((7, 6, 4, 3), (3, 3, 3, 3))
        apart = ((7, 6, 4, 3), (6, 3), (4, 2), (3, 1))
    return [
        *(Kind(True, 1, least, rows) for least, rows in zip((7, 3), shared, strict=True)),
        *(Kind(False, i + 1, 0, rows) for i, rows in enumerate(apart)),
        *(Kind(False, i + 1, 0, (1,) * len(rows)) for i, rows in enumerate(apart)),
    ]


def most_vectors(code: Code, channels: Value) -> Value:
    """Vectors of the largest block."""
    return code.choose(channels.equals(1), MOST_VECTORS, MOST_BESIDE)


def single(code: Code, channels: Value) -> Value:
    """The kind of one output row."""
    return channels + (len(kinds_of(code)) - DIRECT_CHANNELS - 1)


def kind_for(
    code: Code, window: Any, channels: Value, rows: Value, vectors: Value
) -> tuple[Value, Value]:
    """The number of the kind for some output rows, and how many of them it has."""
    number, together = code.of(0), code.of(1)
    near = window.stride.equals(window.dilation_h)
    for i, kind in reversed(list(enumerate(kinds_of(code)))):
        most = code.of(kind.rows[0])
        for v, most_rows in enumerate(kind.rows):
            most = code.choose(vectors > v, most_rows, most)
        fits = channels.equals(kind.channels) & (rows >= most)
        if kind.shared:
            fits = fits & near & (window.r >= kind.least_r)
        number, together = code.choose(fits, i, number), code.choose(fits, most, together)
    return number, together


def call_block(
    code: Code, kind: Value, vectors: Value, masked: Value, arguments: tuple[Value, ...]
) -> None:
    """Run a block."""
    builder = code.builder
    key = (kind * MOST_VECTORS + vectors - 1) * 2 + code.choose(masked, 1, 0)
    done, none = builder.append_basic_block("done"), builder.append_basic_block("none")
    choice = builder.switch(key.value, none)
    for i, (shared, channels, _, rows) in enumerate(kinds_of(code)):
        for v in range(len(rows)):
            for outside in (0, 1):
                case = builder.append_basic_block("block")
                choice.add_case(INT64((i * MOST_VECTORS + v) * 2 + outside), case)
                with builder.goto_block(case):
                    constants = shared, channels, rows[v], v + 1, bool(outside)
                    code.function("block", _block, arguments, *constants)
                    builder.branch(done)
    with builder.goto_block(none):
        builder.unreachable()
    builder.position_at_end(done)


def edge_bits(code: Code, first: Value, end: Value) -> Value:
    """Lanes ``first`` to ``end - 1``, of any two numbers, as bits."""
    bits = []
    for number in (first, end):
        inside = code.greatest(code.least(number, code.lanes), 0)
        bits.append(Value(code, code.builder.shl(INT64(1), inside.value)) - 1)
    return bits[1] & (bits[0] ^ -1)


def mask_of(code: Code, bits: Value) -> Value:
    """The mask of bits."""
    number = code.builder.trunc(bits.value, ir.IntType(code.lanes))
    return Value(code, code.builder.bitcast(number, ir.VectorType(ir.IntType(1), code.lanes)))


def fill_edges(
    code: Code, edges: Value, window: Any, at_w: Value, steps: Value, vectors: Value
) -> None:
    """The columns that the first and the last vector of a block have at each tap column: what lies
    between is inside the input. Made once for blocks below each other, for making takes as long as
    using."""
    last = (vectors - 1) * code.lanes
    with code.range(0, window.steps) as step:
        at = at_w + code.load(steps + (step * 2 + 1))
        code.store(edge_bits(code, at * -1, window.w - at), edges + step * 2)
        bits = edge_bits(code, at * -1 - last, window.w - at - last)
        code.store(bits, edges + (step * 2 + 1))


class _Sums:
    """The sums of a block in registers."""

    def __init__(
        self, code: Code, channels: int, rows: int, vectors: int, masked: bool, edges: Value
    ) -> None:
        self.code, self.vectors = code, vectors
        self.masked, self.edges = masked, edges
        zero = code.splat(code.number(0))
        self.registers = {
            (k, p, v): code.var(zero)
            for k in range(channels)
            for p in range(rows)
            for v in range(vectors)
        }

    def load(self, place: Value, step: Value) -> list[Value]:
        """The vectors of a tap column of a row."""
        code, values = self.code, []
        for v in range(self.vectors):
            at = place + v * code.lanes
            if self.masked and v in (0, self.vectors - 1):
                bits = code.load(self.edges + (step * 2 + int(v > 0)))
                values.append(code.vload_masked(at, mask_of(code, bits)))
            else:
                values.append(code.vload(at))
        return values

    def add(self, k: int, p: int, factor: Value, values: list[Value]) -> None:
        """Multiply and add."""
        for v, value in enumerate(values):
            register = self.registers[k, p, v]
            register.set(self.code.multiply_add(factor, value, register.get()))


def has_row(code: Code, window: Any, d: Value, h: Value) -> Value:
    """Whether a row of the input is inside of it."""
    return code.inside(d, window.d) & code.inside(h, window.h)


def _add_shared(
    code: Code, sums: _Sums, x: Value, w: Value, window: Any, at_h: Value, steps: Value, rows: int
) -> None:
    """All taps of ``rows`` output rows of one channel, an input row apart from each other and at
    most as many as the kernel has: each input row is loaded once for all of them."""
    count = window.steps
    with code.range(0, window.t) as t:
        d = window.at_d + t * window.dilation_d

        def add_row(i: Value, low: int, high: int) -> None:
            row, weights = x + (t * window.x_t + i * window.x_r), w + (t * window.r + i) * count

            def add() -> None:
                with code.range(0, count) as step:
                    values = sums.load(row + code.load(steps + step * 2), step)
                    for p in range(low, high):
                        factor = code.splat(code.load(weights + (step - count * p)))
                        sums.add(0, p, factor, values)

            if sums.masked:
                with code.when(has_row(code, window, d, at_h + i * window.dilation_h)):
                    add()
            else:
                add()

        for i in range(1, rows):
            add_row(code.of(i - 1), 0, i)
        with code.range(rows - 1, window.r) as below:
            add_row(below, 0, rows)
        for i in range(1, rows):
            add_row(window.r + (i - 1), i, rows)


def _add_apart(
    code: Code, sums: _Sums, x: Value, w: Value, window: Any, at_h: Value, steps: Value,
    channels: int, rows: int,
) -> None:  # fmt: skip
    """All taps of ``rows`` output rows of some channels, weights [t][r][s][c][k]."""
    with code.range(0, window.t) as t, code.range(0, window.r) as r:
        row = x + (t * window.x_t + r * window.x_r)
        weights = w + (t * window.r + r) * window.steps * channels
        d, h = window.at_d + t * window.dilation_d, at_h + r * window.dilation_h
        places = [row + window.x_p * p for p in range(rows)]
        inside = [has_row(code, window, d, h + window.stride * p) for p in range(rows)]
        with code.range(0, window.steps) as step:
            factors = weights + step * channels
            factor = [code.splat(code.load(factors + k)) for k in range(channels)]
            offset = code.load(steps + step * 2)

            def add(p: int, place: Value) -> None:
                values = sums.load(place + offset, step)
                for k in range(channels):
                    sums.add(k, p, factor[k], values)

            for p, place in enumerate(places):
                if sums.masked:
                    with code.when(inside[p]):
                        add(p, place)
                else:
                    add(p, place)


def clamp(code: Code, y: Value, activation: Value) -> Value:
    """The activation of a code: a function at an address is applied later. NaN stays NaN."""
    low, high = (-(2**63), 2**63 - 1) if code.whole else (float("-inf"), float("inf"))
    least = code.choose((activation >= 1) & (activation <= 2), code.number(0), code.number(low))
    most = code.choose(activation.equals(2), code.number(6), code.number(high))
    low_lanes, high_lanes = code.splat(least), code.splat(most)
    y = code.choose(y < low_lanes, low_lanes, y)
    return code.choose(y > high_lanes, high_lanes, y)


def apply_function(code: Code, values: Value, count: Value, activation: Value) -> None:
    """Change values by the function at an address, unless that is a code."""
    with code.when(activation > 2):
        kind = ir.FunctionType(ir.VoidType(), [code.real.as_pointer(), INT64]).as_pointer()
        function = code.builder.inttoptr(activation.value, kind)
        code.builder.call(function, [values.value, count.value])


def _store_block(
    code: Code, values: Value, out: Value, window_at: Value, channels: Value, rows: Value,
    vectors: Value, columns: Value,
) -> None:  # fmt: skip
    """Write sums that were kept, where blocks don't do it themselves."""
    window: Any = Fields(code, Window, window_at)
    count = channels * rows * vectors
    apply_function(code, values, count * code.lanes, window.activation)
    with code.range(0, count) as i:
        v, rest = i % vectors, i // vectors
        left = code.least(columns - v * code.lanes, code.lanes)
        at = window.k * (rest // rows) + window.p * (rest % rows) + window.q * (v * code.lanes)
        value = code.vload(values + i * code.lanes)
        with code.either(window.q.equals(1)) as (then, otherwise):
            with then:
                code.vstore(value, out + at, left)
            with otherwise:
                code.vstore_apart(value, out + at, window.q, left)


def _block(
    code: Code, shared: bool, channels: int, rows: int, vectors: int, masked: bool,
    out: Value, x: Value, w: Value, bias: Value, window_at: Value, at_h: Value, steps: Value,
    edges: Value, columns: Value,
) -> None:  # fmt: skip
    """``rows`` output rows of ``vectors`` vectors, the last one up to ``columns``; ``bias`` has a
    value for each channel."""
    window: Any = Fields(code, Window, window_at)
    sums = _Sums(code, channels, rows, vectors, masked, edges)
    if shared:
        _add_shared(code, sums, x, w, window, at_h, steps, rows)
    else:
        _add_apart(code, sums, x, w, window, at_h, steps, channels, rows)
    biases = [code.splat(code.load(bias + k)) for k in range(channels)]
    finished = {
        at: clamp(code, total.get() + biases[at[0]], window.activation)
        for at, total in sums.registers.items()
    }
    with code.either(window.q.equals(1) & (window.activation <= 2)) as (then, otherwise):
        with then:
            for (k, p, v), value in finished.items():
                place = out + (window.k * k + window.p * p + v * code.lanes)
                if v < vectors - 1:
                    code.vstore(value, place)
                else:
                    store_some(code, value, place, columns - v * code.lanes)
        with otherwise:
            kept = code.buffer(code.real, len(finished) * code.lanes)
            for i, value in enumerate(finished.values()):
                code.vstore(value, kept + i * code.lanes)
            counts = (code.of(number) for number in (channels, rows, vectors))
            arguments = (kept, out, window_at, *counts, columns)
            code.function("store_block", _store_block, arguments)


def store_some(code: Code, value: Value, place: Value, left: Value) -> None:
    """Write a vector, or what is left of one."""
    with code.either(left >= code.lanes) as (then, otherwise):
        with then:
            code.vstore(value, place)
        with otherwise:
            code.vstore(value, place, left)
