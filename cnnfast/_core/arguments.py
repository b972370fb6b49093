"""Turning what users type (ints, tuples, pairs, strings) into what geometries hold.

Every error states the rule and the values, and is raised before any kernel runs.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnfast.kernels import shapes

Triple = tuple[int, int, int]
Pairs = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

#: No extent, and no count of operations, may reach this: index arithmetic stays inside 64 bits.
INDEX_LIMIT = 2**62
#: No array may have so many elements: of 16 bytes each, their bytes pass 64 bits.
SIZE_LIMIT = 2**59

SPATIAL = "DHW"
STRING_PADDINGS = ("valid", "same", "same_upper", "same_lower")
_NAMES = ", ".join(map(repr, STRING_PADDINGS))


def integer(name: str, value: Any, least: int) -> int:
    """``value`` as an int, at least ``least``; TypeError for floats (even whole ones) and bools.

    >>> integer("stride", 2, 1)
    2
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {shown(value)}") from None
    if result < least:
        rule = {0: "non-negative", 1: "positive"}.get(least, f"at least {least}")
        raise ValueError(f"{name} must be {rule}, got {shown(result)}")
    if result >= INDEX_LIMIT:
        raise ValueError(f"{name} must be below 2**62, got {shown(result)}")
    return result


def shown(value: Any) -> str:
    """``repr(value)``, or what stands for it: Python refuses integers of thousands of digits.

    >>> shown(7), shown((1, 10**5000))
    ('7', 'a tuple of too many digits')
    """
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} of too many digits"


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; TypeError for anything else.

    >>> flag("ceil_mode", np.True_)
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {shown(value)}")
    return bool(value)


def sequence(value: Any) -> Sequence[Any] | None:
    """``value`` as a tuple if it is a sequence of sizes (tuple, list, 1-d array), else None."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return tuple(value)
    return tuple(value) if isinstance(value, np.ndarray) and value.ndim else None


def is_empty_sequence(value: Any) -> bool:
    """Whether ``value`` is ``()``, ``[]`` or the like (as a stride: the window, as in torch)."""
    return sequence(value) == ()


def per_axis(name: str, value: Any, rank: int, least: int) -> tuple[int, ...]:
    """One int per spatial axis from an int, a sequence of one, or a sequence of ``rank``.

    >>> per_axis("stride", 2, 2, 1), per_axis("stride", [1, 2], 2, 1)
    ((2, 2), (1, 2))
    """
    items = sequence(value)
    if items is None:
        return (integer(name, value, least),) * rank
    if len(items) == 1:
        items = tuple(items) * rank
    if len(items) != rank:
        raise ValueError(f"{name} must be one integer or {rank} of them, got {shown(value)}")
    return tuple(integer(name, item, least) for item in items)


def padding_pairs(
    name: str,
    value: Any,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """(before, after) per axis from an int, ints, pairs or a name.

    >>> padding_pairs("conv2d", 1, (5, 5), (3, 3), (1, 1), (1, 1))
    ((1, 1), (1, 1))
    >>> padding_pairs("conv2d", [(0, 1), (2, 3)], (5, 5), (3, 3), (1, 1), (1, 1))
    ((0, 1), (2, 3))
    >>> padding_pairs("conv1d", "same", (5,), (4,), (1,), (1,))
    ((1, 2),)
    """
    rank = len(kernel)
    if isinstance(value, str):
        return _named_padding(name, value, size, kernel, stride, dilation)
    items = sequence(value)
    if items is not None and any(sequence(item) is not None for item in items):
        if len(items) != rank or any(len(sequence(item) or ()) != 2 for item in items):
            raise ValueError(
                f"{name}: padding must be one integer, {rank} integers, {rank} (before, after) "
                f"pairs or one of {_NAMES}, got {shown(value)}"
            )
        return tuple(
            (integer(f"{name}: padding", before, 0), integer(f"{name}: padding", after, 0))
            for before, after in items
        )
    return tuple((pad, pad) for pad in per_axis(f"{name}: padding", value, rank, 0))


def _named_padding(
    name: str,
    padding: str,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    if padding not in STRING_PADDINGS:
        raise ValueError(
            f"{name}: padding must be numbers or one of {_NAMES}, got {shown(padding)}"
        )
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same" and any(step != 1 for step in stride):
        raise ValueError(
            f"{name}: padding='same' needs stride 1, got stride {tuple(stride)}; "
            "'same_upper' and 'same_lower' take any stride"
        )
    pairs = []
    for axis in zip(size, kernel, stride, dilation, strict=True):
        total = shapes.same_total(*axis)
        less, more = total // 2, total - total // 2
        pairs.append((more, less) if padding == "same_lower" else (less, more))
    return tuple(pairs)


def lift(values: Sequence[Any], unit: Any) -> tuple[Any, Any, Any]:
    """Three spatial axes from one, two or three: unit axes come in front.

    >>> lift((5, 7), 1)
    (1, 5, 7)
    """
    first, second, third = (unit,) * (3 - len(values)) + tuple(values)
    return first, second, third


def axis_letters(
    name: str, layout: str | None, rank: int, channels: str, default_first: bool = True
) -> str:
    """The layout's letters, or the default for ``rank`` spatial axes.

    ``channels`` are the two leading letters, "NC" for data or "OI" for weights.
    """
    spatial = SPATIAL[3 - rank :]
    first, last = channels + spatial, channels[0] + spatial + channels[1]
    argument = f"{name}: {'weight_layout' if channels == 'OI' else 'layout'}"
    if channels == "OI":
        last = spatial + "IO"
    if layout is None:
        return first if default_first else last
    if not isinstance(layout, str):
        raise TypeError(f"{argument} must be a string, got {shown(layout)}")
    if channels == "OI" and sorted(layout) != sorted(first):
        raise ValueError(f"{argument} must be a permutation of {first!r}, got {layout!r}")
    if channels != "OI" and layout not in (first, last):
        raise ValueError(f"{argument} must be {first!r} or {last!r}, got {layout!r}")
    return layout
