"""What ONNX's attributes mean in the arguments of ``cnnfast.functional``: the one place."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast._core.arguments import integer, sequence, shown

#: ``auto_pad`` -> how the functions name that padding; NOTSET has numbers.
AUTO_PADS = {"VALID": "valid", "SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower"}

#: Spatial axes that the kernels take.
MOST_AXES = 3


def spatial_axes(name: str, x: Any, w: Any = None) -> int:
    """How many axes follow batch and channels; ValueError unless 1 to 3, and as many in ``w``."""
    shape = np.shape(x)
    if not 1 <= len(shape) - 2 <= MOST_AXES:
        raise ValueError(
            f"{name}: X must have batch, channels and one to {MOST_AXES} spatial axes, "
            f"got shape {shape}"
        )
    if w is not None and len(np.shape(w)) != len(shape):
        raise ValueError(
            f"{name}: W must have as many axes as X, got shapes {np.shape(w)} and {shape}"
        )
    return len(shape) - 2


def extents(
    name: str, attribute: str, value: Any, count: int, least: int = 1, default: int | None = None
) -> tuple[int, ...]:
    """An attribute of ``count`` integers, each at least ``least``; ``default`` where there is none.

    >>> extents("Conv", "strides", None, 2, default=1), extents("Conv", "strides", [1, 2], 2)
    ((1, 1), (1, 2))
    """
    if value is None and default is not None:
        return (default,) * count
    items = sequence(value)
    if items is None or len(items) != count:
        raise ValueError(f"{name}: {attribute} must be {count} integers, got {shown(value)}")
    return tuple(integer(f"{name}: {attribute}", item, least) for item in items)


def padding(name: str, rank: int, auto_pad: str | None, pads: Any) -> Any:
    """A name, or (before, after) pairs: of ``pads`` all that come before stand first. Where
    ``auto_pad`` decides, ``pads`` are ignored.

    >>> padding("Conv", 2, "NOTSET", [0, 1, 2, 3]), padding("Conv", 2, "SAME_LOWER", None)
    (((0, 2), (1, 3)), 'same_lower')
    """
    if auto_pad in AUTO_PADS:
        return AUTO_PADS[auto_pad]
    if auto_pad not in (None, "", "NOTSET"):
        names = ", ".join(map(repr, AUTO_PADS))
        raise ValueError(f"{name}: auto_pad must be 'NOTSET', {names}, got {shown(auto_pad)}")
    numbers = extents(name, "pads", pads, 2 * rank, 0, default=0)
    return tuple(zip(numbers[:rank], numbers[rank:], strict=True))


def window(
    name: str, rank: int, auto_pad: str | None, dilations: Any, pads: Any, strides: Any
) -> dict[str, Any]:
    """``stride``, ``padding`` and ``dilation`` of a sliding window.

    >>> window("Conv", 1, "NOTSET", None, [1, 2], [3])
    {'stride': (3,), 'padding': ((1, 2),), 'dilation': (1,)}
    """
    return {
        "stride": extents(name, "strides", strides, rank, default=1),
        "padding": padding(name, rank, auto_pad, pads),
        "dilation": extents(name, "dilations", dilations, rank, default=1),
    }


def switch(name: str, attribute: str, value: Any) -> bool:
    """An attribute that is 0 or 1, absent for 0."""
    if value is None:
        return False
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    number = integer(f"{name}: {attribute}", value, 0)
    if number > 1:
        raise ValueError(f"{name}: {attribute} must be 0 or 1, got {number}")
    return number == 1


def check_kernel_shape(name: str, kernel_shape: Any, w: Any) -> None:
    """ValueError unless the attribute, where it is given, is the weight's spatial shape."""
    taps = np.shape(w)[2:]
    if kernel_shape is not None and extents(name, "kernel_shape", kernel_shape, len(taps)) != taps:
        raise ValueError(
            f"{name}: kernel_shape must be that of W, {taps}, got {shown(kernel_shape)}"
        )
