"""Weight panels made once, for callers that keep them: the form of the engines' own packing.

weight  (K, C/G, T, R, S)                any strides                     IN
packed  [G][panel][t][r][s][c][width]    1-d, contiguous, overwritten    OUT
A panel is ``width`` out-channels side by side, zeros beyond the group's last one. Every row that
``Algorithm.packs`` says so of reads panels in place of the weight, on every engine and instruction
set, so one copy serves all of them. In NumPy, for it happens once: speed doesn't count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .blocking import TILE_BYTES
from .shapes import ceil_div

Array = np.ndarray[Any, Any]


def panel_elements(shape: tuple[int, ...], groups: int, itemsize: int) -> int:
    """Elements of a weight's panels, for its canonical shape (K, C/G, T, R, S).

    >>> panel_elements((6, 1, 1, 5, 5), 1, 4)
    400
    """
    out_channels, *rest = shape
    width = TILE_BYTES // itemsize
    per_group = ceil_div(out_channels // groups, width) * width
    return groups * per_group * int(np.prod(rest))


def pack_weight(weight: Array, groups: int, packed: Array) -> None:
    """Fill ``packed``, of ``panel_elements`` elements of the weight's dtype."""
    out_channels, *rest = weight.shape
    width, channels = TILE_BYTES // weight.itemsize, out_channels // groups
    panels = ceil_div(channels, width)
    full = np.zeros((groups, panels * width, *rest), weight.dtype)
    full[:, :channels] = weight.reshape(groups, channels, *rest)
    target = packed.reshape(groups, panels, *rest[1:], rest[0], width)
    target[...] = full.reshape(groups, panels, width, *rest).transpose(0, 1, 4, 5, 6, 3, 2)
