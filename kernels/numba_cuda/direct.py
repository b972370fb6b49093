"""Direct convolution on a GPU: a thread sums a few pixels of a few out-channels in registers.

x       (N, C, D, H, W)    any strides            IN
weight  (K, C/G, T, R, S)  same dtype             IN
out     (N, K, O, P, Q)    overwritten            OUT
Accumulates in float32, float64 or int64. Scratch: none but wgrad's. Takes every problem; what
``direct_depthwise`` takes is left to it. dgrad: ``phases``; wgrad: ``direct_wgrad``.
Padding is zeros that are multiplied; the dgrad's fprops skip it instead.
A block has ``lanes`` threads along the pixels (n, o, p, q), flat, and the others along
out-channels. Weights of a stretch of the reduction (c, t, r, s), flat, go through shared memory,
where a warp's threads read the same ones; pixels come through L1, for neighbours share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numba
from numba import cuda, int32, uint32, uint64

from ..problem import ConvProblem
from ..shapes import ceil_div
from . import direct_depthwise, direct_depthwise_last
from .activations import activation_of
from .direct_wgrad import wgrad
from .elements import reader, writer
from .indices import split
from .phases import dgrad_of
from .program import ACCUMULATED, STORED, At, ConvCall, Entry, Launch, Program

__all__ = ["cut", "dgrad", "fprop", "wgrad"]

#: Threads of a block, and of one that has few sums to make.
THREADS = 128
FEW_THREADS = 32
#: Pixels and out-channels of a thread at most, for sums of 4 and of 8 bytes.
PIXELS = {4: 4, 8: 2}
CHANNELS = {4: 8, 8: 4}
#: Bytes of weights in shared memory at a time.
WEIGHT_BYTES = 8192
#: Blocks below which threads take fewer pixels: two for each multiprocessor of an H200.
MIN_BLOCKS = 264
#: Depth of a pixel that there isn't.
OUTSIDE = -(1 << 30)


class Cut(NamedTuple):
    """How a block is made of threads, ``lanes`` of them along pixels, each with ``pixels`` x
    ``channels`` sums; ``steps`` of the reduction have their weights in shared memory."""

    threads: int
    lanes: int
    pixels: int
    channels: int
    steps: int

    def blocks(self, problem: ConvProblem) -> tuple[int, int]:
        """Blocks along the pixels, and along a group's out-channels."""
        places = problem.n * math.prod(problem.output)
        beside = self.threads // self.lanes * self.channels
        return ceil_div(places, self.lanes * self.pixels), ceil_div(problem.k, beside)


