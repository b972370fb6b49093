"""Cost models: a row's nanoseconds on one core, roughly, from the geometry alone.

They rank rows and don't predict: only their ratios matter. The rates were read from
``cnnfast bench`` on one core of an AVX2 machine; double precision halves what a vector holds.
"""

from __future__ import annotations

from typing import Any

from .blocking import TILE_BYTES, TILE_PIXELS, reduction_length
from .shapes import round_up

#: FLOP per nanosecond (float32): the register tile, four unit-stride rows side by side, one row,
#: rows that must be gathered, BLAS, the plain loops, NumPy's plain loops.
TILE_RATE = 75.0
ROWS_RATE = 30.0
ROW_RATE = 12.0
GATHER_RATE = 4.0
BLAS_RATE = 80.0
LOOP_RATE = 1.5
REFERENCE_RATE = 0.3
#: Elements per nanosecond that are copied into a panel or a halo.
COPY_RATE = 1.0
#: Window taps per nanosecond of a pooling kernel, and of NumPy calls.
POOL_RATE = 1.0
POOL_NUMPY_RATE = 0.2


def _width(geometry: Any) -> int:
    return TILE_BYTES // int(geometry.dtype.itemsize)


def _tile_time(geometry: Any) -> float:
    """Register tiles compute whole panels of channels, used or not."""
    problem = geometry.problem
    pixels = problem.n * problem.g * problem.o * round_up(problem.p * problem.q, TILE_PIXELS)
    channels = round_up(problem.k, _width(geometry))
    products = pixels * channels * reduction_length(problem)
    packing = problem.g * channels * reduction_length(problem) / COPY_RATE
    return float(2 * products / TILE_RATE * geometry.dtype.itemsize / 4 + packing)


def tiled(geometry: Any) -> float:
    """Register tiles over a padded copy of the input."""
    problem = geometry.problem
    halo = problem.n * problem.g * problem.c * problem.t * problem.d * problem.h * problem.w
    return _tile_time(geometry) + float(halo / problem.d / COPY_RATE)


def im2col(geometry: Any) -> float:
    """Register tiles over packed columns."""
    problem = geometry.problem
    outputs = problem.n * problem.g * problem.o * problem.p * problem.q
    return _tile_time(geometry) + float(outputs * reduction_length(problem) / COPY_RATE)


def direct(geometry: Any) -> float:
    """Output rows, four channels side by side, no copy."""
    problem = geometry.problem
    letters = geometry.input.letters
    unit = geometry.input.strides[letters.index("W")] == 1 and problem.stride_w == 1
    rate = GATHER_RATE if not unit else ROWS_RATE if problem.k > 1 else ROW_RATE
    return float(geometry.flops / rate * geometry.dtype.itemsize / 4)


def loop(geometry: Any) -> float:
    """The plain loops."""
    return float(geometry.flops / LOOP_RATE)


def blas(geometry: Any) -> float:
    """Columns written and read, and a matrix product."""
    problem = geometry.problem
    columns = problem.n * problem.g * problem.o * problem.p * problem.q * reduction_length(problem)
    compute = geometry.flops / BLAS_RATE * geometry.dtype.itemsize / 4
    return float(compute + 2 * columns / COPY_RATE + 20_000 * problem.n * problem.g)


def reference(geometry: Any) -> float:
    """Loops in Python."""
    return float(geometry.flops / REFERENCE_RATE + 1e6)


def pool(geometry: Any) -> float:
    """A pass over the windows."""
    return float(geometry.flops / POOL_RATE)


def pool_numpy(geometry: Any) -> float:
    """A pass over the outputs per window tap."""
    return float(geometry.flops / POOL_NUMPY_RATE + 20_000)
