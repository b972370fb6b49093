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
#: Lanes of a warp along out-channels and along pixels.
LANES_K, LANES_P = 4, 8
#: A position that is outside of every input, however it is moved by a window.
NOWHERE = 1 << 29


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
    def weights_shape(self) -> tuple[int, int, int]:
        """Of a block's weights in shared memory."""
        return 2, STEP, self.rows

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of a block's input in shared memory: a chunk of padding, so that what lanes store of the
        two halves of a step lies in different banks."""
        return 2, STEP, self.columns + self.vector

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
        else a step is of one tap.
    channels : bool
        Whether four channels are read at once: they lie side by side, at multiples of 16 bytes
        (of 8, for 16-bit floats). Not with ``flat``.

    Returns
    -------
    TileFunctions
        ``clear(sums)`` zeroes a thread's ``cuda.local.array(tile.sums, dtype)``;
        ``place(problem, strides, group, pixel, places)`` notes where the windows of the pixels
        that this thread fetches begin, of the tile whose first pixel (n, o, p, q as one) is
        ``pixel``, in ``places``, a local int32 array ``(tile.own_pixels, 6)``;
        ``accumulate(x, weights, problem, strides, columns, k, first, last, places, a, b, table,
        sums)`` adds steps ``first`` to ``last - 1`` of out-channels from ``k`` on; ``weights``
        points at the group's, ``columns`` apart; ``a``, ``b`` and ``table`` are shared arrays of
        ``tile.weights_shape``, ``tile.input_shape`` and int32 ``(2, 8, 4)``;
        ``row(i)`` and ``column(j)``: out-channel and pixel, within the tile, of sum ``[i, j]``.

    Examples
    --------
    >>> from numba import cuda, float32, int32
    >>> tile = Tile(4, 2, 2, 2, 4, 2)
    >>> tile.rows, tile.columns, tile.threads, tile.sums
    (128, 128, 256, (8, 8))
    >>> functions = tile_functions(tile, "float32", False, False)
    """
    stored, total = getattr(numba, STORED[dtype]), getattr(numba, ACCUMULATED[dtype])
    multiply = _multiplication(tile, total)
    fetch, put, pixels = _staging(tile, dtype, flat, channels)
    advance, begin, tabulate = _reduction(tile, flat)
    own_pixels, own_rows, own_weights = tile.own_pixels, tile.own_rows, tile.own_weights
    rows, columns = tile.sums
    zero = total(0)

    @cuda.jit(device=True)
    def clear(sums):
        for i in range(rows):
            for j in range(columns):
                sums[i, j] = zero

    @cuda.jit(device=True)
    def accumulate(x, weights, problem, strides, pitch, k, first, last, places, a, b, table, sums):
        held_x = cuda.local.array((own_pixels, own_rows), stored)
        held_w = cuda.local.array((own_weights, 4), total)
        tap = cuda.local.array(4, int32)
        begin(problem, strides, first, tap, places, table)
        fetch(x, weights, problem, strides, pitch, k, first, tap, places, table, held_x, held_w)
        put(held_x, held_w, a, b, uint32(0))
        cuda.syncthreads()
        for step in range(first, last):
            now = uint32(int32(step - first) & 1)
            following = int32(step + 1)
            if following < last:
                advance(problem, strides, tap, places)
                fetch(
                    x, weights, problem, strides, pitch, k, following, tap, places, table,
                    held_x, held_w,
                )  # fmt: skip
                tabulate(problem, strides, int32(step + 2), table)
            multiply(a, b, now, sums)
            put(held_x, held_w, a, b, uint32(now ^ 1))
            cuda.syncthreads()

    row, column = _positions(tile)
    return TileFunctions(pixels, clear, accumulate, row, column)


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


