"""Adjoints of pooling on the GPU: gradients to where maxima were, or shared by a mean's window.

grad_output  (N, C, O, P, Q)    any strides           IN
indices      (N, C, O, P, Q)    int64, any strides    IN, of maxima, as ``pooling`` gives them
out          (N, C, D, H, W)    any strides           OUT
Accumulates in the dtype, 16-bit floats in float32. Scratch: none. Blocks: 256 places of ``out``.
A place looks at the windows that have it, in the order o, p, q, so that its sum has the same bits
on every run: no atomics. An index outside of its window's places is skipped.
Assumes a validated PoolGeometry; raises nothing.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, int64, uint32

from ..shapes import ceil_div
from ._pool_folds import divided, inverse_of, kind_of_sums, start_of
from ._pool_general import place, position
from ._pool_grad_strips import MOST_WINDOWS, Reach, Strip, build_grad_strips
from ._pool_strips import vector_of
from ._pool_whole import build_grad_whole
from ._pool_windows import axes_of, kind_of, magic, regular, window_of, windows_at
from .elements import reader, writer
from .pooling import (
    ENOUGH,
    THREADS,
    channels_last,
    counted,
    divisor_of,
    in_vectors,
    is_whole,
    operands,
    pointers,
    thread_cuts,
    widest_vector,
)
from .program import ACCUMULATED, Entry, Launch, PoolCall, Program


def pool_grad(call: PoolCall, enough: int = ENOUGH) -> Program:
    """The launch of a pooling's adjoint; threads make more than one row of places, if they needn't,
    where ``enough`` threads remain."""
    call = regular(call)
    places = call.n * call.c * math.prod(call.size)
    if places == 0:
        return Program(())
    return Program((_of_whole(call) or _in_strips(call, enough) or _general(call, places),))


def _general(call: PoolCall, places: int) -> Launch:
    constants = (
        call.dtype, call.indices is not None, kind_of(call), call.count_include_pad,
        call.divisor != 0, channels_last(call), THREADS,
    )  # fmt: skip
    signature = (
        *pointers(call), "int32[5]", *("int32[7]",) * 3, *("int32[5]",) * 3, ACCUMULATED[call.dtype]
    )  # fmt: skip
    entry = Entry(build_grad, constants, signature, THREADS)
    args = (
        *operands(call), (call.n, call.c, *call.size), *axes_of(call), call.first, call.out,
        call.indices or call.out, divisor_of(call),
    )  # fmt: skip
    return Launch(entry, (ceil_div(places, THREADS), 1, 1), args)


def _in_strips(call: PoolCall, enough: int) -> Launch | None:
    """The launch for small windows; None if they aren't, or aren't near each other."""
    strip = _strip_of(call, enough)
    if strip is None:
        return None
    d, h, w = call.size
    h, w = ceil_div(h, strip.height.places), ceil_div(w, strip.width.places)
    cuts, blocks = thread_cuts(call.n, call.c // strip.lanes, (d, h, w), strip.last)
    if blocks * THREADS > 2**31:
        return None
    constants = (
        call.dtype, call.indices is not None, call.count_include_pad, call.divisor != 0, strip,
        THREADS,
    )  # fmt: skip
    signature = (
        *pointers(call), f"uint32[{len(cuts)}]", "int32", *("int32[7]",) * 3, *("int32[5]",) * 3,
        ACCUMULATED[call.dtype],
    )  # fmt: skip
    entry = Entry(build_grad_strips, constants, signature, THREADS, blocks=2)
    args = (
        *operands(call), cuts, call.n, *axes_of(call), call.first, call.out,
        call.indices or call.out, divisor_of(call),
    )  # fmt: skip
    return Launch(entry, (blocks, 1, 1), args)


def _strip_of(call: PoolCall, enough: int) -> Strip | None:
    (taps_h, taps_w), (pad_h, pad_w) = call.kernel[1:], call.pad[1:]
    pairs = zip(call.output[1:], call.stride[1:], strict=True)
    stride_h, stride_w = (step if outputs > 1 else 1 for outputs, step in pairs)
    small = max(taps_h, taps_w) <= 3 and max(stride_h, stride_w) <= 2
    if call.adaptive or max(call.dilation) > 1 or pad_h >= taps_h or pad_w >= taps_w or not small:
        return None
    last, vector = channels_last(call), vector_of(call.dtype)
    together, lanes = 1, 1
    if last:
        wide_out = in_vectors(call.first, call.aligned[0], 1, call.c, vector)
        wide_out = wide_out and in_vectors(call.out, call.aligned[1], 1, call.c, vector)
        if call.indices is not None:
            wide_out = wide_out and in_vectors(call.indices, call.aligned[2], 1, call.c, 2)
        lanes = vector if wide_out else 1
        columns = 1 if lanes == 8 and stride_w == 1 else 2
    else:
        columns = max(widest_vector(call.out, call.aligned[1], call.size[2], vector), 2)
        wide_out = call.size[2] % columns == 0 and in_vectors(
            call.out, call.aligned[1], 4, call.size[2], columns
        )
        together = _together(call, columns // stride_w)
    places = call.n * call.c * math.prod(call.size)
    rows = 2 if stride_h == 2 or places >= 2 * columns * lanes * enough else 1
    height = Reach(taps_h, stride_h, pad_h, rows)
    width = Reach(taps_w, stride_w, pad_w, columns)
    if height.windows > MOST_WINDOWS:
        return None
    return Strip(height, width, lanes, together, wide_out, last)


def _together(call: PoolCall, count: int) -> int:
    """How many neighbouring windows, of ``count`` wanted, are read at once."""
    both = [(call.first, call.aligned[0], count)]
    if call.indices is not None:
        both.append((call.indices, call.aligned[2], 2))
    outputs = call.output[2]
    vectors = all(in_vectors(*one[:2], 4, outputs, one[2]) for one in both)
    return count if count > 1 and outputs % count == 0 and vectors else 1


def _of_whole(call: PoolCall) -> Launch | None:
    """The launch for one output that has all of an input evenly apart in memory."""
    if not is_whole(call, call.out):
        return None
    places, step = math.prod(call.size), call.out[4]
    total, last, vector = call.n * call.c * places, channels_last(call), vector_of(call.dtype)
    if last:
        fits = (
            in_vectors(call.first, call.aligned[0], 1, call.c, vector),
            in_vectors(call.out, call.aligned[1], 1, call.c, vector),
        )
        lanes = vector if all(fits) else 1
        total //= lanes
        numbers = call.c // lanes, places
    else:
        packed = step == 1 and call.out[:2] == (call.c * places, places) and call.aligned[1]
        lanes = vector if packed and total % vector == 0 else 1
        numbers = places, call.c
    if total >= 2**31 - THREADS:
        return None
    constants = (call.dtype, call.indices is not None, lanes, last, THREADS)
    signature = (
        *pointers(call), "int32", "int32", "uint32[6]", "int32", "int32", *("int32[5]",) * 3,
        ACCUMULATED[call.dtype],
    )  # fmt: skip
    cut = tuple(part for number in numbers for part in (*magic(number), number))
    call = call._replace(divisor=counted(call))
    args = (
        *operands(call), total, call.c, cut, places, step, call.first, call.out,
        call.indices or call.out, divisor_of(call),
    )  # fmt: skip
    blocks = ceil_div(total, THREADS * (1 if last else lanes))
    return Launch(Entry(build_grad_whole, constants, signature, THREADS), (blocks, 1, 1), args)


def build_grad(
    dtype: str, of_max: bool, kind: str, padded: bool, uniform: bool, last: bool, threads: int
) -> Any:
    """A thread per place; ``uniform``: every gradient of a mean is divided by ``divisor``;
    ``last``: channels are the fastest, else the positions."""
    read, write = reader(dtype), writer(dtype)
    divide, inverse = divided(dtype), inverse_of(dtype)
    window, windows, zero = window_of(kind, padded), windows_at(kind), start_of(dtype, True)
    wide = kind_of_sums(dtype)

    @cuda.jit(device=True)
    def apart(at, i, axis):
        """Whether no tap of window i is at a place between its first and its last."""
        return kind == "dilated" and uint32(at + axis[5] - i * axis[3]) % uint32(axis[4]) != 0

    def pool_grad_general(
        grad, out, indices, extents, depth, height, width, strides, out_strides, index_strides,
        divisor,
    ):  # fmt: skip
        i = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + uint32(cuda.threadIdx.x))
        n, c, d, h, w = position(i, extents, last)
        if n >= extents[0]:
            return
        at = int64((d * height[0] + h) * width[0] + w)
        first_o, end_o = windows(d, depth)
        first_p, end_p = windows(h, height)
        first_q, end_q = windows(w, width)
        total = zero
        for o in range(first_o, end_o):
            for p in range(first_p, end_p):
                for q in range(first_q, end_q):
                    if of_max:
                        if indices[place(n, c, o, p, q, index_strides)] == at:
                            total += read(grad, place(n, c, o, p, q, strides))
                    elif not (apart(d, o, depth) or apart(h, p, height) or apart(w, q, width)):
                        value = read(grad, place(n, c, o, p, q, strides))
                        places = divisor
                        if not uniform:
                            area = int64(window(p, height)[2]) * int64(window(q, width)[2])
                            places = wide(int64(window(o, depth)[2]) * area)
                        total += divide(value, places, inverse(places))
        write(out, place(n, c, d, h, w, out_strides), total)

    return pool_grad_general
