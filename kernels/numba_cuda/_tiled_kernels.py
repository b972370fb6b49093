"""The kernels of the tiled rows: weights packed, tiles of sums, partial sums added up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import cuda, int32, uint32

from . import ops
from ._tile_fetch import divided, inside
from .activations import activation_of
from .elements import reader, writer
from .program import ACCUMULATED
from .tiles import STEP, TABLE, Tile, tile_functions

#: Blocks that pack weights: 32 out-channels by 32 rows, between them a bank to spare.
PACKED, PACKED_PITCH = 32, 33
PACK_THREADS = 256
FINISH_THREADS = 256

Kernel = Callable[..., None]


def build_pack(dtype: str, order: str) -> Kernel:
    """Weights as ``[g][row][k]`` in what sums are made in; a row is tap * channels + channel.

    ``sizes``: rows of a group, channels of a tap (both with zeros that fill up steps), and
    out-channels, filled up to tiles. ``strides``: g, k, c, t, r, s. Reading runs over out-channels
    ("k"), rows ("c"), or taps of a channel ("t"), whichever lie side by side; writing runs over
    out-channels, 32 by 32 through shared memory.
    """
    read, total = reader(dtype), getattr(numba, ACCUMULATED[dtype])
    zero, lines = total(0), PACK_THREADS // PACKED
    by_k, by_tap = order == "k", order == "t"

    def pack(weight, packed, problem, sizes, strides):
        block = cuda.shared.array((PACKED, PACKED_PITCH), total)
        lane = int32(cuda.threadIdx.x) % PACKED
        line = int32(cuda.threadIdx.x) // PACKED
        tiles_k = divided(sizes[2] + PACKED - 1, PACKED)
        tiles_e = divided(sizes[0] + PACKED - 1, PACKED)
        index = int32(cuda.blockIdx.x)
        rest = divided(index, tiles_k)
        first_k = int32((index - rest * tiles_k) * PACKED)
        group = divided(rest, tiles_e)
        first_e = int32((rest - group * tiles_e) * PACKED)
        taps = int32(problem.t * problem.r * problem.s)
        for i in range(line, PACKED, lines):
            k = int32(first_k + (lane if by_k else i))
            e = int32(first_e + (i if by_k else lane))
            if by_tap:
                c = divided(e, taps)
                tap = int32(e - c * taps)
            else:
                tap = divided(e, sizes[1])
                c = int32(e - tap * sizes[1])
            value = zero
            if k < problem.k and c < problem.c and tap < taps:
                plane = divided(tap, problem.s)
                t = divided(plane, problem.r)
                at = group * strides[0] + k * strides[1] + c * strides[2] + t * strides[3]
                at += (plane - t * problem.r) * strides[4] + (tap - plane * problem.s) * strides[5]
                value = read(weight, int32(at))
            block[i, lane] = value
        cuda.syncthreads()
        for i in range(line, PACKED, lines):
            e, k = int32(first_e + i), int32(first_k + lane)
            row = e
            if by_tap and e < taps * sizes[1]:
                c = divided(e, taps)
                row = int32((e - c * taps) * sizes[1] + c)
            if e < sizes[0] and k < sizes[2]:
                at = (group * sizes[0] + row) * sizes[2] + k
                packed[int32(at)] = block[i, lane] if by_k else block[lane, i]

    return pack


def build_resum(dtype: str) -> Any:
    """``resum(x, weights, problem, strides, group, pixel, pitch, first)``: the sum of one output as
    plain loops over what is inside the input, for where a tile multiplied padding by infinity.
    ``first``: where the out-channel's weights begin, ``pitch`` apart, ``channels`` a tap."""
    read, zero = reader(dtype), getattr(numba, ACCUMULATED[dtype])(0)

    @cuda.jit(device=True)
    def resum(x, weights, problem, strides, group, pixel, channels, pitch, first):
        plane = divided(pixel, problem.q)
        block = divided(plane, problem.p)
        n = divided(block, problem.o)
        low_d = (block - n * problem.o) * problem.stride_d - problem.pad_d
        low_h = (plane - block * problem.p) * problem.stride_h - problem.pad_h
        low_w = (pixel - plane * problem.q) * problem.stride_w - problem.pad_w
        begin = n * strides[0] + group * problem.c * strides[1]
        value, row = zero, int32(first)
        for t in range(problem.t):
            for r in range(problem.r):
                for s in range(problem.s):
                    d = int32(low_d + t * problem.dilation_d)
                    h = int32(low_h + r * problem.dilation_h)
                    w = int32(low_w + s * problem.dilation_w)
                    if inside(d, h, w, problem):
                        at = int32(begin + d * strides[2] + h * strides[3] + w * strides[4])
                        for c in range(problem.c):
                            taken = read(x, int32(at + c * strides[1]))
                            value += taken * weights[int32(row + c * pitch)]
                    row += int32(channels * pitch)
        return value

    return resum


