"""What a block of threads fetches of a tile's input and weights, step by step."""

from __future__ import annotations

from typing import Any

import numba
from numba import cuda, int32, uint32

from . import ops
from ._tile_shape import BEYOND, FLAT_TAPS, NOWHERE, STEP, Tile, log2
from .elements import reader
from .program import STORED


@cuda.jit(device=True)
def divided(a, b):
    """Quotient of two int32 that aren't negative: ``//`` would be a 64-bit call."""
    return int32(uint32(a) // uint32(b))


@cuda.jit(device=True)
def inside(d, h, w, problem):
    """Whether a position is one of the input's."""
    in_plane = uint32(int32(h)) < uint32(problem.h) and uint32(int32(w)) < uint32(problem.w)
    return in_plane and uint32(int32(d)) < uint32(problem.d)


def _own(tile: Tile, channels: bool) -> tuple[Any, Any]:
    """What a thread fetches of a step: its j-th pixel, and the first of its rows. Lanes run over
    pixels, or first over the two halves of a step where those lie side by side."""
    threads, own_rows = tile.threads, tile.own_rows
    halves, per_step, mask = STEP // own_rows, log2(tile.columns), tile.columns - 1

    @cuda.jit(device=True)
    def own_pixel(j):
        thread = uint32(cuda.threadIdx.x)
        if channels:
            return uint32((thread >> (halves - 1)) + j * threads)
        return uint32((thread & mask) + j * threads)

    @cuda.jit(device=True)
    def own_first():
        thread = uint32(cuda.threadIdx.x)
        if halves == 1:
            return uint32(0)
        if channels:
            return uint32((thread & 1) * own_rows)
        return uint32((thread >> per_step) * own_rows)

    return own_pixel, own_first


def staging(tile: Tile, dtype: str, flat: bool, channels: bool) -> tuple[Any, Any, Any]:
    """``fetch`` a step into registers, and ``put`` it into shared memory; ``own_weight``: where
    in a step the weights are that a thread fetches."""
    read, zero = reader(dtype), getattr(numba, STORED[dtype])(0)
    threads, own_pixels, own_rows = tile.threads, tile.own_pixels, tile.own_rows
    own_weights, per_row, mask = tile.own_weights, log2(tile.rows // 4), tile.rows // 4 - 1
    pitch_a, pitch_b, rows_between = tile.rows, tile.pitch, threads >> per_row
    buffer_a, buffer_b = STEP * tile.rows, tile.input_buffer
    own_pixel, own_first = _own(tile, channels)

    @cuda.jit(device=True)
    def fetch_taps(x, step, tap, places, held):
        left = tap[4]
        for j in range(own_pixels):
            at = places[j, 0]
            for i in range(own_rows):
                held[j, i] = zero
                if places[j, 1] != 0 and left > i:
                    held[j, i] = x[at]
                at = int32(at + step)

    @cuda.jit(device=True)
    def fetch_channels(x, tap, places, held):
        left = tap[4]
        for j in range(own_pixels):
            for i in range(0, own_rows, 4):
                for v in range(4):
                    held[j, i + v] = zero
                if places[j, 1] != 0 and left > i:
                    four = ops.read4(x, int32(places[j, 0] + i))
                    for v in range(4):
                        held[j, i + v] = four[v]

    @cuda.jit(device=True)
    def fetch_flat(x, places, table, now, held):
        begin = uint32(now * 2 * STEP + own_first() * 2)
        for i in range(own_rows):
            offset = table[uint32(begin + i * 2)]
            bits = table[uint32(begin + i * 2 + 1)]
            for j in range(own_pixels):
                held[j, i] = zero
                if places[j, 1] & bits == bits:
                    held[j, i] = x[int32(places[j, 0] + offset)]

    @cuda.jit(device=True)
    def fetch(x, weights, problem, strides, pitch, tap, places, table, now, held_x, held_w):
        if flat:
            fetch_flat(x, places, table, now, held_x)
        elif channels:
            fetch_channels(x, tap, places, held_x)
        else:
            fetch_taps(x, strides[1], tap, places, held_x)
        for i in range(own_weights):
            at = int32(tap[5] + i * rows_between * pitch)
            four = ops.read4(weights, at)
            for v in range(4):
                held_w[i, v] = four[v]

    @cuda.jit(device=True)
    def own_weight(pitch):
        # Of the first vector of a step; the others are whole rows further on.
        thread = uint32(cuda.threadIdx.x)
        return int32(int32(thread >> per_row) * pitch + (thread & mask) * 4)

    @cuda.jit(device=True)
    def put(held_x, held_w, a, b, now):
        thread = uint32(cuda.threadIdx.x)
        for i in range(own_weights):
            unit = uint32(thread + i * threads)
            to_a = uint32((now & 1) * buffer_a + (unit >> per_row) * pitch_a + (unit & mask) * 4)
            for v in range(4):
                a[to_a + v] = held_w[i, v]
        to_b = uint32((now & 1) * buffer_b + own_first() * pitch_b + own_pixel(0))
        for j in range(own_pixels):
            for i in range(own_rows):
                b[to_b + (i * pitch_b + j * threads)] = read(held_x, (j, i))

    return own_weight, fetch, put


def placing(tile: Tile, flat: bool) -> Any:
    """``place``: of each pixel of the tile, the position and the element that its window begins
    with; where steps are flat, the taps inside the input as bits and the element."""
    threads, columns, own_pixels = tile.threads, tile.columns, tile.own_pixels

    @cuda.jit(device=True)
    def bits_of(first, dilation, taps, size):
        bits = 0
        for tap in range(taps):
            if uint32(int32(first + tap * dilation)) < uint32(size):
                bits |= 1 << tap
        return int32(bits)

    @cuda.jit(device=True)
    def place(problem, strides, group, pixel, origins):
        for j in range(own_pixels):
            column = uint32(cuda.threadIdx.x + j * threads)
            at = int32(pixel + column)
            plane = divided(at, problem.q)
            block = divided(plane, problem.p)
            n = divided(block, problem.o)
            d = int32((block - n * problem.o) * problem.stride_d - problem.pad_d)
            h = int32((plane - block * problem.p) * problem.stride_h - problem.pad_h)
            w = int32((at - plane * problem.q) * problem.stride_w - problem.pad_w)
            begin = n * strides[0] + group * problem.c * strides[1]
            begin += d * strides[2] + h * strides[3] + w * strides[4]
            if n >= problem.n:
                d = int32(NOWHERE)
            if flat:
                bits = bits_of(d, problem.dilation_d, problem.t, problem.d) << 2 * FLAT_TAPS
                bits |= bits_of(h, problem.dilation_h, problem.r, problem.h) << FLAT_TAPS
                d = int32(bits | bits_of(w, problem.dilation_w, problem.s, problem.w))
            if column < columns:
                origins[column] = int32(begin)
                origins[column + columns] = d
                origins[column + 2 * columns] = h
                origins[column + 3 * columns] = w
        cuda.syncthreads()

    return place


def reduction(tile: Tile, flat: bool, channels: bool) -> tuple[Any, Any, Any]:
    """``begin`` at a step, ``advance`` to the next, and ``tabulate`` a flat one's rows: the offset
    of each, and its tap as bits of the three axes."""
    own_pixels = tile.own_pixels
    columns = tile.columns
    own_pixel, own_first = _own(tile, channels)

    @cuda.jit(device=True)
    def move(problem, strides, tap, places, origins):
        d = int32(tap[0] * problem.dilation_d)
        h = int32(tap[1] * problem.dilation_h)
        w = int32(tap[2] * problem.dilation_w)
        channel = int32(tap[3] + own_first())
        offset = int32(d * strides[2] + h * strides[3] + w * strides[4] + channel * strides[1])
        tap[4] = int32(problem.c - channel)
        for j in range(own_pixels):
            at = own_pixel(j)
            places[j, 0] = int32(origins[at] + offset)
            d_at, h_at = origins[at + columns] + d, origins[at + 2 * columns] + h
            reads = inside(d_at, h_at, origins[at + 3 * columns] + w, problem)
            places[j, 1] = int32(1) if reads else int32(0)

    @cuda.jit(device=True)
    def advance(problem, strides, tap, places, origins):
        if not flat:
            tap[3] += STEP
            tap[4] -= STEP
            for j in range(own_pixels):
                places[j, 0] = int32(places[j, 0] + STEP * strides[1])
            if tap[3] >= problem.c:
                tap[3] = 0
                tap[2] += 1
                if tap[2] == problem.s:
                    tap[2] = 0
                    tap[1] += 1
                    if tap[1] == problem.r:
                        tap[1] = 0
                        tap[0] += 1
                move(problem, strides, tap, places, origins)

    @cuda.jit(device=True)
    def tabulate(problem, strides, step, table, now):
        if flat:
            i = uint32(cuda.threadIdx.x)
            if i < STEP:
                e = int32(step * STEP + i)
                plane = divided(e, problem.c)
                row = divided(plane, problem.s)
                s = int32(plane - row * problem.s)
                t = divided(row, problem.r)
                r = int32(row - t * problem.r)
                offset = (e - plane * problem.c) * strides[1] + s * problem.dilation_w * strides[4]
                offset += t * problem.dilation_d * strides[2] + r * problem.dilation_h * strides[3]
                bits = (1 << s) | (1 << (FLAT_TAPS + r)) | (1 << (2 * FLAT_TAPS + t))
                at = uint32(now * 2 * STEP + i * 2)
                table[at] = int32(offset)
                table[uint32(at + 1)] = int32(bits) if t < problem.t else BEYOND

    @cuda.jit(device=True)
    def begin(problem, strides, first, tap, places, origins, table):
        if flat:
            tabulate(problem, strides, first, table, uint32(0))
            tabulate(problem, strides, int32(first + 1), table, uint32(1))
            for j in range(own_pixels):
                at = own_pixel(j)
                places[j, 0], places[j, 1] = origins[at], origins[at + columns]
            cuda.syncthreads()
        else:
            blocks = divided(problem.c + STEP - 1, STEP)
            plane = divided(first, blocks)
            tap[3] = int32((first - plane * blocks) * STEP)
            row = divided(plane, problem.s)
            tap[2] = int32(plane - row * problem.s)
            tap[0] = divided(row, problem.r)
            tap[1] = int32(row - tap[0] * problem.r)
            move(problem, strides, tap, places, origins)

    return begin, advance, tabulate