def _multiplication(tile: Tile, total: Any) -> Any:
    """``multiply(a, b, buffer, sums)``: one step."""
    rows, columns = tile.sums
    chunks_k, chunks_p, vector = tile.chunks_k, tile.chunks_p, tile.vector
    wide_k, wide_p = LANES_K * vector, LANES_P * vector
    row, column = _positions(tile)

    @cuda.jit(device=True)
    def product(a, b, now, e, first_k, first_p, sums):
        of_k = cuda.local.array(rows, total)
        of_p = cuda.local.array(columns, total)
        for i in range(chunks_k):
            for v in range(vector):
                of_k[i * vector + v] = a[now, e, first_k + i * wide_k + v]
        for j in range(chunks_p):
            for v in range(vector):
                of_p[j * vector + v] = b[now, e, first_p + j * wide_p + v]
        for i in range(rows):
            for j in range(columns):
                sums[i, j] += of_k[i] * of_p[j]

    # A loop over the eight would stay one, and literal calls don't.
    @cuda.jit(device=True)
    def multiply(a, b, now, sums):
        first_k, first_p = row(0), column(0)
        product(a, b, now, 0, first_k, first_p, sums)
        product(a, b, now, 1, first_k, first_p, sums)
        product(a, b, now, 2, first_k, first_p, sums)
        product(a, b, now, 3, first_k, first_p, sums)
        product(a, b, now, 4, first_k, first_p, sums)
        product(a, b, now, 5, first_k, first_p, sums)
        product(a, b, now, 6, first_k, first_p, sums)
        product(a, b, now, 7, first_k, first_p, sums)

    return multiply