def build_conv(
    tile: Tile, dtype: str, result: str, flat: bool, channels: bool, store: str,
    skipping: bool, bias: bool, activation: Any,
) -> Kernel:  # fmt: skip
    """A tile per block. ``result`` is out's dtype (of partial sums: what they are made in).

    ``cut``: tiles along out-channels and pixels, slices, their steps, all steps, channels of a
    packed tap, packed out-channels, and elements from one slice's result to the next's.
    ``store``: four "pixels" or four "channels" at once, where they lie side by side at multiples of
    16 bytes (of 8, for 16-bit floats), or "single" elements. ``skipping``: padding isn't to be
    multiplied, so a sum that is NaN is made again without it.
    """
    functions = tile_functions(tile, dtype, flat, channels)
    clear, place, accumulate = functions.clear, functions.place, functions.accumulate
    total, read, write = getattr(numba, ACCUMULATED[dtype]), reader(result), writer(result)
    activate, zero = activation_of(activation), getattr(numba, ACCUMULATED[dtype])(0)
    row, column, resum = functions.row, functions.column, build_resum(dtype)
    own_k, own_p = tile.sums
    origins_size = tile.origins_size
    rows, columns, threads = tile.rows, tile.columns, tile.threads
    weights_size, input_size, own_pixels = tile.weights_size, tile.input_size, tile.own_pixels
    by_pixels, by_channels = store == "pixels", store == "channels"
    narrow = _NARROW.get(result, _same)

    @cuda.jit(device=True)
    def tabulate(problem, strides, pixel, where):
        # Once per pixel: a thread stores up to eight of them.
        for i in range(own_pixels):
            column_ = uint32(cuda.threadIdx.x + i * threads)
            at = int32(pixel + column_)
            plane = divided(at, problem.q)
            block = divided(plane, problem.p)
            n = divided(block, problem.o)
            offset = n * strides[0] + (block - n * problem.o) * strides[2]
            offset += (plane - block * problem.p) * strides[3] + (at - plane * problem.q) * strides[
                4
            ]
            if column_ < columns:
                where[column_] = int32(offset)

    @cuda.jit(device=True)
    def store_single(out, values, problem, step, group, first, base, pixels, where, sums):
        for i in range(own_k):
            k = int32(first + row(i))
            if k < problem.k:
                at = int32(group * problem.k + k)
                added = read(values, at) if bias else zero
                for j in range(own_p):
                    if column(j) < pixels:
                        value = activate(total(sums[i, j] + added))
                        write(out, int32(base + where[column(j)] + at * step), value)

    @cuda.jit(device=True)
    def store_pixels(out, values, problem, step, group, first, base, pixels, where, sums):
        for i in range(own_k):
            k = int32(first + row(i))
            if k < problem.k:
                at = int32(group * problem.k + k)
                added = read(values, at) if bias else zero
                for j in range(0, own_p, 4):
                    if column(j) < pixels:
                        four = (
                            narrow(activate(total(sums[i, j] + added))),
                            narrow(activate(total(sums[i, j + 1] + added))),
                            narrow(activate(total(sums[i, j + 2] + added))),
                            narrow(activate(total(sums[i, j + 3] + added))),
                        )
                        ops.write4(out, int32(base + where[column(j)] + at * step), four)

    @cuda.jit(device=True)
    def store_channels(out, values, problem, step, group, first, base, pixels, where, sums):
        added = cuda.local.array(4, total)
        for i in range(0, own_k, 4):
            k = int32(first + row(i))
            if k < problem.k:
                at = int32(group * problem.k + k)
                for v in range(4):
                    added[v] = read(values, int32(at + v)) if bias else zero
                for j in range(own_p):
                    if column(j) < pixels:
                        four = (
                            narrow(activate(total(sums[i, j] + added[0]))),
                            narrow(activate(total(sums[i + 1, j] + added[1]))),
                            narrow(activate(total(sums[i + 2, j] + added[2]))),
                            narrow(activate(total(sums[i + 3, j] + added[3]))),
                        )
                        ops.write4(out, int32(base + where[column(j)] + at), four)

    @cuda.jit(device=True)
    def any_nan(sums):
        found = False
        for i in range(own_k):
            for j in range(own_p):
                found = found or sums[i, j] != sums[i, j]
        return found

    def conv(
        x, out, problem, strides, input, weights, values, window, input_strides, out_strides, cut
    ):  # fmt: skip
        a = cuda.shared.array(weights_size, total)
        b = cuda.shared.array(input_size, total)
        table = cuda.shared.array(TABLE, int32)
        where = cuda.shared.array(columns, int32)
        sums = cuda.local.array((own_k, own_p), total)
        origins = cuda.shared.array(origins_size, int32)
        block = cuda.shared.array(4, int32)
        # Blocks that run together share their pixels.
        index = int32(cuda.blockIdx.x)
        rest = divided(index, cut[0])
        first = int32((index - rest * cut[0]) * rows)
        index = divided(rest, cut[1])
        pixel = int32((rest - index * cut[1]) * columns)
        group = divided(index, cut[2])
        slice_ = int32(index - group * cut[2])
        low = int32(slice_ * cut[3])
        high = min(int32(low + cut[3]), cut[4])
        pitch = cut[6]
        begin = int32(group * cut[4] * STEP * pitch)

        # Kept in shared memory while registers are short.
        if cuda.threadIdx.x == 0:
            block[0], block[1], block[2], block[3] = first, pixel, group, slice_
        tabulate(problem, out_strides, pixel, where)
        place(problem, strides, group, pixel, origins)
        clear(sums)
        accumulate(
            x, weights, problem, strides, pitch, int32(begin + first), low, high, origins,
            a, b, table, sums,
        )  # fmt: skip
        first, pixel, group, slice_ = block[0], block[1], block[2], block[3]
        begin = int32(group * cut[4] * STEP * pitch)
        pixels = int32(problem.n * problem.o * problem.p * problem.q - pixel)
        base, step = int32(slice_ * cut[7]), out_strides[1]
        again = skipping and any_nan(sums)
        if by_pixels:
            store_pixels(out, values, problem, step, group, first, base, pixels, where, sums)
        elif by_channels:
            store_channels(out, values, problem, step, group, first, base, pixels, where, sums)
        else:
            store_single(out, values, problem, step, group, first, base, pixels, where, sums)
        if skipping and again:
            for i in range(own_k):
                k = int32(first + row(i))
                for j in range(own_p):
                    if k < problem.k and column(j) < pixels:
                        value = resum(
                            input, weights, window, input_strides, group, int32(pixel + column(j)),
                            cut[5], pitch, int32(begin + k),
                        )  # fmt: skip
                        at = int32(group * problem.k + k)
                        added = read(values, at) if bias else zero
                        value = activate(total(value + added))
                        write(out, int32(where[column(j)] + at * step), value)

    return conv


