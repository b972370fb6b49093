"""The register tile of the tiled wgrad: neighbouring weights x panels of out-channels.

``sums[m * pitch + p * sum_gap ..] (+)= sum over rows i, columns j of
x[i * x_row + j * x_column + m] * gradients[p * gap + (i, j) * width ..]``

x          1-D    copied input, the weights of a tile side by side          IN
gradients  1-D    packed panels, ``gap`` apart, each read in order          IN
sums       1-D    from zero, or from their former content                   IN/OUT
Accumulates in the dtype, one fused multiply-add per product, in the order i, j. Scratch: none.
Why: 12 weights x 2 vectors of 64 bytes are 24 of AVX-512's 32 registers, 6 weights x 2 of 32 bytes
12 of AVX2's 16. Weights that are neighbours need one pointer, where the pixels of ``_microkernel``
need one each. Each size is a function of its own, as there.
Source: Georganas et al. 2018 (1808.05567), the update pass.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..blocking import TILE_BYTES
from ..blocking_gradients import WGRAD_WEIGHTS
from . import _vector
from ._compile import tile
from ._sizes import call_size, make_most
from ._vector import INT64


def _most(context: Any) -> tuple[int, int]:
    """Weights and panels whose sums fit the machine's registers."""
    return (WGRAD_WEIGHTS, 2) if _vector.widest(context) == TILE_BYTES else (6, 1)


most_weights, most_panels = make_most(_most, 0), make_most(_most, 1)


@tile
def sum_tile(
    count, panels, x, x_at, gradients, at, gap, sums, sums_at, pitch, sum_gap, steps, resume,
):  # fmt: skip
    """Sum ``count`` weights x ``panels`` panels: as one register tile, or as some where the machine
    has fewer registers. ``steps``: rows, columns, x_row and x_column."""
    for panel in range(0, panels, most_panels()):
        for first in range(0, count, most_weights()):
            register_tile(
                min(count - first, most_weights()), min(panels - panel, most_panels()),
                x, x_at + first, gradients, at + panel * gap, gap,
                sums, sums_at + first * pitch + panel * sum_gap, pitch, sum_gap, steps, resume,
            )  # fmt: skip


@intrinsic
def register_tile(
    typing_context: Any,
    count: Any,
    panels: Any,
    x: Any,
    x_at: Any,
    gradients: Any,
    at: Any,
    gap: Any,
    sums: Any,
    sums_at: Any,
    pitch: Any,
    sum_gap: Any,
    steps: Any,
    resume: Any,
) -> Any:
    """One register tile."""
    signature = types.void(
        types.int64, types.int64, x, types.int64, gradients, types.int64, types.int64,
        sums, types.int64, types.int64, types.int64, types.UniTuple(types.int64, 4), types.boolean,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, depth, x_value, x_from, g_value, g_from, g_gap = arguments[:7]
        s_value, s_from, s_pitch, s_gap, numbers, keep = arguments[7:]
        values = [
            _vector.pointer(context, builder, x, x_value, x_from),
            _vector.pointer(context, builder, gradients, g_value, g_from),
            g_gap,
            _vector.pointer(context, builder, sums, s_value, s_from),
            s_pitch,
            s_gap,
            *cgutils.unpack_tuple(builder, numbers),
            keep,
        ]
        vector = _vector.widest_vector(context, x)

        def call(*size: int) -> None:
            builder.call(_tile_function(builder.module, vector, *size), values)

        call_size(builder, number, depth, _most(context), call)
        return context.get_dummy_value()

    return signature, generate


def _tile_function(module: Any, vector: ir.VectorType, weights: int, panels: int) -> ir.Function:
    """The function that sums a tile of one size, with the values that ``register_tile`` passes."""
    name = f"cnnfast.weights.{vector.element.intrinsic_name}.{vector.count}.{weights}x{panels}"
    if name in module.globals:
        return module.globals[name]
    real = vector.element.as_pointer()
    kinds = [real, real, INT64, real, *[INT64] * 6, ir.IntType(1)]
    function = _vector.own_function(module, name, kinds)
    x, gradients, gap, sums, pitch, sum_gap, rows, columns, x_row, x_column, keep = function.args
    for argument in (x, gradients, sums):
        argument.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block())

    vectors = TILE_BYTES // (vector.count * _vector.element_bytes(vector.element))
    columns_of = [(p, v) for p in range(panels) for v in range(vectors)]
    places = []
    for m in range(weights):
        row = builder.gep(sums, [builder.mul(pitch, INT64(m))])
        for p, v in columns_of:
            panel = builder.gep(row, [sum_gap]) if p else row
            places.append(builder.gep(panel, [INT64(v * vector.count)]))
    registers = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in places]
    with builder.if_then(keep):
        for register, place in zip(registers, places, strict=True):
            builder.store(_vector.load_vector(builder, vector, place), register)
    moving = cgutils.alloca_once_value(builder, gradients)
    width = builder.mul(columns, x_column)
    with _vector.loop(builder, INT64(0), rows, INT64(1)) as i:
        begin = builder.mul(i, x_row)
        with _vector.loop(builder, begin, builder.add(begin, width), x_column) as j:
            first = builder.load(moving)
            loaded = []
            for p, v in columns_of:
                panel = builder.gep(first, [gap]) if p else first
                place = builder.gep(panel, [INT64(v * vector.count)])
                loaded.append(_vector.load_vector(builder, vector, place))
            builder.store(builder.gep(first, [INT64(vectors * vector.count)]), moving)
            here = builder.gep(x, [j])
            for m in range(weights):
                value = _vector.splat(builder, vector, builder.load(builder.gep(here, [INT64(m)])))
                for i_column, column in enumerate(loaded):
                    register = registers[m * len(loaded) + i_column]
                    total = builder.load(register)
                    total = _vector.multiply_add_values(builder, value, column, total)
                    builder.store(total, register)
    for register, place in zip(registers, places, strict=True):
        _vector.store_vector(builder, builder.load(register), place)
    builder.ret_void()
    return function
