"""Depthwise convolution on a GPU, channels last: vectors of channels, sliding down the rows.

x       (N, C, 1, H, W)    channels side by side, 16-byte aligned    IN
weight  (C, 1, 1, R, S)    any strides                               IN
out     (N, C, 1, P, Q)    channels side by side, overwritten        OUT
Accumulates in float32, float64 or int64. Scratch: none. A thread has up to 16 bytes of channels
and two neighbouring columns: it reads each input row of theirs once, adds it to the output rows
whose windows have it, all in registers, and stores a row when its last tap is there. What threads
side by side read twice comes from L1. As many channels as have their taps in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import cuda, int32, uint32

from ..problem import ConvProblem
from ..shapes import ceil_div
from .activations import activation_of
from .elements import reader
from .indices import split
from .program import ACCUMULATED, STORED, At, ConvCall, Entry, Launch, Program
from .vectors import filler, storer

THREADS = 128
#: Columns of a thread, its rows where there are enough threads, and channels at most.
COLUMNS, ROWS, CHANNELS = 2, 8, 4
#: Taps of all of a thread's channels at most: 36 of 3x3, 50 of 5x5, 49 of 7x7.
MOST_VALUES = 50
#: Taps along an axis and strides that kernels are unrolled for.
MOST_TAPS, MOST_STRIDE = 7, 2
#: Blocks below which threads take fewer rows, and read taps more often: two for each
#: multiprocessor of an H200.
MIN_BLOCKS = 264


class Shape(NamedTuple):
    """What a kernel is unrolled for: taps, strides, and a thread's rows and channels."""

    r: int
    s: int
    stride_h: int
    stride_w: int
    rows: int
    channels: int


def cut(problem: ConvProblem, dtype: str) -> Shape:
    """Rows and channels of a thread."""
    accumulated = getattr(numba, ACCUMULATED[dtype]).bitwidth // 8
    channels = CHANNELS * 4 // accumulated
    while channels > 1 and channels * problem.r * problem.s * accumulated > MOST_VALUES * 4:
        channels //= 2
    rows = min(ROWS, problem.p)
    beside = problem.n * ceil_div(problem.g, channels) * ceil_div(problem.q, COLUMNS)
    while rows > 1 and beside * ceil_div(problem.p, rows) < MIN_BLOCKS * THREADS:
        rows //= 2
    # As many rows of threads, but even ones.
    rows = ceil_div(problem.p, ceil_div(problem.p, rows))
    return Shape(problem.r, problem.s, problem.stride_h, problem.stride_w, rows, channels)


def takes(call: ConvCall) -> bool:
    """Whether the kernel takes a call; the general one takes all."""
    problem = call.problem
    unrolled = max(problem.r, problem.s) <= MOST_TAPS
    unrolled = unrolled and max(problem.stride_h, problem.stride_w) <= MOST_STRIDE
    flat = problem.d == problem.t == problem.o == 1 and problem.pad_d == 0
    near = (problem.dilation_h == 1 or problem.r == 1) and (
        problem.dilation_w == 1 or problem.s == 1
    )
    if not (problem.c == problem.k == 1 and unrolled and flat and near):
        return False
    channels = cut(problem, call.dtype).channels
    beside = call.first[1] == call.out[1] == 1 and call.aligned[0] and call.aligned[2]
    steps = *(call.first[i] for i in (0, 3, 4)), *(call.out[i] for i in (0, 3, 4)), problem.g
    return beside and channels > 1 and all(step % channels == 0 for step in steps)


def _row_adder(dtype: str, shape: Shape, activation: Any, skip: bool) -> Any:
    """A device function that reads input row ``y`` of a thread, counted from its first one, adds it
    to its outputs, and stores the row of them that is finished then."""
    r, s, stride, stride_w, rows, channels = shape
    read, write, zero = filler(dtype, channels), storer(dtype, channels), _zero(dtype)
    width, values = (COLUMNS - 1) * stride_w + s, COLUMNS * channels
    activate = activation_of(activation)

    @cuda.jit(device=True)
    def add(y, x, out, place, target, top, left, height, there, steps, taps, sums, addends, pixels):
        inside = top + y >= 0 and top + y < height
        for column in range(width):
            if inside and there[column] != 0:
                read(pixels, column * channels, x, int32(place + y * steps[0] + column * steps[1]))
            else:
                for v in range(channels):
                    pixels[column * channels + v] = zero
        for tap in range(r):
            i = (y - tap) // stride
            if i * stride == y - tap and i >= 0 and i < rows:
                for j in range(COLUMNS):
                    for b in range(s):
                        if not skip or (inside and there[j * stride_w + b] != 0):
                            for v in range(channels):
                                sums[i * values + j * channels + v] += (
                                    pixels[(j * stride_w + b) * channels + v]
                                    * taps[(tap * s + b) * channels + v]
                                )
        i = (y - (r - 1)) // stride
        if i * stride == y - (r - 1) and i >= 0 and i < left[0]:
            for j in range(COLUMNS):
                for v in range(channels):
                    at = i * values + j * channels + v
                    sums[at] = activate(sums[at] + addends[v])
                if j < left[1]:
                    go = int32(target + i * steps[2] + j * steps[3])
                    write(out, go, sums, i * values + j * channels)

    return add


