"""Poolings of whole inputs to one output on the GPU: a group of threads per plane.

x        (N, C, D, H, W)    places evenly apart in memory         IN
out      (N, C, 1, 1, 1)    any strides                           OUT
indices  (N, C, 1, 1, 1)    int64, any strides                    OUT, of a maximum that wants them
Accumulates in the dtype, 16-bit floats in float32: each thread of a group every ``group``-th place
(or vector of them), then the threads of a group in a tree in shared memory, which is always the
same. Scratch: none. Blocks: 256 threads.
Why: a plane of 7 x 7 has too few places for a warp, and all threads' loads must be on their way at
once to keep the memory busy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda, int32, int64, uint32

from ._pool_folds import divided, inverse_of, joined, kind_of_sums, larger, start_of
from ._pool_windows import quotient
from .elements import reader, writer
from .vectors import filler, storer

#: Loads that a thread has on their way.
LOADS = 4
#: The index of no place: behind all others.
NOWHERE = 2**31 - 1


class Whole(NamedTuple):
    """What is constant: threads that share a plane (a power of two), neighbouring values that a
    thread reads at once, channels if ``last``, else places; ``across``: vectors of channels that
    lie side by side in a block."""

    group: int
    lanes: int
    last: bool
    across: int


def build_whole(dtype: str, mean: bool, with_indices: bool, whole: Whole, threads: int) -> Any:
    """``units``: places of a plane, or vectors of those; ``step``: elements from one to the next;
    ``cut`` divides by channels, or by blocks of those."""
    read, write, join = reader(dtype), writer(dtype), joined(mean)
    divide, inverse = divided(dtype), inverse_of(dtype)
    start, wide = start_of(dtype, mean), kind_of_sums(dtype)
    group, lanes, last, across = whole
    # Which of equals came first decides a zero's sign, so that a maximum always knows its place.
    tracked = not mean
    fill: Any = filler(dtype, lanes) if lanes > 1 else None
    #: Values that a thread keeps, and how far a group's threads are apart.
    kept, apart = (lanes, across) if last else (1, 1)
    held, sharing = lanes * LOADS, threads * kept
    numbered = sharing if tracked else 1

    @cuda.jit(device=True)
    def load(values, k, x, at):
        if lanes > 1:
            fill(values, k, x, at)
        else:
            values[k] = read(x, at)

    @cuda.jit(device=True)
    def before(value, at, best, found):
        """Whether a place's value is the maximum's: as if looked at in their order."""
        if value != value:
            return best == best or at > found
        return value > best or (value == best and at < found)

    def pool_whole(
        x, out, indices, planes, channels, cut, units, step, x_strides, strides, index_strides,
        divisor,
    ):  # fmt: skip
        thread, block = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x)
        if last:
            member = int32(uint32(thread) // uint32(across))
            n = quotient(block, cut[0], cut[1])
            c = int32(block - n * int32(cut[2])) * across + thread - member * across
            c = int32(c * lanes)
            inside = c < channels
        else:
            member = int32(uint32(thread) % uint32(group))
            plane = int32(block * (threads // group) + int32(uint32(thread) // uint32(group)))
            n = quotient(plane, cut[0], cut[1])
            c = int32(plane - n * int32(cut[2]))
            inside = plane < planes
        best = cuda.local.array(lanes, wide)
        found = cuda.local.array(lanes, int32)
        values = cuda.local.array(held, wide)
        for lane in range(lanes):
            best[lane] = start
            found[lane] = int32(NOWHERE)
            if tracked and inside and member < units:
                found[lane] = member if last else int32(member * lanes + lane)
        at = int32(n * x_strides[0] + c * x_strides[1])
        unit = member if inside else units
        while unit < units:
            for k in range(LOADS):
                for lane in range(lanes):
                    values[k * lanes + lane] = start
                if unit + k * group < units:
                    load(values, k * lanes, x, int32(at + (unit + k * group) * step))
            for k in range(LOADS):
                for lane in range(lanes):
                    value = values[k * lanes + lane]
                    if tracked:
                        # Units behind the last are the least value, which never takes a place.
                        takes = larger(value, best[lane])
                        number = int32(unit + k * group)
                        number = number if last else int32(number * lanes + lane)
                        best[lane] = value if takes else best[lane]
                        found[lane] = number if takes else found[lane]
                    else:
                        best[lane] = join(best[lane], value)
            unit = int32(unit + LOADS * group)
        if not last:
            for lane in range(1, lanes):
                if tracked:
                    takes = before(best[lane], found[lane], best[0], found[0])
                    best[0] = best[lane] if takes else best[0]
                    found[0] = found[lane] if takes else found[0]
                else:
                    best[0] = join(best[0], best[lane])
        shared = cuda.shared.array(sharing, wide)
        places = cuda.shared.array(numbered, int32)
        half = int32(group // 2)
        while half > 0:
            if half <= member < 2 * half:
                for k in range(kept):
                    shared[k * threads + thread] = best[k]
                    if tracked:
                        places[k * threads + thread] = found[k]
            cuda.syncthreads()
            if member < half:
                for k in range(kept):
                    other = shared[k * threads + thread + half * apart]
                    if tracked:
                        number = places[k * threads + thread + half * apart]
                        takes = before(other, number, best[k], found[k])
                        best[k] = other if takes else best[k]
                        found[k] = number if takes else found[k]
                    else:
                        best[k] = join(best[k], other)
            half = int32(half // 2)
        if inside and member == 0:
            for k in range(kept):
                if mean:
                    best[k] = divide(best[k], divisor, inverse(divisor))
                write(out, int32(n * strides[0] + (c + k) * strides[1]), best[k])
                if with_indices:
                    at = int32(n * index_strides[0] + (c + k) * index_strides[1])
                    indices[at] = int64(found[k])

    return pool_whole


def build_grad_whole(dtype: str, of_max: bool, lanes: int, last: bool, threads: int) -> Any:
    """The adjoint: a thread per vector of ``lanes`` channels if ``last``, else of places, which may
    reach into the next plane. ``places`` of a plane are ``step`` apart; ``cut`` divides by those
    (if ``last`` by vectors of channels), then by channels (by places)."""
    read, write, wide = reader(dtype), writer(dtype), kind_of_sums(dtype)
    inverse, zero = inverse_of(dtype), start_of(dtype, True)
    fill: Any = filler(dtype, lanes) if lanes > 1 else None
    store: Any = storer(dtype, lanes) if lanes > 1 else None

    @cuda.jit(device=True)
    def put(out, at, values):
        if lanes > 1:
            store(out, at, values, 0)
        else:
            write(out, at, values[0])

    @cuda.jit(device=True)
    def share(grad, at, indices, index_at, j, by):
        """What place j gets."""
        if of_max:
            return read(grad, at) if indices[index_at] == int64(j) else zero
        return read(grad, at) * by

    def pool_grad_channels(
        grad, out, indices, total, channels, cut, places, step, strides, out_strides, index_strides,
        divisor,
    ):  # fmt: skip
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x)
        if i >= total:
            return
        rest = quotient(i, cut[0], cut[1])
        c = int32((i - rest * int32(cut[2])) * lanes)
        n = quotient(rest, cut[3], cut[4])
        j = int32(rest - n * int32(cut[5]))
        values = cuda.local.array(lanes, wide)
        at = int32(n * strides[0] + c * strides[1])
        index_at = int32(n * index_strides[0] + c * index_strides[1])
        by = inverse(divisor)
        if lanes > 1:
            fill(values, 0, grad, at)
            for k in range(lanes):
                if of_max:
                    here = indices[int32(index_at + k)] == int64(j)
                    values[k] = values[k] if here else zero
                else:
                    values[k] *= by
        else:
            values[0] = share(grad, at, indices, index_at, j, by)
        put(out, int32(n * out_strides[0] + c * out_strides[1] + j * step), values)

    def pool_grad_planes(
        grad, out, indices, total, channels, cut, places, step, strides, out_strides, index_strides,
        divisor,
    ):  # fmt: skip
        i = int32(cuda.blockIdx.x * threads + cuda.threadIdx.x) * lanes
        if i >= total:
            return
        plane = quotient(i, cut[0], cut[1])
        j = int32(i - plane * places)
        n = quotient(plane, cut[3], cut[4])
        c = int32(plane - n * channels)
        at = int32(n * strides[0] + c * strides[1])
        index_at = int32(n * index_strides[0] + c * index_strides[1])
        values = cuda.local.array(lanes, wide)
        by = inverse(divisor)
        grad_here, found = read(grad, at), int64(0)
        grad_next, found_next = zero, int64(0)
        if of_max:
            found = indices[index_at]
        if j + lanes > places:
            more = int32(plane + 1)
            n_next = quotient(more, cut[3], cut[4])
            c_next = int32(more - n_next * channels)
            grad_next = read(grad, int32(n_next * strides[0] + c_next * strides[1]))
            if of_max:
                found_next = indices[int32(n_next * index_strides[0] + c_next * index_strides[1])]
        for k in range(lanes):
            here = j + k < places
            value = grad_here if here else grad_next
            if of_max:
                own = found == int64(j + k) if here else found_next == int64(j + k - places)
                values[k] = value if own else zero
            else:
                values[k] = value * by
        put(out, int32(n * out_strides[0] + c * out_strides[1] + j * step), values)

    return pool_grad_channels if last else pool_grad_planes
