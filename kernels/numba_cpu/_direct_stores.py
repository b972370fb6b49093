"""The ends of the direct row's sums: bias, activation, and stores of any stride."""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir

from ._emit import Code, Operand, Value
from ._vector import INT64


class Target(NamedTuple):
    """Where sums go: how far apart out-channels, rows and columns are; ``streaming`` is 1 where
    whole vectors go past the caches."""

    k: Value
    p: Value
    q: Value
    activation: Value
    streaming: Value


def apply_function(code: Code, values: Value, count: Operand, activation: Value) -> None:
    """Change values by the function at an address."""
    kind = ir.FunctionType(ir.VoidType(), [code.real.as_pointer(), INT64]).as_pointer()
    function = code.builder.inttoptr(activation.value, kind)
    code.builder.call(function, [values.value, code.of(count).value])


def clamped(code: Code, sums: list[Value], activation: Value) -> list[Value]:
    """Sums after an activation that is a code, where NaN stays NaN; for others as they are."""
    changed = [code.var(y) for y in sums]
    with code.when(activation.differs(0)):
        low, high = (-(2**63), 2**63 - 1) if code.whole else (float("-inf"), float("inf"))
        least = code.choose(activation <= 2, code.number(0), code.number(low))
        most = code.choose(activation.equals(2), code.number(6), code.number(high))
        low_lanes, high_lanes = code.splat(least), code.splat(most)
        for variable, y in zip(changed, sums, strict=True):
            y = code.choose(y < low_lanes, low_lanes, y)
            variable.set(code.choose(y > high_lanes, high_lanes, y))
    return [variable.get() for variable in changed]


def _activated(code: Code, y: Value, activation: Value) -> Value:
    """A vector of sums after any activation, a code or the address of a function."""
    changed = code.var(clamped(code, [y], activation)[0])
    with code.when(activation > 2):
        kept = code.buffer(code.real, code.lanes)
        code.vstore(y, kept)
        apply_function(code, kept, code.lanes, activation)
        changed.set(code.vload(kept))
    return changed.get()


def store_row(
    code: Code, out: Value, stride: Value, sums: Value, added: Value, columns: Value,
    activation: Value,
) -> None:  # fmt: skip
    """Write ``columns`` finished sums; a vector of them may be read."""
    with code.range(0, columns, code.lanes) as q:
        y = _activated(code, code.vload(sums + q) + added, activation)
        left = columns - q
        with code.either(stride.equals(1)) as (then, otherwise):
            with then, code.either(left >= code.lanes) as (whole, some):
                with whole:
                    code.vstore(y, out + q)
                with some:
                    code.vstore(y, out + q, left)
            with otherwise:
                code.vstore_apart(y, out + q * stride, stride, code.least(left, code.lanes))
