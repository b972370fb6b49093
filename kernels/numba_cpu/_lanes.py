"""Vectors as values: loops over whole vectors, written as sequential functions.

A ``Lanes`` is an LLVM vector as wide as the machine's. Loops that are no more than loads, a few
operations and stores read here as they would on scalars; LLVM keeps the vectors in registers.
Arrays may be arrays or pointers (``_vector.address``); offsets count elements.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

from . import _vector
from ._vector import INT64


class Lanes(types.Type):
    """``count`` values of a scalar type."""

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"Lanes({element}, {count})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """An LLVM vector; of booleans one of bits."""

    def __init__(self, manager: Any, front: Lanes) -> None:
        element = ir.IntType(1)
        if front.element != types.boolean:
            element = manager.lookup(front.element).get_value_type()
        super().__init__(manager, front, ir.VectorType(element, front.count))


def _lanes_of(array: Any) -> Lanes:
    """The widest vector of an array's, or a pointer's, dtype."""
    size = _vector.widest(cpu_target.target_context)
    return Lanes(array.dtype, size * 8 // array.dtype.bitwidth)


def _places_of(lanes: Lanes) -> Lanes:
    """As many integers of the same size."""
    return Lanes(types.int32 if lanes.element.bitwidth == 32 else types.int64, lanes.count)


def _vector_of(context: Any, lanes: Lanes) -> ir.VectorType:
    return context.get_value_type(lanes)


@intrinsic
def lanes_like(typing_context: Any, array: Any, value: Any) -> Any:
    """A vector of one value, for an array's dtype."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _vector_of(context, signature.return_type)
        return _vector.splat(builder, vector, arguments[1])

    return _lanes_of(array)(array, array.dtype), generate


@intrinsic
def load_lanes(typing_context: Any, array: Any, at: Any) -> Any:
    """A vector from memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _vector.pointer(context, builder, array, *arguments)
        return _vector.load_vector(builder, _vector_of(context, signature.return_type), place)

    return _lanes_of(array)(array, types.int64), generate


def _first(builder: Any, vector: ir.VectorType, count: Any) -> Any:
    """A mask of the first ``count`` lanes."""
    kind = ir.VectorType(_vector.INT32, vector.count)
    lanes = ir.Constant(kind, list(range(vector.count)))
    limit = builder.trunc(count, _vector.INT32)
    return builder.icmp_signed("<", lanes, _vector.splat(builder, kind, limit))


@intrinsic
def load_first_lanes(typing_context: Any, array: Any, at: Any, count: Any, other: Any) -> Any:
    """The first ``count`` lanes from memory, 1 to all of them, the others from ``other``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _vector.pointer(context, builder, array, *arguments[:2])
        vector = _vector_of(context, signature.return_type)
        mask = _first(builder, vector, arguments[2])
        return _vector.load_masked(builder, vector, place, mask, arguments[3])

    kind = _lanes_of(array)
    return kind(array, types.int64, types.int64, kind), generate


@intrinsic
def store_lanes(typing_context: Any, array: Any, at: Any, value: Any) -> Any:
    """A vector to memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _vector.pointer(context, builder, array, *arguments[:2])
        _vector.store_vector(builder, arguments[2], place)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), generate


@intrinsic
def store_first_lanes(typing_context: Any, array: Any, at: Any, value: Any, count: Any) -> Any:
    """The first ``count`` lanes to memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _vector.pointer(context, builder, array, *arguments[:2])
        _vector.store_first(builder, arguments[2], place, arguments[3])
        return context.get_dummy_value()

    return types.void(array, types.int64, value, types.int64), generate


@intrinsic
def add_lanes(typing_context: Any, a: Any, b: Any) -> Any:
    """``a + b``; integers wrap around."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if isinstance(a.element, types.Integer):
            return builder.add(*arguments)
        return builder.fadd(*arguments)

    return a(a, a), generate


def _is_larger(builder: Any, lanes: Lanes, value: Any, former: Any) -> Any:
    if isinstance(lanes.element, types.Integer):
        return builder.icmp_signed(">", value, former)
    return builder.fcmp_ordered(">", value, former)


@intrinsic
def larger_lanes(typing_context: Any, former: Any, value: Any) -> Any:
    """The larger ones; ``value`` where it is NaN, ``former`` where the two are equal."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        old, new = arguments
        result = builder.select(_is_larger(builder, former, new, old), new, old)
        if isinstance(former.element, types.Integer):
            return result
        return builder.select(builder.fcmp_unordered("uno", new, new), new, result)

    return former(former, former), generate


