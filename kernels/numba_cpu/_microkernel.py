"""The micro-kernel: a register tile of pixels x panels of out-channels, 64 bytes wide each.

``sums[m][p][:] (+)= sum over runs i, j < run_length of
a[pixels[m] + run(i) + j * step] * w[p][i, j][:]``

a       1-D                        pixels, packed or a padded channels-last copy        IN
w       1-D                        weight panels, ``gap`` apart, each read in order     IN
sums    [pixels][panels][width]    from zero, or from their former content              IN/OUT
Accumulates in the dtype, one fused multiply-add per product, in the order of ``w``.
Scratch: none. Why: 14 pixels x 2 vectors of 64 bytes are 28 of AVX-512's 32 registers, 6 pixels x 2
of 32 bytes 12 of AVX2's 16; the rest hold weights and a broadcast. Each size is a function of its
own, never inlined: 28 small ones compile in a third of the time of one large one, and nothing
around them costs them registers (a test reads their inner loops).
Source: the register tile of Goto & van de Geijn 2008 (GotoBLAS) and BLIS; runs as the
batch-reduce GEMM of Georganas et al. 2020.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..blocking import MOST_PIXELS, TILE_BYTES
from . import _vector
from ._compile import task_range, whole_tile
from ._sizes import call_size, make_most
from ._vector import INT64, pixel_offsets

#: Panels of the largest tile that callers may ask for.
MOST_PANELS = 2


def _most(context: Any) -> tuple[int, int]:
    """Pixels and panels whose sums fit the machine's registers."""
    return (MOST_PIXELS, MOST_PANELS) if _vector.widest(context) == TILE_BYTES else (6, 1)


most_pixels, most_panels = make_most(_most, 0), make_most(_most, 1)


@whole_tile
def micro_kernel(
    count, panels, a, pixels, pixel, w, w_at, gap, sums, sums_at, width,
    runs, run_steps, run_length, step, accumulate,
):  # fmt: skip
    """Sum the ``count`` pixels from ``pixels[pixel]`` on x ``panels`` panels: as one register tile,
    or as some of equal sizes where the machine has fewer registers.

    ``runs`` and ``run_steps``: how many runs along t, r, s and how far apart in ``a``."""
    pitch = panels * width
    parts = (count + most_pixels() - 1) // most_pixels()
    for panel in range(0, panels, most_panels()):
        first = 0
        for part in range(parts, 0, -1):
            share = (count - first + part - 1) // part
            register_tile(
                share, min(panels - panel, most_panels()), a, pixels, pixel + first,
                w, w_at + panel * gap, gap, sums, sums_at + first * pitch + panel * width, pitch,
                runs, run_steps, run_length, step, accumulate,
            )  # fmt: skip
            first += share