def _staging(tile: Tile, dtype: str, flat: bool, channels: bool) -> tuple[Any, Any, Any]:
    """``fetch`` a step into registers, ``put`` it into shared memory, and ``place`` the pixels."""
    read, zero = reader(dtype), getattr(numba, STORED[dtype])(0)
    threads, own_pixels, own_rows = tile.threads, tile.own_pixels, tile.own_rows
    own_weights, per_row = tile.own_weights, _log2(tile.rows // 4)
    vector_mask, halves = tile.rows // 4 - 1, STEP // tile.own_rows
    per_step, column_mask = _log2(tile.columns), tile.columns - 1

    @cuda.jit(device=True)
    def own(j):
        thread = uint32(cuda.threadIdx.x)
        if channels:
            return uint32((thread >> (halves - 1)) + j * threads)
        return uint32((thread & column_mask) + j * threads)

    @cuda.jit(device=True)
    def own_first():
        thread = uint32(cuda.threadIdx.x)
        if halves == 1:
            return uint32(0)
        if channels:
            return uint32((thread & 1) * own_rows)
        return uint32((thread >> per_step) * own_rows)

    @cuda.jit(device=True)
    def place(problem, strides, group, pixel, places):
        for j in range(own_pixels):
            at = int32(pixel + own(j))
            plane = divided(at, problem.q)
            q = int32(at - plane * problem.q)
            block = divided(plane, problem.p)
            p = int32(plane - block * problem.p)
            n = divided(block, problem.o)
            o = int32(block - n * problem.o)
            d = int32(o * problem.stride_d - problem.pad_d)
            h = int32(p * problem.stride_h - problem.pad_h)
            w = int32(q * problem.stride_w - problem.pad_w)
            begin = n * strides[0] + group * problem.c * strides[1]
            begin += d * strides[2] + h * strides[3] + w * strides[4]
            places[j, 0] = d if n < problem.n else NOWHERE
            places[j, 1] = h
            places[j, 2] = w
            places[j, 3] = int32(begin)

    @cuda.jit(device=True)
    def fetch_taps(x, problem, strides, tap, places, held):
        # Of one tap: whether the pixel's place is inside was found when the tap began.
        channel = int32(tap[3] + own_first())
        step = strides[1]
        for j in range(own_pixels):
            at = int32(places[j, 4] + channel * step)
            for i in range(own_rows):
                held[j, i] = zero
                if places[j, 5] != 0 and channel + i < problem.c:
                    held[j, i] = x[int32(at + i * step)]

    @cuda.jit(device=True)
    def fetch_channels(x, problem, strides, tap, places, held):
        channel = int32(tap[3] + own_first())
        for j in range(own_pixels):
            at = int32(places[j, 4] + channel)
            for i in range(0, own_rows, 4):
                for v in range(4):
                    held[j, i + v] = zero
                if places[j, 5] != 0 and channel + i < problem.c:
                    four = ops.read4(x, int32(at + i))
                    for v in range(4):
                        held[j, i + v] = four[v]

    @cuda.jit(device=True)
    def fetch_flat(x, problem, following, places, table, held):
        now, first = uint32(following & 1), own_first()
        for i in range(own_rows):
            offset = table[now, first + i, 0]
            d, h, w = table[now, first + i, 1], table[now, first + i, 2], table[now, first + i, 3]
            for j in range(own_pixels):
                held[j, i] = zero
                if inside(places[j, 0] + d, places[j, 1] + h, places[j, 2] + w, problem):
                    held[j, i] = x[int32(places[j, 3] + offset)]

    @cuda.jit(device=True)
    def fetch(
        x, weights, problem, strides, pitch, k, following, tap, places, table, held_x, held_w
    ):
        if flat:
            fetch_flat(x, problem, following, places, table, held_x)
        elif channels:
            fetch_channels(x, problem, strides, tap, places, held_x)
        else:
            fetch_taps(x, problem, strides, tap, places, held_x)
        thread = uint32(cuda.threadIdx.x)
        for i in range(own_weights):
            unit = uint32(thread + i * threads)
            e = int32(following * STEP + (unit >> per_row))
            four = ops.read4(weights, int32(e * pitch + k + (unit & vector_mask) * 4))
            for v in range(4):
                held_w[i, v] = four[v]

    @cuda.jit(device=True)
    def put(held_x, held_w, a, b, now):
        thread = uint32(cuda.threadIdx.x)
        first = own_first()
        for i in range(own_weights):
            unit = uint32(thread + i * threads)
            for v in range(4):
                a[now, (unit >> per_row), (unit & vector_mask) * 4 + v] = held_w[i, v]
        for j in range(own_pixels):
            at = own(j)
            for i in range(own_rows):
                b[now, first + i, at] = read(held_x, (j, i))

    return fetch, put, place


def _reduction(tile: Tile, flat: bool) -> tuple[Any, Any, Any]:
    """``advance`` to the next step, ``begin`` at any, and the ``table`` of a flat one's rows."""
    own_pixels = tile.own_pixels

    @cuda.jit(device=True)
    def move(problem, strides, tap, places):
        d = int32(tap[0] * problem.dilation_d)
        h = int32(tap[1] * problem.dilation_h)
        w = int32(tap[2] * problem.dilation_w)
        offset = int32(d * strides[2] + h * strides[3] + w * strides[4])
        for j in range(own_pixels):
            places[j, 4] = int32(places[j, 3] + offset)
            reads = inside(places[j, 0] + d, places[j, 1] + h, places[j, 2] + w, problem)
            places[j, 5] = int32(1) if reads else int32(0)

    @cuda.jit(device=True)
    def advance(problem, strides, tap, places):
        if not flat:
            tap[3] += STEP
            if tap[3] >= problem.c:
                tap[3] = 0
                tap[2] += 1
                if tap[2] == problem.s:
                    tap[2] = 0
                    tap[1] += 1
                    if tap[1] == problem.r:
                        tap[1] = 0
                        tap[0] += 1
                move(problem, strides, tap, places)

    @cuda.jit(device=True)
    def tabulate(problem, strides, step, table):
        if flat:
            i = uint32(cuda.threadIdx.x)
            if i < STEP:
                e = int32(step * STEP + i)
                plane = divided(e, problem.c)
                c = int32(e - plane * problem.c)
                row = divided(plane, problem.s)
                s = int32(plane - row * problem.s)
                t = divided(row, problem.r)
                r = int32(row - t * problem.r)
                d = int32(t * problem.dilation_d)
                h = int32(r * problem.dilation_h)
                w = int32(s * problem.dilation_w)
                now = uint32(step & 1)
                offset = c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4]
                table[now, i, 0] = int32(offset)
                table[now, i, 1] = d if t < problem.t else NOWHERE
                table[now, i, 2] = h
                table[now, i, 3] = w

    @cuda.jit(device=True)
    def begin(problem, strides, first, tap, places, table):
        if flat:
            tabulate(problem, strides, first, table)
            tabulate(problem, strides, int32(first + 1), table)
            cuda.syncthreads()
        else:
            blocks = divided(problem.c + STEP - 1, STEP)
            plane = divided(first, blocks)
            tap[3] = int32((first - plane * blocks) * STEP)
            row = divided(plane, problem.s)
            tap[2] = int32(plane - row * problem.s)
            tap[0] = divided(row, problem.r)
            tap[1] = int32(row - tap[0] * problem.r)
            move(problem, strides, tap, places)

    return advance, begin, tabulate
