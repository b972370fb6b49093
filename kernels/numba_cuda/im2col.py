"""Convolution as columns and a GEMM: im2col, and ``tiled``'s tiles over the columns.

x       (N, C, D, H, W)    any strides            IN   "first"
weight  (K, C/G, T, R, S)  same dtype             IN   "second"
bias    (K,)               same dtype, or none    IN   "bias"
out     (N, K, O, P, Q)    overwritten            OUT  "out"
Accumulates in <dtype>, 16-bit floats in float32. Scratch: the columns of a chunk of outputs, at
most ``CHUNK_BYTES`` unless one row of outputs has more, and what ``tiled`` takes for a chunk.
Launches: for each chunk, its columns ``[g][t][r][s][c][pixel]``, and the launches of a 1x1 problem
over them.
Why: what every window reads is found once, not once per tile of out-channels; what it costs is to
write and read every input value as often as there are taps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod

import numba
from numba import cuda, int32

from ..problem import ConvProblem
from ..shapes import ceil_div, round_up
from . import tiled
from ._tile_fetch import inside
from .indices import split
from .phases import dgrad_of
from .program import STORED, At, ConvCall, Entry, Launch, Program

#: Bytes of a chunk's columns: twice over they stay in an H200's second-level cache.
CHUNK_BYTES = 24 << 20
THREADS = 256


def build_columns(dtype: str) -> Callable[..., None]:
    """Columns of a chunk, a thread per element, pixels fastest. Padding is zeros."""
    zero = getattr(numba, STORED[dtype])(0)

    def columns(x, out, problem, strides, count):
        index = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if index < count:
            row, pixel = split(index, problem.n * problem.o * problem.p * problem.q)
            row, c = split(row, problem.c)
            row, s = split(row, problem.s)
            row, r = split(row, problem.r)
            group, t = split(row, problem.t)
            pixel, q = split(pixel, problem.q)
            pixel, p = split(pixel, problem.p)
            n, o = split(pixel, problem.o)
            d = int32(o * problem.stride_d - problem.pad_d + t * problem.dilation_d)
            h = int32(p * problem.stride_h - problem.pad_h + r * problem.dilation_h)
            w = int32(q * problem.stride_w - problem.pad_w + s * problem.dilation_w)
            value = zero
            if inside(d, h, w, problem):
                at = n * strides[0] + (group * problem.c + c) * strides[1]
                value = x[int32(at + d * strides[2] + h * strides[3] + w * strides[4])]
            out[index] = value

    return columns


def _chunks(problem: ConvProblem, itemsize: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Images, planes and rows of outputs, from and to, whose columns are computed together."""
    column = problem.g * problem.c * prod(problem.kernel) * itemsize
    plane = problem.p * problem.q
    images = CHUNK_BYTES // (column * problem.o * plane)
    planes = CHUNK_BYTES // (column * plane)
    rows = CHUNK_BYTES // (column * problem.q)
    most = (
        (images, problem.o, problem.p) if images
        else (1, planes, problem.p) if planes
        else (1, 1, max(rows, 1))
    )  # fmt: skip
    extents = problem.n, problem.o, problem.p
    ranges = [
        [(low, min(low + step, extent)) for low in range(0, extent, step)]
        for step, extent in zip(most, extents, strict=True)
    ]
    for n in ranges[0]:
        for o in ranges[1]:
            for p in ranges[2]:
                yield n, o, p


def _part(problem: ConvProblem, chunk: tuple[tuple[int, int], ...]) -> ConvProblem:
    """The problem of a chunk's outputs: its windows begin further on."""
    (n, n_end), (o, o_end), (p, p_end) = chunk
    return problem._replace(
        n=n_end - n, o=o_end - o, p=p_end - p,
        pad_d=problem.pad_d - o * problem.stride_d, pad_h=problem.pad_h - p * problem.stride_h,
    )  # fmt: skip


def _product(part: ConvProblem) -> ConvProblem:
    """The 1x1 problem over a chunk's columns."""
    o, p, q = part.output
    return ConvProblem(
        part.n, part.g, part.c * prod(part.kernel), part.k, o, p, q, 1, 1, 1, o, p, q,
        1, 1, 1, 1, 1, 1, 0, 0, 0,
    )  # fmt: skip


def _columns_bytes(part: ConvProblem, itemsize: int) -> int:
    size = part.g * part.c * prod(part.kernel) * part.n * prod(part.output) * itemsize
    return round_up(size, tiled.ALIGNMENT)


def scratch_bytes(problem: ConvProblem, dtype: str) -> int:
    """A chunk's columns, and what the tiles take."""
    itemsize = tiled.itemsize_of(dtype)
    if not tiled.outputs_of(problem):
        return 0
    parts = {_part(problem, chunk) for chunk in _chunks(problem, itemsize)}
    sizes = [tiled.scratch_bytes(_product(part), dtype) for part in parts]
    return max(_columns_bytes(part, itemsize) for part in parts) + max(sizes)


def fprop(call: ConvCall, skips_padding: bool = False) -> Program:
    """Columns and products, chunk by chunk; ``skips_padding`` as ``tiled.fprop`` has it."""
    if not tiled.outputs_of(call.problem):
        return Program(())
    launches = tuple(_launches(call, skips_padding))
    return Program(launches, scratch_bytes(call.problem, call.dtype))


dgrad = dgrad_of(partial(fprop, skips_padding=True))


def _launches(call: ConvCall, skips_padding: bool) -> Iterator[Launch]:
    problem, itemsize = call.problem, tiled.itemsize_of(call.dtype)
    chunks = list(_chunks(problem, itemsize))
    behind = max(_columns_bytes(_part(problem, chunk), itemsize) for chunk in chunks)
    packed = None
    for chunk in chunks:
        (n, _), (o, _), (p, _) = chunk
        part = _part(problem, chunk)
        product = _product(part)
        x = tiled.View("first", n * call.first[0], call.first, False)
        step = n * call.out[0] + o * call.out[2] + p * call.out[3]
        out = tiled.View("out", step, call.out, call.aligned[2])
        yield _columns(call, part, x)
        pixels = part.n * prod(part.output)
        strides = prod(part.output), pixels, part.p * part.q, part.q, 1
        columns = tiled.View("scratch", 0, strides, True)
        pack, *rest = tiled.launches_of(
            call, product, tiled.cut(product, call.dtype), columns, out, behind, skips_padding,
            tiled.Whole(part, x),
        )  # fmt: skip
        if pack != packed:
            yield pack
        packed = pack
        yield from rest


def _columns(call: ConvCall, part: ConvProblem, x: tiled.View) -> Launch:
    count = part.g * part.c * prod(part.kernel) * part.n * prod(part.output)
    pointer = f"{STORED[call.dtype]}*"
    signature = pointer, pointer, "problem", "int32[5]", "int32"
    entry = Entry(build_columns, (call.dtype,), signature, THREADS)
    args = At("first", x.offset), At("scratch"), part, x.strides, count
    return Launch(entry, (ceil_div(count, THREADS), 1, 1), args)
