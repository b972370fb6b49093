"""Depthwise convolution on a GPU, channels first: strips of planes in shared memory.

x       (N, C, 1, H, W)    rows of a plane without gaps, 16-byte aligned    IN
weight  (K, 1, 1, R, S)    any strides                                      IN
out     (N, K, 1, P, Q)    any strides, overwritten                         OUT
Accumulates in float32, float64 or int64. Scratch: none. A depthwise layer is bound by memory, so a
block copies what its outputs read, 16 bytes at a time and asynchronously: a strip of whole rows is
one run of memory. A thread then slides down a column, ``rows`` outputs of it in registers: each
element of the strip is read from shared memory once for each tap of a row, not of the kernel.
Rows of padding are zeros in shared memory, columns of padding are chosen while reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import cuda, int32

from ..problem import ConvProblem
from ..shapes import ceil_div, round_up
from . import ops
from .activations import activation_of
from .elements import reader, writer
from .indices import split
from .program import ACCUMULATED, STORED, At, ConvCall, Entry, Launch, Program

#: Bytes of a copy, and of the strips of a block: 12 such blocks are on a multiprocessor at a time.
COPY_BYTES = 16
STRIP_BYTES = 16384
#: Bytes that a strip may need at most: what a kernel has without asking.
MOST_BYTES = 49152 - 4096
#: Output rows of a thread: the most that leave the fewest idle.
MOST_ROWS, LEAST_ROWS = 8, 4
#: Strips of a block at most, and integers that tell of each.
MOST_STRIPS, TOLD = 32, 4
THREADS, WARP = 128, 32
#: Blocks below which they are made smaller: two for each multiprocessor of an H200.
MIN_BLOCKS = 264
#: Taps along an axis and row strides that kernels are unrolled for.
MOST_TAPS, MOST_STRIDE = 7, 2


class Strips(NamedTuple):
    """A block has ``strips`` strips, of ``groups`` times ``rows`` output rows each (``tiles`` of
    them make a plane), ``pitch`` elements apart. ``team`` threads copy a strip."""

    rows: int
    groups: int
    tiles: int
    strips: int
    pitch: int
    threads: int
    team: int


def cut(problem: ConvProblem, itemsize: int) -> Strips:
    """How a plane is cut into strips, and how many are a block's."""
    most = min(problem.p, MOST_ROWS)
    rows = min(
        range(most, min(most, LEAST_ROWS) - 1, -1),
        key=lambda count: ceil_div(problem.p, count) * count,
    )
    vector = COPY_BYTES // itemsize

    def pitch(groups: int) -> int:
        lines = (groups * rows - 1) * problem.stride_h + problem.r
        return round_up(lines * problem.w + vector, vector)

    planes, all_groups = problem.n * problem.g, ceil_div(problem.p, rows)
    groups = all_groups
    while groups > 1 and (
        pitch(groups) * itemsize > STRIP_BYTES or planes * ceil_div(all_groups, groups) < MIN_BLOCKS
    ):
        groups -= 1
    tiles = ceil_div(all_groups, groups)
    groups = ceil_div(all_groups, tiles)
    strips = min(STRIP_BYTES // (pitch(groups) * itemsize), MOST_STRIPS)
    strips = max(min(strips, planes * tiles // MIN_BLOCKS), 1)
    threads = min(round_up(strips * groups * problem.q, WARP), THREADS)
    threads = threads if threads < 3 * WARP else THREADS
    team = WARP if strips * WARP >= threads else threads
    return Strips(rows, groups, tiles, strips, pitch(groups), threads, team)


def takes(call: ConvCall) -> bool:
    """Whether the kernel takes a call; the general one takes all."""
    problem, size = call.problem, np.dtype(STORED[call.dtype]).itemsize
    unrolled = max(problem.r, problem.s) <= MOST_TAPS and problem.stride_h <= MOST_STRIDE
    flat = problem.d == problem.t == problem.o == 1 and problem.pad_d == 0
    if not (problem.c == 1 and unrolled and flat and call.aligned[0]):
        return False
    dense = call.first[4] == 1 and call.first[3] == problem.w
    # One row has no next one, and one column none beside it.
    dense = dense and (problem.dilation_h == 1 or problem.r == 1)
    shape = cut(problem, size)
    return dense and shape.strips * shape.pitch * size <= MOST_BYTES


def _in_order(step: Any, count: int, made: dict[int, Any]) -> Any:
    """A device function that runs ``step`` for ``y .. y + count - 1``, each in line with its own
    constants, which a loop with so much inside isn't unrolled to. ``made``: those of fewer steps."""
    if count not in made:
        half = count // 2
        first, second = _in_order(step, half, made), _in_order(step, count - half, made)

        @cuda.jit(device=True)
        def both(y, tile, columns, ends, line, top, height, taps, sums):
            first(y, tile, columns, ends, line, top, height, taps, sums)
            second(y + half, tile, columns, ends, line, top, height, taps, sums)

        made[count] = both
    return made[count]


def _rows_of(dtype: str, r: int, s: int, stride: int, rows: int, skip: bool) -> Any:
    """A device function that adds all products of a column of ``rows`` outputs."""
    read, zero = reader(dtype), getattr(numba, ACCUMULATED[dtype])(0)

    @cuda.jit(device=True)
    def add(y, tile, columns, ends, line, top, height, taps, sums):
        there = top + y >= 0 and top + y < height
        for b in range(s):
            value = read(tile, int32(columns[b] + y * line))
            if ends[b] == 0:
                value = zero
            for i in range(rows):
                tap = y - i * stride
                if tap >= 0 and tap < r:
                    if skip:
                        if there and ends[b] != 0:
                            sums[i] += value * taps[tap * s + b]
                    else:
                        sums[i] += value * taps[tap * s + b]

    return _in_order(add, (rows - 1) * stride + r, {1: add})


def copier(dtype: str) -> Any:
    """``copy(tile, at, x, base, top, lines, problem, lane, team)``: rows ``top ..`` of the plane
    that begins at ``base`` go to the strip at ``at``, rows of padding as zeros; gives where the
    first of them begins."""
    vector = COPY_BYTES // np.dtype(STORED[dtype]).itemsize
    zero = getattr(numba, STORED[dtype])(0)

    @cuda.jit(device=True)
    def copy(tile, at, x, base, top, lines, problem, lane, team):
        # The strip's elements lie modulo a vector as they do in x.
        run = int32(base + top * problem.w)
        begin = int32(at + (run & (vector - 1)))
        delta = int32(begin - run)
        end = top + lines
        low = min(max(top, 0), end)
        high = max(min(end, problem.h), low)
        first, last = base + low * problem.w, base + high * problem.w
        inner = min((first + vector - 1) & -vector, last)
        outer = max(last & -vector, inner)
        for i in range(inner + lane * vector, outer, team * vector):
            ops.copy_async(tile, int32(delta + i), x, int32(i), int32(16))
        ops.commit()
        for i in range(first + lane, inner, team):
            tile[delta + i] = x[i]
        for i in range(outer + lane, last, team):
            tile[delta + i] = x[i]
        for i in range(run + lane, first, team):
            tile[delta + i] = zero
        for i in range(last + lane, base + end * problem.w, team):
            tile[delta + i] = zero
        return begin

    return copy


def build_strips(
    dtype: str, r: int, s: int, stride: int, rows: int, threads: int, bias: bool, activation: Any,
    skip: bool,
) -> Callable[..., None]:  # fmt: skip
    """The kernel. ``skip``: padding isn't multiplied."""
    stored, kind = getattr(numba, STORED[dtype]), getattr(numba, ACCUMULATED[dtype])
    zero, count = kind(0), r * s
    read, write, activate = reader(dtype), writer(dtype), activation_of(activation)
    add_rows, copy, arrived = _rows_of(dtype, r, s, stride, rows, skip), copier(dtype), ops.wait(0)
    table = MOST_STRIPS * TOLD * 4 // np.dtype(STORED[dtype]).itemsize

    def depthwise(
        x, weight, values, out, problem, xs, ws, group_step, ys, groups, tiles, strips, pitch, team
    ):
        tile = cuda.shared.array(0, stored)
        told = cuda.shared.array(0, int32)
        columns = cuda.local.array(s, int32)
        ends = cuda.local.array(s, int32)
        taps = cuda.local.array(count, kind)
        sums = cuda.local.array(rows, kind)
        lines = (groups * rows - 1) * stride + r
        lane, member = cuda.threadIdx.x % team, cuda.threadIdx.x // team
        for j in range(member, strips, threads // team):
            strip = cuda.blockIdx.x * strips + j
            g = int32(-1)
            if strip < problem.n * problem.g * tiles:
                plane, at = split(strip, tiles)
                n, g = split(plane, problem.g)
                top = at * groups * rows * stride - problem.pad_h
                base = n * xs[0] + g * xs[1]
                begin = copy(tile, table + j * pitch, x, base, top, lines, problem, lane, team)
                if lane == 0:
                    told[j * TOLD + 1] = begin
                    told[j * TOLD + 2] = at * groups * rows
                    told[j * TOLD + 3] = n * ys[0] + g * problem.k * ys[1]
            if lane == 0:
                told[j * TOLD] = g
        arrived()
        cuda.syncthreads()
        for item in range(cuda.threadIdx.x, strips * groups * problem.q, threads):
            rest, q = split(item, problem.q)
            j, group = split(rest, groups)
            g = told[j * TOLD]
            p = told[j * TOLD + 2] + group * rows
            if g >= 0 and p < problem.p:
                begin = told[j * TOLD + 1] + group * rows * stride * problem.w
                for b in range(s):
                    w = q * problem.stride_w - problem.pad_w + b * problem.dilation_w
                    ends[b] = w >= 0 and w < problem.w
                    columns[b] = begin + min(max(w, 0), problem.w - 1)
                for k in range(problem.k):
                    for i in range(count):
                        place = g * group_step + k * ws[0] + i // s * ws[3] + i % s * ws[4]
                        taps[i] = read(weight, int32(place))
                    for i in range(rows):
                        sums[i] = zero
                    top = p * stride - problem.pad_h
                    add_rows(0, tile, columns, ends, problem.w, top, problem.h, taps, sums)
                    addend = zero
                    if bias:
                        addend = read(values, int32(g * problem.k + k))
                    target = told[j * TOLD + 3] + k * ys[1] + p * ys[3] + q * ys[4]
                    for i in range(rows):
                        if p + i < problem.p:
                            write(out, int32(target + i * ys[3]), activate(sums[i] + addend))

    return depthwise


def program(call: ConvCall, skip: bool) -> Program:
    """What the kernel makes of a call that it takes."""
    problem, size = call.problem, np.dtype(STORED[call.dtype]).itemsize
    shape = cut(problem, size)
    blocks = ceil_div(problem.n * problem.g * shape.tiles, shape.strips)
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        build_strips,
        (
            *(call.dtype, problem.r, problem.s, problem.stride_h, shape.rows, shape.threads),
            *(call.bias, call.activation, skip),
        ),
        (*(pointer,) * 4, "problem", "int32[5]", "int32[5]", "int32", "int32[5]", *("int32",) * 5),
        shape.threads,
        shared=MOST_STRIPS * TOLD * 4 + shape.strips * shape.pitch * size,
    )
    values = At("bias" if call.bias else "second")
    args = (
        *(At("first"), At("second"), values, At("out"), problem, call.first, call.second),
        *(call.second_group or problem.k * call.second[0], call.out),
        *(shape.groups, shape.tiles, shape.strips, shape.pitch, shape.team),
    )
    return Program((Launch(entry, (blocks, 1, 1), args),))
