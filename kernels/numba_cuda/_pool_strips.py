"""Poolings of small windows on the GPU: a strip of outputs per thread, its inputs in registers.

x        (N, C, D, H, W)    any strides            IN
out      (N, C, O, P, Q)    any strides            OUT
indices  (N, C, O, P, Q)    int64, any strides     OUT, of a maximum that wants them
Accumulates in the dtype, 16-bit floats in float32: each row of a window, then these over h and d.
Scratch: none. Blocks: 256 threads of ``rows`` x ``columns`` outputs in ``lanes`` channels each.
Why: rows that overlap are read once from memory and twice or more from a cache with half of a
copy's bandwidth to spare; strips halve that, and 128-bit loads quarter the instructions.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, int32, uint32

from ._pool_folds import divided, inverse_of, joined, kind_of_sums, larger, start_of
from ._pool_general import place
from ._pool_windows import quotient, window_of
from .elements import reader, writer
from .program import STORED
from .vectors import WIDEST, filler, storer


class Strip(NamedTuple):
    """What is constant: the window's taps and strides along h and w, the padding before w; a
    thread's outputs along h and w, and channels; how many neighbours are read at once (1: singly),
    channels if ``last``, else along w; whether outputs and indices are written as vectors;
    ``last``: lanes along the channels, else along w."""

    taps_h: int
    taps_w: int
    stride_h: int
    stride_w: int
    pad_w: int
    rows: int
    columns: int
    lanes: int
    vector: int
    wide_out: bool
    wide_indices: bool
    last: bool

    @property
    def rows_in(self) -> int:
        """Rows that a thread reads."""
        return (self.rows - 1) * self.stride_h + self.taps_h

    @property
    def columns_in(self) -> int:
        """Columns of them that it needs."""
        return (self.columns - 1) * self.stride_w + self.taps_w


def build_strips(
    dtype: str, mean: bool, with_indices: bool, padded: bool, uniform: bool, strip: Strip,
    threads: int,
) -> Any:  # fmt: skip
    """``uniform``: every sum of a mean is divided by ``divisor``."""
    start, wide = start_of(dtype, mean), kind_of_sums(dtype)
    levels, window = window_of("dilated", padded), window_of("dense", padded)
    divide, inverse = divided(dtype), inverse_of(dtype)
    for_rows, held = _for_rows(dtype, mean, with_indices, strip), _held(strip)
    save = _saver(dtype, strip.wide_out, strip)
    save_indices = _saver("int64", strip.wide_indices, strip)
    rows, columns, lanes = strip.rows, strip.columns, strip.lanes
    outputs = rows * columns * lanes
    position = by_channels if strip.last else by_rows

    def pool_strips(
        x, out, indices, cuts, batch, depth, height, width, x_strides, strides, index_strides,
        divisor,
    ):  # fmt: skip
        i = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + uint32(cuda.threadIdx.x))
        n, c, o, p, q = position(i, cuts)
        if n >= batch:
            return
        c, p, q = int32(c * lanes), int32(p * rows), int32(q * columns)
        first_d, end_d, places_d = levels(o, depth)
        best = cuda.local.array(outputs, wide)
        found = cuda.local.array(outputs, int32)
        row = cuda.local.array(held, wide)
        for k in range(outputs):
            best[k] = start
        if with_indices:
            for b in range(rows):
                for v in range(columns):
                    first_h, end_h, _ = window(int32(p + b), height)
                    first_w, end_w, _ = window(int32(q + v), width)
                    at = int32((first_d * height[0] + first_h) * width[0] + first_w)
                    if first_d >= end_d or first_h >= end_h or first_w >= end_w:
                        at = int32(-1)
                    for lane in range(lanes):
                        found[(b * columns + v) * lanes + lane] = at
        h = int32(p * strip.stride_h - height[5])
        w = int32(q * strip.stride_w - strip.pad_w)
        d = first_d
        while d < end_d:
            at = place(n, c, d, h, int32(0), x_strides)
            flat = int32((d * height[0] + h) * width[0] + w)
            sizes = height[0], width[0]
            for_rows(x, at, h, w, flat, sizes, x_strides, row, best, found)
            d = int32(d + depth[4])
        if mean:
            across = cuda.local.array(columns, wide)
            by_across = cuda.local.array(columns, wide)
            for v in range(columns):
                across[v] = wide(window(int32(q + v), width)[2])
                by_across[v] = inverse(across[v])
            for b in range(rows):
                tall = divisor
                if not uniform:
                    tall = wide(int32(places_d * window(int32(p + b), height)[2]))
                by_tall = inverse(tall)
                for v in range(columns):
                    places, by = tall, by_tall
                    if not uniform:
                        places, by = tall * across[v], by_tall * by_across[v]
                    for lane in range(lanes):
                        k = (b * columns + v) * lanes + lane
                        best[k] = divide(best[k], places, by)
        for b in range(rows):
            if p + b < height[1]:
                save(
                    out, place(n, c, o, int32(p + b), q, strides), q, width[1], strides[4], best, b
                )
                if with_indices:
                    at = place(n, c, o, int32(p + b), q, index_strides)
                    save_indices(indices, at, q, width[1], index_strides[4], found, b)

    return pool_strips


@cuda.jit(device=True)
def by_rows(i, cuts):
    """The (n, c, o, p, q) of a thread, in strips: q is the fastest."""
    q_extent, q_times, q_shift, p_extent, p_times, p_shift, o_extent = cuts[:7]
    o_times, o_shift, c_extent, c_times, c_shift = cuts[7:12]
    rest = quotient(i, q_times, q_shift)
    q = int32(i - rest * q_extent)
    i, rest = rest, quotient(rest, p_times, p_shift)
    p = int32(i - rest * p_extent)
    i, rest = rest, quotient(rest, o_times, o_shift)
    o = int32(i - rest * o_extent)
    n = quotient(rest, c_times, c_shift)
    return n, int32(rest - n * c_extent), o, p, q


@cuda.jit(device=True)
def by_channels(i, cuts):
    """The same; some channels are the fastest, then q, the other channels, p, o."""
    lane_extent, lane_times, lane_shift, q_extent, q_times, q_shift, c_extent, c_times = cuts[:8]
    c_shift, p_extent, p_times, p_shift, o_extent, o_times, o_shift = cuts[8:]
    rest = quotient(i, lane_times, lane_shift)
    lane = int32(i - rest * lane_extent)
    i, rest = rest, quotient(rest, q_times, q_shift)
    q = int32(i - rest * q_extent)
    i, rest = rest, quotient(rest, c_times, c_shift)
    c = int32((i - rest * c_extent) * lane_extent + lane)
    i, rest = rest, quotient(rest, p_times, p_shift)
    p = int32(i - rest * p_extent)
    n = quotient(rest, o_times, o_shift)
    return n, c, int32(rest - n * o_extent), p, q


def vector_of(dtype: str) -> int:
    """Elements of a 16-byte vector."""
    return WIDEST // np.dtype(STORED[dtype]).itemsize


def _vectors(strip: Strip) -> tuple[int, int]:
    """Vectors along w that a row is read by, and the columns behind them that are read singly; one
    column alone isn't worth a vector."""
    columns = strip.columns_in - strip.pad_w
    count, rest = divmod(columns, strip.vector)
    return (count + 1, 0) if rest > 1 else (count, rest)


