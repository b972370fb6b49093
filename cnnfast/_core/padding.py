"""Padding that kernels don't do themselves: a padded copy in front of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array
from .geometry import ConvGeometry
from .operand import CANONICAL_DATA

#: Our (torch's) name -> NumPy's name, and how much of the input's extent a padding may reach.
MODES: dict[str, tuple[str, int]] = {
    "reflect": ("reflect", -1),
    "replicate": ("edge", 1 << 62),
    "circular": ("wrap", 0),
}


def pad_input(x: Array, geometry: ConvGeometry, mode: str, value: float) -> Array:
    """A copy of ``x`` with the geometry's padding, filled as ``mode`` says."""
    pairs = dict(zip(CANONICAL_DATA[2:], geometry.padding, strict=True))
    widths = [pairs.get(letter, (0, 0)) for letter in geometry.input.letters]
    if mode == "constant":
        if not isinstance(value, (int, float, np.number)):
            raise TypeError(f"{geometry.name}: padding_value must be a number, got {value!r}")
        return np.pad(x, widths, constant_values=value)
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(
            f"{geometry.name}: padding_mode must be 'constant', "
            f"{', '.join(map(repr, MODES))}, got {mode!r}"
        )
    numpy_mode, slack = MODES[mode]
    for letter, extent, pair in zip(geometry.input.letters, x.shape, widths, strict=True):
        if max(pair) > extent + slack:
            raise ValueError(
                f"{geometry.name}: padding_mode {mode!r} takes a padding of at most "
                f"{extent + slack} on axis {letter} of extent {extent}, got {pair}"
            )
    keywords: Any = {"mode": numpy_mode}
    return np.pad(x, widths, **keywords)
