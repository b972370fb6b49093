"""The kernels of *wgrad*: tiles of the weight gradient, and the sum of their slices.

A GEMM whose matrices aren't made: rows are out-channels k, columns (c, t, r, s), and the reduction
runs over the output positions (n, o, p, q), its *pixels*, eight a step. A column reads the input at
its pixel's window, so that its offset is a constant of the column plus one of the pixel.

What a pixel reads of x and of grad_output is the sum of its four digits' steps; eight pixels on is
an addition of digits with carries. A thread loads from one pixel of the eight in each step, so it
keeps one set of digits. Rows and columns behind the last load what the last one loads, and aren't
stored: nothing but the reduction's end needs a predicate.
Why: divisions for every step would cost as many instructions as a fifth of its 512 FFMA.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda, int32, uint32

from . import ops
from .program import ACCUMULATED

#: Pixels of a step.
DEPTH = 8
#: Elements of a 128-bit access to shared memory, and of one to global memory.
VECTOR = {"float32": 4, "float64": 2}
QUAD = 4


class Tile(NamedTuple):
    """Rows and columns of a block, and of a thread."""

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns // (self.thread_rows * self.thread_columns)


class Variant(NamedTuple):
    """What is known when a tile's code is made.

    ``last``: channels lie side by side, and go across the lanes, else the pixels do; columns then
    have the channel innermost. ``quads``: whether four channels of grad, and of x, are one load.
    ``checked``: the axes on which a window may lie outside; ``packed``: how many
    positions are checked together, (h, w) of 16 bits or all three of 10.
    ``ragged``: whether tiles have rows behind the last. ``partial``: a
    slice's sums go to scratch as they are, else into out.
    """

    last: bool
    quads: tuple[bool, bool]
    checked: tuple[bool, bool, bool]
    packed: int
    ragged: bool
    partial: bool


@cuda.jit(device=True)
def quotient(a, b):
    """``a // b`` of numbers that aren't negative, in 32 bits."""
    return int32(uint32(a) // uint32(b))


#: The bits that show which of the positions in one number is below zero: of three, of (h, w).
_NEGATIVE = {3: np.int32(1 << 29 | 1 << 19 | 1 << 9), 2: np.int32(-0x7FFF8000)}


def window_checker(variant: Variant, places: tuple[int, int, int]) -> Any:
    """``inside(table, entry, low, j, sizes)``: whether the j-th column's tap of a pixel lies in the
    input.

    Of positions packed into one number, a borrow from the next only follows a negative one, which
    shows.
    """
    (check_d, check_h, check_w), packed = variant.checked, variant.packed
    place_d, place_h, place_w = places
    alone, negative = check_d and packed < 3, _NEGATIVE.get(packed, np.int32(0))

    @cuda.jit(device=True)
    def inside(table, entry, low, j, sizes):
        found = True
        if alone:
            found &= uint32(int32(table[entry, place_d] + low[0, j])) < uint32(sizes[0])
        if packed:
            both = int32(table[entry, place_h] + low[1, j])
            found &= int32(int32(both | int32(sizes[1] - both)) & negative) == 0
        else:
            if check_h:
                found &= uint32(int32(table[entry, place_h] + low[1, j])) < uint32(sizes[1])
            if check_w:
                found &= uint32(int32(table[entry, place_w] + low[2, j])) < uint32(sizes[2])
        return found

    return inside


def loader(quad: bool) -> Any:
    """``load(pointer, i, wanted, staged, j)``: the j-th load of a thread, as it is stored."""

    @cuda.jit(device=True)
    def load_one(pointer, i, wanted, staged, j):
        staged[j] = ops.read_if(pointer, i, wanted)

    @cuda.jit(device=True)
    def load_four(pointer, i, wanted, staged, j):
        a, b, c, d = ops.read4_if(pointer, i, wanted)
        staged[4 * j] = a
        staged[4 * j + 1] = b
        staged[4 * j + 2] = c
        staged[4 * j + 3] = d

    return load_four if quad else load_one


def column_decoder(last: bool) -> Any:
    """``decode(column, columns)``: its channel and taps."""

    @cuda.jit(device=True)
    def decode(column, columns):
        taps = int32(columns[2] * columns[3] * columns[4])
        if last:
            tap = quotient(column, columns[1])
            c = int32(column - tap * columns[1])
        else:
            c = quotient(column, taps)
            tap = int32(column - c * taps)
        t = quotient(tap, columns[3] * columns[4])
        tap = int32(tap - t * columns[3] * columns[4])
        r = quotient(tap, columns[4])
        return c, t, r, int32(tap - r * columns[4])

    return decode


def pixel_table(variant: Variant) -> tuple[int, tuple[int, int, int], Any]:
    """Numbers of an entry, where it has the window's position (d, h, w), and ``fill(table, at,
    pixel, extents, grads, xs, windows)``: writes a pixel's offsets in grad and x, and position.
    """
    (check_d, check_h, check_w), packed = variant.checked, variant.packed
    place_h, place_d, alone = 2, 2 + check_h, check_d and packed < 3
    place_w = 2 if packed else 2 + check_h + check_d
    width = 4 if place_w + check_w <= 4 else 8

    @cuda.jit(device=True)
    def fill(table, at, pixel, extents, grads, xs, windows):
        rest = quotient(pixel, extents[3])
        q = int32(pixel - rest * extents[3])
        row = rest
        rest = quotient(row, extents[2])
        p = int32(row - rest * extents[2])
        n = quotient(rest, extents[1])
        o = int32(rest - n * extents[1])
        table[at, 0] = int32(n * grads[0] + o * grads[1] + p * grads[2] + q * grads[3])
        table[at, 1] = int32(n * xs[0] + o * xs[1] + p * xs[2] + q * xs[3])
        if packed > 2:
            table[at, place_h] = int32(o * windows[0] + p * windows[1] + q * windows[2])
        elif packed:
            table[at, place_h] = int32(p * windows[1] + q * windows[2])
        else:
            if check_h:
                table[at, place_h] = int32(p * windows[1])
            if check_w:
                table[at, place_w] = int32(q * windows[2])
        if alone:
            table[at, place_d] = int32(o * windows[0])

    return width, (place_d, place_h, place_w), fill


def fragments(dtype: str, tile: Tile) -> Any:
    """``multiply(rows, columns, half, pixel, row, column, a, b, sums)``: a pixel's products."""
    rows, columns, own_rows, own_columns = tile
    wide_row = min(VECTOR[ACCUMULATED[dtype]], own_rows)
    wide_column = min(VECTOR[ACCUMULATED[dtype]], own_columns)
    between_rows = rows * wide_row // own_rows
    between_columns = columns * wide_column // own_columns

    @cuda.jit(device=True)
    def multiply(shared_rows, shared_columns, half, pixel, row, column, a, b, sums):
        for i in range(own_rows):
            at = i // wide_row * between_rows + i % wide_row
            a[i] = shared_rows[half, pixel, row + at]
        for j in range(own_columns):
            at = j // wide_column * between_columns + j % wide_column
            b[j] = shared_columns[half, pixel, column + at]
        for i in range(own_rows):
            for j in range(own_columns):
                sums[i, j] += a[i] * b[j]

    return multiply