def _held(strip: Strip) -> int:
    """Numbers of a row in registers."""
    if strip.last or strip.vector == 1:
        return strip.columns_in * strip.lanes
    vectors, rest = _vectors(strip)
    return strip.pad_w + vectors * strip.vector + rest


@cache
def _loader(dtype: str, mean: bool, strip: Strip) -> Any:
    """``load(row, x, at, w, size, step, inside)``: columns from ``w`` on of a row that begins at
    ``at``; those outside of the input are what a reduction begins with, and aren't read."""
    read, start, lanes, vector = reader(dtype), start_of(dtype, mean), strip.lanes, strip.vector
    columns, pad = strip.columns_in, strip.pad_w

    @cuda.jit(device=True)
    def single(row, k, x, at, w, size, step, inside):
        value = start
        if inside and uint32(w) < uint32(size):
            value = read(x, int32(at + w * step))
        row[k] = value

    @cuda.jit(device=True)
    def singles(row, x, at, w, size, step, inside):
        for k in range(columns):
            single(row, k, x, at, int32(w + k), size, step, inside)

    if vector == 1:
        return singles
    fill = filler(dtype, vector)

    @cuda.jit(device=True)
    def several(row, k, x, at, w, size, step, inside):
        for lane in range(vector):
            row[k + lane] = start
        if inside and uint32(w) < uint32(size):
            fill(row, k, x, int32(at + w * step))

    @cuda.jit(device=True)
    def channels(row, x, at, w, size, step, inside):
        for k in range(columns):
            several(row, k * lanes, x, at, int32(w + k), size, step, inside)

    if strip.last:
        return channels
    vectors, rest = _vectors(strip)

    @cuda.jit(device=True)
    def rows(row, x, at, w, size, step, inside):
        for k in range(pad):
            single(row, k, x, at, int32(w + k), size, step, inside)
        for k in range(vectors):
            first = pad + k * vector
            several(row, first, x, at, int32(w + first), size, step, inside)
        for k in range(rest):
            first = pad + vectors * vector + k
            single(row, first, x, at, int32(w + first), size, step, inside)

    return rows


