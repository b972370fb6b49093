"""Convolution on tensor cores of compute capability 9.0: implicit GEMM by wgmma.

x        (N, C, D, H, W)    any strides            IN
weight   (K, C/G, T, R, S)  same dtype             IN
out      (N, K, O, P, Q)    overwritten            OUT
Everything is as in ``tensor``, whose launches these are, but for how a tile is multiplied: by
warpgroups, from shared memory, at half as much again of the rate of mma.sync. Addresses of im2col
stay in software: cp.async fills the swizzled rows that the hardware reads, a step's products run
while the next is copied, and a fence makes copies visible to them.
"""

from __future__ import annotations

from functools import partial

from . import tensor, tensor_wgrad
from ._tensor_tile import Tile

#: Of 64 to 256 out-channels. The widest reads shared memory least: 128 bytes a cycle, copies
#: included, which is what there is. Narrow ones run two or three blocks at a time.
TILES = (
    Tile(8, 1, 1, 32, 8, 4, 1, True),
    Tile(8, 1, 1, 16, 8, 3, 2, True),
    Tile(8, 1, 1, 8, 8, 4, 2, True),
    Tile(4, 1, 1, 16, 8, 4, 2, True),
    Tile(4, 1, 1, 8, 8, 4, 3, True),
)

fprop = partial(tensor.fprop, tiles=TILES)
scratch_bound = partial(tensor.scratch_bound, tiles=TILES)
dgrad = tensor.dgrad_on(TILES)
wgrad = partial(tensor_wgrad.wgrad, tiles=TILES)
wgrad_scratch_bound = partial(tensor_wgrad.scratch_bound, tiles=TILES)
