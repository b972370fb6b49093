"""The row kernel of the direct convolution: a block of output columns, summed in registers.

``sums[j][:] = sum over t, r, s, c of weight[j, c, t, r, s] * x[c, d(t), h(r), w(s) + step * :]``

x       any strides, unit stride along w      read in place            IN
weight  any strides                           read in place            IN
sums    [channels][pitch]                     overwritten              OUT
Accumulates in the dtype, one fused multiply-add per product; integers wrap around. Scratch: none.
Lanes in the padding are masked out, so nothing outside a row is read; they add a zero.
Why: sums kept in memory cost two loads and a store for every vector of products, which took ten
times as long (``cnnfast bench --layers resnet-64-56 --backends direct/numba --threads 1``).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import _vector
from ._vector import INT64


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


def _make_row_sums(channels: int, vectors: int) -> Any:
    """The row kernel for ``channels`` out-channels and ``vectors`` vectors of columns."""

    @intrinsic
    def row_sums(
        typing_context: Any,
        x: Any,
        x_at: Any,
        x_steps: Any,
        columns: Any,
        weight: Any,
        weight_at: Any,
        weight_steps: Any,
        begin: Any,
        end: Any,
        sums: Any,
        sums_at: Any,
        pitch: Any,
        valid: Any,
    ) -> Any:
        """``x_steps``: from one c, t, r to the next; ``columns``: the input column of the first
        output's first tap, from one s to the next, from one output to the next (1 or 2), and the
        row's width; ``weight_steps``: along k, c, t, r, s; ``begin``, ``end``: of t, r, s, c;
        ``valid`` out-channels: surplus ones repeat the last."""
        integers = [types.UniTuple(types.int64, count) for count in range(6)]
        signature = types.void(
            x, types.int64, integers[3], integers[4], weight, types.int64, integers[5],
            integers[4], integers[4], sums, types.int64, types.int64, types.int64,
        )  # fmt: skip

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x_value, x_from, x_by, column_by, w_value, w_from, w_by = arguments[:7]
            low, high, s_value, s_at, gap, used = arguments[7:]
            vector = _vector.vector_type(context, x)
            zero = ir.Constant(vector, None)
            registers = [
                cgutils.alloca_once_value(builder, zero) for _ in range(channels * vectors)
            ]
            row = _vector.pointer(context, builder, x, x_value, x_from)
            factors = _vector.pointer(context, builder, weight, w_value, w_from)
            x_c, x_t, x_r = cgutils.unpack_tuple(builder, x_by)
            w_first, w_dilation, step, width = cgutils.unpack_tuple(builder, column_by)
            w_k, w_c, w_t, w_r, w_s = cgutils.unpack_tuple(builder, w_by)
            t_low, r_low, s_low, c_low = cgutils.unpack_tuple(builder, low)
            t_high, r_high, s_high, c_high = cgutils.unpack_tuple(builder, high)
            last = builder.sub(used, INT64(1))
            filters = [
                builder.mul(w_k, _vector.least(builder, INT64(j), last)) for j in range(channels)
            ]
            span = builder.mul(step, INT64(vectors * vector.count - 1))

            def reduce_channels(
                pixel: Any, factor: Any, column: Any, stride: int, masked: bool
            ) -> None:
                with cgutils.for_range_slice(builder, c_low, c_high, INT64(1)) as (c, _):
                    here = builder.gep(pixel, [builder.mul(c, x_c)])
                    values = []
                    for v in range(vectors):
                        skipped = v * vector.count * stride
                        outside = (builder.add(column, INT64(skipped)), width) if masked else None
                        address = builder.gep(here, [INT64(skipped)])
                        values.append(load_columns(builder, vector, address, stride, outside))
                    for j, filter_at in enumerate(filters):
                        at = builder.add(builder.mul(c, w_c), filter_at)
                        scalar = builder.load(builder.gep(factor, [at]))
                        factor_j = _vector.splat(builder, vector, scalar)
                        for v, value in enumerate(values):
                            register = registers[j * vectors + v]
                            total = builder.load(register)
                            total = _vector.multiply_add_values(builder, factor_j, value, total)
                            builder.store(total, register)

            one = INT64(1)
            with (
                cgutils.for_range_slice(builder, t_low, t_high, one) as (t, _),
                cgutils.for_range_slice(builder, r_low, r_high, one) as (r, _),
                cgutils.for_range_slice(builder, s_low, s_high, one) as (s, _),
            ):
                column = builder.add(w_first, builder.mul(s, w_dilation))
                at = builder.add(builder.mul(t, x_t), builder.mul(r, x_r))
                pixel = builder.gep(row, [builder.add(at, column)])
                at = builder.add(builder.mul(t, w_t), builder.mul(r, w_r))
                factor = builder.gep(factors, [builder.add(at, builder.mul(s, w_s))])
                inside = builder.and_(
                    builder.icmp_signed(">=", column, INT64(0)),
                    builder.icmp_signed("<", builder.add(column, span), width),
                )
                for stride in (1, 2):
                    with (
                        builder.if_then(builder.icmp_signed("==", step, INT64(stride))),
                        builder.if_else(inside) as (then, otherwise),
                    ):
                        with then:
                            reduce_channels(pixel, factor, column, stride, False)
                        with otherwise:
                            reduce_channels(pixel, factor, column, stride, True)
            target = _vector.pointer(context, builder, sums, s_value, s_at)
            for index, register in enumerate(registers):
                j, v = divmod(index, vectors)
                at = builder.add(builder.mul(gap, INT64(j)), INT64(v * vector.count))
                _vector.store_vector(builder, builder.load(register), builder.gep(target, [at]))
            return context.get_dummy_value()

        return signature, generate

    return row_sums


#: Twelve or four vectors of sums, as in the micro-kernel; single vectors for what remains of a row.
row_sums_4x3 = _make_row_sums(4, 3)
row_sums_4x1 = _make_row_sums(4, 1)
row_sums_1x4 = _make_row_sums(1, 4)
row_sums_1x1 = _make_row_sums(1, 1)