@intrinsic(prefer_literal=True)
def register_tile(
    typing_context: Any,
    count: Any,
    panels: Any,
    a: Any,
    pixels: Any,
    first: Any,
    w: Any,
    w_at: Any,
    gap: Any,
    sums: Any,
    sums_at: Any,
    pitch: Any,
    runs: Any,
    run_steps: Any,
    run_length: Any,
    step: Any,
    accumulate: Any,
) -> Any:
    """Sum the ``count`` pixels from ``pixels[first]`` on, in registers alone; of constant count and
    panels, only that size is compiled."""
    triple = types.UniTuple(types.int64, 3)
    signature = types.void(
        count, panels, a, pixels, types.int64, w, types.int64, types.int64,
        sums, types.int64, types.int64, triple, triple, types.int64, types.int64, types.boolean,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, depth, a_value, pixel, begin, w_value, w_from = arguments[:7]
        w_gap, s_value, s_at, s_pitch, counts, steps, length, j_step, keep = arguments[7:]
        values = [
            _vector.pointer(context, builder, a, a_value, INT64(0)),
            builder.gep(pixel, [begin]),
            _vector.pointer(context, builder, w, w_value, w_from),
            w_gap,
            _vector.pointer(context, builder, sums, s_value, s_at),
            s_pitch,
            *cgutils.unpack_tuple(builder, counts),
            *cgutils.unpack_tuple(builder, steps),
            length,
            j_step,
            keep,
        ]
        vector = _vector.widest_vector(context, a)
        if isinstance(count, types.IntegerLiteral) and isinstance(panels, types.IntegerLiteral):
            size = count.literal_value, panels.literal_value
            builder.call(_tile_function(builder.module, vector, *size), values)
            return context.get_dummy_value()

        def call(*size: int) -> None:
            builder.call(_tile_function(builder.module, vector, *size), values)

        call_size(builder, number, depth, _most(context), call)
        return context.get_dummy_value()

    return signature, generate


def _tile_function(module: Any, vector: ir.VectorType, pixels: int, panels: int) -> ir.Function:
    """The function that sums a tile of one size, with the values that ``register_tile`` passes."""
    name = f"cnnfast.tile.{vector.element.intrinsic_name}.{vector.count}.{pixels}x{panels}"
    if name in module.globals:
        return module.globals[name]
    real = vector.element.as_pointer()
    kinds = [real, INT64.as_pointer(), real, INT64, real, *[INT64] * 9, ir.IntType(1)]
    function = _vector.own_function(module, name, kinds)
    a, pixel, w, gap, sums, pitch, *rest = function.args
    for argument in (a, pixel, w, sums):
        argument.add_attribute("noalias")
    t_count, r_count, s_count, t_step, r_step, s_step, length, step, keep = rest
    builder = ir.IRBuilder(function.append_basic_block())

    vectors = TILE_BYTES // (vector.count * _vector.element_bytes(vector.element))
    columns = panels * vectors
    places = [
        builder.gep(sums, [builder.add(builder.mul(pitch, INT64(m)), INT64(i * vector.count))])
        for m in range(pixels)
        for i in range(columns)
    ]
    registers = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in places]
    with builder.if_then(keep):
        for register, place in zip(registers, places, strict=True):
            builder.store(_vector.load_vector(builder, vector, place), register)
    origin = [builder.gep(a, [builder.load(builder.gep(pixel, [INT64(m)]))]) for m in range(pixels)]
    weights = cgutils.alloca_once_value(builder, w)
    with (
        cgutils.for_range(builder, t_count) as t,
        cgutils.for_range(builder, r_count) as r,
        cgutils.for_range(builder, s_count) as s,
    ):
        t_offset = builder.mul(t.index, t_step)
        r_offset = builder.add(t_offset, builder.mul(r.index, r_step))
        begin = builder.add(r_offset, builder.mul(s.index, s_step))
        # Steps are counted, for theirs may be 0 or negative, as strides of channels are.
        with _vector.loop(builder, INT64(0), length, INT64(1)) as number:
            j = builder.add(begin, builder.mul(number, step))
            row = builder.load(weights)
            loaded = [
                _vector.load_vector(builder, vector, builder.gep(panel, [INT64(v * vector.count)]))
                for panel in [row, builder.gep(row, [gap])][:panels]
                for v in range(vectors)
            ]
            builder.store(builder.gep(row, [INT64(vectors * vector.count)]), weights)
            for m, first in enumerate(origin):
                value = _vector.splat(builder, vector, builder.load(builder.gep(first, [j])))
                for i, column in enumerate(loaded):
                    register = registers[m * columns + i]
                    total = builder.load(register)
                    total = _vector.multiply_add_values(builder, value, column, total)
                    builder.store(total, register)
    for register, place in zip(registers, places, strict=True):
        _vector.store_vector(builder, builder.load(register), place)
    builder.ret_void()
    return function


@task_range
def _repeat(a: Any, w: Any, local: Any, depth: int, count: int) -> None:
    pixels = pixel_offsets(MOST_PIXELS)
    for m in range(MOST_PIXELS):
        pixels[m] = m * depth
    width = w.size // (MOST_PANELS * depth)
    for _ in range(count):
        micro_kernel(
            MOST_PIXELS, MOST_PANELS, a, pixels, 0, w, 0, depth * width, local, 0, width,
            (1, 1, 1), (0, 0, 0), depth, 1, False,
        )  # fmt: skip


def fma_peak(dtype: Any, seconds: float = 0.05) -> float:
    """FLOP/s of one core: the best of many runs of the micro-kernel on panels that stay in L1."""
    dtype, depth, repeats = np.dtype(dtype), 128, 200
    width = TILE_BYTES // dtype.itemsize
    a, w = np.ones(depth * MOST_PIXELS, dtype), np.ones(MOST_PANELS * depth * width, dtype)
    sums = np.zeros(MOST_PIXELS * MOST_PANELS * width, dtype)
    _repeat(a, w, sums, depth, 1)
    best, stop = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < stop:
        _repeat(a, w, sums, depth, repeats)
        best = min(best, time.perf_counter() - start)
    return 2.0 * repeats * depth * MOST_PIXELS * MOST_PANELS * width / best
