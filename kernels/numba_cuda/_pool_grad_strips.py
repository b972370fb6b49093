"""Adjoints of poolings of small windows on the GPU: a strip of places per thread, the gradients of
all windows that have one of them in registers.

grad_output  (N, C, O, P, Q)    any strides           IN
indices      (N, C, O, P, Q)    int64, any strides    IN, of maxima
out          (N, C, D, H, W)    any strides           OUT
Accumulates in the dtype, 16-bit floats in float32, in the order o, p, q of the windows. Scratch:
none. Blocks: 256 threads of ``rows`` x ``columns`` places in ``lanes`` channels each.
Why: a place has up to nine windows, whose indices are as long as two gradients; a strip reads each
once.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import cuda, int32, int64, uint32

from ._pool_folds import inverse_of, kind_of_sums, start_of
from ._pool_general import place
from ._pool_strips import by_channels, by_rows
from ._pool_windows import window_of, windows_at
from .elements import reader, writer
from .vectors import filler, storer


class Reach(NamedTuple):
    """Along one axis, constants: taps and strides of windows, padding before, places of a strip
    (a multiple of the stride)."""

    taps: int
    stride: int
    pad: int
    places: int

    @property
    def first(self) -> int:
        """The first window that has one of the places, from the one that begins ``pad`` before the
        strip."""
        return -((self.taps - 1 - self.pad) // self.stride)

    @property
    def windows(self) -> int:
        """How many have one."""
        return (self.places - 1 + self.pad) // self.stride + 1 - self.first


class Strip(NamedTuple):
    """What is constant: the axes h and w, channels of a thread, how many neighbouring windows are
    read at once (1: singly), whether places are written as vectors, ``last``: lanes along the
    channels, else along w."""

    height: Reach
    width: Reach
    lanes: int
    together: int
    wide_out: bool
    last: bool

    @property
    def vectors(self) -> tuple[int, int]:
        """Vectors that a row of windows is read by from the strip's own first one on, and windows
        behind that are read singly; one alone isn't worth a vector."""
        count = self.width.windows + self.width.first
        if self.together == 1:
            return 0, count
        vectors, rest = divmod(count, self.together)
        return (vectors + 1, 0) if rest > 1 else (vectors, rest)

    @property
    def held(self) -> int:
        """Windows of a row in registers."""
        vectors, rest = self.vectors
        return -self.width.first + vectors * self.together + rest


#: Rows of windows that ``_for_windows`` goes through at most.
MOST_WINDOWS = 4


