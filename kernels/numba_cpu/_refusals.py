"""The rules that a call of a function for users' code breaks, as errors in that code."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._calls import CallWords, bounds_of
from ._vector import INT64
from ._words import CONV, POOL, RULES, Layout, number_of


def _make_refusal(layout: Layout) -> Any:
    @intrinsic
    def is_refused(typing_context: Any, words: Any) -> Any:
        """Whether a call breaks a rule."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            status = CallWords(context, builder, layout, arguments[0]).get("status")
            return builder.icmp_signed("!=", status, INT64(0))

        return types.boolean(words), generate

    @intrinsic
    def raise_refusal(typing_context: Any, words: Any) -> Any:
        """ValueError from the calling function, with the rule. What that function holds, Numba
        doesn't let go by itself: it must be dead by then, as in a branch that ends by ``raise``."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            status = CallWords(context, builder, layout, arguments[0]).get("status")
            for rule in RULES:
                broken = builder.icmp_signed("==", status, INT64(number_of(rule)))
                with cgutils.if_unlikely(builder, broken):
                    context.call_conv.return_user_exc(builder, ValueError, (rule,))
            return context.get_dummy_value()

        return types.none(words), generate

    return is_refused, raise_refusal


is_conv_refused, raise_conv_refusal = _make_refusal(CONV)
is_pool_refused, raise_pool_refusal = _make_refusal(POOL)


def _is_shape(builder: Any, call: CallWords, shape: list[Any]) -> Any:
    """Whether it is that of the result."""
    good = ir.Constant(ir.IntType(1), 1)
    for axis, extent in zip((0, 1, *range(7 - len(shape), 5)), shape, strict=True):
        same = builder.icmp_signed("==", call.get("out_sizes", axis), extent)
        good = builder.and_(good, same)
    return good


def _make_check_result(layout: Layout) -> Any:
    @intrinsic
    def check_result(typing_context: Any, words: Any, out: Any, inputs: Any) -> Any:
        """Refuse an ``out`` of users' that has another shape, or may share memory with inputs."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            call = CallWords(context, builder, layout, arguments[0])
            array = context.make_array(out)(context, builder, arguments[1])
            shaped = _is_shape(builder, call, cgutils.unpack_tuple(builder, array.shape))
            low, high, whole = bounds_of(context, builder, out, arguments[1])
            apart = ir.Constant(ir.IntType(1), 1)
            items = cgutils.unpack_tuple(builder, arguments[2])
            for kind, value in zip(inputs.types, items, strict=True):
                if isinstance(kind, types.Array):
                    first, last, _ = bounds_of(context, builder, kind, value)
                    before = builder.icmp_signed("<=", last, low)
                    behind = builder.icmp_signed("<=", high, first)
                    apart = builder.and_(apart, builder.or_(before, behind))
            status = call.get("status")
            for good, rule in (
                (shaped, "out must have"),
                (whole, "strides of"),
                (apart, "out must lie"),
            ):
                first_wrong = builder.and_(
                    builder.not_(good), builder.icmp_signed("==", status, INT64(0))
                )
                status = builder.select(first_wrong, INT64(number_of(rule)), status)
            call.put("status", status)
            return context.get_dummy_value()

        return types.none(words, out, inputs), generate

    return check_result


check_conv_result, check_pool_result = _make_check_result(CONV), _make_check_result(POOL)
