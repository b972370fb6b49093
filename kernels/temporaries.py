"""Arrays that drivers keep in scratch beside what loop bodies are handed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .drivers import ALIGNMENT
from .shapes import round_up

Array = np.ndarray[Any, Any]


def exchange_channels(weight: Array, groups: int, scratch: Array) -> tuple[Array, Array]:
    """(K, C/G, ...) as (C, K/G, ...), and the scratch that is left: a view, or a copy in scratch
    for groups of several channels.

    >>> exchange_channels(np.zeros((6, 2, 3, 3, 3)), 3, np.empty(3000, np.uint8))[0].shape
    (6, 2, 3, 3, 3)
    """
    out_channels, per_group, *taps = weight.shape
    grouped = weight.reshape(groups, out_channels // groups, per_group, *taps).swapaxes(1, 2)
    shape = groups * per_group, out_channels // groups, *taps
    if groups == 1 or per_group == 1:
        return grouped.reshape(shape), scratch
    copy, scratch = carve(scratch, grouped.shape, weight.dtype)
    copy[...] = grouped
    return copy.reshape(shape), scratch


def carve(scratch: Array, shape: Sequence[int], dtype: Any) -> tuple[Array, Array]:
    """An array at the beginning of scratch, and what is left of it."""
    size = math.prod(shape) * dtype.itemsize
    return scratch[:size].view(dtype).reshape(shape), scratch[round_up(size, ALIGNMENT) :]
