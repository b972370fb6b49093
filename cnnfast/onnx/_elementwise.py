"""Arithmetic of large arrays, a stretch at a time: what follows finds it in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array
from cnnfast._core.workspace import large_empty

#: Elements that are added and activated at a time: two operands of them fit L1 and L2.
STRETCH = 1 << 15


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Uninitialised memory for a result, that of a dead one if it is large."""
    made: Array = (large_empty(shape, dtype) or np.empty)(shape, dtype)
    return made


def activate(name: str | None, x: Array) -> Array:
    """Apply one of the kernels' activations in place."""
    if name == "relu":
        np.maximum(x, 0, out=x)
    elif name == "relu6":
        np.clip(x, 0, 6, out=x)
    return x


def _relu(x: Array, out: Array, how: dict[str, Any]) -> None:
    np.maximum(x, 0, out=out)


def _leaky_relu(x: Array, out: Array, how: dict[str, Any]) -> None:
    scaled = x * x.dtype.type(how.get("alpha", 0.01))
    np.copyto(out, np.where(x > 0, x, scaled))


@np.errstate(over="ignore", under="ignore")
def _sigmoid(x: Array, out: Array, how: dict[str, Any]) -> None:
    np.negative(x, out=out)
    np.exp(out, out=out)  # infinite where the result is zero
    out += 1
    np.reciprocal(out, out=out)


def _tanh(x: Array, out: Array, how: dict[str, Any]) -> None:
    np.tanh(x, out=out)


def _hard_swish(x: Array, out: Array, how: dict[str, Any]) -> None:
    gate = x * x.dtype.type(1 / 6)
    gate += x.dtype.type(0.5)
    np.clip(gate, 0, 1, out=gate)
    np.multiply(x, gate, out=out)


#: Operators of one array: a stretch of it, where to write, and the attributes.
UNARY: dict[str, Callable[[Array, Array, dict[str, Any]], None]] = {
    "Relu": _relu,
    "LeakyRelu": _leaky_relu,
    "Sigmoid": _sigmoid,
    "Tanh": _tanh,
    "HardSwish": _hard_swish,
}


def mapped(
    kind: str, how: dict[str, Any], free: bool, otherwise: Callable[..., Any]
) -> Callable[..., Array]:
    """A unary operator, in place of its operand if that is ``free``; ``otherwise`` takes what
    isn't float32 or float64."""
    change = UNARY[kind]

    def call(x: Array, out: Array | None = None) -> Array:
        if x.dtype not in (np.float32, np.float64):
            result: Array = otherwise(x)[0]
            if out is None:
                return result
            np.copyto(out, result)
            return out
        if out is None:
            out = x if free else empty(x.shape, x.dtype)
        if not (x.flags.c_contiguous and out.flags.c_contiguous):
            change(x, out, how)
            return out
        source, target = x.reshape(-1), out.reshape(-1)
        for start in range(0, source.size, STRETCH):
            part = slice(start, start + STRETCH)
            change(source[part], target[part], how)
        return out

    return call


def arithmetic(
    function: Any, name: str | None, free: tuple[bool, ...], otherwise: Callable[..., Any]
) -> Callable[..., Array]:
    """A ufunc of two arrays and the activation called ``name`` behind it, in place of an operand
    that is ``free``; ``otherwise`` takes arrays that aren't alike: it broadcasts, or refuses."""

    def call(a: Array, b: Array, out: Array | None = None) -> Array:
        if a.shape != b.shape or a.dtype != b.dtype or a.dtype.kind != "f":
            result = activate(name, otherwise(a, b)[0])
            if out is None:
                return result
            np.copyto(out, result)
            return out
        if out is None:
            out = a if free[0] else b if free[1] else empty(a.shape, a.dtype)
        arrays = (a, b, out)
        if name is None or not all(array.flags.c_contiguous for array in arrays):
            return activate(name, function(a, b, out=out))
        first, second, sums = (array.reshape(-1) for array in arrays)
        for start in range(0, first.size, STRETCH):
            part = slice(start, start + STRETCH)
            activate(name, function(first[part], second[part], out=sums[part]))
        return out

    return call


def joined(parts: tuple[Array, ...], axis: int, out: Array) -> Array:
    """The parts one behind the other in ``out``, where some of them may already be."""
    before = (slice(None),) * axis
    start = 0
    for part in parts:
        place = out[(*before, slice(start, start + part.shape[axis]))]
        if not np.may_share_memory(part, place):
            np.copyto(place, part)
        start += part.shape[axis]
    return out
