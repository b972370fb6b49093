"""The kernel of the direct wgrad: dot products of rows, for some neighbouring taps s at a time.

``sums[j][:] += grad[row, q + :] * x[row, (q + :) * step + j * dilation_w - pad_w]`` over rows and q

x       any strides            read in place                              IN
grad    any strides            read in place                              IN
sums    [taps][lanes]          added to; the lanes are added up later     IN/OUT
Accumulates in the dtype, one fused multiply-add per product, from zero, before it is added to
``sums``. Scratch: none. Lanes that lie in the padding or behind a row's end are masked out, of x
and of grad, so nothing outside of a row is read; they add 0 x 0, or a gradient times zero.
Why: a gradient is loaded once for all taps, and with two vectors of columns side by side no
multiply-add waits for the one before.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import _vector
from ._rows import load_columns
from ._vector import INT64

#: Vectors of columns that ``whole_dots`` sums side by side.
WHOLE_VECTORS = 2


def _from_zero(builder: Any, registers: list[Any]) -> None:
    for register in registers:
        builder.store(ir.Constant(register.type.pointee, None), register)


def _add(builder: Any, register: Any, a: Any, b: Any) -> None:
    total = _vector.multiply_add_values(builder, a, b, builder.load(register))
    builder.store(total, register)


def _add_to_sums(builder: Any, registers: list[list[Any]], first: Any) -> None:
    """Add each tap's vectors, in order, to its sums."""
    for j, vectors in enumerate(registers):
        total = builder.load(vectors[0])
        for register in vectors[1:]:
            total = builder.fadd(total, builder.load(register))
        place = builder.gep(first, [INT64(j * total.type.count)])
        former = _vector.load_vector(builder, total.type, place)
        _vector.store_vector(builder, builder.fadd(former, total), place)


def _make_whole_dots(taps: int) -> Any:
    """Columns where all taps are inside, both arrays contiguous along them."""

    @intrinsic
    def whole_dots(
        typing_context: Any, x: Any, x_at: Any, grad: Any, grad_at: Any, row_steps: Any,
        column_steps: Any, rows: Any, count: Any, sums: Any, sums_at: Any,
    ) -> Any:  # fmt: skip
        """``row_steps``: from one row to the next, of x and of grad; ``column_steps``: from one
        output (1 or 2) and from one tap to the next; ``count`` pairs of vectors in each row."""
        pair = types.UniTuple(types.int64, 2)
        signature = types.void(
            x, types.int64, grad, types.int64, pair, pair, types.int64, types.int64,
            sums, types.int64,
        )  # fmt: skip

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x_value, x_from, g_value, g_from, row_by, column_by = arguments[:6]
            row_count, pairs, s_value, s_at = arguments[6:]
            vector = _vector.vector_type(context, x)
            registers = [
                [cgutils.alloca_once(builder, vector) for _ in range(WHOLE_VECTORS)]
                for _ in range(taps)
            ]
            x_row, g_row = cgutils.unpack_tuple(builder, row_by)
            step, dilation = cgutils.unpack_tuple(builder, column_by)
            x_first = _vector.pointer(context, builder, x, x_value, x_from)
            g_first = _vector.pointer(context, builder, grad, g_value, g_from)
            _from_zero(builder, sum(registers, []))

            def sum_rows(stride: int) -> None:
                with (
                    cgutils.for_range(builder, row_count) as row,
                    cgutils.for_range(builder, pairs) as column,
                ):
                    q = builder.mul(column.index, INT64(WHOLE_VECTORS * vector.count))
                    at = builder.add(builder.mul(row.index, g_row), q)
                    gradients = [
                        _vector.load_vector(
                            builder, vector,
                            builder.gep(g_first, [builder.add(at, INT64(v * vector.count))]),
                        )
                        for v in range(WHOLE_VECTORS)
                    ]  # fmt: skip
                    w = builder.mul(q, INT64(stride))
                    at = builder.add(builder.mul(row.index, x_row), w)
                    for j in range(taps):
                        tap = builder.add(at, builder.mul(dilation, INT64(j)))
                        for v, gradient in enumerate(gradients):
                            place = builder.add(tap, INT64(v * vector.count * stride))
                            address = builder.gep(x_first, [place])
                            value = load_columns(builder, vector, address, stride, None)
                            _add(builder, registers[j][v], gradient, value)

            for stride in (1, 2):
                with builder.if_then(builder.icmp_signed("==", step, INT64(stride))):
                    sum_rows(stride)
            _add_to_sums(builder, registers, _vector.pointer(context, builder, sums, s_value, s_at))
            return context.get_dummy_value()

        return signature, generate

    return whole_dots


