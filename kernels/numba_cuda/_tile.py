"""Tiles of an implicit GEMM on CUDA cores: what a block of threads does, as device functions.

A block sums a tile of out-channels x pixels of one group over the reduction, eight rows (taps and
channels) at a time: weights and input of the next eight are fetched into registers while the
current eight, in shared memory, are multiplied; one barrier per step. A thread holds chunks of
``vector`` x ``vector`` sums (16 bytes wide). Lanes of a warp lie 4 x 8, neighbours in pairs, so
that lanes one apart read the same pixels and lanes two apart the same out-channels: a 128-bit load
of shared memory then takes two cycles instead of four, and there are 128 lanes of FFMA to feed.
The order of a sum is t, r, s, c, whatever the tile.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numba
from numba import cuda, int32, uint32

from . import ops
from .elements import reader
from .program import ACCUMULATED, STORED

#: Rows of the reduction in a step.
STEP = 8
#: Elements of the table of a flat step's rows: two buffers of two numbers each.
TABLE = 2 * STEP * 2
#: Lanes of a warp along out-channels and along pixels.
LANES_K, LANES_P = 4, 8
#: A position that is outside of every input, however it is moved by a window.
NOWHERE = 1 << 29
#: Taps along an axis that have a bit each where steps are flat, and a bit that none has.
FLAT_TAPS, BEYOND = 10, 1 << 30


class Tile(NamedTuple):
    """A block's tile: warps along out-channels and pixels, a thread's chunks of ``vector`` sums
    along both, and how many blocks a multiprocessor should hold."""

    warps_k: int
    warps_p: int
    chunks_k: int
    chunks_p: int
    vector: int
    blocks: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_k * self.warps_p

    @property
    def rows(self) -> int:
        """Out-channels."""
        return self.warps_k * LANES_K * self.chunks_k * self.vector

    @property
    def columns(self) -> int:
        """Pixels."""
        return self.warps_p * LANES_P * self.chunks_p * self.vector

    @property
    def sums(self) -> tuple[int, int]:
        """Sums of a thread, along out-channels and pixels."""
        return self.chunks_k * self.vector, self.chunks_p * self.vector

    @property
    def pitch(self) -> int:
        """Pixels of a row of the input in shared memory: a chunk of padding, so that what lanes
        store of the two halves of a step lies in different banks."""
        return self.columns + self.vector

    @property
    def weights_size(self) -> int:
        """Elements of a block's weights in shared memory: two buffers."""
        return 2 * STEP * self.rows

    @property
    def input_buffer(self) -> int:
        """From one buffer of the input to the other: a power of two."""
        return 1 << (STEP * self.pitch - 1).bit_length()

    @property
    def input_size(self) -> int:
        """Elements of a block's input in shared memory."""
        return self.input_buffer + STEP * self.pitch

    @property
    def origins_size(self) -> int:
        """Elements of a block's table of where pixels' windows begin: four numbers each."""
        return 4 * self.columns

    @property
    def own_pixels(self) -> int:
        """Pixels that a thread fetches."""
        return max(1, self.columns // self.threads)

    @property
    def own_rows(self) -> int:
        """Rows of a step that a thread fetches of each of its pixels."""
        return min(STEP, STEP * self.columns // self.threads)

    @property
    def own_weights(self) -> int:
        """Vectors of four weights that a thread fetches of a step."""
        return STEP * self.rows // (4 * self.threads)


class TileFunctions(NamedTuple):
    """Device functions of a tile, for kernels of ``tile.threads`` threads; ``tile_functions`` says
    how they are called."""

    place: Any
    clear: Any
    accumulate: Any
    row: Any
    column: Any


@cuda.jit(device=True)
def divided(a, b):
    """Quotient of two int32 that aren't negative: ``//`` would be a 64-bit call."""
    return int32(uint32(a) // uint32(b))


@cuda.jit(device=True)
def inside(d, h, w, problem):
    """Whether a position is one of the input's."""
    in_plane = uint32(int32(h)) < uint32(problem.h) and uint32(int32(w)) < uint32(problem.w)
    return in_plane and uint32(int32(d)) < uint32(problem.d)


def _log2(power: int) -> int:
    # Shifts and masks tell LLVM what is a multiple of four, which it needs for 128-bit loads.
    return power.bit_length() - 1


@cache
def tile_functions(tile: Tile, dtype: str, flat: bool, channels: bool) -> TileFunctions:
    """The device functions of a tile.

    Parameters
    ----------
    tile : Tile
    dtype : str
        Of the input. Weights are packed (``tiled.packing``), in what sums are made in.
    flat : bool
        Whether steps run over taps and channels as one, which fills them where channels are few;
        else a step is of one tap. For at most ``FLAT_TAPS`` taps along an axis.
    channels : bool
        Whether four channels are read at once: they lie side by side, at multiples of 16 bytes
        (of 8, for 16-bit floats). Not with ``flat``.

    Returns
    -------
    TileFunctions
        ``clear(sums)`` zeroes a thread's ``cuda.local.array(tile.sums, dtype)``;
        ``place(problem, strides, group, pixel, origins)`` notes where the windows of the tile's
        pixels begin, the first of which (n, o, p, q as one) is ``pixel``, in a shared int32 array
        of ``tile.origins_size``, and waits for all threads;
        ``accumulate(x, weights, problem, strides, pitch, k, first, last, origins, a, b, table,
        sums)`` adds steps ``first`` to ``last - 1``, and waits. Weights of a row are ``pitch``
        apart, ``k`` is where those of row 0 and the tile's first out-channel are. ``a``, ``b`` and
        ``table`` are shared arrays of ``tile.weights_size`` and ``tile.input_size`` elements, and
        ``TABLE`` int32;
        ``row(i)`` and ``column(j)``: out-channel and pixel, within the tile, of sum ``[i, j]``.

    Examples
    --------
    >>> tile = Tile(4, 2, 2, 2, 4, 2)
    >>> tile.rows, tile.columns, tile.threads, tile.sums
    (128, 128, 256, (8, 8))
    >>> functions = tile_functions(tile, "float32", False, False)
    """
    stored, total = getattr(numba, STORED[dtype]), getattr(numba, ACCUMULATED[dtype])
    multiply, zero = _multiplication(tile, total), total(0)
    fetch, put = _staging(tile, dtype, flat, channels)
    place = _placing(tile, flat)
    begin, advance, tabulate = _reduction(tile, flat, channels)
    own_pixels, own_rows, own_weights = tile.own_pixels, tile.own_rows, tile.own_weights
    rows, columns = tile.sums
    row, column = _positions(tile)

    @cuda.jit(device=True)
    def clear(sums):
        for i in range(rows):
            for j in range(columns):
                sums[i, j] = zero

    @cuda.jit(device=True)
    def accumulate(x, weights, problem, strides, pitch, k, first, last, origins, a, b, table, sums):
        held_x = cuda.local.array((own_pixels, own_rows), stored)
        held_w = cuda.local.array((own_weights, 4), total)
        places = cuda.local.array((own_pixels, 2), int32)
        tap = cuda.local.array(6, int32)
        begin(problem, strides, first, tap, places, origins, table)
        tap[5] = int32(first * STEP * pitch + k)
        fetch(x, weights, problem, strides, pitch, tap, places, table, uint32(0), held_x, held_w)
        put(held_x, held_w, a, b, uint32(0))
        cuda.syncthreads()
        step, now = int32(first), uint32(0)
        while step < last:
            if int32(step + 1) < last:
                advance(problem, strides, tap, places, origins)
                tap[5] = int32(tap[5] + STEP * pitch)
                fetch(
                    x, weights, problem, strides, pitch, tap, places, table, uint32(now ^ 1),
                    held_x, held_w,
                )  # fmt: skip
                tabulate(problem, strides, int32(step + 2), table, now)
            multiply(a, b, now, sums)
            now = uint32((now ^ 1) & 1)
            put(held_x, held_w, a, b, now)
            step = int32(step + 1)
            cuda.syncthreads()

    return TileFunctions(place, clear, accumulate, row, column)


def _positions(tile: Tile) -> tuple[Any, Any]:
    """Where a thread's sums are in the tile."""
    vector, shift, mask = tile.vector, _log2(tile.warps_p), tile.warps_p - 1
    wide_k, wide_p = LANES_K * vector, LANES_P * vector
    high, wide = tile.chunks_k * wide_k, tile.chunks_p * wide_p

    @cuda.jit(device=True)
    def row(i):
        thread = uint32(cuda.threadIdx.x)
        lane = (thread & 1) | ((thread >> 3) & 2)
        warp = (thread >> 5) >> shift
        return uint32(warp * high + (i // vector) * wide_k + lane * vector + i % vector)

    @cuda.jit(device=True)
    def column(j):
        thread = uint32(cuda.threadIdx.x)
        lane = (thread >> 1) & 7
        warp = (thread >> 5) & mask
        return uint32(warp * wide + (j // vector) * wide_p + lane * vector + j % vector)

    return row, column


def _own(tile: Tile, channels: bool) -> tuple[Any, Any]:
    """What a thread fetches of a step: its j-th pixel, and the first of its rows. Lanes run over
    pixels, or first over the two halves of a step where those lie side by side."""
    threads, own_rows = tile.threads, tile.own_rows
    halves, per_step, mask = STEP // own_rows, _log2(tile.columns), tile.columns - 1

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


def _multiplication(tile: Tile, total: Any) -> Any:
    """``multiply(a, b, now, sums)``: one step, from buffer ``now``."""
    rows, columns = tile.sums
    chunks_k, chunks_p, vector = tile.chunks_k, tile.chunks_p, tile.vector
    wide_k, wide_p = LANES_K * vector, LANES_P * vector
    pitch_a, pitch_b = tile.rows, tile.pitch
    buffer_a, buffer_b = STEP * tile.rows, tile.input_buffer
    row, column = _positions(tile)

    @cuda.jit(device=True)
    def product(a, b, from_a, from_b, e, sums):
        of_k = cuda.local.array(rows, total)
        of_p = cuda.local.array(columns, total)
        for i in range(chunks_k):
            for v in range(vector):
                of_k[i * vector + v] = a[from_a + (e * pitch_a + i * wide_k + v)]
        for j in range(chunks_p):
            for v in range(vector):
                of_p[j * vector + v] = b[from_b + (e * pitch_b + j * wide_p + v)]
        for i in range(rows):
            for j in range(columns):
                sums[i, j] += of_k[i] * of_p[j]

    # A loop over the eight would stay one, and literal calls don't.
    @cuda.jit(device=True)
    def multiply(a, b, now, sums):
        # What is known of these bits, of their sign and alignment, makes loads of 128 bits.
        from_a, from_b = (
            uint32((now & 1) * buffer_a + row(0)),
            uint32((now & 1) * buffer_b + column(0)),
        )
        product(a, b, from_a, from_b, 0, sums)
        product(a, b, from_a, from_b, 1, sums)
        product(a, b, from_a, from_b, 2, sums)
        product(a, b, from_a, from_b, 3, sums)
        product(a, b, from_a, from_b, 4, sums)
        product(a, b, from_a, from_b, 5, sums)
        product(a, b, from_a, from_b, 6, sums)
        product(a, b, from_a, from_b, 7, sums)

    return multiply


def _staging(tile: Tile, dtype: str, flat: bool, channels: bool) -> tuple[Any, Any]:
    """``fetch`` a step into registers, and ``put`` it into shared memory."""
    read, zero = reader(dtype), getattr(numba, STORED[dtype])(0)
    threads, own_pixels, own_rows = tile.threads, tile.own_pixels, tile.own_rows
    own_weights, per_row, mask = tile.own_weights, _log2(tile.rows // 4), tile.rows // 4 - 1
    pitch_a, pitch_b = tile.rows, tile.pitch
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
        thread = uint32(cuda.threadIdx.x)
        for i in range(own_weights):
            unit = uint32(thread + i * threads)
            at = int32(tap[5] + int32(unit >> per_row) * pitch + (unit & mask) * 4)
            four = ops.read4(weights, at)
            for v in range(4):
                held_w[i, v] = four[v]

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

    return fetch, put


def _placing(tile: Tile, flat: bool) -> Any:
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


def _reduction(tile: Tile, flat: bool, channels: bool) -> tuple[Any, Any, Any]:
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
