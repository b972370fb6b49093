"""Padding that kernels don't do themselves: a padded copy in front of them."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from .arguments import shown
from .arrays import Array
from .conv_geometry import ConvGeometry
from .dtypes import Arithmetic
from .operand import CANONICAL_DATA

#: Our (torch's) name -> NumPy's name, and how much of the input's extent a padding may reach.
MODES: dict[str, tuple[str, int]] = {
    "reflect": ("reflect", -1),
    "replicate": ("edge", 1 << 62),
    "circular": ("wrap", 0),
}


def needs_copy(name: str, mode: Any, value: Any, arithmetic: Arithmetic) -> bool:
    """Whether padding is other than the kernels' zeros; TypeError for a mode that isn't a string,
    TypeError or ValueError for a value that the inputs' common dtype can't hold.
    """
    if not isinstance(mode, str):
        raise TypeError(f"{name}: padding_mode must be a string, got {shown(mode)}")
    kind, common = arithmetic.kind, arithmetic.common
    allowed: dict[str, tuple[str, Any]] = {
        "integer": ("an integer", numbers.Integral),
        "float": ("a real number", numbers.Real),
        "complex": ("a number", numbers.Complex),
    }
    what, numeric = allowed[kind]
    if isinstance(value, np.timedelta64) or not isinstance(value, numeric):
        raise TypeError(
            f"{name}: padding_value must be {what} for {common} inputs, got {shown(value)}"
        )
    try:
        if kind == "integer" and not np.iinfo(common).min <= int(value) <= np.iinfo(common).max:
            raise OverflowError
        complex(value)
    except OverflowError:
        raise ValueError(f"{name}: padding_value must fit {common}, got {shown(value)}") from None
    return bool(mode != "constant" or value != 0)


def padding_widths(geometry: ConvGeometry, mode: str) -> list[tuple[int, int]]:
    """(before, after) for each axis of the user's input; ValueError where a mode can't reach."""
    pairs = dict(zip(CANONICAL_DATA[2:], geometry.padding, strict=True))
    widths = [pairs.get(letter, (0, 0)) for letter in geometry.input.letters]
    if mode == "constant":
        return widths
    if mode not in MODES:
        raise ValueError(
            f"{geometry.name}: padding_mode must be 'constant', "
            f"{', '.join(map(repr, MODES))}, got {mode!r}"
        )
    slack = MODES[mode][1]
    for letter, pair in zip(geometry.input.letters, widths, strict=True):
        extent = geometry.input.extent(letter)
        if max(pair) > max(extent + slack, 0):
            raise ValueError(
                f"{geometry.name}: padding_mode {mode!r} takes a padding of at most "
                f"{extent + slack} on axis {letter} of extent {extent}, got {pair}"
            )
    return widths


def pad_input(x: Array, geometry: ConvGeometry, mode: str, value: complex) -> Array:
    """A copy of ``x`` with the geometry's padding, filled as ``mode`` says."""
    widths = padding_widths(geometry, mode)
    if mode == "constant":
        with np.errstate(over="ignore"):
            return np.pad(x, widths, constant_values=np.asarray(value).astype(x.dtype))
    keywords: Any = {"mode": MODES[mode][0]}
    return np.pad(x, widths, **keywords)