def cut(problem: ConvProblem, dtype: str) -> Cut:
    """The general kernel's cut: wide threads where there is enough for all multiprocessors."""
    itemsize = getattr(numba, ACCUMULATED[dtype]).bitwidth // 8
    places = problem.n * math.prod(problem.output)
    threads = THREADS if places * problem.k * problem.g > FEW_THREADS * MIN_BLOCKS else FEW_THREADS
    lanes = threads
    while lanes > 8 and lanes >= 2 * places:
        lanes //= 2
    channels = CHANNELS[itemsize]
    while channels > 1 and channels // 2 * (threads // lanes) >= problem.k:
        channels //= 2

    def made(pixels: int, channels: int) -> Cut:
        beside = threads // lanes * channels
        return Cut(threads, lanes, pixels, channels, WEIGHT_BYTES // (itemsize * beside))

    for pixels, beside in ((PIXELS[itemsize], channels), (1, channels), (1, min(channels, 2))):
        found = made(pixels, beside)
        if math.prod(found.blocks(problem)) * problem.g >= MIN_BLOCKS:
            return found
    return found


@cuda.jit(device=True)
def row_limit(d, h, problem):
    """Columns that an input row has: none if it isn't there."""
    there = uint32(int32(d)) < uint32(problem.d) and uint32(int32(h)) < uint32(problem.h)
    return problem.w if there else int32(0)


@cuda.jit(device=True)
def weight_place(at, step, problem, strides):
    """Where the weight of a step of the reduction is."""
    rest, s = split(step, problem.s)
    rest, r = split(rest, problem.r)
    c, t = split(rest, problem.t)
    return int32(at + c * strides[1] + t * strides[2] + r * strides[3] + s * strides[4])


def build_general(
    dtype: str, shape: Cut, bias: bool, activation: Any, skip: bool
) -> Callable[..., None]:
    """The kernel of any problem. ``skip``: padding isn't multiplied."""
    threads, lanes, pixels, channels, steps = shape
    beside = threads // lanes * channels
    weights, kind = steps * beside, getattr(numba, ACCUMULATED[dtype])
    zero = kind(0)
    read, write, activate = reader(dtype), writer(dtype), activation_of(activation)

    def direct(x, weight, values, out, problem, xs, ws, group_step, ys, m_blocks, k_blocks):
        taps = cuda.shared.array(weights, kind)
        sums = cuda.local.array((pixels, channels), kind)
        # Where each pixel's window begins: in memory, and in the input; where its row's input ends
        # (0: the row is padding); and where its sums go.
        begin = cuda.local.array(pixels, int32)
        depth = cuda.local.array(pixels, int32)
        line = cuda.local.array(pixels, int32)
        column = cuda.local.array(pixels, int32)
        limit = cuda.local.array(pixels, int32)
        target = cuda.local.array(pixels, int32)
        rest, k_block = split(cuda.blockIdx.x, k_blocks)
        g, m_block = split(rest, m_blocks)
        lane, across = cuda.threadIdx.x % lanes, cuda.threadIdx.x // lanes
        places = problem.n * problem.o * problem.p * problem.q
        first = m_block * (lanes * pixels) + lane
        for j in range(pixels):
            depth[j] = OUTSIDE
            line[j] = column[j] = begin[j] = target[j] = 0
            if first + j * lanes < places:
                rest, q = split(first + j * lanes, problem.q)
                rest, p = split(rest, problem.p)
                n, o = split(rest, problem.o)
                depth[j] = o * problem.stride_d - problem.pad_d
                line[j] = p * problem.stride_h - problem.pad_h
                column[j] = q * problem.stride_w - problem.pad_w
                place = n * xs[0] + g * problem.c * xs[1] + depth[j] * xs[2]
                begin[j] = place + line[j] * xs[3] + column[j] * xs[4]
                place = n * ys[0] + g * problem.k * ys[1]
                target[j] = place + o * ys[2] + p * ys[3] + q * ys[4]
            limit[j] = row_limit(depth[j], line[j], problem)
            for k in range(channels):
                sums[j, k] = zero
        k_first = k_block * beside
        weights_at = g * group_step + k_first * ws[0]
        total = problem.c * problem.t * problem.r * problem.s
        c, t, r, s, row = int32(0), int32(0), int32(0), int32(0), int32(0)
        for at in range(0, total, steps):
            cuda.syncthreads()
            for e in range(cuda.threadIdx.x, weights, threads):
                k, i = e // steps, e % steps
                value = zero
                if at + i < total and k_first + k < problem.k:
                    value = read(weight, weight_place(weights_at + k * ws[0], at + i, problem, ws))
                taps[uint32(i * beside + k)] = value
            cuda.syncthreads()
            for i in range(min(steps, total - at)):
                right = int32(s * problem.dilation_w)
                further = int32(row + right * xs[4])
                row_of_taps = uint64(i * beside + across * channels)
                for j in range(pixels):
                    # Unsigned, what is left of the row is beyond its end.
                    inside = uint32(int32(column[j] + right)) < uint32(limit[j])
                    value = zero
                    if inside:
                        value = read(x, int32(begin[j] + further))
                    if inside or not skip:
                        for k in range(channels):
                            sums[j, k] += value * taps[row_of_taps + uint64(k)]
                s = int32(s + 1)
                if s == problem.s:
                    s, r = int32(0), int32(r + 1)
                    if r == problem.r:
                        r, t = int32(0), int32(t + 1)
                        if t == problem.t:
                            t, c = int32(0), int32(c + 1)
                    down, deep = r * problem.dilation_h, t * problem.dilation_d
                    row = int32(c * xs[1] + deep * xs[2] + down * xs[3])
                    for j in range(pixels):
                        limit[j] = row_limit(depth[j] + deep, line[j] + down, problem)
        for k in range(channels):
            channel = k_first + across * channels + k
            if channel < problem.k:
                addend = zero
                if bias:
                    addend = read(values, int32(g * problem.k + channel))
                for j in range(pixels):
                    if first + j * lanes < places:
                        place = int32(target[j] + channel * ys[1])
                        write(out, place, activate(sums[j, k] + addend))

    return direct


def _general(call: ConvCall, skip: bool) -> Program:
    problem, shape = call.problem, cut(call.problem, call.dtype)
    m_blocks, k_blocks = shape.blocks(problem)
    blocks = m_blocks * k_blocks * problem.g
    if not blocks:
        return Program(())
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        build_general,
        (call.dtype, shape, call.bias, call.activation, skip),
        (
            *(pointer,) * 4,
            "problem",
            "int32[5]",
            "int32[5]",
            "int32",
            *("int32[5]", "int32", "int32"),
        ),
        shape.threads,
    )
    values = At("bias" if call.bias else "second")
    args = (
        *(At("first"), At("second"), values, At("out"), problem, call.first, call.second),
        *(call.group_step, call.out, m_blocks, k_blocks),
    )
    return Program((Launch(entry, (blocks, 1, 1), args),))


def fprop(call: ConvCall) -> Program:
    """``out = activation(bias + x * weight)``: two launches at most, no scratch."""
    return _fprop(call, skip=False)


def _fprop(call: ConvCall, skip: bool) -> Program:
    if call.problem.n * math.prod(call.problem.output):
        for rows in (direct_depthwise, direct_depthwise_last):
            if rows.takes(call):
                return rows.program(call, skip)
    return _general(call, skip)


#: The adjoint of fprop in x, of fprops that skip padding.
dgrad = dgrad_of(partial(_fprop, skip=True))
