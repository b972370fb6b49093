"""The row kernel of pooling: the windows of a block of output columns, folded in registers.

``out[:] = fold over taps d, h, w of x[d, h, w + step * :]`` for windows that lie inside the input.

x        unit stride along w    read in place                 IN
out      unit stride along q    a vector or more at a time    OUT
indices  the same, int64        of maxima only                OUT
Accumulates in the dtype. Scratch: none.
Why: folding a tap at a time through memory took 6.6 ns per output (3x3 maximum, stride 2, float32),
and this takes 2.3.
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

#: Vectors of outputs that a wide block keeps in registers.
WIDE = 4


def _larger(builder: Any, value: Any, former: Any) -> Any:
    """A mask of the lanes that replace the former maximum: larger ones, and every NaN."""
    if isinstance(value.type.element, ir.IntType):
        return builder.icmp_signed(">", value, former)
    greater = builder.fcmp_ordered(">", value, former)
    return builder.or_(greater, builder.fcmp_unordered("uno", value, value))


def _sum(builder: Any, former: Any, value: Any) -> Any:
    if isinstance(value.type.element, ir.IntType):
        return builder.add(former, value)
    return builder.fadd(former, value)


def _make_fold(vectors: int, reduction: str) -> Any:
    """The row kernel of a reduction for ``vectors`` vectors of columns."""

    def emit(
        context: Any, builder: Any, x: Any, x_value: Any, x_at: Any, steps: Any, counts: Any,
        step: Any, start: Any, first_index: Any, index_steps: Any,
    ) -> tuple[list[Any], list[Any]]:  # fmt: skip
        vector = _vector.vector_type(context, x)
        lanes = ir.VectorType(INT64, vector.count)
        totals = [
            cgutils.alloca_once_value(builder, _vector.splat(builder, vector, start))
            for _ in range(vectors)
        ]
        columns = [
            builder.mul(
                _vector.splat(builder, lanes, step),
                ir.Constant(lanes, [v * vector.count + lane for lane in range(vector.count)]),
            )
            for v in range(vectors)
        ]
        indices = [
            cgutils.alloca_once_value(
                builder, builder.add(column, _vector.splat(builder, lanes, first_index))
            )
            for column in columns
        ]
        row = _vector.pointer(context, builder, x, x_value, x_at)
        by = cgutils.unpack_tuple(builder, steps)
        index_by = cgutils.unpack_tuple(builder, index_steps)
        d_count, h_count, w_count = cgutils.unpack_tuple(builder, counts)

        def fold_tap(address: Any, index: Any, stride: int) -> None:
            for v in range(vectors):
                here = builder.gep(address, [INT64(v * vector.count * stride)])
                value = load_columns(builder, vector, here, stride, None)
                former = builder.load(totals[v])
                if reduction == "mean":
                    builder.store(_sum(builder, former, value), totals[v])
                    continue
                better = _larger(builder, value, former)
                builder.store(builder.select(better, value, former), totals[v])
                if reduction == "argmax":
                    found = builder.add(columns[v], _vector.splat(builder, lanes, index))
                    kept = builder.load(indices[v])
                    builder.store(builder.select(better, found, kept), indices[v])

        with (
            cgutils.for_range(builder, d_count) as d,
            cgutils.for_range(builder, h_count) as h,
            cgutils.for_range(builder, w_count) as w,
        ):
            at, index = INT64(0), first_index
            for axis, loop in enumerate((d, h, w)):
                at = builder.add(at, builder.mul(loop.index, by[axis]))
                index = builder.add(index, builder.mul(loop.index, index_by[axis]))
            address = builder.gep(row, [at])
            for stride in (1, 2):
                with builder.if_then(builder.icmp_signed("==", step, INT64(stride))):
                    fold_tap(address, index, stride)
        return totals, indices

    def write(
        context: Any, builder: Any, array: Any, parts: list[Any], value: Any, at: Any
    ) -> None:
        first = _vector.pointer(context, builder, array, value, at)
        for v, part in enumerate(parts):
            loaded = builder.load(part)
            place = builder.gep(first, [INT64(v * loaded.type.count)])
            _vector.store_vector(builder, loaded, place)

    triple = types.UniTuple(types.int64, 3)

    if reduction == "argmax":

        @intrinsic
        def fold_columns(
            typing_context: Any, x: Any, x_at: Any, steps: Any, counts: Any, step: Any, start: Any,
            index: Any, index_steps: Any, out: Any, out_at: Any, indices: Any, indices_at: Any,
        ) -> Any:  # fmt: skip
            """``steps``: from one d, h, w tap to the next in ``x``; ``counts``: how many of each;
            ``step``: from one window to the next, 1 or 2; ``index``, ``index_steps``: of the first
            tap, and from one to the next."""

            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                results = emit(context, builder, x, *arguments[:8])
                write(context, builder, out, results[0], *arguments[8:10])
                write(context, builder, indices, results[1], *arguments[10:12])
                return context.get_dummy_value()

            return types.void(
                x, types.int64, triple, triple, types.int64, x.dtype, types.int64, triple,
                out, types.int64, indices, types.int64,
            ), generate  # fmt: skip

        return fold_columns

    @intrinsic
    def fold_values(
        typing_context: Any, x: Any, x_at: Any, steps: Any, counts: Any, step: Any, start: Any,
        out: Any, out_at: Any,
    ) -> Any:  # fmt: skip
        """The same without indices."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            no_index = INT64(0), cgutils.pack_array(builder, [INT64(0)] * 3)
            totals, _ = emit(context, builder, x, *(*arguments[:6], *no_index))
            write(context, builder, out, totals, *arguments[6:8])
            return context.get_dummy_value()

        return types.void(
            x, types.int64, triple, triple, types.int64, x.dtype, out, types.int64
        ), generate

    return fold_values


max_wide, max_narrow = _make_fold(WIDE, "max"), _make_fold(1, "max")
mean_wide, mean_narrow = _make_fold(WIDE, "mean"), _make_fold(1, "mean")
argmax_narrow = _make_fold(1, "argmax")
