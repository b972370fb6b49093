"""The direct row for one out-channel of tall kernels: a block's sums, output rows x vectors of
columns, stay in registers over all taps, and a row of the input is loaded once for all output rows
of the block.
"""

from __future__ import annotations

from typing import NamedTuple

from ..blocking import TILE_BYTES
from ._direct_stores import Target, store_row
from ._emit import Code, Value, Variable


class Window(NamedTuple):
    """What lies under output rows, each an input row from the next: taps, ``sc`` of them a row,
    ``steps`` from its first in memory, and how far planes and rows are apart."""

    t: Value
    r: Value
    sc: Value
    steps: Value
    x_t: Value
    x_r: Value


def _add_row(
    code: Code, sums: list[list[Variable]], x: Value, w: Value, window: Window, low: int, high: int
) -> None:
    """Multiply an input row into the output rows low .. high - 1, which see it with the weights at
    w, ``count`` of them, the next output row's before."""
    with code.range(0, window.sc) as step:
        place = x + code.load(window.steps + step)
        values = [code.vload(place + v * code.lanes) for v in range(len(sums[0]))]
        for p in range(low, high):
            factor = code.splat(code.load(w + (step - window.sc * p)))
            for total, value in zip(sums[p], values, strict=True):
                total.set(code.multiply_add(factor, value, total.get()))


def _add_shared(code: Code, sums: list[list[Variable]], x: Value, w: Value, window: Window) -> None:
    """All taps of output rows that are at most as many as the kernel has; weights [t][r][step]."""
    rows = len(sums)
    with code.range(0, window.t) as t:

        def add(i: Value, low: int, high: int) -> None:
            row = x + (t * window.x_t + i * window.x_r)
            factors = w + (t * window.r + i) * window.sc
            _add_row(code, sums, row, factors, window, low, high)

        for i in range(1, rows):
            add(code.of(i - 1), 0, i)
        with code.range(rows - 1, window.r) as below:
            add(below, 0, rows)
        for i in range(1, rows):
            add(window.r + (i - 1), i, rows)


def _sum_bands(
    code: Code, rows: int, vectors: int, out: Value, target: Target, x: Value, w: Value,
    bias: Value, window: Window, begin: Value, end: Value,
) -> None:  # fmt: skip
    """Blocks of ``vectors`` vectors of columns."""
    lanes, zero = code.lanes, code.splat(code.number(0))
    kept = code.buffer(code.real, rows * vectors * lanes)
    with code.range(begin, end, vectors * lanes) as q:
        sums = [[code.var(zero) for _ in range(vectors)] for _ in range(rows)]
        _add_shared(code, sums, x + q, w, window)
        for p in range(rows):
            for v in range(vectors):
                code.vstore(sums[p][v].get(), kept + (p * vectors + v) * lanes)
        added, left = code.splat(code.load(bias)), code.least(end - q, vectors * lanes)
        with code.range(0, rows) as row:
            place = out + (row * target.p + q * target.q)
            sums_p = kept + row * (vectors * lanes)
            store_row(code, place, target.q, sums_p, added, left, target.activation)


def _sum_together(
    code: Code, together: int, vectors: int, out: Value, target: Target, x: Value, w: Value,
    bias: Value, window: Window, rows: Value, columns: Value,
) -> None:  # fmt: skip
    """Bands of ``together`` rows, ``vectors`` vectors wide, and then one."""
    whole = columns // (vectors * code.lanes) * (vectors * code.lanes)
    with code.range(0, rows, together) as first:
        # The last band has as many rows as all: some come out twice, the same.
        p = code.least(first, rows - together)
        arguments = out + p * target.p, target, x + p * window.x_r, w, bias, window
        wide, rest = (*arguments, code.of(0), whole), (*arguments, whole, columns)
        code.function("bands", _sum_bands, wide, together, vectors)
        code.function("bands", _sum_bands, rest, together, 1)


def sum_shared(
    code: Code, out: Value, target: Target, x: Value, w: Value, bias: Value, window: Window,
    rows: Value, columns: Value,
) -> None:  # fmt: skip
    """``rows`` output rows of ``columns`` columns; both the rows and the kernel's are SHARED_ROWS
    at least. A vector at the end of a row is read whole."""
    wide = code.lanes * code.itemsize == TILE_BYTES
    least = code.least(rows, window.r)
    for low, high, vectors in ((6, 2**62, 2), (5, 6, 2), (3, 5, 3)):
        with code.when((least >= low) & (least < high)):
            arguments = out, target, x, w, bias, window, rows, columns
            code.function("together", _sum_together, arguments, low, 4 if wide else vectors)
