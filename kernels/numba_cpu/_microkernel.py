"""The micro-kernel: 6 pixels x 64 bytes of out-channels, summed in registers.

``sums[m][:] (+)= sum over runs i, j < run_length of a[pixels[m] + run(i) + j * step] * w[i, j][:]``

a       1-D            pixels packed (im2col) or a padded channels-last copy (tiled)     IN
w       1-D            one panel of packed weights, read in order                        IN
sums    [6][width]     from zero, or from its former content                             IN/OUT
Accumulates in the dtype, one fused multiply-add per product, in the order of ``w``.
Scratch: none. Why: 12 vectors of sums, 2 of weights and a broadcast fit AVX2's 16 registers; LLVM
makes of the inner loop 12 FMAs, 6 broadcasts and 2 loads, nothing spilled (a test reads it).
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

from ..blocking import TILE_BYTES, TILE_PIXELS
from . import _vector
from ._compile import task_range
from ._vector import INT64, six_offsets

_VECTORS = TILE_BYTES // _vector.VECTOR_BYTES


@intrinsic
def micro_kernel(
    typing_context: Any,
    a: Any,
    pixels: Any,
    w: Any,
    w_at: Any,
    sums: Any,
    sums_at: Any,
    runs: Any,
    run_steps: Any,
    run_length: Any,
    step: Any,
    accumulate: Any,
) -> Any:
    """``runs`` and ``run_steps``: how many runs along t, r, s and how far apart in ``a``."""
    triple = types.UniTuple(types.int64, 3)
    signature = types.void(
        a, pixels, w, types.int64, sums, types.int64, triple, triple, types.int64, types.int64,
        types.boolean,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_value, pixel, w_value, w_from, s_value, s_at = arguments[:6]
        counts, steps, length, j_step, keep = arguments[6:]
        vector = _vector.vector_type(context, a)
        zero = ir.Constant(vector, [0.0] * vector.count)
        places = _tile_places(
            builder, _vector.pointer(context, builder, sums, s_value, s_at), vector
        )
        registers = []
        for place in places:
            former = _vector.load_vector(builder, vector, place)
            start = builder.select(keep, former, zero)
            registers.append(cgutils.alloca_once_value(builder, start))
        origin = [
            _vector.pointer(
                context, builder, a, a_value, builder.load(builder.gep(pixel, [INT64(m)]))
            )
            for m in range(TILE_PIXELS)
        ]
        moving = [cgutils.alloca_once(builder, address.type) for address in origin]
        weights = cgutils.alloca_once_value(
            builder, _vector.pointer(context, builder, w, w_value, w_from)
        )
        t_count, r_count, s_count = cgutils.unpack_tuple(builder, counts)
        t_step, r_step, s_step = cgutils.unpack_tuple(builder, steps)
        with (
            cgutils.for_range(builder, t_count) as t,
            cgutils.for_range(builder, r_count) as r,
            cgutils.for_range(builder, s_count) as s,
        ):
            t_offset = builder.mul(t.index, t_step)
            r_offset = builder.add(t_offset, builder.mul(r.index, r_step))
            offset = builder.add(r_offset, builder.mul(s.index, s_step))
            # Pointers that move on, not an index times the step: where that isn't constant, LLVM
            # keeps twice as many addresses, half of them in memory (which took a third longer).
            for place, address in zip(moving, origin, strict=True):
                builder.store(builder.gep(address, [offset]), place)
            with cgutils.for_range(builder, length):
                run = [builder.load(place) for place in moving]
                _step(builder, vector, run, weights, registers)
                for place, address in zip(moving, run, strict=True):
                    builder.store(builder.gep(address, [j_step]), place)
        for register, place in zip(registers, places, strict=True):
            _vector.store_vector(builder, builder.load(register), place)
        return context.get_dummy_value()

    return signature, generate


def _tile_places(builder: Any, first: Any, vector: ir.VectorType) -> list[Any]:
    """Where the vectors of a register tile are kept: pixel by pixel."""
    return [
        builder.gep(first, [INT64(place * vector.count)]) for place in range(TILE_PIXELS * _VECTORS)
    ]


def _step(
    builder: Any, vector: ir.VectorType, pixels: list[Any], weights: Any, registers: list[Any]
) -> None:
    """Emit one step of the reduction: 12 multiply-adds."""
    row = builder.load(weights)
    columns = [
        _vector.load_vector(builder, vector, builder.gep(row, [INT64(v * vector.count)]))
        for v in range(_VECTORS)
    ]
    builder.store(builder.gep(row, [INT64(_VECTORS * vector.count)]), weights)
    for m, address in enumerate(pixels):
        value = _vector.splat(builder, vector, builder.load(address))
        for v, column in enumerate(columns):
            register = registers[m * _VECTORS + v]
            total = _vector.multiply_add_values(builder, value, column, builder.load(register))
            builder.store(total, register)


@task_range
def _repeat(a: Any, w: Any, local: Any, depth: int, count: int) -> None:
    pixels = six_offsets()
    for m in range(TILE_PIXELS):
        pixels[m] = m
    for _ in range(count):
        micro_kernel(a, pixels, w, 0, local, 0, (1, 1, 1), (0, 0, 0), depth, TILE_PIXELS, False)


def fma_peak(dtype: Any, seconds: float = 0.05) -> float:
    """FLOP/s of one core: the best of many runs of the micro-kernel on panels that stay in L1."""
    dtype, depth, repeats = np.dtype(dtype), 128, 200
    width = TILE_BYTES // dtype.itemsize
    a, w = np.ones(depth * TILE_PIXELS, dtype), np.ones(depth * width, dtype)
    sums = np.zeros(TILE_PIXELS * width, dtype)
    _repeat(a, w, sums, depth, 1)
    best, stop = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < stop:
        _repeat(a, w, sums, depth, repeats)
        best = min(best, time.perf_counter() - start)
    return 2.0 * repeats * depth * TILE_PIXELS * width / best
