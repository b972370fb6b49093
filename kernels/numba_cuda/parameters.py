"""The parameters of launches as bytes, each at a multiple of its size, as a kernel expects them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..shapes import round_up
from .program import At, Launch

POINTER_BYTES = 8


class Slot(NamedTuple):
    """Where a launch's parameters have a pointer: ``offset`` bytes into an operand."""

    position: int
    operand: str
    offset: int


class Packed(NamedTuple):
    """A launch whose parameters are packed but for the pointers."""

    launch: Launch
    parameters: bytes
    slots: tuple[Slot, ...]


def packed(launch: Launch) -> Packed:
    """Lay out a launch's parameters."""
    parameters, slots = bytearray(), []
    for arg, text in zip(launch.args, launch.entry.signature, strict=True):
        if isinstance(arg, At):
            _align(parameters, POINTER_BYTES)
            itemsize = np.dtype(text[:-1]).itemsize
            slots.append(Slot(len(parameters), arg.operand, arg.offset * itemsize))
            parameters += bytes(POINTER_BYTES)
        else:
            values = arg if isinstance(arg, tuple) else (arg,)
            element = np.dtype("int32" if text == "problem" else text.partition("[")[0])
            _align(parameters, element.itemsize)
            parameters += np.array(values, element).tobytes()
    return Packed(launch, bytes(parameters), tuple(slots))


def _align(parameters: bytearray, size: int) -> None:
    parameters += bytes(round_up(len(parameters), size) - len(parameters))
