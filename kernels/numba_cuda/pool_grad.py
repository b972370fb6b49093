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
from ._pool_windows import axes_of, kind_of, regular, window_of, windows_at
from .elements import reader, writer
from .pooling import THREADS, channels_last, divisor_of, operands, pointers
from .program import ACCUMULATED, Entry, Launch, PoolCall, Program


def pool_grad(call: PoolCall) -> Program:
    """The launch of a pooling's adjoint."""
    call = regular(call)
    places = call.n * call.c * math.prod(call.size)
    if places == 0:
        return Program(())
    return Program((_general(call, places),))


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
