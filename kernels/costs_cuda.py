"""Cost models of the GPU's rows: nanoseconds on a card of an H200's class, roughly.

They rank rows of one GPU against each other. Nothing here has been measured: rates are shares of
the card's ceilings (67 TFLOP/s in float32, half of it in float64, 990 in float16, 495 in tf32,
4.8 TB/s) that the instructions of the kernels' inner loops let expect.
"""

from __future__ import annotations

import math
from typing import Any

from .problem import ConvProblem
from .shapes import round_up

#: A launch, begun after another one.
LAUNCH = 3_000.0
#: Operations per nanosecond on CUDA cores in float32, of tiles and of the direct kernels' threads;
#: on tensor cores in 16 bits and in tf32.
TILED_RATE = 45_000.0
DIRECT_RATE = 9_000.0
TENSOR_RATE = 400_000.0
TF32_RATE = 200_000.0
#: Bytes per nanosecond.
BANDWIDTH = 3_500.0
#: Out-channels and pixels that a tile's sides are multiples of, in-channels of a tensor core's.
TILE_SIDE = 32
TENSOR_CHANNELS = 16


def _moved(geometry: Any) -> float:
    return float(geometry.bytes_moved) / BANDWIDTH


def _rate(geometry: Any, of_float32: float) -> float:
    """Operations per nanosecond in what the geometry is computed in."""
    itemsize: int = geometry.dtype.itemsize
    return of_float32 * 4 / max(itemsize, 4)


def _elements(problem: ConvProblem) -> tuple[int, int]:
    """Elements of the input and of the weight."""
    weights = problem.g * problem.k * problem.c * math.prod(problem.kernel)
    return problem.n * problem.g * problem.c * math.prod(problem.size), weights


def _operations(problem: ConvProblem, side: int, channels: int) -> float:
    """Operations of tiles whose sides and depth are filled up."""
    pixels = round_up(problem.n * math.prod(problem.output), side)
    depth = round_up(problem.c, channels) * math.prod(problem.kernel)
    return 2.0 * problem.g * round_up(problem.k, side) * pixels * depth


def tiled(geometry: Any, problem: ConvProblem) -> float:
    """Implicit GEMM on CUDA cores; weights are packed by a launch of their own."""
    rate = _rate(geometry, TILED_RATE)
    return 2 * LAUNCH + max(_operations(problem, TILE_SIDE, 1) / rate, _moved(geometry))


def _columns(geometry: Any, problem: ConvProblem) -> float:
    """A launch that writes columns, and reading them."""
    columns = problem.n * math.prod(problem.output) * problem.g * problem.c
    itemsize: int = geometry.dtype.itemsize
    return LAUNCH + 2 * columns * math.prod(problem.kernel) * itemsize / BANDWIDTH


def im2col(geometry: Any, problem: ConvProblem) -> float:
    """The same, of columns that are written and read."""
    return _columns(geometry, problem) + tiled(geometry, problem)


def direct(geometry: Any, problem: ConvProblem) -> float:
    """Threads of a few outputs each; one launch."""
    rate = _rate(geometry, DIRECT_RATE)
    return LAUNCH + max(_operations(problem, 1, 1) / rate, _moved(geometry))


def tensor(geometry: Any, problem: ConvProblem) -> float:
    """Implicit GEMM on tensor cores, of channels-last copies where the input isn't such."""
    stored = geometry.dtype if geometry.stored is None else geometry.stored
    rate = TENSOR_RATE if stored.itemsize == 2 else TF32_RATE
    inputs, _ = _elements(problem)
    itemsize: int = stored.itemsize
    copied = 0 if geometry.input.stride_of("C") == 1 else 2 * inputs * itemsize
    computing = _operations(problem, 2 * TILE_SIDE, TENSOR_CHANNELS) / rate
    return 3 * LAUNCH + copied / BANDWIDTH + max(computing, _moved(geometry))


def wgmma(geometry: Any, problem: ConvProblem) -> float:
    """The same by warpgroups. Behind ``tensor`` until a card has shown where it is ahead."""
    return LAUNCH + tensor(geometry, problem)


def wgrad_tiled(geometry: Any, problem: ConvProblem) -> float:
    """Implicit GEMM over pixels, and the sum of its slices."""
    rate = _rate(geometry, TILED_RATE)
    columns = round_up(problem.c * math.prod(problem.kernel), TILE_SIDE)
    pixels = problem.n * math.prod(problem.output)
    operations = 2.0 * problem.g * round_up(problem.k, TILE_SIDE) * columns * pixels
    return 2 * LAUNCH + max(operations / rate, _moved(geometry))


def wgrad_im2col(geometry: Any, problem: ConvProblem) -> float:
    """The same, of columns that are written and read."""
    return _columns(geometry, problem) + wgrad_tiled(geometry, problem)


def wgrad_direct(geometry: Any, problem: ConvProblem) -> float:
    """Blocks that each sum for few weights, and the sum of their slices."""
    return LAUNCH + direct(geometry, problem)


def pool(geometry: Any, problem: Any) -> float:
    """One launch at memory's speed."""
    taps: float = geometry.flops / DIRECT_RATE
    return LAUNCH + max(_moved(geometry), taps)