@cache
def _step(mean: bool, with_indices: bool, strip: Strip) -> Any:
    """``step(row, best, found, flat, j)``: row j of a strip's input joins the outputs that have it;
    ``flat`` is its first column's index."""
    join, rows, columns, lanes = joined(mean), strip.rows, strip.columns, strip.lanes
    taps_h, taps_w, stride_h, stride_w = strip[:4]

    @cuda.jit(device=True)
    def values(row, best, found, flat, j):
        for v in range(columns):
            for lane in range(lanes):
                value = row[v * stride_w * lanes + lane]
                for s in range(1, taps_w):
                    value = join(value, row[(v * stride_w + s) * lanes + lane])
                for b in range(rows):
                    if 0 <= j - b * stride_h < taps_h:
                        k = (b * columns + v) * lanes + lane
                        best[k] = join(best[k], value)

    @cuda.jit(device=True)
    def indexed(row, best, found, flat, j):
        for v in range(columns):
            for lane in range(lanes):
                value = row[v * stride_w * lanes + lane]
                at = int32(flat + v * stride_w)
                for s in range(1, taps_w):
                    other = row[(v * stride_w + s) * lanes + lane]
                    takes = larger(other, value)
                    value = other if takes else value
                    at = int32(flat + v * stride_w + s) if takes else at
                for b in range(rows):
                    if 0 <= j - b * stride_h < taps_h:
                        k = (b * columns + v) * lanes + lane
                        # Columns outside are the least value, which never takes a place.
                        takes = larger(value, best[k])
                        best[k] = value if takes else best[k]
                        found[k] = at if takes else found[k]

    return indexed if with_indices else values


@cache
def _for_rows(dtype: str, mean: bool, with_indices: bool, strip: Strip) -> Any:
    """All rows of a strip's input in a plane: constants, so that registers can hold everything."""
    step, load, rows_in = (
        _step(mean, with_indices, strip),
        _loader(dtype, mean, strip),
        strip.rows_in,
    )

    @cuda.jit(device=True)
    def one(x, at, h, w, flat, sizes, strides, row, best, found, j):
        inside = uint32(h + j) < uint32(sizes[0])
        load(row, x, int32(at + j * strides[3]), w, sizes[1], strides[4], inside)
        step(row, best, found, int32(flat + j * sizes[1]), j)

    @cuda.jit(device=True)
    def for_rows(x, at, h, w, flat, sizes, strides, row, best, found):
        one(x, at, h, w, flat, sizes, strides, row, best, found, 0)
        if rows_in > 1:
            one(x, at, h, w, flat, sizes, strides, row, best, found, 1)
        if rows_in > 2:
            one(x, at, h, w, flat, sizes, strides, row, best, found, 2)
        if rows_in > 3:
            one(x, at, h, w, flat, sizes, strides, row, best, found, 3)
        if rows_in > 4:
            one(x, at, h, w, flat, sizes, strides, row, best, found, 4)
        if rows_in > 5:
            one(x, at, h, w, flat, sizes, strides, row, best, found, 5)

    return for_rows


#: Rows that ``_for_rows`` goes through at most, and outputs of a strip: with twice as many a
#: multiprocessor holds one block.
MOST_ROWS, MOST_OUTPUTS = 6, 16


@cache
def _saver(dtype: str, wide: bool, strip: Strip) -> Any:
    """``save(out, at, q, end, step, values, b)``: row b of a strip's outputs, the first of which is
    at ``at``."""
    write, columns, lanes = writer(dtype), strip.columns, strip.lanes
    count = min(columns * lanes, vector_of(dtype)) if wide else 1
    store: Any = storer(dtype, count) if wide else None

    @cuda.jit(device=True)
    def singles(out, at, q, end, step, values, b):
        for v in range(columns):
            if q + v < end:
                for lane in range(lanes):
                    write(
                        out, int32(at + v * step + lane), values[(b * columns + v) * lanes + lane]
                    )

    @cuda.jit(device=True)
    def vectors(out, at, q, end, step, values, b):
        for k in range(columns * lanes // count):
            store(out, int32(at + k * count), values, b * columns * lanes + k * count)

    return vectors if wide else singles