@intrinsic
def beats(typing_context: Any, former: Any, value: Any) -> Any:
    """Where ``value`` is larger, or NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        old, new = arguments
        result = _is_larger(builder, former, new, old)
        if isinstance(former.element, types.Integer):
            return result
        return builder.or_(result, builder.fcmp_unordered("uno", new, new))

    return Lanes(types.boolean, former.count)(former, former), generate


@intrinsic
def choose(typing_context: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Lanes of ``yes`` where the mask is set, else of ``no``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return yes(mask, yes, yes), generate


@intrinsic
def places_like(typing_context: Any, lanes: Any, value: Any) -> Any:
    """A vector of one integer, beside a vector of values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, value = _vector_of(context, signature.return_type), arguments[1]
        if vector.element.width < 64:
            value = builder.trunc(value, vector.element)
        return _vector.splat(builder, vector, value)

    return _places_of(lanes)(lanes, types.int64), generate


@intrinsic
def store_places(
    typing_context: Any, array: Any, at: Any, places: Any, first: Any, step: Any
) -> Any:
    """``places`` as int64, and ``first + lane * step`` more, to memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = arguments[2]
        vector = ir.VectorType(INT64, places.count)
        if value.type != vector:
            value = builder.sext(value, vector)
        lane = ir.Constant(vector, list(range(places.count)))
        further = builder.mul(lane, _vector.splat(builder, vector, arguments[4]))
        value = builder.add(value, builder.add(further, _vector.splat(builder, vector, arguments[3])))
        _vector.store_vector(
            builder, value, _vector.pointer(context, builder, array, *arguments[:2])
        )
        return context.get_dummy_value()

    integers = [types.int64] * 2
    return types.void(array, types.int64, places, *integers), generate


@intrinsic
def divide_lanes(typing_context: Any, a: Any, divisor: Any) -> Any:
    """``a / divisor``; integers truncated toward zero, and ``a`` itself by 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        dividend, number = arguments
        vector = dividend.type
        if isinstance(a.element, types.Float):
            real = builder.sitofp(number, vector.element)
            return builder.fdiv(dividend, _vector.splat(builder, vector, real))
        result = dividend
        for lane in range(vector.count):
            at = _vector.INT32(lane)
            ratio = _vector.quotient(builder, builder.extract_element(dividend, at), number)
            result = builder.insert_element(result, ratio, at)
        return result

    return a(a, types.int64), generate


def _make_shuffle(order: Any) -> Any:
    """A shuffle of two vectors side by side: ``order(lane, lanes)`` is where a lane comes from."""

    @intrinsic
    def pick(typing_context: Any, low: Any, high: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            chosen = [order(lane, low.count) for lane in range(low.count)]
            return _vector.shuffle(builder, *arguments, chosen)

        return low(low, low), generate

    return pick


#: The elements 0, 2, 4 ... of two vectors side by side, and 1, 3, 5 ...
even = _make_shuffle(lambda lane, lanes: 2 * lane)
odd = _make_shuffle(lambda lane, lanes: 2 * lane + 1)
#: The vector that begins with the last element of the first, with its second, with its third one.
from_last = _make_shuffle(lambda lane, lanes: lane + lanes - 1)
from_second = _make_shuffle(lambda lane, lanes: lane + 1)
from_third = _make_shuffle(lambda lane, lanes: lane + 2)
#: Every element of the first half twice, and of the second half.
twice_low = _make_shuffle(lambda lane, lanes: lane // 2)
twice_high = _make_shuffle(lambda lane, lanes: (lane + lanes) // 2)


@intrinsic
def count_of(typing_context: Any, array: Any) -> Any:
    """Elements of a vector of an array's, or a pointer's, dtype."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return INT64(_lanes_of(array).count)

    return types.int64(array), generate
