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
from numba import cuda, int32, uint32, uint64

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
MOST_BYTES = 49152
#: Output rows of a thread: the most that leave the fewest idle.
MOST_ROWS, LEAST_ROWS = 8, 4
#: Strips of a block at most, and integers that tell of each.
MOST_STRIPS, TOLD = 32, 4
THREADS, WARP = 128, 32
#: Blocks below which they are made smaller: two for each multiprocessor of an H200.
MIN_BLOCKS = 264
#: Bytes of all banks of shared memory, which give one word each at a time.
BANKS_BYTES = 128
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


class Window(NamedTuple):
    """What kernels are unrolled for: taps, the rows' stride, the columns' dilation; bit b of
    ``checked``: whether column b of some output's window is padding."""

    r: int
    s: int
    stride: int
    dilation: int
    checked: int


def _around(problem: ConvProblem, itemsize: int) -> tuple[int, int]:
    """Elements before and behind a strip that windows at the ends of its rows read."""
    right = (problem.q - 1) * problem.stride_w + (problem.s - 1) * problem.dilation_w
    behind = max(right - problem.pad_w - problem.w + 1, 0)
    return round_up(problem.pad_w, COPY_BYTES // itemsize), behind


def cut(problem: ConvProblem, itemsize: int) -> Strips:
    """How a plane is cut into strips, and how many are a block's."""
    most = min(problem.p, MOST_ROWS)
    rows = min(
        range(most, min(most, LEAST_ROWS) - 1, -1),
        key=lambda count: ceil_div(problem.p, count) * count,
    )
    vector, (before, behind) = COPY_BYTES // itemsize, _around(problem, itemsize)
    several = False

    def pitch(groups: int) -> int:
        lines = (groups * rows - 1) * problem.stride_h + problem.r
        least = round_up(before + vector + lines * problem.w + behind, vector)
        # A warp's columns of several strips are in different banks of shared memory.
        beside = round_up(problem.q * problem.stride_w, vector)
        return least + (beside - least) % (BANKS_BYTES // itemsize) if several else least

    planes, all_groups = problem.n * problem.g, ceil_div(problem.p, rows)
    groups = all_groups
    while groups > 1 and (
        pitch(groups) * itemsize > STRIP_BYTES or planes * ceil_div(all_groups, groups) < MIN_BLOCKS
    ):
        groups -= 1
    tiles = ceil_div(all_groups, groups)
    groups = ceil_div(all_groups, tiles)
    # Whole warps of threads copy one strip each, or equal parts of a warp do.
    strips, several = 1, True
    while (
        2 * strips * pitch(groups) * itemsize <= STRIP_BYTES
        and 2 * strips <= MOST_STRIPS
        and 2 * strips * MIN_BLOCKS <= planes * tiles
    ):
        strips *= 2
    several = strips > 1
    items = strips * groups * problem.q
    threads = WARP
    while threads < THREADS and threads < items:
        threads *= 2
    return Strips(rows, groups, tiles, strips, pitch(groups), threads, max(threads // strips, 1))


def takes(call: ConvCall) -> bool:
    """Whether the kernel takes a call; the general one takes all."""
    problem, size = call.problem, np.dtype(STORED[call.dtype]).itemsize
    unrolled = max(problem.r, problem.s) <= MOST_TAPS and problem.stride_h <= MOST_STRIDE
    flat = problem.d == problem.t == problem.o == 1 and problem.pad_d == 0
    if not (problem.c == 1 and unrolled and flat and call.aligned[0]):
        return False
    dense = call.first[4] == 1 and call.first[3] == problem.w
    if not (dense and (problem.dilation_h == 1 or problem.r == 1)):
        return False
    return _shared(problem, cut(problem, size), call.dtype) <= MOST_BYTES


def _in_order(step: Any, count: int, made: dict[int, Any]) -> Any:
    """A device function that runs ``step`` for ``y .. y + count - 1``, each in line with its own
    constants: loops with so much inside aren't unrolled. ``made``: those of fewer steps."""
    if count not in made:
        half = count // 2
        first, second = _in_order(step, half, made), _in_order(step, count - half, made)

        @cuda.jit(device=True)
        def both(y, tile, at, line, top, height, there, taps, sums):
            first(y, tile, at, line, top, height, there, taps, sums)
            second(y + half, tile, at, line, top, height, there, taps, sums)

        made[count] = both
    return made[count]


def _rows_of(dtype: str, window: Window, rows: int, skip: bool) -> Any:
    """A device function that adds all products of a column of ``rows`` outputs, the first of whose
    windows begins at element ``at`` of ``tile``, in input row ``top``."""
    r, s, stride, dilation, checked = window
    read, zero = reader(dtype), getattr(numba, ACCUMULATED[dtype])(0)

    @cuda.jit(device=True)
    def add(y, tile, at, line, top, height, there, taps, sums):
        inside = top + y >= 0 and top + y < height
        # Unsigned: a negative index of an array would count from its end.
        row = uint64(at + y * line)
        for b in range(s):
            value = read(tile, row + uint64(b * dilation))
            if checked >> b & 1 and there[b] == 0:
                value = zero
            for i in range(rows):
                tap = y - i * stride
                if tap >= 0 and tap < r:
                    if skip:
                        if inside and there[b] != 0:
                            sums[i] += value * taps[tap * s + b]
                    else:
                        sums[i] += value * taps[tap * s + b]

    return _in_order(add, (rows - 1) * stride + r, {1: add})


def copier(dtype: str) -> Any:
    """``copy(tile, at, pitch, before, x, base, top, lines, problem, lane, team)``: rows ``top ..``
    of the plane that begins at ``base`` go to the strip of ``pitch`` elements at ``at``, with zeros
    for padding and around; gives where the first of them begins."""
    vector = COPY_BYTES // np.dtype(STORED[dtype]).itemsize
    zero = getattr(numba, STORED[dtype])(0)

    @cuda.jit(device=True)
    def copy(tile, at, pitch, before, x, base, top, lines, problem, lane, team):
        # The strip's elements lie modulo a vector as they do in x.
        run = int32(base + top * problem.w)
        begin = int32(at + before + (run & (vector - 1)))
        delta = int32(begin - run)
        end = int32(top + lines)
        low = min(max(top, int32(0)), end)
        high = max(min(end, problem.h), low)
        first, last = int32(base + low * problem.w), int32(base + high * problem.w)
        inner = min(int32((first + (vector - 1)) & -vector), last)
        outer = max(int32(last & -vector), inner)
        i = int32(inner + lane * vector)
        while i < outer:
            ops.copy_async(tile, int32(delta + i), x, i, int32(16))
            i = int32(i + team * vector)
        ops.commit()
        i = int32(first + lane)
        while i < inner:
            tile[uint32(delta + i)] = x[i]
            i = int32(i + team)
        i = int32(outer + lane)
        while i < last:
            tile[uint32(delta + i)] = x[i]
            i = int32(i + team)
        i, stop = int32(at + lane), int32(delta + first)
        while i < stop:
            tile[uint32(i)] = zero
            i = int32(i + team)
        i, stop = int32(delta + last + lane), int32(at + pitch)
        while i < stop:
            tile[uint32(i)] = zero
            i = int32(i + team)
        return begin

    return copy


def build_strips(
    dtype: str, window: Window, rows: int, threads: int, bias: bool, activation: Any, skip: bool
) -> Callable[..., None]:
    """The kernel. ``skip``: padding isn't multiplied."""
    r, s, stride, dilation, _ = window
    stored, kind = getattr(numba, STORED[dtype]), getattr(numba, ACCUMULATED[dtype])
    zero, count = kind(0), r * s
    read, write, activate = reader(dtype), writer(dtype), activation_of(activation)
    add_rows, copy, arrived = _rows_of(dtype, window, rows, skip), copier(dtype), ops.wait(0)
    told_bytes = MOST_STRIPS * TOLD * 4
    filters = told_bytes // (kind.bitwidth // 8)

    def depthwise(
        x, weight, values, out, problem, xs, ws, filter_step, ys, groups, tiles, strips, pitch,
        tile_begin, before, team,
    ):  # fmt: skip
        tile = cuda.shared.array(0, stored)
        told = cuda.shared.array(0, int32)
        filter_taps = cuda.shared.array(0, kind)
        there = cuda.local.array(s, int32)
        taps = cuda.local.array(count, kind)
        sums = cuda.local.array(rows, kind)
        lines = int32((groups * rows - 1) * stride + r)
        j, lane = split(cuda.threadIdx.x, team)
        teams, _ = split(threads, team)
        while j < strips:
            tell = uint32(j * TOLD)
            strip = int32(cuda.blockIdx.x * strips + j)
            # Where it begins, its first output row (none, if it isn't there), and where that goes.
            begin, row, target = int32(0), int32(problem.p), int32(0)
            if strip < problem.n * problem.g * tiles:
                plane, part = split(strip, tiles)
                n, g = split(plane, problem.g)
                top = int32(part * groups * rows * stride - problem.pad_h)
                base = int32(n * xs[0] + g * xs[1])
                at = int32(tile_begin + j * pitch)
                begin = copy(tile, at, pitch, before, x, base, top, lines, problem, lane, team)
                row = int32(part * groups * rows)
                target = int32(n * ys[0] + g * problem.k * ys[1])
                # A strip's filters, and what is added to their sums behind each.
                e = lane
                while e < problem.k * (count + 1):
                    k, i = split(e, count + 1)
                    value = zero
                    if i < count:
                        place = g * filter_step + k * ws[0] + i // s * ws[3] + i % s * ws[4]
                        value = read(weight, int32(place))
                    elif bias:
                        value = read(values, int32(g * problem.k + k))
                    filter_taps[uint32(filters + j * problem.k * (count + 1) + e)] = value
                    e = int32(e + team)
            if lane == 0:
                told[tell] = begin
                told[tell + uint32(1)] = row
                told[tell + uint32(2)] = target
            j = int32(j + teams)
        arrived()
        cuda.syncthreads()
        item, items = int32(cuda.threadIdx.x), int32(strips * groups * problem.q)
        rest, q = split(item, problem.q)
        group, j = split(rest, strips)
        rest_step, q_step = split(threads, problem.q)
        group_step, j_step = split(rest_step, strips)
        while item < items:
            tell = uint32(j * TOLD)
            p = int32(told[tell + uint32(1)] + group * rows)
            if p < problem.p:
                w = int32(q * problem.stride_w - problem.pad_w)
                at = int32(told[tell] + group * rows * stride * problem.w + w)
                for b in range(s):
                    there[b] = w + b * dilation >= 0 and w + b * dilation < problem.w
                top = int32(p * stride - problem.pad_h)
                target = int32(told[tell + uint32(2)] + p * ys[3] + q * ys[4])
                left = int32(problem.p - p)
                for k in range(problem.k):
                    first = uint64(filters + (j * problem.k + k) * (count + 1))
                    for i in range(count):
                        taps[i] = filter_taps[first + uint64(i)]
                    for i in range(rows):
                        sums[i] = zero
                    add_rows(0, tile, at, problem.w, top, problem.h, there, taps, sums)
                    addend = filter_taps[first + uint64(count)]
                    for i in range(rows):
                        value = activate(sums[i] + addend)
                        if i < left:
                            write(out, int32(target + i * ys[3]), value)
                    target = int32(target + ys[1])
            # The next item without a division.
            item = int32(item + threads)
            q, group, j = int32(q + q_step), int32(group + group_step), int32(j + j_step)
            if q >= problem.q:
                q, j = int32(q - problem.q), int32(j + 1)
            if j >= strips:
                j, group = int32(j - strips), int32(group + 1)

    return depthwise


def _begin(problem: ConvProblem, shape: Strips, dtype: str) -> int:
    """Bytes of shared memory before the strips: what is told of them, and their filters."""
    accumulated = np.dtype(ACCUMULATED[dtype]).itemsize
    filters = shape.strips * problem.k * (problem.r * problem.s + 1) * accumulated
    return MOST_STRIPS * TOLD * 4 + round_up(filters, COPY_BYTES)


def _shared(problem: ConvProblem, shape: Strips, dtype: str) -> int:
    """Bytes of shared memory."""
    strips = shape.strips * shape.pitch * np.dtype(STORED[dtype]).itemsize
    return _begin(problem, shape, dtype) + strips


def _window(problem: ConvProblem) -> Window:
    checked = 0
    for b in range(problem.s):
        first = b * problem.dilation_w - problem.pad_w
        outside = first < 0 or first + (problem.q - 1) * problem.stride_w >= problem.w
        checked |= outside << b
    return Window(problem.r, problem.s, problem.stride_h, problem.dilation_w, checked)


def program(call: ConvCall, skip: bool) -> Program:
    """What the kernel makes of a call that it takes."""
    problem, size = call.problem, np.dtype(STORED[call.dtype]).itemsize
    shape = cut(problem, size)
    blocks = ceil_div(problem.n * problem.g * shape.tiles, shape.strips)
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        build_strips,
        (
            *(call.dtype, _window(problem), shape.rows, shape.threads),
            *(call.bias, call.activation, skip),
        ),
        (*(pointer,) * 4, "problem", "int32[5]", "int32[5]", "int32", "int32[5]", *("int32",) * 7),
        shape.threads,
        shared=_shared(problem, shape, call.dtype),
    )
    values = At("bias" if call.bias else "second")
    args = (
        *(At("first"), At("second"), values, At("out"), problem, call.first, call.second),
        *(call.group_step, call.out),
        *(shape.groups, shape.tiles, shape.strips, shape.pitch),
        *(_begin(problem, shape, call.dtype) // size, _around(problem, size)[0], shape.team),
    )
    return Program((Launch(entry, (blocks, 1, 1), args),))
