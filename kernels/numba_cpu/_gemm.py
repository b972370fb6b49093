"""The GEMM of the im2col row: vectors run over pixels, weights are broadcast.

``to[j][m] (+)= sum over i < depth of w[i][j] * columns[i * step + m]``, then bias and activation

columns  rows of pixels, ``step`` apart       packed, or channels-first planes as they lie    IN
w        one panel of packed weights          read in order                                   IN
to       [channels][pixels], rows apart       from zero, or on from ``sums``                  OUT
Accumulates in the dtype, one fused multiply-add per product, in the order of ``w``.
Scratch: none. Why: 8 out-channels x 3 vectors of pixels (4 x 3 without AVX-512) keep their sums in
registers, and nothing is transposed where input and output are channels-first. Each size is a
function of its own, never inlined, as in ``_microkernel``.
Source: Goto & van de Geijn 2008.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..blocking import TILE_BYTES
from . import _vector
from ._activation import activation_of, finished
from ._compile import whole_tile
from ._vector import INT64, widest_lanes

#: Vectors of pixels of the largest block.
MOST_VECTORS = 3
#: What becomes of sums: more steps follow, or they are finished.
GO_ON, FINISH, FINISH_WITH_BIAS = 0, 1, 2


@whole_tile
def multiply_pixels(
    to, to_stride, sums, sums_stride, columns, step, depth, w, bias, resume, finish, activation,
    channels, vectors,
):  # fmt: skip
    """Multiply ``channels`` of a panel by some vectors of pixels. All arrays are pointers.
    ``finish``: GO_ON, or the last steps, without or with a bias."""
    for v in range(0, vectors, MOST_VECTORS):
        multiply_block(
            min(vectors - v, MOST_VECTORS), to, to_stride, sums, sums_stride, columns,
            v * widest_lanes(columns), step, depth, w, bias, resume, finish, activation, channels,
        )  # fmt: skip


@intrinsic
def multiply_block(
    typing_context: Any,
    vectors: Any,
    to: Any,
    to_stride: Any,
    sums: Any,
    sums_stride: Any,
    columns: Any,
    pixel: Any,
    step: Any,
    depth: Any,
    w: Any,
    bias: Any,
    resume: Any,
    finish: Any,
    activation: Any,
    channels: Any,
) -> Any:
    """The same for up to ``MOST_VECTORS`` vectors from ``pixel`` on."""
    integer = types.int64
    signature = types.void(
        integer, to, integer, sums, integer, columns, integer, integer, integer, w, bias,
        types.boolean, integer, integer, integer,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, *values, channels_used = arguments
        vector = _vector.widest_vector(context, columns)
        rows = 8 if _vector.widest(context) == TILE_BYTES else 4
        target, target_stride, former, former_stride, pixels, first, *rest = values
        w_first, bias_first = rest[2], rest[3]
        done = builder.append_basic_block("done")
        none = builder.append_basic_block("none")
        with _vector.loop(builder, INT64(0), channels_used, INT64(rows)) as k:
            at = builder.add(builder.mul(target_stride, k), first)
            former_at = builder.add(builder.mul(former_stride, k), first)
            moved = [
                builder.gep(target, [at]),
                target_stride,
                builder.gep(former, [former_at]),
                former_stride,
                builder.gep(pixels, [first]),
                *rest[:2],
                builder.gep(w_first, [k]),
                builder.gep(bias_first, [k]),
                *rest[4:],
                builder.sub(channels_used, k),
            ]
            after = builder.append_basic_block("after")
            choice = builder.switch(number, none)
            for count in range(1, MOST_VECTORS + 1):
                case = builder.append_basic_block(f"{count}")
                choice.add_case(INT64(count), case)
                with builder.goto_block(case):
                    builder.call(_block_function(builder.module, vector, rows, count), moved)
                    builder.branch(after)
            builder.position_at_end(after)
        builder.branch(done)
        with builder.goto_block(none):
            builder.unreachable()
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate


def _block_function(module: Any, vector: ir.VectorType, rows: int, vectors: int) -> ir.Function:
    """The function that multiplies a block of one size, with what ``multiply_block`` passes."""
    name = f"cnnfast.gemm.{vector.element.intrinsic_name}.{vector.count}.{rows}x{vectors}"
    if name in module.globals:
        return module.globals[name]
    real = vector.element.as_pointer()
    kinds = [real, INT64, real, INT64, real, INT64, INT64, real, real]
    kinds += [ir.IntType(1), INT64, INT64, INT64]
    function = _vector.own_function(module, name, kinds)
    to, to_stride, sums, sums_stride, columns, step, depth, w, bias, *stage = function.args
    resume, finish, activation, channels = stage
    builder = ir.IRBuilder(function.append_basic_block())

    def place(first: Any, stride: Any, row: int, v: int) -> Any:
        at = builder.add(builder.mul(stride, INT64(row)), INT64(v * vector.count))
        return builder.gep(first, [at])

    width = TILE_BYTES // _vector.element_bytes(vector.element)
    places = [(row, v) for row in range(rows) for v in range(vectors)]
    registers = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in places]
    with builder.if_then(resume):
        for register, (row, v) in zip(registers, places, strict=True):
            former = _vector.load_vector(builder, vector, place(sums, sums_stride, row, v))
            builder.store(former, register)
    # The lines of the result come from memory meanwhile.
    for row, v in places:
        with builder.if_then(builder.icmp_signed("<", INT64(row), channels)):
            _vector.prefetch(builder, place(to, to_stride, row, v), True)
    pixels = cgutils.alloca_once_value(builder, columns)
    weights = cgutils.alloca_once_value(builder, w)
    with _vector.loop(builder, INT64(0), depth, INT64(1)):
        here, factors = builder.load(pixels), builder.load(weights)
        loaded = [
            _vector.load_vector(builder, vector, builder.gep(here, [INT64(v * vector.count)]))
            for v in range(vectors)
        ]
        for row in range(rows):
            factor = builder.load(builder.gep(factors, [INT64(row)]))
            factor = _vector.splat(builder, vector, factor)
            for v, value in enumerate(loaded):
                register = registers[row * vectors + v]
                total = builder.load(register)
                total = _vector.multiply_add_values(builder, value, factor, total)
                builder.store(total, register)
        builder.store(builder.gep(here, [step]), pixels)
        builder.store(builder.gep(factors, [INT64(width)]), weights)
    # Sums that go on in another call aren't finished.
    later = builder.icmp_signed("==", finish, INT64(GO_ON))
    code = builder.select(later, INT64(0), activation)
    how = activation_of(builder, vector, code)
    for row in range(rows):
        with builder.if_then(builder.icmp_signed("<", INT64(row), channels)):
            added = cgutils.alloca_once_value(builder, vector.element(-0.0))
            with builder.if_then(builder.icmp_signed("==", finish, INT64(FINISH_WITH_BIAS))):
                builder.store(builder.load(builder.gep(bias, [INT64(row)])), added)
            added_vector = _vector.splat(builder, vector, builder.load(added))
            for v in range(vectors):
                y = builder.load(registers[row * vectors + v])
                done = finished(builder, y, added_vector, how)
                y = builder.select(later, y, done)
                _vector.store_vector(builder, y, place(to, to_stride, row, v))
    builder.ret_void()
    return function