@cuda.jit(device=True)
def _same(value):
    return value


#: The stored bits of a sum, by dtype.
_NARROW = {"float16": ops.narrow_float16, "bfloat16": ops.narrow_bfloat16}


def build_finish(
    dtype: str, by_channels: bool, skipping: bool, bias: bool, activation: Any
) -> Kernel:
    """Add up slices in order: a thread per output, in the order in which ``parts`` has them.

    ``cut`` as ``build_conv`` has it.
    """
    read, write = reader(dtype), writer(dtype)
    activate, resum = activation_of(activation), build_resum(dtype)
    total = getattr(numba, ACCUMULATED[dtype])

    def finish(parts, out, x, weights, values, problem, strides, out_strides, cut):
        index = int32(cuda.blockIdx.x * FINISH_THREADS + cuda.threadIdx.x)
        pixels, filters = problem.n * problem.o * problem.p * problem.q, problem.g * problem.k
        if index < cut[7]:
            if by_channels:
                pixel = divided(index, filters)
                channel = int32(index - pixel * filters)
            else:
                channel = divided(index, pixels)
                pixel = int32(index - channel * pixels)
            value = parts[index]
            for i in range(1, cut[2]):
                value += parts[int32(index + i * cut[7])]
            if skipping and value != value:
                group = divided(channel, problem.k)
                first = group * cut[4] * STEP * cut[6] + channel - group * problem.k
                value = resum(
                    x, weights, problem, strides, group, pixel, cut[5], cut[6], int32(first)
                )
            if bias:
                value = total(value + read(values, channel))
            plane = divided(pixel, problem.q)
            block = divided(plane, problem.p)
            n = divided(block, problem.o)
            at = n * out_strides[0] + channel * out_strides[1]
            at += (block - n * problem.o) * out_strides[2]
            at += (plane - block * problem.p) * out_strides[3]
            at += (pixel - plane * problem.q) * out_strides[4]
            write(out, int32(at), activate(value))

    return finish