def build_grad_strips(
    dtype: str, of_max: bool, padded: bool, uniform: bool, strip: Strip, threads: int
) -> Any:
    """``uniform``: every gradient of a mean is divided by ``divisor``."""
    zero, wide = start_of(dtype, True), kind_of_sums(dtype)
    windows, window = windows_at("dense"), window_of("dense", padded)
    for_windows, write = _for_windows(dtype, of_max, padded, uniform, strip), writer(dtype)
    lanes, rows, columns = strip.lanes, strip.height.places, strip.width.places
    stride_h, stride_w = strip.height.stride, strip.width.stride
    count = rows * columns * lanes
    vector = (lanes if strip.last else columns) if strip.wide_out else 1
    store: Any = storer(dtype, vector) if vector > 1 else None
    position = by_channels if strip.last else by_rows

    def pool_grad_strips(
        grad, out, indices, cuts, batch, depth, height, width, strides, out_strides,
        index_strides, divisor,
    ):  # fmt: skip
        i = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + uint32(cuda.threadIdx.x))
        n, c, d, h, w = position(i, cuts)
        if n >= batch:
            return
        c, h, w = int32(c * lanes), int32(h * rows), int32(w * columns)
        p, q = int32(uint32(h) // uint32(stride_h)), int32(uint32(w) // uint32(stride_w))
        totals = cuda.local.array(count, wide)
        for k in range(count):
            totals[k] = zero
        flat = int32((d * height[0] + h) * width[0] + w)
        first, end = windows(d, depth)
        o = first
        while o < end:
            places = window(o, depth)[2]
            at = place(n, c, o, p, q, strides)
            index_at = place(n, c, o, p, q, index_strides)
            for_windows(
                grad, indices, at, index_at, p, q, flat, places, height, width, strides,
                index_strides, divisor, totals,
            )  # fmt: skip
            o = int32(o + 1)
        for b in range(rows):
            if h + b < height[0]:
                at = place(n, c, d, int32(h + b), w, out_strides)
                if vector > 1:
                    for k in range(columns * lanes // vector):
                        # Channels last, a vector is a place's; else they fill the row.
                        step = k * out_strides[4] if strip.last else k * vector
                        if not strip.last or w + k < width[0]:
                            first_total = (b * columns * lanes) + k * vector
                            store(out, int32(at + step), totals, first_total)
                else:
                    for v in range(columns):
                        if w + v < width[0]:
                            write(out, int32(at + v * out_strides[4]), totals[b * columns + v])

    return pool_grad_strips


@cache
def _loader(dtype: str, of_max: bool, strip: Strip) -> Any:
    """``load(grads, found, grad, indices, at, index_at, q, step, index_step, outputs, inside)``: a
    row of windows, the first of the strip's own at ``at``; those that aren't there are 0 and found
    nowhere, and aren't read."""
    read, zero, lanes, together = reader(dtype), start_of(dtype, True), strip.lanes, strip.together
    before, (vectors, rest) = -strip.width.first, strip.vectors
    size = lanes if strip.last else together
    fill: Any = filler(dtype, size) if size > 1 else None
    fill_pair = filler("int64", 2)

    @cuda.jit(device=True)
    def narrow(index):
        # What 32 bits don't hold is no place.
        return int32(index) if int64(int32(index)) == index else int32(-1)

    @cuda.jit(device=True)
    def one(grads, found, k, grad, indices, at, index_at, present):
        grads[k] = zero
        found[k] = int32(-1)
        if present:
            grads[k] = read(grad, at)
            if of_max:
                found[k] = narrow(indices[index_at])

    @cuda.jit(device=True)
    def several(grads, found, k, grad, indices, at, index_at, present):
        pair = cuda.local.array(2, int64)
        for i in range(size):
            grads[k + i] = zero
            found[k + i] = int32(-1)
        if present:
            fill(grads, k, grad, at)
            if of_max:
                for i in range(size // 2):
                    fill_pair(pair, 0, indices, int32(index_at + 2 * i))
                    found[k + 2 * i] = narrow(pair[0])
                    found[k + 2 * i + 1] = narrow(pair[1])

    single = several if strip.last and lanes > 1 else one
    vector = several if size > 1 else one

    @cuda.jit(device=True)
    def load(grads, found, grad, indices, at, index_at, q, step, index_step, outputs, inside):
        for j in range(before):
            k = j - before
            present = inside and uint32(q + k) < uint32(outputs)
            single(
                grads, found, j * lanes, grad, indices, int32(at + k * step),
                int32(index_at + k * index_step), present,
            )  # fmt: skip
        for j in range(vectors):
            k = j * together
            present = inside and uint32(q + k) < uint32(outputs)
            vector(
                grads, found, before + k, grad, indices, int32(at + k), int32(index_at + k), present
            )
        for j in range(rest):
            k = vectors * together + j
            present = inside and uint32(q + k) < uint32(outputs)
            single(
                grads, found, (before + k) * lanes, grad, indices, int32(at + k * step),
                int32(index_at + k * index_step), present,
            )  # fmt: skip

    return load


@cache
def _sharer(dtype: str, padded: bool, uniform: bool, strip: Strip) -> Any:
    """``share(grads, p, q, places, height, width, divisor)``: a row's gradients become shares."""
    window, wide = window_of("dense", padded), kind_of_sums(dtype)
    inverse = inverse_of(dtype)
    first, count, lanes = strip.width.first, strip.width.windows, strip.lanes

    @cuda.jit(device=True)
    def share(grads, p, q, places, height, width, divisor):
        tall = divisor
        if not uniform:
            tall = wide(int32(places * window(p, height)[2]))
        by_tall = inverse(tall)
        for j in range(count):
            number, by = tall, by_tall
            if not uniform:
                across = wide(window(int32(q + first + j), width)[2])
                number, by = tall * across, by_tall * inverse(across)
            for lane in range(lanes):
                # Windows that aren't there are 0, and may have no places.
                if number != 0:
                    grads[j * lanes + lane] *= by

    return share


@cache
def _adder(dtype: str, of_max: bool, strip: Strip) -> Any:
    """``add(grads, found, totals, flat, size, i)``: row i of windows is added to the places that
    they have; ``flat`` is the first place's index, ``size`` those of a row."""
    zero, lanes = start_of(dtype, True), strip.lanes
    rows, columns = strip.height.places, strip.width.places
    taps_h, stride_h, pad_h, _ = strip.height
    taps_w, stride_w, pad_w, _ = strip.width
    first_h, first_w, count_w = strip.height.first, strip.width.first, strip.width.windows

    @cuda.jit(device=True)
    def add(grads, found, totals, flat, size, i):
        for b in range(rows):
            if 0 <= b + pad_h - (i + first_h) * stride_h < taps_h:
                for v in range(columns):
                    at = int32(flat + b * size + v)
                    for j in range(count_w):
                        if 0 <= v + pad_w - (j + first_w) * stride_w < taps_w:
                            for lane in range(lanes):
                                k = (b * columns + v) * lanes + lane
                                value = grads[j * lanes + lane]
                                if of_max:
                                    here = found[j * lanes + lane] == at
                                    totals[k] += value if here else zero
                                else:
                                    totals[k] += value

    return add


@cache
def _for_windows(dtype: str, of_max: bool, padded: bool, uniform: bool, strip: Strip) -> Any:
    """All rows of windows of a plane: constants, so that registers can hold everything."""
    load, add = _loader(dtype, of_max, strip), _adder(dtype, of_max, strip)
    share, wide = _sharer(dtype, padded, uniform, strip), kind_of_sums(dtype)
    held, first, count = strip.held * strip.lanes, strip.height.first, strip.height.windows

    @cuda.jit(device=True)
    def one(
        grad, indices, at, index_at, p, q, flat, places, height, width, strides, index_strides,
        divisor, totals, i,
    ):  # fmt: skip
        grads = cuda.local.array(held, wide)
        found = cuda.local.array(held, int32)
        k = i + first
        inside = uint32(p + k) < uint32(height[1])
        load(
            grads, found, grad, indices, int32(at + k * strides[3]),
            int32(index_at + k * index_strides[3]), q, strides[4], index_strides[4], width[1],
            inside,
        )  # fmt: skip
        if not of_max:
            share(grads, int32(p + k), q, places, height, width, divisor)
        add(grads, found, totals, flat, width[0], i)

    @cuda.jit(device=True)
    def for_windows(
        grad, indices, at, index_at, p, q, flat, places, height, width, strides, index_strides,
        divisor, totals,
    ):  # fmt: skip
        one(
            grad, indices, at, index_at, p, q, flat, places, height, width, strides, index_strides,
            divisor, totals, 0,
        )  # fmt: skip
        if count > 1:
            one(
                grad, indices, at, index_at, p, q, flat, places, height, width, strides,
                index_strides, divisor, totals, 1,
            )  # fmt: skip
        if count > 2:
            one(
                grad, indices, at, index_at, p, q, flat, places, height, width, strides,
                index_strides, divisor, totals, 2,
            )  # fmt: skip
        if count > 3:
            one(
                grad, indices, at, index_at, p, q, flat, places, height, width, strides,
                index_strides, divisor, totals, 3,
            )  # fmt: skip

    return for_windows
