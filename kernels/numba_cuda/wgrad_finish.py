"""The sum of *wgrad*'s slices, in their order, and its store.

A block adds ``FINISH_LANES`` weights: each of its parts every ``FINISH_PARTS``-th slice, then one
adds the parts. So few weights of many slices still keep the memory busy.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, int32, types

from .elements import writer
from .program import ACCUMULATED
from .wgrad_tile import column_decoder, quotient

#: Weights of a block, and what adds the slices of each.
FINISH_LANES, FINISH_PARTS = 32, 8


def build_finish(dtype: str, last: bool) -> Any:
    """The kernel that adds slices; ``last``: columns have the channel innermost."""
    real = getattr(types, ACCUMULATED[dtype])
    shape = FINISH_PARTS, FINISH_LANES
    decode, write = column_decoder(last), writer(dtype)

    def wgrad_finish(scratch, out, columns_of, limits, strides):
        parts = cuda.shared.array(shape, real)
        lane = int32(cuda.threadIdx.x % FINISH_LANES)
        part = int32(cuda.threadIdx.x // FINISH_LANES)
        columns = int32(columns_of[1] * columns_of[2] * columns_of[3] * columns_of[4])
        element = int32(cuda.blockIdx.x * FINISH_LANES + lane)
        row = quotient(element, columns)
        column = int32(element - row * columns)
        group = quotient(row, columns_of[0])
        inside = group < limits[0]
        total = real(0)
        if inside:
            within = int32(row - group * columns_of[0])
            base = int32(group * limits[2] + within * limits[3] + column)
            for i in range(part, limits[1], FINISH_PARTS):
                total += scratch[int32(base + int32(i) * limits[0] * limits[2])]
        parts[part, lane] = total
        cuda.syncthreads()
        if inside and part == 0:
            for i in range(1, FINISH_PARTS):
                total += parts[i, lane]
            c, t, r, s = decode(column, columns_of)
            at = int32(row * strides[0] + c * strides[1] + t * strides[2])
            write(out, int32(at + r * strides[3] + s * strides[4]), total)

    return wgrad_finish
