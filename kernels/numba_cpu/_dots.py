"""The kernels of the direct wgrad: dot products of rows, for three neighbouring taps at a time.

``sums[j][:] += grad[row, q + :] * x[row, (q + :) * step + j * dilation_w - pad_w]`` over rows and q

x       any strides            read in place                              IN
grad    any strides            read in place                              IN
sums    [taps][lanes]          added to; the lanes are added up later     IN/OUT
Accumulates in the dtype, one fused multiply-add per product, from zero, before it is added to
``sums``. Scratch: none. Lanes in the padding or behind a row's end are masked out, so nothing
outside of a row is read; they add zero times zero, or a gradient times zero.
Why: a gradient is loaded once for three taps, and six sums side by side are what the two loads of
a cycle feed. Where there are fewer taps, the last one is computed again and not added: a tap alone
takes as long, for its multiply-adds wait for each other, and a kernel for each number of taps took
four times as long to compile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import _vector
from ._vector import INT64

#: Taps that are summed side by side, and the vectors of columns that ``whole_dots`` takes of each.
TAPS = 3
WHOLE_VECTORS = 2


def load_columns(builder: Any, vector: ir.VectorType, address: Any, step: int, outside: Any) -> Any:
    """A vector of every element or every second one. ``outside`` is None where the whole vector is
    inside the row, else the input column of the first lane and the row's width."""
    if step == 1:
        return _load_inside(builder, vector, address, outside, 0)
    # Two overlapping vectors end with the last element that is needed, not one behind it.
    lanes = vector.count
    low = _load_inside(builder, vector, address, outside, 0)
    high = _load_inside(
        builder, vector, builder.gep(address, [INT64(lanes - 1)]), outside, lanes - 1
    )
    even = [lane if lane < lanes else lane + 1 for lane in range(0, 2 * lanes, 2)]
    return _vector.shuffle(builder, low, high, even)


def _load_inside(
    builder: Any, vector: ir.VectorType, address: Any, outside: Any, skipped: int
) -> Any:
    if outside is None:
        return _vector.load_vector(builder, vector, address)
    column, width = outside
    indices = ir.VectorType(INT64, vector.count)
    lanes = ir.Constant(indices, [lane + skipped for lane in range(vector.count)])
    columns = builder.add(_vector.splat(builder, indices, column), lanes)
    mask = builder.icmp_unsigned("<", columns, _vector.splat(builder, indices, width))
    return _vector.load_masked(builder, vector, address, mask)


def _tap_columns(builder: Any, taps: Any, dilation: Any) -> list[Any]:
    """How far each tap reads from the first; surplus ones where the last does."""
    last = builder.sub(taps, INT64(1))
    return [builder.mul(dilation, _vector.least(builder, INT64(j), last)) for j in range(TAPS)]


def _zeros(builder: Any, vector: ir.VectorType, vectors: int) -> list[list[Any]]:
    """Registers for sums, ``[tap][vector]``."""
    zero = ir.Constant(vector, None)
    return [[cgutils.alloca_once_value(builder, zero) for _ in range(vectors)] for _ in range(TAPS)]


def _add_product(builder: Any, register: Any, a: Any, b: Any) -> None:
    total = _vector.multiply_add_values(builder, a, b, builder.load(register))
    builder.store(total, register)


def _add_to_sums(builder: Any, registers: list[list[Any]], taps: Any, first: Any) -> None:
    """Add the vectors of each tap, in order, to its sums."""
    for j, vectors in enumerate(registers):
        with builder.if_then(builder.icmp_signed("<", INT64(j), taps)):
            total = builder.load(vectors[0])
            for register in vectors[1:]:
                total = builder.fadd(total, builder.load(register))
            place = builder.gep(first, [INT64(j * total.type.count)])
            former = _vector.load_vector(builder, total.type, place)
            _vector.store_vector(builder, builder.fadd(former, total), place)


