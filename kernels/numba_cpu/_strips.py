"""The strip kernel of the direct convolution: one channel, a vector of columns of some output rows.

``out[p][:] = sum over r, s of w[r, s] * x[p * stride + r][s * dilation + stride * :]``

x    one plane, unit stride along w      read in place, nothing outside of it     IN
w    the taps of one out-channel         any strides                              IN
out  up to ROWS rows of a vector         any stride between rows, unit along q    OUT
Accumulates in the dtype, one fused multiply-add per product, in the order r, s; then bias and
activation. Scratch: none. Rows in the padding are skipped, lanes in it add a zero.
Why: each input vector is loaded once and multiplied into all rows that see it; a row at a time,
unaligned loads are what the multiply-adds wait for (depthwise 3x3 took four times as long). A
constant number of taps leaves no loop at all, so only common sizes have such functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from . import _vector
from ._activation import activation_of, finished
from ._emit import Code, Value
from ._vector import INT64
from ._views import View

#: Taps and stride along both axes that have a function, and the output rows of one.
SIZES = ((3, 1), (3, 2), (5, 1), (5, 2))
ROWS = 7


def fits_strips(problem: Any, x: View, out: View) -> Value:
    """Whether there is a function for the problem."""
    known = problem.r.equals(problem.s) & problem.stride_h.equals(problem.stride_w)
    known = known & (problem.r.equals(3) | problem.r.equals(5)) & (problem.stride_h <= 2)
    known = known & (problem.stride_w.equals(1) | problem.dilation_w.equals(1))
    known = known & problem.c.equals(1) & problem.t.equals(1) & problem.dilation_h.equals(1)
    return known & x.w.equals(1) & out.w.equals(1)


class Strip(NamedTuple):
    """What a strip function is given: ``x`` is the first output's first tap, ``h`` and ``w`` its
    place in a plane of ``height`` x ``width``; ``rows`` x ``columns`` outputs, at most ROWS x a
    vector; ``biased`` is a condition."""

    dilation: Value
    x: Value
    x_row: Value
    h: Value
    height: Value
    w: Value
    width: Value
    weight: Value
    weight_r: Value
    weight_s: Value
    out: Value
    out_row: Value
    rows: Value
    columns: Value
    bias: Value
    biased: Value
    activation: Value


def sum_strip(code: Code, size: Value, stride: Value, strip: Strip) -> None:
    """Run the function for a size."""
    for known in SIZES:
        with code.when(size.equals(known[0]) & stride.equals(known[1])):
            function = _strip_function(code.builder.module, code.vector, *known)
            code.builder.call(function, [value.value for value in strip])


class _Columns:
    """The input columns under a vector of outputs, and which of them are inside the row."""

    def __init__(
        self, builder: Any, vector: ir.VectorType, stride: int, dilation: Any, at: Any, size: Any
    ) -> None:
        self.builder, self.vector, self.stride = builder, vector, stride
        self.dilation, self.at, self.size = dilation, at, size
        self.masks: dict[tuple[int, int], tuple[Any, Any]] = {}

    def _part(self, s: int, half: int) -> tuple[Any, Any]:
        """Where a vector of neighbours begins, and its lanes inside the row."""
        builder, lanes = self.builder, self.vector.count
        if (s, half) not in self.masks:
            indices = ir.VectorType(INT64, lanes)
            offset = builder.add(builder.mul(self.dilation, INT64(s)), INT64(half * lanes))
            first = _vector.splat(builder, indices, builder.add(self.at, offset))
            columns = builder.add(first, ir.Constant(indices, list(range(lanes))))
            size = _vector.splat(builder, indices, self.size)
            self.masks[s, half] = offset, builder.icmp_unsigned("<", columns, size)
        return self.masks[s, half]

    def prepare(self, taps: int) -> None:
        """Find all masks, where they serve every row."""
        for s in range(0, taps, self.stride):
            for half in range(self.stride):
                self._part(s, half)

    def load(self, row: Any, taps: int) -> list[Any]:
        """The vectors that the taps read in a row: all neighbours, or every second one."""
        builder, lanes = self.builder, self.vector.count
        values: list[Any] = []
        for s in range(0, taps, self.stride):
            parts = []
            for half in range(self.stride):
                offset, mask = self._part(s, half)
                address = builder.gep(row, [offset])
                parts.append(_vector.load_masked(builder, self.vector, address, mask))
            if self.stride == 1:
                values += parts
            else:
                values += [
                    _vector.shuffle(builder, parts[0], parts[1], list(range(first, 2 * lanes, 2)))
                    for first in (0, 1)
                ]
        return values[:taps]


def _strip_function(module: Any, vector: ir.VectorType, taps: int, stride: int) -> ir.Function:
    """The function for one size, with the values of a Strip."""
    real = vector.element.as_pointer()
    kinds = [INT64, real, *[INT64] * 5, real, *[INT64] * 2, real, *[INT64] * 3, real]
    kinds += [ir.IntType(1), INT64]
    name = f"cnnfast.strip.{vector.element.intrinsic_name}.{vector.count}.{taps}.{stride}"
    if name in module.globals:
        return module.globals[name]
    function = _vector.own_function(module, name, kinds)
    dilation, x, x_row, h, height, w, width, weights, by_r, by_s, out, out_row, rows = (
        function.args[:13]
    )
    used, bias, biased, activation = function.args[13:]
    builder = ir.IRBuilder(function.append_basic_block())
    factors = [
        _vector.splat(
            builder,
            vector,
            builder.load(
                builder.gep(
                    weights,
                    [builder.add(builder.mul(by_r, INT64(r)), builder.mul(by_s, INT64(s)))],
                )
            ),
        )
        for r in range(taps)
        for s in range(taps)
    ]
    columns = _Columns(builder, vector, stride, dilation, w, width)
    columns.prepare(taps)
    sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(ROWS)]
    for i in range((ROWS - 1) * stride + taps):
        seen_by = [p for p in range(ROWS) if 0 <= i - p * stride < taps]
        inside = builder.icmp_unsigned("<", builder.add(h, INT64(i)), height)
        # Rows that none of the rows to store sees aren't read.
        needed = builder.icmp_signed("<", INT64(seen_by[0]), rows)
        with builder.if_then(builder.and_(inside, needed)):
            row = builder.gep(x, [builder.mul(x_row, INT64(i))])
            for s, value in enumerate(columns.load(row, taps)):
                for p in seen_by:
                    factor = factors[(i - p * stride) * taps + s]
                    total = builder.load(sums[p])
                    total = _vector.multiply_add_values(builder, factor, value, total)
                    builder.store(total, sums[p])
    added = cgutils.alloca_once_value(builder, vector.element(-0.0))
    with builder.if_then(biased):
        builder.store(builder.load(bias), added)
    added_vector = _vector.splat(builder, vector, builder.load(added))
    how = activation_of(builder, vector, activation)
    whole = builder.icmp_signed(">=", used, INT64(vector.count))
    for p, register in enumerate(sums):
        with builder.if_then(builder.icmp_signed("<", INT64(p), rows)):
            y = finished(builder, builder.load(register), added_vector, how)
            place = builder.gep(out, [builder.mul(out_row, INT64(p))])
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    _vector.store_vector(builder, y, place)
                with otherwise:
                    _vector.store_first(builder, y, place, used)
    builder.ret_void()
    return function
