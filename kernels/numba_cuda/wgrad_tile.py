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
    ``checked``: the axes on which a window may lie outside; ``packed``: positions (h, w) fit
    in 16 bits each, and are checked together. ``digits`` of a pixel: 2 (n, q), 3 (n, p, q) or 4.
    ``ragged``: whether tiles have rows behind the last. ``partial``: a
    slice's sums go to scratch as they are, else into out.
    """

    last: bool
    quads: tuple[bool, bool]
    checked: tuple[bool, bool, bool]
    packed: bool
    digits: int
    ragged: bool
    partial: bool


@cuda.jit(device=True)
def quotient(a, b):
    """``a // b`` of numbers that aren't negative, in 32 bits."""
    return int32(uint32(a) // uint32(b))


#: The bits that positions (h, w) of 16 bits set when one is below zero.
_NEGATIVE = np.int32(-0x7FFF8000)


def window_checker(checked: tuple[bool, bool, bool], packed: bool) -> Any:
    """``inside(position, low, j, sizes)``: whether the j-th column's tap of a pixel, whose window
    is at ``position``, lies in the input.

    Of (h, w) packed into one number a borrow from h only follows a negative w, which shows.
    """
    check_d, check_h, check_w = checked

    @cuda.jit(device=True)
    def inside(position, low, j, sizes):
        found = True
        if check_d:
            found &= uint32(int32(position[0] + low[0, j])) < uint32(sizes[0])
        if packed:
            both = int32(position[1] + low[1, j])
            found &= int32(int32(both | int32(sizes[1] - both)) & _NEGATIVE) == 0
        elif check_h:
            found &= uint32(int32(position[1] + low[1, j])) < uint32(sizes[1])
        if check_w and not packed:
            found &= uint32(int32(position[2] + low[2, j])) < uint32(sizes[2])
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


def pixel_advancer(digits: int) -> Any:
    """``advance(at, step, extents)``: adds the digits of a step to those of a pixel."""

    @cuda.jit(device=True)
    def advance(at, step, extents):
        at[3] += step[3]
        carry = int32(0)
        if at[3] >= extents[3]:
            at[3] -= extents[3]
            carry = int32(1)
        if digits > 2:
            at[2] += int32(step[2] + carry)
            carry = int32(0)
            if at[2] >= extents[2]:
                at[2] -= extents[2]
                carry = int32(1)
        if digits > 3:
            at[1] += int32(step[1] + carry)
            carry = int32(0)
            if at[1] >= extents[1]:
                at[1] -= extents[1]
                carry = int32(1)
        at[0] += int32(step[0] + carry)

    return advance


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