@intrinsic
def whole_dots(
    typing_context: Any, x: Any, x_at: Any, grad: Any, grad_at: Any, row_steps: Any,
    columns: Any, taps: Any, rows: Any, count: Any, sums: Any, sums_at: Any,
) -> Any:  # fmt: skip
    """Columns where all taps are inside, of arrays that are contiguous along them.

    ``row_steps``: from one row to the next, of x and of grad; ``columns``: from one tap s to the
    next, and from one output to the next (1 or 2); ``count`` blocks of vectors in each row."""
    pair = types.UniTuple(types.int64, 2)
    signature = types.void(
        x, types.int64, grad, types.int64, pair, pair, types.int64, types.int64, types.int64,
        sums, types.int64,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_value, x_from, g_value, g_from, row_by, column_by, tap_count = arguments[:7]
        row_count, blocks, s_value, s_at = arguments[7:]
        vector = _vector.vector_type(context, x)
        x_row, g_row = cgutils.unpack_tuple(builder, row_by)
        dilation, step = cgutils.unpack_tuple(builder, column_by)
        x_first = _vector.pointer(context, builder, x, x_value, x_from)
        g_first = _vector.pointer(context, builder, grad, g_value, g_from)
        taps_at = _tap_columns(builder, tap_count, dilation)
        registers = _zeros(builder, vector, WHOLE_VECTORS)

        def sum_rows(stride: int) -> None:
            with (
                cgutils.for_range(builder, row_count) as row,
                cgutils.for_range(builder, blocks) as block,
            ):
                q = builder.mul(block.index, INT64(WHOLE_VECTORS * vector.count))
                g_here = builder.gep(g_first, [builder.add(builder.mul(row.index, g_row), q)])
                w = builder.mul(q, INT64(stride))
                x_here = builder.gep(x_first, [builder.add(builder.mul(row.index, x_row), w)])
                for v in range(WHOLE_VECTORS):
                    at = INT64(v * vector.count)
                    gradient = _vector.load_vector(builder, vector, builder.gep(g_here, [at]))
                    for j, tap in enumerate(taps_at):
                        at = builder.add(tap, INT64(v * vector.count * stride))
                        address = builder.gep(x_here, [at])
                        value = load_columns(builder, vector, address, stride, None)
                        _add_product(builder, registers[j][v], gradient, value)

        for stride in (1, 2):
            with builder.if_then(builder.icmp_signed("==", step, INT64(stride))):
                sum_rows(stride)
        target = _vector.pointer(context, builder, sums, s_value, s_at)
        _add_to_sums(builder, registers, tap_count, target)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def edge_dots(
    typing_context: Any, x: Any, x_at: Any, grad: Any, grad_at: Any, row_steps: Any,
    strides: Any, columns: Any, taps: Any, rows: Any, left: Any, sums: Any, sums_at: Any,
) -> Any:  # fmt: skip
    """One vector of columns, wherever it lies, with any strides.

    ``x_at`` is the offset of column 0; ``strides``: of x and grad along a row; ``columns``: the
    input column of the first output's first tap, from one tap s to the next, from one output to
    the next, and the input row's width; ``left``: outputs from the first one to the row's end."""
    integers = [types.UniTuple(types.int64, count) for count in range(5)]
    signature = types.void(
        x, types.int64, grad, types.int64, integers[2], integers[2], integers[4], types.int64,
        types.int64, types.int64, sums, types.int64,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_value, x_from, g_value, g_from, row_by, element_by, column_by = arguments[:7]
        tap_count, row_count, outputs, s_value, s_at = arguments[7:]
        vector = _vector.vector_type(context, x)
        x_row, g_row = cgutils.unpack_tuple(builder, row_by)
        x_stride, g_stride = cgutils.unpack_tuple(builder, element_by)
        w_first, dilation, step, width = cgutils.unpack_tuple(builder, column_by)
        x_first = _vector.pointer(context, builder, x, x_value, x_from)
        g_first = _vector.pointer(context, builder, grad, g_value, g_from)
        zero, one = INT64(0), INT64(1)
        taps_at = [builder.add(w_first, tap) for tap in _tap_columns(builder, tap_count, dilation)]
        # Behind the row's last output a tap's columns may still lie inside of the input.
        last = builder.sub(_vector.least(builder, outputs, INT64(vector.count)), one)
        reach = builder.add(builder.mul(last, step), one)
        limits = [
            _vector.greatest(builder, _vector.least(builder, width, builder.add(tap, reach)), zero)
            for tap in taps_at
        ]
        registers = _zeros(builder, vector, 1)

        def load(row: Any, first: Any, by: Any, stride: Any, limit: Any) -> Any:
            """A vector of columns below ``limit``, ``by`` apart: 1, 2, or an integer at run time
            in a row of any stride."""
            if isinstance(by, int):
                address = builder.gep(row, [first])
                return load_columns(builder, vector, address, by, (first, limit))
            indices = ir.VectorType(INT64, vector.count)
            lanes = ir.Constant(indices, list(range(vector.count)))
            steps = builder.mul(lanes, _vector.splat(builder, indices, by))
            places = builder.add(steps, _vector.splat(builder, indices, first))
            mask = builder.icmp_unsigned("<", places, _vector.splat(builder, indices, limit))
            offsets = builder.mul(places, _vector.splat(builder, indices, stride))
            return _vector.load_gathered(builder, vector, row, offsets, mask)

        def sum_rows(g_by: Any, x_by: Any) -> None:
            # Pointers that move on, as in the micro-kernel, keep addresses in registers.
            g_moving = cgutils.alloca_once_value(builder, g_first)
            x_moving = cgutils.alloca_once_value(builder, x_first)
            with cgutils.for_range(builder, row_count):
                g_here, x_here = builder.load(g_moving), builder.load(x_moving)
                builder.store(builder.gep(g_here, [g_row]), g_moving)
                builder.store(builder.gep(x_here, [x_row]), x_moving)
                gradient = load(g_here, zero, g_by, g_stride, outputs)
                for (register,), tap, limit in zip(registers, taps_at, limits, strict=True):
                    value = load(x_here, tap, x_by, x_stride, limit)
                    _add_product(builder, register, gradient, value)

        x_unit, g_unit = (builder.icmp_signed("==", by, one) for by in (x_stride, g_stride))
        contiguous = builder.and_(x_unit, g_unit)
        regular = builder.and_(contiguous, builder.icmp_signed("<=", step, INT64(2)))
        with builder.if_else(regular) as (then, otherwise):
            with then:
                for stride in (1, 2):
                    with builder.if_then(builder.icmp_signed("==", step, INT64(stride))):
                        sum_rows(1, stride)
            with otherwise:
                sum_rows(one, step)
        target = _vector.pointer(context, builder, sums, s_value, s_at)
        _add_to_sums(builder, registers, tap_count, target)
        return context.get_dummy_value()

    return signature, generate
