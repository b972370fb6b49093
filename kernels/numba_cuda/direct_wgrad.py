"""The weights' gradient of few or small filters on a GPU: dot products of stretches of the output.

x            (N, C, D, H, W)    any strides            IN   "first"
grad_output  (N, K, O, P, Q)    same dtype             IN   "second"
out          (K, C/G, T, R, S)  overwritten            OUT
Accumulates in float32, float64 or int64. Scratch: sums of the slices, if there are several.
A block sums products of one slice of the pixels (n, o, p, q), flat, for a few taps of one
in-channel and a few out-channels: each thread every so many pixels, then the threads in a tree in
shared memory. Slices are added up in order by a second launch: the same bits on every run.
Padding is zeros that are multiplied. Takes every problem; each tap reads its pixels again, so for
many channels ``wgrad`` is faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numba
from numba import cuda, int32, uint32

from ..problem import ConvProblem
from ..shapes import ceil_div
from .elements import reader, writer
from .indices import split
from .program import ACCUMULATED, STORED, At, ConvCall, Entry, Launch, Program

#: Threads of a block, and the least number (a warp) where there are few pixels.
THREADS, WARP = 128, 32
#: Taps and out-channels of a thread at most, for sums of 4 and of 8 bytes.
TAPS = 9
CHANNELS = {4: 4, 8: 2}
#: Blocks that slices are made for: eight for each multiprocessor of an H200. A thread of a slice
#: has so many pixels at least.
BLOCKS = 1056
MIN_PIXELS = 8
#: Elements of the weights that a block of the second launch finishes.
ELEMENTS = 8


class Cut(NamedTuple):
    """A block's sums: ``taps`` taps by ``channels`` out-channels, for ``lanes`` groups side by
    side, of a slice of ``length`` pixels."""

    threads: int
    lanes: int
    taps: int
    channels: int
    slices: int
    length: int


def cut(problem: ConvProblem, dtype: str, last: bool = False) -> Cut:
    """How the work is cut. ``last``: a warp takes neighbouring channels of a depthwise problem
    instead of neighbouring pixels."""
    itemsize = getattr(numba, ACCUMULATED[dtype]).bitwidth // 8
    pixels, taps = problem.n * math.prod(problem.output), math.prod(problem.kernel)
    # As many blocks of taps as TAPS makes, but even ones.
    beside = ceil_div(taps, ceil_div(taps, TAPS))
    channels, lanes = min(problem.k, CHANNELS[itemsize]), 1
    while last and problem.c == 1 and lanes < min(problem.g, WARP):
        lanes *= 2
    blocks = problem.c * ceil_div(problem.g, lanes)
    blocks *= ceil_div(problem.k, channels) * ceil_div(taps, beside)
    threads = THREADS if pixels * lanes > WARP * MIN_PIXELS else WARP
    slices = min(ceil_div(BLOCKS, blocks), pixels * lanes // (threads * MIN_PIXELS))
    length = ceil_div(pixels, max(slices, 1))
    slices = max(ceil_div(pixels, max(length, 1)), 1)
    return Cut(threads, lanes, beside, channels, slices, length)


def scratch_bytes(problem: ConvProblem, dtype: str) -> int:
    """Sums of all slices, where there are several: the most that a layout needs."""
    slices = max(cut(problem, dtype, last).slices for last in (False, True))
    size = getattr(numba, ACCUMULATED[dtype]).bitwidth // 8
    return slices * _filters(problem) * size if slices > 1 else 0


def _filters(problem: ConvProblem) -> int:
    return problem.g * problem.k * problem.c * math.prod(problem.kernel)


@cuda.jit(device=True)
def filter_place(element, problem, steps):
    """Where element (k, c, t, r, s), flat, of the weights is."""
    rest, s = split(element, problem.s)
    rest, r = split(rest, problem.r)
    rest, t = split(rest, problem.t)
    k, c = split(rest, problem.c)
    place = k * steps[0] + c * steps[1] + t * steps[2]
    return int32(place + r * steps[3] + s * steps[4])


@cuda.jit(device=True)
def is_below(at, end):
    """``0 <= at < end`` in one comparison."""
    return uint32(int32(at)) < uint32(end)


def tree_of(threads: int, lanes: int, values: int) -> Callable[..., None]:
    """``add(sums, shared)``: sums of a lane's threads, value v at ``shared[v * pitch + lane]``. A
    pitch of an odd number of elements keeps a warp's writes in different banks."""
    pitch = threads + 1

    @cuda.jit(device=True)
    def add(sums, shared):
        thread = int32(cuda.threadIdx.x)
        for v in range(values):
            shared[uint32(v * pitch + thread)] = sums[v]
        step = int32(threads // 2)
        while step >= lanes:
            cuda.syncthreads()
            e = thread
            while e < values * step:
                v, i = split(e, step)
                at = uint32(v * pitch + i)
                shared[at] += shared[uint32(at + uint32(step))]
                e = int32(e + threads)
            step = int32(step // 2)
        cuda.syncthreads()

    return add


def build_sums(
    dtype: str, threads: int, lanes: int, beside: int, channels: int, flat: bool, several: bool
) -> Callable[..., None]:
    """The kernel that sums a slice. ``flat``: the first axis has one place and one tap.
    ``several``: there are other slices, so sums go to scratch."""
    kind = getattr(numba, ACCUMULATED[dtype])
    zero, values, pitch = kind(0), beside * channels, threads + 1
    room, stride = values * pitch, threads // lanes
    read, write, add_threads = reader(dtype), writer(dtype), tree_of(threads, lanes, values)

    def wgrad_sums(x, grad, out, scratch, problem, xs, gs, ys, length, slices):
        shared = cuda.shared.array(room, kind)
        sums = cuda.local.array(values, kind)
        grads = cuda.local.array(channels, kind)
        # How far a tap is from where its window begins: in memory, and in the input.
        offset = cuda.local.array(beside, int32)
        deep = cuda.local.array(beside, int32)
        down = cuda.local.array(beside, int32)
        right = cuda.local.array(beside, int32)
        taps = int32(problem.t * problem.r * problem.s)
        tap_blocks, _ = split(taps + (beside - 1), beside)
        k_blocks, _ = split(problem.k + (channels - 1), channels)
        rest, part = split(cuda.blockIdx.x, slices)
        rest, tap_block = split(rest, tap_blocks)
        rest, c = split(rest, problem.c)
        g_block, k_block = split(rest, k_blocks)
        g = int32(g_block * lanes + cuda.threadIdx.x % lanes)
        first_tap, first_k = int32(tap_block * beside), int32(k_block * channels)
        for i in range(beside):
            # Taps beyond the last are the last again, and nobody's.
            rest, s = split(min(int32(first_tap + i), int32(taps - 1)), problem.s)
            t, r = split(rest, problem.r)
            deep[i] = t * problem.dilation_d
            down[i] = r * problem.dilation_h
            right[i] = s * problem.dilation_w
            offset[i] = deep[i] * xs[2] + down[i] * xs[3] + right[i] * xs[4]
        for v in range(values):
            sums[v] = zero
        pixel = int32(part * length + cuda.threadIdx.x // lanes)
        pixels = int32(problem.n * problem.o * problem.p * problem.q)
        end = min(int32(part * length + length), pixels)
        if g >= problem.g:
            end = int32(0)
        x_group = int32((g * problem.c + c) * xs[1])
        grad_group = int32((g * problem.k + first_k) * gs[1])
        rest, q = split(pixel, problem.q)
        rest, p = split(rest, problem.p)
        n, o = split(rest, problem.o)
        rest, q_step = split(stride, problem.q)
        rest, p_step = split(rest, problem.p)
        n_step, o_step = split(rest, problem.o)
        last_d = int32((problem.t - 1) * problem.dilation_d)
        last_h = int32((problem.r - 1) * problem.dilation_h)
        last_w = int32((problem.s - 1) * problem.dilation_w)
        while pixel < end:
            d = int32(o * problem.stride_d - problem.pad_d)
            h = int32(p * problem.stride_h - problem.pad_h)
            w = int32(q * problem.stride_w - problem.pad_w)
            begin = int32(x_group + n * xs[0] + d * xs[2] + h * xs[3] + w * xs[4])
            source = int32(grad_group + n * gs[0] + o * gs[2] + p * gs[3] + q * gs[4])
            for k in range(channels):
                grads[k] = zero
                if first_k + k < problem.k:
                    grads[k] = read(grad, int32(source + k * gs[1]))
            # Where a warp's threads have the same pixel, as its lanes have, one look is enough for
            # most: side by side some window has padding.
            whole = lanes > 1 and d >= 0 and d + last_d < problem.d
            whole = whole and h >= 0 and h + last_h < problem.h
            if whole and w >= 0 and w + last_w < problem.w:
                for i in range(beside):
                    value = read(x, int32(begin + offset[i]))
                    for k in range(channels):
                        sums[k * beside + i] += value * grads[k]
            else:
                for i in range(beside):
                    inside = is_below(h + down[i], problem.h) and is_below(w + right[i], problem.w)
                    if not flat:
                        inside = inside and is_below(d + deep[i], problem.d)
                    value = zero
                    if inside:
                        value = read(x, int32(begin + offset[i]))
                    for k in range(channels):
                        sums[k * beside + i] += value * grads[k]
            # The next pixel without a division.
            pixel = int32(pixel + stride)
            q, p, o, n = int32(q + q_step), int32(p + p_step), int32(o + o_step), int32(n + n_step)
            if q >= problem.q:
                q, p = int32(q - problem.q), int32(p + 1)
            if p >= problem.p:
                p, o = int32(p - problem.p), int32(o + 1)
            if o >= problem.o:
                o, n = int32(o - problem.o), int32(n + 1)
        add_threads(sums, shared)
        e = int32(cuda.threadIdx.x)
        while e < values * lanes:
            v, lane = e // lanes, e % lanes
            k, i, g = v // beside, v % beside, int32(g_block * lanes + lane)
            tap = int32(first_tap + i)
            if tap < taps and first_k + k < problem.k and g < problem.g:
                channel = int32(g * problem.k + first_k + k)
                element = int32((channel * problem.c + c) * taps + tap)
                value = shared[uint32(v * pitch + lane)]
                if several:
                    total = problem.g * problem.k * problem.c * taps
                    scratch[int32(part * total + element)] = value
                else:
                    write(out, filter_place(element, problem, ys), value)
            e = int32(e + threads)

    return wgrad_sums


def build_finish(dtype: str) -> Callable[..., None]:
    """The kernel that adds up slices: a few threads for each element of the weights."""
    kind, write = getattr(numba, ACCUMULATED[dtype]), writer(dtype)
    zero, parts = kind(0), THREADS // ELEMENTS

    def wgrad_finish(scratch, out, problem, ys, slices):
        shared = cuda.shared.array(THREADS, kind)
        thread = int32(cuda.threadIdx.x)
        element = int32(cuda.blockIdx.x * ELEMENTS + thread % ELEMENTS)
        total = int32(problem.g * problem.k * problem.c * problem.t * problem.r * problem.s)
        value, part = zero, int32(thread // ELEMENTS)
        while part < slices and element < total:
            value += scratch[int32(part * total + element)]
            part = int32(part + parts)
        shared[uint32(thread)] = value
        cuda.syncthreads()
        if thread < ELEMENTS and element < total:
            value = zero
            for part in range(parts):
                value += shared[uint32(part * ELEMENTS + thread)]
            write(out, filter_place(element, problem, ys), value)

    return wgrad_finish


def wgrad(call: ConvCall) -> Program:
    """The gradient of the weights of any problem: one launch, or two."""
    problem = call.problem
    if not _filters(problem):
        return Program(())
    last = call.first[1] == call.second[1] == 1
    threads, lanes, taps, channels, slices, length = cut(problem, call.dtype, last)
    pointer, sums = f"{STORED[call.dtype]}*", f"{ACCUMULATED[call.dtype]}*"
    blocks = ceil_div(problem.g, lanes) * problem.c * slices * ceil_div(problem.k, channels)
    blocks *= ceil_div(math.prod(problem.kernel), taps)
    several = slices > 1
    flat = problem.d == problem.t == problem.o == 1 and problem.pad_d == 0
    entry = Entry(
        build_sums,
        (call.dtype, threads, lanes, taps, channels, flat, several),
        (
            *(pointer,) * 3,
            sums if several else pointer,
            "problem",
            *("int32[5]",) * 3,
            "int32",
            "int32",
        ),
        threads,
    )
    scratch = At("scratch") if several else At("out")
    operands = At("first"), At("second"), At("out"), scratch
    args = *operands, problem, call.first, call.second, call.out, length, slices
    launches = [Launch(entry, (blocks, 1, 1), args)]
    if several:
        signature = sums, pointer, "problem", "int32[5]", "int32"
        entry = Entry(build_finish, (call.dtype,), signature, THREADS)
        grid = ceil_div(_filters(problem), ELEMENTS), 1, 1
        finish = At("scratch"), At("out"), problem, call.out, slices
        launches.append(Launch(entry, grid, finish))
    return Program(tuple(launches), scratch_bytes(problem, call.dtype))
