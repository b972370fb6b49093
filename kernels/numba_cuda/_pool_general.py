"""Poolings of any window on the GPU: a thread per output.

x        (N, C, D, H, W)    any strides            IN
out      (N, C, O, P, Q)    any strides            OUT
indices  (N, C, O, P, Q)    int64, any strides     OUT, of a maximum that wants them
Accumulates in the dtype, 16-bit floats in float32. Scratch: none. Blocks: 256 outputs, neighbours
along w, or along the channels where those are neighbours in memory.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, int32, int64, uint32

from ._pool_folds import divided, inverse_of, joined, kind_of_sums, larger, start_of
from ._pool_windows import window_of
from .elements import reader, writer


def build_pool(
    dtype: str, mean: bool, with_indices: bool, kind: str, padded: bool, uniform: bool, last: bool,
    threads: int,
) -> Any:  # fmt: skip
    """A thread per output; ``uniform``: every sum of a mean is divided by ``divisor``; ``last``:
    channels are the fastest, else the positions."""
    read, write = reader(dtype), writer(dtype)
    divide, inverse = divided(dtype), inverse_of(dtype)
    window, join, start = window_of(kind, padded), joined(mean), start_of(dtype, mean)
    wide = kind_of_sums(dtype)

    def pool_general(
        x, out, indices, extents, depth, height, width, x_strides, strides, index_strides, divisor
    ):  # fmt: skip
        i = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + uint32(cuda.threadIdx.x))
        n, c, o, p, q = position(i, extents, last)
        if n >= extents[0]:
            return
        first_d, end_d, places_d = window(o, depth)
        first_h, end_h, places_h = window(p, height)
        first_w, end_w, places_w = window(q, width)
        plane = int32(n * x_strides[0] + c * x_strides[1])
        best, found = start, int32(-1)
        if with_indices and first_d < end_d and first_h < end_h and first_w < end_w:
            found = int32((first_d * height[0] + first_h) * width[0] + first_w)
        # Steps of range() that aren't constants cost it 64-bit divisions.
        d = first_d
        while d < end_d:
            h = first_h
            while h < end_h:
                row = int32(plane + d * x_strides[2] + h * x_strides[3])
                at = int32((d * height[0] + h) * width[0])
                w = first_w
                while w < end_w:
                    value = read(x, int32(row + w * x_strides[4]))
                    if with_indices:
                        takes = larger(value, best)
                        best = value if takes else best
                        found = int32(at + w) if takes else found
                    else:
                        best = join(best, value)
                    w = int32(w + width[4])
                h = int32(h + height[4])
            d = int32(d + depth[4])
        if mean:
            places = divisor
            if not uniform:
                places = wide(int64(places_d) * int64(places_h) * int64(places_w))
            best = divide(best, places, inverse(places))
        write(out, place(n, c, o, p, q, strides), best)
        if with_indices:
            indices[place(n, c, o, p, q, index_strides)] = int64(found)

    return pool_general


@cuda.jit(device=True)
def position(i, extents, last):
    """The (n, c, o, p, q) of a number; n is too great for those behind the last."""
    _batch, c, o, p, q = extents
    if last:
        i, channel = _cut(i, c)
    i, column = _cut(i, q)
    i, row = _cut(i, p)
    i, level = _cut(i, o)
    if not last:
        i, channel = _cut(i, c)
    return int32(i), channel, level, row, column


@cuda.jit(device=True)
def _cut(i, extent):
    rest = uint32(i // uint32(extent))
    return rest, int32(i - rest * uint32(extent))


@cuda.jit(device=True)
def place(n, c, d, h, w, strides):
    """Where an element is, from the first one on."""
    # Negative strides make negative places.
    return int32(n * strides[0] + c * strides[1] + d * strides[2] + h * strides[3] + w * strides[4])