def _make_edge_dots(taps: int) -> Any:
    """One vector of columns, wherever it lies, any strides."""

    @intrinsic
    def edge_dots(
        typing_context: Any, x: Any, x_at: Any, grad: Any, grad_at: Any, row_steps: Any,
        strides: Any, columns: Any, rows: Any, left: Any, sums: Any, sums_at: Any,
    ) -> Any:  # fmt: skip
        """``x_at`` is the offset of column 0; ``strides``: of x and grad along a row; ``columns``:
        the input column of the first output's first tap, from one s to the next, from one output
        to the next, and the row's width; ``left`` outputs lie in the row from the first on."""
        integers = [types.UniTuple(types.int64, count) for count in range(5)]
        signature = types.void(
            x, types.int64, grad, types.int64, integers[2], integers[2], integers[4], types.int64,
            types.int64, sums, types.int64,
        )  # fmt: skip

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x_value, x_from, g_value, g_from, row_by, element_by, column_by = arguments[:7]
            row_count, outputs, s_value, s_at = arguments[7:]
            vector = _vector.vector_type(context, x)
            registers = [cgutils.alloca_once(builder, vector) for _ in range(taps)]
            x_row, g_row = cgutils.unpack_tuple(builder, row_by)
            x_stride, g_stride = cgutils.unpack_tuple(builder, element_by)
            w_first, dilation, step, width = cgutils.unpack_tuple(builder, column_by)
            x_first = _vector.pointer(context, builder, x, x_value, x_from)
            g_first = _vector.pointer(context, builder, grad, g_value, g_from)
            zero, one = INT64(0), INT64(1)
            lanes = INT64(vector.count)
            last = builder.sub(_least(builder, outputs, lanes), one)
            reach = builder.add(builder.mul(last, step), one)
            firsts = [
                builder.add(w_first, builder.mul(dilation, INT64(j))) for j in range(taps)
            ]
            # Behind the last output of a row, a tap's columns may still lie inside of the input.
            limits = [
                _greatest(builder, _least(builder, width, builder.add(first, reach)), zero)
                for first in firsts
            ]
            _from_zero(builder, registers)

            def sum_rows(stride: int | None) -> None:
                with cgutils.for_range(builder, row_count) as row:
                    g_place = builder.gep(g_first, [builder.mul(row.index, g_row)])
                    x_place = builder.gep(x_first, [builder.mul(row.index, x_row)])
                    if stride is None:
                        gradient = _gather(builder, vector, g_place, zero, one, g_stride, outputs)
                    else:
                        gradient = load_columns(builder, vector, g_place, 1, (zero, outputs))
                    for register, first, limit in zip(registers, firsts, limits, strict=True):
                        if stride is None:
                            value = _gather(builder, vector, x_place, first, step, x_stride, limit)
                        else:
                            address = builder.gep(x_place, [first])
                            value = load_columns(builder, vector, address, stride, (first, limit))
                        _add(builder, register, gradient, value)

            contiguous = builder.and_(
                builder.icmp_signed("==", x_stride, one), builder.icmp_signed("==", g_stride, one)
            )
            single = builder.and_(contiguous, builder.icmp_signed("==", step, one))
            double = builder.and_(contiguous, builder.icmp_signed("==", step, INT64(2)))
            for stride, chosen in ((1, single), (2, double)):
                with builder.if_then(chosen):
                    sum_rows(stride)
            with builder.if_then(builder.not_(builder.or_(single, double))):
                sum_rows(None)
            first_sum = _vector.pointer(context, builder, sums, s_value, s_at)
            _add_to_sums(builder, [[register] for register in registers], first_sum)
            return context.get_dummy_value()

        return signature, generate

    return edge_dots


def _least(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def _greatest(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def _gather(
    builder: Any, vector: ir.VectorType, row: Any, first: Any, step: Any, stride: Any, limit: Any
) -> Any:
    """The columns ``first``, ``first + step``, ... below ``limit`` of a row, else zeros."""
    indices = ir.VectorType(INT64, vector.count)
    lanes = ir.Constant(indices, list(range(vector.count)))
    by = builder.mul(lanes, _vector.splat(builder, indices, step))
    columns = builder.add(by, _vector.splat(builder, indices, first))
    mask = builder.icmp_unsigned("<", columns, _vector.splat(builder, indices, limit))
    offsets = builder.mul(columns, _vector.splat(builder, indices, stride))
    return _vector.load_gathered(builder, vector, row, offsets, mask)


whole_dots_4, edge_dots_4 = _make_whole_dots(4), _make_edge_dots(4)
whole_dots_3, edge_dots_3 = _make_whole_dots(3), _make_edge_dots(3)
whole_dots_2, edge_dots_2 = _make_whole_dots(2), _make_edge_dots(2)
whole_dots_1, edge_dots_1 = _make_whole_dots(1), _make_edge_dots(1)
