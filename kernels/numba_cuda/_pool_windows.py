"""Windows of poolings on the GPU, from ints: which places each has, and which have a place.

An axis is a tuple of ints (``Axis``). Tap t of window i is at ``i * stride - pad + t * dilation``;
an adaptive window i is ``i * size // outputs .. ceil((i + 1) * size / outputs)``.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

from numba import cuda, int32, uint32, uint64

from ..shapes import effective_kernel
from .program import PoolCall

#: Products of an adaptive axis' extents are 64-bit from here on.
LIMIT = 2**31


class Axis(NamedTuple):
    """One axis of a pooling, as kernels take it (``int32[7]``)."""

    size: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    pad_after: int


def axes_of(call: PoolCall) -> tuple[Axis, Axis, Axis]:
    """The three axes of a call."""
    rows = zip(
        call.size, call.output, call.kernel, call.stride, call.dilation, call.pad, call.pad_after,
        strict=True,
    )  # fmt: skip
    # The distance to a second window doesn't matter where there is none, and may be any number.
    depth, height, width = (
        Axis(*row)._replace(stride=row[3] if row[1] > 1 else min(row[3], row[0])) for row in rows
    )
    return depth, height, width


def regular(call: PoolCall) -> PoolCall:
    """The same pooling in the simplest terms: adaptive windows that are all alike as a window and
    its stride, and the places of a window as the divisor where all have as many."""
    pairs = list(zip(call.size, call.output, strict=True))
    if call.adaptive and all(size % outputs == 0 for size, outputs in pairs):
        taps = tuple(size // outputs for size, outputs in pairs)
        call = call._replace(adaptive=False, kernel=taps, stride=taps)  # type: ignore[arg-type]
    sliding_mean = call.reduction == "mean" and not call.divisor and not call.adaptive
    if sliding_mean and all(_whole(axis, call.count_include_pad) for axis in axes_of(call)):
        call = call._replace(divisor=math.prod(call.kernel))
    return call


def _whole(axis: Axis, padded: bool) -> bool:
    """Whether all places of all windows of an axis count in a mean."""
    last = (axis.outputs - 1) * axis.stride - axis.pad
    end = last + effective_kernel(axis.kernel, axis.dilation)
    return end <= axis.size + axis.pad_after if padded else axis.pad == 0 and end <= axis.size


def kind_of(call: PoolCall) -> str:
    """Which ``window_of`` a call's windows are made by."""
    if not call.adaptive:
        return "dilated" if max(call.dilation) > 1 else "dense"
    products = (size * (outputs + 1) for size, outputs in zip(call.size, call.output, strict=True))
    return "adaptive" if max(products) < LIMIT else "wide"


@cache
def window_of(kind: str, padded: bool) -> Any:
    """``window(i, axis)``: the first place of window i inside the input, its end (taps are
    ``dilation`` apart), and how many taps count in a mean, with those on padding if ``padded``."""

    @cuda.jit(device=True)
    def counted(start, first, end, axis):
        last = max(min(end, axis[0]), first)
        if padded:
            return first, last, int32(min(end, int32(axis[0] + axis[6])) - start)
        return first, last, int32(last - first)

    @cuda.jit(device=True)
    def dense(i, axis):
        start = int32(i * axis[3] - axis[5])
        return counted(start, max(start, int32(0)), int32(start + axis[2]), axis)

    @cuda.jit(device=True)
    def dilated(i, axis):
        start, dilation = int32(i * axis[3] - axis[5]), axis[4]
        first = start
        if start < 0:
            # A tap before the input moves up by whole dilations, so that it stays a tap.
            steps = uint32(uint32(dilation - 1 - start) // uint32(dilation))
            first = int32(start + steps * dilation)
        first, last, spanned = counted(
            start, first, int32(start + (axis[2] - 1) * dilation + 1), axis
        )
        return first, last, int32(uint32(spanned + dilation - 1) // uint32(dilation))

    @cuda.jit(device=True)
    def adaptive(i, axis):
        size, outputs = uint32(axis[0]), uint32(axis[1])
        first = int32(uint32(uint32(i) * size) // outputs)
        last = int32(uint32(uint32(i + 1) * size + outputs - uint32(1)) // outputs)
        return first, last, int32(last - first)

    @cuda.jit(device=True)
    def wide(i, axis):
        size, outputs = uint64(axis[0]), uint64(axis[1])
        first = int32(uint64(i) * size // outputs)
        last = int32((uint64(i + 1) * size + outputs - uint64(1)) // outputs)
        return first, last, int32(last - first)

    return {"dense": dense, "dilated": dilated, "adaptive": adaptive, "wide": wide}[kind]


@cache
def windows_at(kind: str) -> Any:
    """``windows(place, axis)``: the first window that may have a place, and the end of those."""

    @cuda.jit(device=True)
    def sliding(place, axis):
        _size, outputs, kernel, stride, dilation, pad, _pad_after = axis
        first, back = int32(0), int32(place + pad - (kernel - 1) * dilation)
        if back > 0:
            first = int32(uint32(back + stride - 1) // uint32(stride))
        last = int32(uint32(place + pad) // uint32(stride))
        return first, min(int32(last + 1), outputs)

    @cuda.jit(device=True)
    def adaptive(place, axis):
        size, outputs = uint32(axis[0]), uint32(axis[1])
        first = int32(uint32(uint32(place) * outputs) // size)
        return first, int32(uint32(uint32(place + 1) * outputs + size - uint32(1)) // size)

    @cuda.jit(device=True)
    def wide(place, axis):
        size, outputs = uint64(axis[0]), uint64(axis[1])
        first = int32(uint64(place) * outputs // size)
        return first, int32((uint64(place + 1) * outputs + size - uint64(1)) // size)

    return {"adaptive": adaptive, "wide": wide}.get(kind, sliding)


def magic(divisor: int) -> tuple[int, int]:
    """Multiplier and shift with which ``quotient`` divides numbers below 2**31.

    >>> multiplier, shift = magic(7)
    >>> 2**31 - 1 - 7 * ((2**31 - 1) * multiplier >> shift)
    1
    """
    bits = (divisor - 1).bit_length()
    return -(-(1 << 31 + bits) // divisor), 31 + bits


@cuda.jit(device=True)
def quotient(number, multiplier, shift):
    """``number // divisor`` by ``magic(divisor)``, in a fifth of a division's instructions."""
    return int32((uint64(uint32(number)) * uint64(multiplier)) >> uint64(shift))
