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
from math import prod
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import cuda, int32, uint32

from ..shapes import round_up
from ._tile_fetch import placing, reduction, staging
from ._tile_shape import LANES_K, LANES_P, STEP, TABLE, Tile, log2
from .program import ACCUMULATED, STORED

__all__ = ["STEP", "TABLE", "Tile", "TileFunctions", "pack", "tile_functions"]


class TileFunctions(NamedTuple):
    """Device functions of a tile, for kernels of ``tile.threads`` threads; ``tile_functions`` says
    how they are called."""

    place: Any
    clear: Any
    accumulate: Any
    row: Any
    column: Any


def pack(weight: Any, tile: Tile, flat: bool) -> Any:
    """Weights as ``accumulate`` reads them, in NumPy: a row per tap and channel, filled up with
    zeros to whole steps and tiles.

    Parameters
    ----------
    weight : array (K, C, T, R, S)
    tile : Tile
    flat : bool
        As ``tile_functions`` has it.

    Returns
    -------
    array (rows, pitch)
        ``rows // STEP`` steps; ``pitch`` is a multiple of ``tile.rows``.

    Examples
    --------
    >>> import numpy as np
    >>> tile = Tile(1, 1, 1, 1, 4, 16)
    >>> pack(np.ones((5, 3, 1, 3, 3), np.float32), tile, flat=True).shape
    (32, 16)
    """
    k, c, *taps = weight.shape
    channels = c if flat else round_up(c, STEP)
    rows = np.zeros((prod(taps), channels, round_up(k, tile.rows)), weight.dtype)
    rows[:, :c, :k] = weight.transpose(2, 3, 4, 1, 0).reshape(prod(taps), c, k)
    flattened = rows.reshape(-1, rows.shape[-1])
    return np.pad(flattened, ((0, -len(flattened) % STEP), (0, 0)))


@cache
def tile_functions(tile: Tile, dtype: str, flat: bool, channels: bool) -> TileFunctions:
    """The device functions of a tile.

    Parameters
    ----------
    tile : Tile
    dtype : str
        Of the input. Weights are packed (``pack``), in what sums are made in.
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
    own_weight, fetch, put = staging(tile, dtype, flat, channels)
    place = placing(tile, flat)
    begin, advance, tabulate = reduction(tile, flat, channels)
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
        tap[5] = int32(first * STEP * pitch + k + own_weight(pitch))
        fetch(x, weights, problem, strides, pitch, tap, places, table, uint32(0), held_x, held_w)
        put(held_x, held_w, a, b, uint32(0))
        cuda.syncthreads()
        # Steps to go: one register where a step and the last one are two.
        left, now = int32(last - first), uint32(0)
        while left > 0:
            if left > 1:
                advance(problem, strides, tap, places, origins)
                tap[5] = int32(tap[5] + STEP * pitch)
                fetch(
                    x, weights, problem, strides, pitch, tap, places, table, uint32(now ^ 1),
                    held_x, held_w,
                )  # fmt: skip
                tabulate(problem, strides, int32(last - left + 2), table, now)
            multiply(a, b, now, sums)
            now = uint32((now ^ 1) & 1)
            put(held_x, held_w, a, b, now)
            left = int32(left - 1)
            cuda.syncthreads()

    return TileFunctions(place, clear, accumulate, row, column)


def _positions(tile: Tile) -> tuple[Any, Any]:
    """Where a thread's sums are in the tile."""
    vector, shift, mask = tile.vector, log2(tile.warps_p), tile.warps_p - 1
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
