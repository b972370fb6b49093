"""The kernel of *wgrad*: products of pixels, summed in a tile of the weight gradient.

A GEMM whose matrices aren't made: rows are out-channels k, columns (c, t, r, s), and the reduction
runs over the output positions (n, o, p, q), its *pixels*, eight a step, through two halves of
shared memory: while one is multiplied the next step's loads are under way.

What a pixel reads of x and of grad_output is computed once, into a table of as many pixels as the
block has threads, while the ones before are worked on. A thread loads from one pixel of the eight
in each step. Columns behind the last load what the last one loads, and aren't stored.
Why: divisions in every step would cost a fifth of what its 512 FFMA do, and additions with carries
24 instructions and four registers; a branch around the loads made the compiler move them behind the
products.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, int32, types, uint32

from . import ops
from .elements import writer
from .program import ACCUMULATED, STORED
from .wgrad_tile import (
    DEPTH,
    QUAD,
    VECTOR,
    Tile,
    Variant,
    column_decoder,
    fragments,
    loader,
    pixel_table,
    quotient,
    window_checker,
)


@cuda.jit(device=True)
def _same(bits):
    return bits


_WIDEN = {"float16": ops.widen_float16, "bfloat16": ops.widen_bfloat16}


def build_products(dtype: str, tile: Tile, variant: Variant) -> Any:
    """The kernel that sums products of pixels."""
    rows, columns, own_rows, own_columns = tile
    threads, lanes = tile.threads, tile.threads // DEPTH
    last, (quad_rows, quad_columns), _, packed, ragged, partial = variant
    stored, real = getattr(types, STORED[dtype]), getattr(types, ACCUMULATED[dtype])
    widen = _WIDEN.get(dtype, _same)
    each_row, each_column = (QUAD if quad_rows else 1), (QUAD if quad_columns else 1)
    staged_rows, staged_columns = rows // lanes, columns // lanes
    row_loads, column_loads = staged_rows // each_row, staged_columns // each_column
    rows_between = lanes * each_row
    vector = VECTOR[ACCUMULATED[dtype]]
    wide_row, wide_column = min(vector, own_rows), min(vector, own_columns)
    between_rows = rows * wide_row // own_rows
    between_columns = columns * wide_column // own_columns
    # A warp is 4 x 8 threads where the tile has as many: a fragment is then one pass of the banks.
    warp_rows = max(min(4, rows // own_rows), 32 * own_columns // columns)
    warp_columns = 32 // warp_rows
    warps_across = columns // own_columns // warp_columns
    # Eight pixels of four rows, one behind the other, hit 32 different banks.
    padding = 0 if last else vector
    shape_rows, shape_columns = (2, DEPTH, rows + padding), (2, DEPTH, columns + padding)
    shape_sums, shape_low = (own_rows, own_columns), (3, column_loads)
    load_row, load_column = loader(quad_rows), loader(quad_columns)
    width, places, fill = pixel_table(variant)
    shape_table, last_entry = (2 * threads, width), 2 * threads - 1
    inside, multiply = window_checker(variant, places), fragments(dtype, tile)
    decode = column_decoder(last)
    write, quads = writer(dtype), wide_column == QUAD

    @cuda.jit(device=True)
    def fetch(x, grad, table, entry, left, kept, lane, row, row_step, of_columns, low, sizes, a, b):
        """Load what the next step multiplies: zeros behind the slice's end and in the padding."""
        live = left > 0
        offset = int32(row + table[entry, 0])
        x_offset = table[entry, 1]
        rows_left = int32(0)
        if ragged:
            rows_left = int32(kept[4] - int32(lane) * each_row)
        for i in range(row_loads):
            wanted = live
            if ragged:
                wanted &= rows_left > int32(i * rows_between)
            load_row(grad, int32(offset + i * rows_between * row_step), wanted, a, i)
        for j in range(column_loads):
            wanted = live & inside(table, entry, low, j, sizes)
            load_column(x, int32(x_offset + of_columns[j]), wanted, b, j)

    @cuda.jit(device=True)
    def keep(shared_rows, shared_columns, half, pixel, lane, a, b):
        for i in range(row_loads):
            for e in range(each_row):
                value = real(widen(a[i * each_row + e]))
                shared_rows[half, pixel, uint32((lane + i * lanes) * each_row + e)] = value
        for j in range(column_loads):
            for e in range(each_column):
                value = real(widen(b[j * each_column + e]))
                shared_columns[half, pixel, uint32((lane + j * lanes) * each_column + e)] = value

    @cuda.jit(device=True)
    def store_partial(scratch, sums, base, row_step):
        for i in range(own_rows):
            at = int32(base + (i // wide_row * between_rows + i % wide_row) * row_step)
            for j in range(own_columns // wide_column):
                first = int32(at + j * between_columns)
                if quads:
                    four = (
                        sums[i, 4 * j],
                        sums[i, 4 * j + 1],
                        sums[i, 4 * j + 2],
                        sums[i, 4 * j + 3],
                    )
                    ops.write4(scratch, first, four)
                else:
                    for e in range(wide_column):
                        scratch[int32(first + e)] = sums[i, j * wide_column + e]

    @cuda.jit(device=True)
    def store(out, sums, row, column, group, columns_of, strides):
        all_columns = int32(columns_of[1] * columns_of[2] * columns_of[3] * columns_of[4])
        for j in range(own_columns):
            that = int32(column + j // wide_column * between_columns + j % wide_column)
            if that < all_columns:
                c, t, r, s = decode(that, columns_of)
                base = int32(group * columns_of[0] * strides[0] + c * strides[1])
                base += int32(t * strides[2] + r * strides[3] + s * strides[4])
                for i in range(own_rows):
                    this = int32(row + i // wide_row * between_rows + i % wide_row)
                    if this < columns_of[0]:
                        write(out, int32(base + this * strides[0]), sums[i, j])

    def wgrad_products(
        x, grad, result, extents, grads, xs, columns_of, column_steps, windows, taps, lows,
        sizes, limits, tiles, result_strides,
    ):  # fmt: skip
        shared_rows = cuda.shared.array(shape_rows, real)
        shared_columns = cuda.shared.array(shape_columns, real)
        kept = cuda.shared.array(8, int32)
        sums = cuda.local.array(shape_sums, real)
        a = cuda.local.array(own_rows, real)
        b = cuda.local.array(own_columns, real)
        next_a = cuda.local.array(staged_rows, stored)
        next_b = cuda.local.array(staged_columns, stored)
        of_columns = cuda.local.array(column_loads, int32)
        low = cuda.local.array(shape_low, int32)
        table = cuda.shared.array(shape_table, int32)
        thread = uint32(cuda.threadIdx.x)

        # The block's tile, group and slice.
        block = int32(cuda.blockIdx.x)
        rest = quotient(block, tiles[1])
        first_column = int32((block - rest * tiles[1]) * columns)
        block = quotient(rest, tiles[0])
        first_row = int32((rest - block * tiles[0]) * rows)
        part = quotient(block, limits[0])
        group = int32(block - part * limits[0])
        # They are wanted again behind the loop, which has no registers to keep them in.
        if thread == 0:
            kept[0] = first_row
            kept[1] = first_column
            kept[2] = group
            kept[3] = part
            kept[4] = int32(columns_of[0] - first_row)

        # The thread's pixel of the eight, and the rows and columns that it loads.
        if last:
            pixel = uint32(thread // uint32(lanes))
            lane = uint32(thread % uint32(lanes))
        else:
            pixel = uint32(thread % uint32(DEPTH))
            lane = uint32(thread // uint32(DEPTH))
        load_from = int32(first_row + int32(lane) * each_row)
        load_from = int32((group * columns_of[0] + load_from) * grads[4])
        all_columns = int32(columns_of[1] * columns_of[2] * columns_of[3] * columns_of[4])
        for j in range(column_loads):
            column = int32(first_column + int32(lane + j * lanes) * each_column)
            c, t, r, s = decode(min(column, int32(all_columns - each_column)), columns_of)
            low[0, j] = int32(t * taps[0] + lows[0])
            low[1, j] = int32(r * taps[1] + lows[1])
            low[2, j] = int32(s * taps[2] + lows[2])
            if packed:
                low[1, j] += low[2, j]
            if packed > 2:
                low[1, j] += low[0, j]
            offset = int32((group * columns_of[1] + c) * column_steps[0] + t * column_steps[1])
            offset += int32(r * column_steps[2] + s * column_steps[3])
            of_columns[j] = int32(offset + column_steps[4])

        # The slice, and the table of its first pixels.
        first = int32(part * limits[2])
        left = int32(min(int32(first + limits[2]), limits[1]) - first)
        steps = quotient(left + DEPTH - 1, DEPTH)
        left = int32(left - int32(pixel))
        entry = pixel
        fill(table, thread, int32(first + int32(thread)), extents, grads, xs, windows)
        filled = uint32(threads)
        cuda.syncthreads()

        warp = uint32(thread >> uint32(5))
        across = uint32(warp % uint32(warps_across)) * uint32(warp_columns)
        across += uint32(thread % uint32(warp_columns))
        down = uint32(warp // uint32(warps_across)) * uint32(warp_rows)
        down += uint32(thread % uint32(32)) // uint32(warp_columns)
        row = uint32(down * uint32(wide_row))
        column = uint32(across * uint32(wide_column))

        for i in range(own_rows):
            for j in range(own_columns):
                sums[i, j] = real(0)
        fetch(
            x, grad, table, entry, left, kept, lane, load_from, grads[4], of_columns, low, sizes,
            next_a, next_b,
        )  # fmt: skip
        half = uint32(0)
        keep(shared_rows, shared_columns, half, pixel, lane, next_a, next_b)
        cuda.syncthreads()
        while steps > 0:
            # Of the next pixels, into the half of the table that the ones before had.
            first = int32(kept[3] * limits[2] + int32(filled) + int32(thread))
            at = uint32(uint32(filled & uint32(threads)) + thread)
            fill(table, at, first, extents, grads, xs, windows)
            filled = uint32(filled + uint32(threads))
            these = min(steps, int32(threads // DEPTH))
            steps = int32(steps - these)
            while these > 0:
                these = int32(these - 1)
                left = int32(left - DEPTH)
                entry = uint32(uint32(entry + uint32(DEPTH)) & uint32(last_entry))
                fetch(
                    x, grad, table, entry, left, kept, lane, load_from, grads[4], of_columns, low,
                    sizes, next_a, next_b,
                )  # fmt: skip
                multiply(shared_rows, shared_columns, half, 0, row, column, a, b, sums)
                multiply(shared_rows, shared_columns, half, 1, row, column, a, b, sums)
                multiply(shared_rows, shared_columns, half, 2, row, column, a, b, sums)
                multiply(shared_rows, shared_columns, half, 3, row, column, a, b, sums)
                multiply(shared_rows, shared_columns, half, 4, row, column, a, b, sums)
                multiply(shared_rows, shared_columns, half, 5, row, column, a, b, sums)
                multiply(shared_rows, shared_columns, half, 6, row, column, a, b, sums)
                multiply(shared_rows, shared_columns, half, 7, row, column, a, b, sums)
                half = uint32(half ^ uint32(1))
                keep(shared_rows, shared_columns, half, pixel, lane, next_a, next_b)
                cuda.syncthreads()

        out_row, out_column = int32(kept[0] + int32(row)), int32(kept[1] + int32(column))
        group = kept[2]
        if partial:
            base = int32((kept[3] * limits[0] + group) * result_strides[0] + out_column)
            base += int32(out_row * result_strides[1])
            store_partial(result, sums, base, result_strides[1])
        else:
            store(result, sums, out_row, out_column, group, columns_of, result_strides)

    return wgrad_products
