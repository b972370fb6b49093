"""A tile of a weight gradient on tensor cores: what a block of ``tensor_wgrad`` does.

x        channels innermost, chunks of 16 bytes of them aligned          IN
grad     the same                                                        IN
parts    [split][g][k][chunk of taps and channels][channels of a chunk]  OUT
A GEMM of out-channels x (taps, chunks of in-channels) over pixels. Both operands lie with pixels
one after the other, channels inside: ldmatrix turns them over on the way to the registers, which it
can for 16 bits alone. A thread copies the same chunk of the same tap for some pixels of each step,
whose places were written to shared memory while the step before was multiplied.
Accumulates in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import complex128, cuda, float32, int32, uint32

from . import ops
from ._tensor_tile import CHUNK, NONE, NOWHERE, Tile

#: Channels of a chunk.
ELEMENTS = 8
#: Of ``wgrad_tile``: x, grad, parts; the problem; strides of x (n, d, h, w, g) and grad
#: (n, o, p, q, g); chunks of a tap and in all; steps of a split, tiles of k and of chunks.
SIGNATURE = ("problem", "int32[5]", "int32[5]", "int32[2]", "int32[3]")


def build_wgrad_tile(dtype: str, tile: Tile) -> Callable[..., None]:
    """``tile``: its pixels are out-channels here, its channels those of taps; a step has
    ``8 chunks`` pixels. Multiplied by warpgroups, rows of 64 channels lie pixel after pixel."""
    warps_n, rows, columns, _, stages = tile[1:6]
    threads, depth = tile.threads, 8 * tile.chunks
    pitch = tile.channels + 8
    # Chunks of a row (a pixel) of both operands; the pixels of a thread.
    chunks_a, chunks_b = tile.pixels // ELEMENTS, tile.channels // ELEMENTS
    step_a, step_b = threads // chunks_a, threads // chunks_b
    many_a, many_b = depth // step_a, depth // step_b
    # Rows that share a line of the banks, and after how many the exchange repeats.
    line_a, line_b = max(8 // chunks_a, 1), max(8 // chunks_b, 1)
    turns_a, turns_b = min(chunks_a, 8), min(chunks_b, 8)
    # Chunks from pixel to pixel, and from 8 of a pixel's chunks to the next 8.
    wide = tile.wide
    pitch_a, pitch_b = (8, 8) if wide else (chunks_a, chunks_b)
    panel = 8 * depth if wide else 8
    begin_b = depth * chunks_a
    stage = depth * (chunks_a + chunks_b)
    places_size, tile_k, tile_columns = 2 * depth, tile.pixels, tile.channels
    zeros = ops.zeros(4 * rows * columns)
    ahead = stages - 2 if wide else stages - 1
    wait, keep = ops.wait(ahead - 1), ops.keep(rows, columns, pitch)
    step: Any = None if wide else ops.turned_step(dtype, rows, columns, (chunks_a, chunks_b), depth)
    wide_step: Any = ops.wide_step(dtype, columns, depth) if wide else None
    publish, until_swizzle = ops.publish, ops.until_swizzle
    wide_wait, finish_steps = ops.wide_wait(1), ops.wide_wait(0)
    copy_async, commit = ops.copy_async, ops.commit
    load_integers, store_integers = ops.load_shared_integers, ops.store_shared_integers
    load_shared, store_floats = ops.load_shared, ops.store_floats

    @cuda.jit(device=True)
    def find_places(places, grads, i, tid, m0, problem, x_at, grad_at, groups):
        buffer = int32(i % 2 * depth)
        for row in range(tid, depth, threads):
            m = uint32(m0 + i * depth + row)
            u = uint32(m // uint32(problem.q))
            q = int32(m - u * uint32(problem.q))
            v = uint32(u // uint32(problem.p))
            p = int32(u - v * uint32(problem.p))
            n = int32(v // uint32(problem.o))
            o = int32(v - uint32(n) * uint32(problem.o))
            d = int32(o * problem.stride_d - problem.pad_d)
            h = int32(p * problem.stride_h - problem.pad_h)
            w = int32(q * problem.stride_w - problem.pad_w)
            begin = int32(n * x_at[0] + d * x_at[1] + h * x_at[2] + w * x_at[3] + groups * x_at[4])
            at = int32(n * grad_at[0] + o * grad_at[1] + p * grad_at[2] + q * grad_at[3])
            at = int32(at + groups * grad_at[4])
            if n >= problem.n:
                begin, d, at = int32(0), int32(NOWHERE), int32(NONE)
            store_integers(places, int32(buffer + row), (begin, d, h, w))
            grads[buffer + row] = at

    def wgrad_tile(x, grad, parts, problem, x_at, grad_at, chunks, blocks):
        shared = cuda.shared.array(0, complex128)
        places = cuda.shared.array(places_size, complex128)
        grads = cuda.shared.array(places_size, int32)
        where_a = cuda.local.array(many_a, int32)
        where_b = cuda.local.array(many_b, int32)
        tid = int32(cuda.threadIdx.x)
        block = uint32(cuda.blockIdx.x)
        k_tiles, j_tiles = uint32(blocks[1]), uint32(blocks[2])
        rest = uint32(block // k_tiles)
        k0 = int32(int32(block - rest * k_tiles) * tile_k)
        block = rest
        rest = uint32(block // j_tiles)
        j0 = int32(int32(block - rest * j_tiles) * chunks_b)
        part = int32(rest // uint32(problem.g))
        group = int32(rest - uint32(part) * uint32(problem.g))
        total = int32(problem.n * problem.o * problem.p * problem.q)
        m0 = int32(part * blocks[0] * depth)
        many = int32(min(blocks[0], (total - m0 + depth - 1) // depth))
        # This thread's chunks, of out-channels and of a tap.
        own_a, own_b = int32(tid % chunks_a), int32(tid % chunks_b)
        row_a, row_b = int32(tid // chunks_a), int32(tid // chunks_b)
        k = int32(k0 + own_a * ELEMENTS)
        u = uint32(j0 + own_b)
        v = uint32(u // uint32(chunks[0]))
        c = int32(int32(u - v * uint32(chunks[0])) * ELEMENTS)
        u = uint32(v // uint32(problem.s))
        s = int32(v - u * uint32(problem.s))
        t = int32(u // uint32(problem.r))
        r = int32(u - uint32(t) * uint32(problem.r))
        dd, dh = int32(t * problem.dilation_d), int32(r * problem.dilation_h)
        dw = int32(s * problem.dilation_w)
        further = int32(dd * x_at[1] + dh * x_at[2] + dw * x_at[3] + c)
        turned_a = int32((own_a % 8) ^ (row_a // line_a % turns_a))
        turned_b = int32((own_b % 8) ^ (row_b // line_b % turns_b))
        to_a = int32(row_a * pitch_a + own_a // 8 * panel + turned_a)
        to_b = int32(begin_b + row_b * pitch_b + own_b // 8 * panel + turned_b)
        # What lanes read: pixels (rows) and chunks of them.
        lane, warp = int32(tid % 32), int32(tid // 32)
        at_a = int32(lane % 8 + lane // 16 * 8)
        at_b = int32(lane % 16)
        turn_a = int32((warp // warps_n * (2 * rows) + lane // 8 % 2) ^ (at_a // line_a % turns_a))
        turn_b = int32((warp % warps_n * columns + lane // 16) ^ (at_b // line_b % turns_b))
        at_a, at_b = int32(at_a * chunks_a), int32(begin_b + at_b * chunks_b)
        sums = zeros()
        base = until_swizzle(shared, int32(0)) if wide else int32(0)
        filled, used = base, base
        find_places(places, grads, int32(0), tid, m0, problem, x_at, grad_at, group)
        for i in range(many + ahead):
            if i >= ahead:
                wait()
                if wide:
                    publish()
            cuda.syncthreads()
            if wide and i >= ahead:
                from_a, from_b = int32(used + warp // 4 * panel), int32(used + begin_b)
                sums = wide_step(shared, from_a, from_b, sums)
                wide_wait()
            if i < many:
                buffer = int32(i % 2 * depth)
                # All places first: a copy after a load of shared memory waits for it.
                for e in range(many_a):
                    where_a[e] = grads[uint32(buffer + row_a + e * step_a)]
                for e in range(many_b):
                    begin, d, h, w = load_integers(places, int32(buffer + row_b + e * step_b))
                    d, h, w = int32(d + dd), int32(h + dh), int32(w + dw)
                    inside = uint32(d) < uint32(problem.d) and uint32(h) < uint32(problem.h)
                    inside = inside and uint32(w) < uint32(problem.w) and t < problem.t
                    where_b[e] = int32(begin + further) if inside else int32(NONE)
                for e in range(many_a):
                    inside = where_a[e] != NONE and k < problem.k
                    source = int32(where_a[e] + k) if inside else int32(0)
                    to = int32(filled + to_a + e * step_a * pitch_a)
                    copy_async(shared, to, grad, source, int32(CHUNK if inside else 0))
                for e in range(many_b):
                    inside = where_b[e] != NONE
                    source = where_b[e] if inside else int32(0)
                    to = int32(filled + to_b + e * step_b * pitch_b)
                    copy_async(shared, to, x, source, int32(CHUNK if inside else 0))
                filled = int32(filled + stage)
                if filled == base + stages * stage:
                    filled = base
                if i + 1 < many:
                    find_places(places, grads, int32(i + 1), tid, m0, problem, x_at, grad_at, group)
            commit()
            if i >= ahead:
                if not wide:
                    from_a, from_b = int32(used + at_a), int32(used + at_b)
                    sums = step(shared, from_a, turn_a, from_b, turn_b, sums)
                used = int32(used + stage)
                if used == base + stages * stage:
                    used = base
        if wide:
            finish_steps()
        cuda.syncthreads()
        finished = cuda.shared.array(0, float32)
        row = int32(warp // warps_n * (16 * rows) + lane // 4)
        column = int32(warp % warps_n * (8 * columns) + lane % 4 * 2)
        keep(finished, int32(row * pitch + column), sums)
        cuda.syncthreads()
        width = int32(chunks[1] * ELEMENTS)
        start = int32((part * problem.g + group) * problem.k)
        for e in range(tid, tile_k * (tile_columns // 4), threads):
            row = int32(e // (tile_columns // 4))
            column = int32(e % (tile_columns // 4) * 4)
            if k0 + row < problem.k and j0 * ELEMENTS + column < width:
                at = int32((start + k0 + row) * width + j0 * ELEMENTS + column)
                store_floats(parts, at, load_shared(finished, int32(row * pitch + column)))

    return wgrad_tile
