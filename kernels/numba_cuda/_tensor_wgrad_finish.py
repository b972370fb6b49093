"""Parts of a weight gradient, added in the order of the splits, to where weights lie.

parts  [split][g][k][chunk of taps and channels][channels of a chunk]  IN
out    (K, C/G, T, R, S)  any strides                                  OUT
A block takes a few out-channels, chunks of channels, and taps, as ``_tensor_pack`` does with
weights: both sides are read and written in whole sectors, whatever the order of out.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import config, cuda, float32, int32, uint32

from ._tensor_pack import CHUNKS, FILTERS, filter_of
from ._tensor_wgrad_tile import ELEMENTS
from .elements import writer

THREADS = 32 if config.ENABLE_CUDASIM else 256
#: Of ``finish_wgrad``: parts, out; sizes (g, k, c, t, r, s), out's strides, taps and chunks of
#: channels of a block, splits, and the order of out.
SIGNATURE = ("int32[6]", "int32[5]", "int32[2]", "int32", "int32")


def build_finish_wgrad(dtype: str) -> Callable[..., None]:
    """Sums through a tile of [tap][channel][out-channel]."""
    write = writer(dtype)
    pitch = FILTERS + 1
    size = CHUNKS * ELEMENTS * pitch

    def finish_wgrad(parts, out, sizes, out_at, block, splits, order):
        tile = cuda.shared.array(size, float32)
        tid = int32(cuda.threadIdx.x)
        taps, wide = uint32(block[0]), uint32(block[1] * ELEMENTS)
        of_tap = int32((sizes[2] + ELEMENTS - 1) // ELEMENTS)
        all_taps = int32(sizes[3] * sizes[4] * sizes[5])
        width = int32(all_taps * of_tap * ELEMENTS)
        whole = int32(sizes[0] * sizes[1] * width)
        k_blocks = uint32((sizes[1] + FILTERS - 1) // FILTERS)
        group = int32(uint32(cuda.blockIdx.x) // k_blocks)
        k0 = int32((uint32(cuda.blockIdx.x) - uint32(group) * k_blocks) * uint32(FILTERS))
        c0 = int32(cuda.blockIdx.y * block[1] * ELEMENTS)
        tap0 = int32(cuda.blockIdx.z * block[0])
        for e in range(tid, int32(FILTERS * taps * wide), THREADS):
            u = uint32(uint32(e) // wide)
            c = int32(uint32(e) - u * wide)
            row = int32(u // taps)
            tap = int32(u - uint32(row) * taps)
            if k0 + row < sizes[1] and c0 + c < of_tap * ELEMENTS and tap0 + tap < all_taps:
                at = int32((group * sizes[1] + k0 + row) * width)
                at = int32(at + (tap0 + tap) * of_tap * ELEMENTS + c0 + c)
                y = float32(0)
                for part in range(splits):
                    y = float32(y + parts[int32(at + part * whole)])
                tile[(tap * int32(wide) + c) * pitch + row] = y
        cuda.syncthreads()
        for e in range(tid, int32(FILTERS * taps * wide), THREADS):
            row, c, tap = filter_of(e, taps, wide, order)
            k, channel, at_tap = int32(k0 + row), int32(c0 + c), int32(tap0 + tap)
            if k < sizes[1] and channel < sizes[2] and at_tap < all_taps:
                u = uint32(uint32(at_tap) // uint32(sizes[5]))
                s = int32(uint32(at_tap) - u * uint32(sizes[5]))
                t = int32(u // uint32(sizes[4]))
                r = int32(u - uint32(t) * uint32(sizes[4]))
                to = int32((group * sizes[1] + k) * out_at[0] + channel * out_at[1])
                to = int32(to + t * out_at[2] + r * out_at[3] + s * out_at[4])
                write(out, to, tile[(tap * int32(wide) + c) * pitch + row])

    return finish_wgrad
