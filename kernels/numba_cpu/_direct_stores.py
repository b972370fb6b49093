"""The ends of the direct row's sums: bias, activation, and stores of any stride."""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir

from ._emit import Code, Value
from ._vector import INT64


class Target(NamedTuple):
    """Where sums go: how far apart out-channels, rows and columns are; ``streaming`` is 1 where
    whole vectors go past the caches."""

    k: Value
    p: Value
    q: Value
    activation: Value
    streaming: Value


def activated(code: Code, y: Value, activation: Value) -> Value:
    """Sums after their activation: a code, where NaN stays NaN, or the address of a function that
    changes values in place."""
    changed = code.var(y)
    with code.when(activation.differs(0)):
        low, high = (-(2**63), 2**63 - 1) if code.whole else (float("-inf"), float("inf"))
        least = code.choose(activation <= 2, code.number(0), code.number(low))
        most = code.choose(activation.equals(2), code.number(6), code.number(high))
        low_lanes, high_lanes = code.splat(least), code.splat(most)
        y = code.choose(y < low_lanes, low_lanes, y)
        changed.set(code.choose(y > high_lanes, high_lanes, y))
        with code.when(activation > 2):
            values = code.buffer(code.real, code.lanes)
            code.vstore(y, values)
            kind = ir.FunctionType(ir.VoidType(), [code.real.as_pointer(), INT64]).as_pointer()
            function = code.builder.inttoptr(activation.value, kind)
            code.builder.call(function, [values.value, INT64(code.lanes)])
            changed.set(code.vload(values))
    return changed.get()


def all_activated(code: Code, sums: list[Value], activation: Value) -> list[Value]:
    """The same of many, for which the code of one serves."""
    changed = [code.var(y) for y in sums]
    with code.when(activation.differs(0)):
        kept = code.buffer(code.real, len(sums) * code.lanes)
        for i, y in enumerate(sums):
            code.vstore(y, kept + i * code.lanes)
        with code.range(0, len(sums) * code.lanes, code.lanes) as at:
            code.vstore(activated(code, code.vload(kept + at), activation), kept + at)
        for i, variable in enumerate(changed):
            variable.set(code.vload(kept + i * code.lanes))
    return [variable.get() for variable in changed]


def store_some(code: Code, value: Value, place: Value, left: Value) -> None:
    """Write a vector, or what is left of one."""
    with code.either(left >= code.lanes) as (then, otherwise):
        with then:
            code.vstore(value, place)
        with otherwise:
            code.vstore(value, place, left)


def store_row(
    code: Code, out: Value, stride: Value, sums: Value, added: Value, columns: Value,
    activation: Value,
) -> None:  # fmt: skip
    """Write ``columns`` finished sums; a vector of them may be read."""
    with code.range(0, columns, code.lanes) as q:
        y = activated(code, code.vload(sums + q) + added, activation)
        left = columns - q
        with code.either(stride.equals(1)) as (then, otherwise):
            with then:
                store_some(code, y, out + q, left)
            with otherwise:
                code.vstore_apart(y, out + q * stride, stride, code.least(left, code.lanes))
