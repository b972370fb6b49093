"""What ``tensor`` copies before and adds up after its tiles.

x        any strides                            -> (N, D, H, W, G, C filled up to whole chunks)
weight   any strides                            -> [g][chunk of the reduction][k][chunk]
partial  [split][g][pixel][k filled up to 4], or [split][g][k][pixel]
                                                -> out, any strides, with bias and activation
All three go through shared memory or read in order, so that both sides are coalesced. What fills up
is zeros. tf32: rounded to nearest (ties away from zero) here, for the hardware would cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import config, cuda, float32, int32, uint16, uint32

from . import ops
from .activations import activation_of
from .elements import reader, writer

THREADS = 32 if config.ENABLE_CUDASIM else 256
#: Of the input: pixels and channels of a block.
PIXELS = CHANNELS = 16 if config.ENABLE_CUDASIM else 64
#: What is greater isn't finite.
LARGEST = float32(3.4028234e38)
#: Of the weights: out-channels, chunks times taps of a block.
FILTERS, CHUNKS = 16, 16

#: Of ``pack_input``: x, packed; sizes (n, g, c, d, h, w), strides (n, c, d, h, w), channels of a
#: packed group, whether channels are read in order (else pixels).
INPUT_SIGNATURE = ("int32[6]", "int32[5]", "int32", "int32")
#: Of ``pack_weight``: weight, packed, marks; sizes (g, k, c, t, r, s), strides (g, k, c, t, r, s),
#: taps and chunks of channels of a block, their order.
WEIGHT_SIGNATURE = ("int32[6]", "int32[6]", "int32[2]", "int32")
#: Of ``add_parts``: partial, bias, out; the problem, out's strides, splits, and whether a pixel's
#: channels come one after the other (else a channel's pixels).
PARTS_SIGNATURE = ("problem", "int32[5]", "int32", "int32")


#: The order of weights: what lies next to each other.
TAPS, IN_CHANNELS, OUT_CHANNELS = range(3)


def order_of(k: int, c: int, s: int) -> int:
    """The order of weights of these strides."""
    if abs(k) < min(abs(c), abs(s)):
        return OUT_CHANNELS
    return IN_CHANNELS if abs(c) < abs(s) else TAPS


@cuda.jit(device=True)
def filter_of(e, taps, wide, order):
    """Out-channel, channel and tap that is the e-th, in an order, of a block with ``taps`` taps and
    ``wide`` channels of each."""
    taps, wide = uint32(taps), uint32(wide)
    if order == OUT_CHANNELS:
        row = uint32(uint32(e) % uint32(FILTERS))
        u = uint32(uint32(e) // uint32(FILTERS))
        tap = uint32(u // wide)
        c = uint32(u - tap * wide)
    elif order == IN_CHANNELS:
        u = uint32(uint32(e) // wide)
        c = uint32(uint32(e) - u * wide)
        row = uint32(u // taps)
        tap = uint32(u - row * taps)
    else:
        u = uint32(uint32(e) // taps)
        tap = uint32(uint32(e) - u * taps)
        row = uint32(u // wide)
        c = uint32(u - row * wide)
    return int32(row), int32(c), int32(tap)


def build_pack_input(dtype: str) -> Callable[..., None]:
    """Pixels x channels of a group, transposed through a tile."""
    stored, elements = (float32, 4) if dtype == "float32" else (uint16, 8)
    pitch = CHANNELS + (1 if dtype == "float32" else 2)
    size, zero = PIXELS * pitch, stored(0)
    round_tf32, pair = ops.round_tf32, ops.pair
    store_floats, store_words = ops.store_floats, ops.store_words
    wide = dtype == "float32"

    def pack_input(x, packed, sizes, x_at, filled, in_order):
        tile = cuda.shared.array(size, stored)
        begins = cuda.shared.array(PIXELS, int32)
        tid = int32(cuda.threadIdx.x)
        pixels = int32(sizes[0] * sizes[3] * sizes[4] * sizes[5])
        blocks = uint32((pixels + PIXELS - 1) // PIXELS)
        group = int32(uint32(cuda.blockIdx.x) // blocks)
        m0 = int32((uint32(cuda.blockIdx.x) - uint32(group) * blocks) * uint32(PIXELS))
        c0 = int32(cuda.blockIdx.y * CHANNELS)
        if tid < PIXELS:
            u = uint32(uint32(m0 + tid) // uint32(sizes[5]))
            w = int32(uint32(m0 + tid) - u * uint32(sizes[5]))
            v = uint32(u // uint32(sizes[4]))
            h = int32(u - v * uint32(sizes[4]))
            n = int32(v // uint32(sizes[3]))
            d = int32(v - uint32(n) * uint32(sizes[3]))
            begins[tid] = n * x_at[0] + d * x_at[2] + h * x_at[3] + w * x_at[4]
        cuda.syncthreads()
        for e in range(tid, PIXELS * CHANNELS, THREADS):
            if in_order:
                row, column = int32(e // CHANNELS), int32(e % CHANNELS)
            else:
                row, column = int32(e % PIXELS), int32(e // PIXELS)
            value = zero
            if m0 + row < pixels and c0 + column < sizes[2]:
                at = int32(begins[row] + (group * sizes[2] + c0 + column) * x_at[1])
                value = round_tf32(x[at]) if wide else x[at]
            tile[row * pitch + column] = value
        cuda.syncthreads()
        for e in range(tid, PIXELS * (CHANNELS // elements), THREADS):
            row = int32(e // (CHANNELS // elements))
            c = int32(e % (CHANNELS // elements) * elements)
            if m0 + row < pixels and c0 + c < filled:
                at = int32(((m0 + row) * sizes[1] + group) * filled + c0 + c)
                i = int32(row * pitch + c)
                if wide:
                    store_floats(packed, at, (tile[i], tile[i + 1], tile[i + 2], tile[i + 3]))
                else:
                    words = (
                        pair(tile[i], tile[i + 1]), pair(tile[i + 2], tile[i + 3]),
                        pair(tile[i + 4], tile[i + 5]), pair(tile[i + 6], tile[i + 7]),
                    )  # fmt: skip
                    store_words(packed, at, words)

    return pack_input


def build_pack_weight(dtype: str, marked: bool) -> Callable[..., None]:
    """A few out-channels, chunks of channels, and taps, which most weights have next to each
    other. ``marked``: blocks write to ``marks`` whether a weight of theirs isn't finite."""
    read = reader(dtype)
    stored, elements = (float32, 4) if dtype == "float32" else (uint16, 8)
    # A chunk of all out-channels, and a bank more: neighbours write taps, or chunks.
    pitch = FILTERS * elements + elements // 4
    size, zero = CHUNKS * pitch, stored(0)
    round_tf32 = ops.round_tf32
    wide = dtype == "float32"

    def pack_weight(weight, packed, marks, sizes, w_at, block, order):
        tile = cuda.shared.array(size, stored)
        tid = int32(cuda.threadIdx.x)
        taps, wide_c = block[0], int32(block[1] * elements)
        c_chunks = int32((sizes[2] + elements - 1) // elements)
        all_taps = int32(sizes[3] * sizes[4] * sizes[5])
        k_blocks = uint32((sizes[1] + FILTERS - 1) // FILTERS)
        group = int32(uint32(cuda.blockIdx.x) // k_blocks)
        k0 = int32((uint32(cuda.blockIdx.x) - uint32(group) * k_blocks) * uint32(FILTERS))
        chunk0, tap0 = int32(cuda.blockIdx.y * block[1]), int32(cuda.blockIdx.z * taps)
        infinite = False
        for e in range(tid, FILTERS * wide_c * taps, THREADS):
            row, column, tap = filter_of(e, taps, wide_c, order)
            k, c, at_tap = int32(k0 + row), int32(chunk0 * elements + column), int32(tap0 + tap)
            value = zero
            if k < sizes[1] and c < sizes[2] and at_tap < all_taps:
                u = uint32(uint32(at_tap) // uint32(sizes[5]))
                s = int32(uint32(at_tap) - u * uint32(sizes[5]))
                t = int32(u // uint32(sizes[4]))
                r = int32(u - uint32(t) * uint32(sizes[4]))
                at = int32(group * w_at[0] + k * w_at[1] + c * w_at[2])
                at = int32(at + t * w_at[3] + r * w_at[4] + s * w_at[5])
                value = round_tf32(weight[at]) if wide else weight[at]
                if marked:
                    y = read(weight, at)
                    infinite = infinite or not abs(y) <= LARGEST
            chunk = int32(column // elements)
            place = int32((tap * block[1] + chunk) * pitch + row * elements)
            tile[place + column % elements] = value
        if marked:
            any_infinite = cuda.syncthreads_or(int32(infinite))
            if tid == 0:
                at = cuda.blockIdx.y + cuda.gridDim.y * cuda.blockIdx.z
                marks[int32(cuda.blockIdx.x + cuda.gridDim.x * at)] = int32(any_infinite != 0)
        else:
            cuda.syncthreads()
        for e in range(tid, FILTERS * wide_c * taps, THREADS):
            u = uint32(uint32(e) // uint32(elements * FILTERS))
            row = int32(e // elements % FILTERS)
            tap = int32(u // uint32(block[1]))
            chunk = int32(u - uint32(tap) * uint32(block[1]))
            k, at_tap = int32(k0 + row), int32(tap0 + tap)
            if k < sizes[1] and chunk0 + chunk < c_chunks and at_tap < all_taps:
                j = int32((group * all_taps + at_tap) * c_chunks + chunk0 + chunk)
                place = int32(int32(u) * pitch + row * elements + e % elements)
                packed[int32((j * sizes[1] + k) * elements + e % elements)] = tile[place]

    return pack_weight


def build_add_parts(dtype: str, bias: bool, activation: Any) -> Callable[..., None]:
    """Partial sums, added in the order of the splits."""
    read, write, activate = reader(dtype), writer(dtype), activation_of(activation)

    def add_parts(partial, values, out, problem, out_at, splits, in_order):
        pixels = uint32(problem.n * problem.o * problem.p * problem.q)
        every = uint32(problem.g * problem.k)
        e = uint32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if e < pixels * every:
            if in_order:
                m = uint32(e // every)
                channel = uint32(e - m * every)
            else:
                channel = uint32(e // pixels)
                m = uint32(e - channel * pixels)
            group = uint32(channel // uint32(problem.k))
            k = uint32(channel - group * uint32(problem.k))
            if in_order:
                filled = int32((problem.k + 3) // 4 * 4)
                at = int32((int32(group * pixels) + int32(m)) * filled + int32(k))
                whole = int32(problem.g * int32(pixels) * filled)
            else:
                at = int32(e)
                whole = int32(pixels * every)
            y = float32(0)
            for part in range(splits):
                y = float32(y + partial[int32(at + part * whole)])
            if bias:
                y = float32(y + read(values, int32(channel)))
            u = uint32(m // uint32(problem.q))
            q = int32(m - u * uint32(problem.q))
            v = uint32(u // uint32(problem.p))
            p = int32(u - v * uint32(problem.p))
            n = int32(v // uint32(problem.o))
            o = int32(v - uint32(n) * uint32(problem.o))
            to = int32(n * out_at[0] + int32(channel) * out_at[1] + o * out_at[2])
            write(out, int32(to + p * out_at[3] + q * out_at[4]), activate(y))

    return add_parts
