"""LLVM building blocks: the end of a sum, its bias and activation.

An activation is a code of ``problem.ACTIVATION_CODES``, or the address of a C function
``void apply(REAL *values, int64_t count)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._vector import (
    INT64,
    load_masked,
    load_vector,
    loop,
    pointer,
    splat,
    store_vector,
    widest_vector,
)


class Activation(NamedTuple):
    """Least and greatest values, and what the kernel was given."""

    low: Any
    high: Any
    code: Any


def activation_of(builder: Any, vector: ir.VectorType, code: Any) -> Activation:
    """An activation for vectors of a type."""
    relu, relu6 = (builder.icmp_signed("==", code, INT64(which)) for which in (1, 2))
    real = vector.element
    low = builder.select(builder.or_(relu, relu6), real(0.0), real(float("-inf")))
    high = builder.select(relu6, real(6.0), real(float("inf")))
    return Activation(splat(builder, vector, low), splat(builder, vector, high), code)


def finished(builder: Any, sums: Any, bias: Any, activation: Activation) -> Any:
    """Sums with their bias and activation; NaN stays NaN in those that have a code."""
    y = builder.fadd(sums, bias)
    y = builder.select(builder.fcmp_ordered("<", y, activation.low), activation.low, y)
    y = builder.select(builder.fcmp_ordered(">", y, activation.high), activation.high, y)
    return applied(builder, y, y.type.element, y.type.count, activation.code)


def applied(builder: Any, y: Any, real: Any, count: int, code: Any) -> Any:
    """``count`` values changed by the function at the address ``code``, unless that is a code."""
    before = builder.basic_block
    with builder.if_then(builder.icmp_signed(">", code, INT64(2)), likely=False):
        place = cgutils.alloca_once(builder, y.type)
        builder.store(y, place)
        kind = ir.FunctionType(ir.VoidType(), [real.as_pointer(), INT64]).as_pointer()
        values = builder.bitcast(place, real.as_pointer())
        builder.call(builder.inttoptr(code, kind), [values, INT64(count)])
        changed, inside = builder.load(place), builder.basic_block
    chosen = builder.phi(y.type)
    chosen.add_incoming(y, before)
    chosen.add_incoming(changed, inside)
    return chosen


@intrinsic
def apply_function(typing_context: Any, value: Any, code: Any) -> Any:
    """A value changed by the function at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y, address = arguments
        return applied(builder, y, y.type, 1, address)

    return value(value, types.int64), generate


@intrinsic
def finish_tile(
    typing_context: Any,
    sums: Any,
    sums_at: Any,
    pitch: Any,
    count: Any,
    channels: Any,
    bias: Any,
    first_channel: Any,
    activation: Any,
) -> Any:
    """Add the bias to ``count`` rows of sums, ``pitch`` apart, and apply the activation of a code:
    0 none, 1 relu, 2 relu6; NaN stays NaN. (Rows are as long as whole vectors.)"""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, at, gap, rows, used, bias_value, bias_at, code = arguments
        vector = widest_vector(context, sums)
        indices = ir.VectorType(INT64, vector.count)
        how = activation_of(builder, vector, code)
        size = cgutils.unpack_tuple(
            builder, context.make_array(bias)(context, builder, bias_value).shape
        )[0]
        end = builder.select(builder.icmp_signed(">", size, INT64(0)), used, INT64(0))
        lanes = ir.Constant(indices, list(range(vector.count)))
        # y + -0.0 is y, whatever y is: no bias is the bias -0.0.
        none = ir.Constant(vector, [-0.0] * vector.count)
        with loop(builder, INT64(0), used, INT64(vector.count)) as k:
            place = pointer(context, builder, bias, bias_value, builder.add(bias_at, k))
            left = splat(builder, indices, builder.sub(end, k))
            added = load_masked(builder, vector, place, builder.icmp_signed("<", lanes, left), none)
            with loop(builder, INT64(0), rows, INT64(1)) as m:
                at_m = builder.add(builder.add(at, k), builder.mul(gap, m))
                place = pointer(context, builder, sums, value, at_m)
                y = finished(builder, load_vector(builder, vector, place), added, how)
                store_vector(builder, y, place)
        return context.get_dummy_value()

    integers = [types.int64] * 4
    return types.void(sums, *integers, bias, types.int64, activation), generate