def _in_order(step: Any, count: int, made: dict[int, Any]) -> Any:
    """As in ``direct_depthwise``: ``step`` for ``count`` rows one after the other."""
    if count not in made:
        half = count // 2
        first, second = _in_order(step, half, made), _in_order(step, count - half, made)

        @cuda.jit(device=True)
        def both(
            y, x, out, place, target, top, left, height, there, steps, taps, sums, addends, pixels
        ):
            first(
                y,
                x,
                out,
                place,
                target,
                top,
                left,
                height,
                there,
                steps,
                taps,
                sums,
                addends,
                pixels,
            )
            y += half
            second(
                y,
                x,
                out,
                place,
                target,
                top,
                left,
                height,
                there,
                steps,
                taps,
                sums,
                addends,
                pixels,
            )

        made[count] = both
    return made[count]


def _zero(dtype: str) -> Any:
    return getattr(numba, ACCUMULATED[dtype])(0)


def build_channels(
    dtype: str, shape: Shape, bias: bool, activation: Any, skip: bool, vectors: bool
) -> Callable[..., None]:
    """The kernel. ``skip``: padding isn't multiplied. ``vectors``: neighbouring channels' taps lie
    side by side, too."""
    r, s, stride, stride_w, rows, channels = shape
    kind, zero, read = getattr(numba, ACCUMULATED[dtype]), _zero(dtype), reader(dtype)
    width, count, every = (COLUMNS - 1) * stride_w + s, r * s, rows * COLUMNS * channels
    held, filters = width * channels, count * channels
    read_vector = filler(dtype, channels)
    step = _row_adder(dtype, shape, activation, skip)
    add_rows = _in_order(step, (rows - 1) * stride + r, {1: step})

    def depthwise_last(
        x, weight, values, out, problem, xs, ws, filter_step, ys, c_blocks, q_blocks, p_blocks
    ):
        there = cuda.local.array(width, int32)
        pixels = cuda.local.array(held, kind)
        taps = cuda.local.array(filters, kind)
        addends = cuda.local.array(channels, kind)
        sums = cuda.local.array(every, kind)
        thread = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        rest, c_block = split(thread, c_blocks)
        rest, q_block = split(rest, q_blocks)
        n, p_block = split(rest, p_blocks)
        if n < problem.n:
            c, q, p = int32(c_block * channels), int32(q_block * COLUMNS), int32(p_block * rows)
            for v in range(channels):
                addends[v] = zero
                if bias:
                    addends[v] = read(values, int32(c + v))
            for i in range(count):
                at = int32(c * filter_step + i // s * ws[3] + i % s * ws[4])
                if vectors:
                    read_vector(taps, i * channels, weight, at)
                else:
                    for v in range(channels):
                        taps[i * channels + v] = read(weight, int32(at + v * filter_step))
            for i in range(every):
                sums[i] = zero
            top = int32(p * stride - problem.pad_h)
            first = int32(q * stride_w - problem.pad_w)
            for column in range(width):
                there[column] = first + column >= 0 and first + column < problem.w
            place = int32(n * xs[0] + c + top * xs[3] + first * xs[4])
            target = int32(n * ys[0] + c + p * ys[3] + q * ys[4])
            left = int32(problem.p - p), int32(problem.q - q)
            steps = xs[3], xs[4], ys[3], ys[4]
            add_rows(
                0, x, out, place, target, top, left, problem.h, there, steps, taps, sums, addends,
                pixels,
            )  # fmt: skip

    return depthwise_last


def program(call: ConvCall, skip: bool) -> Program:
    """What the kernel makes of a call that it takes."""
    problem, shape = call.problem, cut(call.problem, call.dtype)
    blocks = [
        ceil_div(problem.g, shape.channels),
        ceil_div(problem.q, COLUMNS),
        ceil_div(problem.p, shape.rows),
    ]
    filter_step = call.group_step
    vectors = filter_step == 1 and call.aligned[1]
    vectors = vectors and all(step % shape.channels == 0 for step in call.second[3:])
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        build_channels,
        (call.dtype, shape, call.bias, call.activation, skip, vectors),
        (*(pointer,) * 4, "problem", "int32[5]", "int32[5]", "int32", "int32[5]", *("int32",) * 3),
        THREADS,
    )
    values = At("bias" if call.bias else "second")
    args = (
        *(At("first"), At("second"), values, At("out"), problem, call.first, call.second),
        *(filter_step, call.out, *blocks),
    )
    grid = ceil_div(problem.n * int(np.prod(blocks)), THREADS), 1, 1
    return Program((Launch(entry, grid, args),))
