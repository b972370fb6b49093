"""Cost models: a row's nanoseconds on one core, roughly, from the geometry alone.

They rank rows and don't predict: only their ratios matter. The constants, nanoseconds all, were
fitted to minima of ``cnnfast bench --threads 1 --backends cython`` on a core with AVX-512 and an
FMA peak of 116 GFLOP/s (float32); a vector step costs the same in float64 and does half as much.
"""

from __future__ import annotations

import math
from typing import Any

from .blocking import (
    DIRECT_CHANNELS,
    TILE_BYTES,
    TILE_PIXELS,
    gemm_cut,
    reduction_length,
    tiled_cut,
)
from .blocking_gradients import exchanged_product, in_pairs, wgrad_cut, wgrad_direct_cut
from .blocking_rows import SHARED_ROWS, rows_cut, takes_3x3
from .problem import ConvProblem, PoolProblem
from .shapes import ceil_div

#: A step of the register tile (12 multiply-adds), and its start and store, with all channels used
#: and with a part of them.
TILE_STEP = 2.0
#: A pixel of the tiled row: a step over a panel of weights (32 float32 operations), and its store,
#: channels last or transposed. A tile of fewer pixels than TILED_LEAST waits for its own sums.
PIXEL_STEP = 0.285
PIXEL_STORE = 4.4
PIXEL_TRANSPOSED = 6.1
TILED_LEAST = 2
#: A weight packed into its panel, for all tasks or for a task's own use; an input element copied
#: into a halo.
PACK_WEIGHT = 0.18
PACK_OWN = 0.12
PACK_HALO = 0.13
#: im2col: a multiply-add of vectors of 64 bytes; GEMM_ROWS out-channels x a vector of pixels begun
#: and stored, and the share of both for half as many; a vector of a column copied, a stretch of a
#: tap's pixels begun, an element of a column and of the output transposed; pixels that fill no
#: vector with two panels, begun and stored.
GEMM_ROWS = 8
GEMM_STEP = 0.29
GEMM_BLOCK = 26.0
GEMM_HALF = 0.6
COLUMN_VECTOR = 0.65
COLUMN_RUN = 8.6
COLUMN_TRANSPOSED = 0.2
OUTPUT_TRANSPOSED = 0.18
GEMM_REST = 310.0
#: Taps that im2col reads in place, at most.
GEMM_TAPS = 128
#: A gathered element where memory isn't contiguous.
GATHER = 0.5
#: The direct rows: a task begun; a weight gathered; a vector of 64 bytes copied; by
#: out-channels side by side, a multiply-add of such a vector, and of one channel whose rows share
#: loads; a vector of sums stored; depthwise layers in place, nine taps by the stride, and a
#: multiply-add along channels.
ROWS_TASK = 40.0
ROWS_GATHER = 0.8
ROWS_COPY = 2.0
ROWS_STEP = {1: 0.6, 2: 0.37, 3: 0.33, 4: 0.31}
ROWS_SHARED = 0.35
ROWS_STORE = 3.0
ROWS_3X3 = {1: 3.5, 2: 7.5}
CHANNELS_STEP = 0.5
#: The plain loops, a multiply-add; the reference, an array operation and an element.
LOOP_STEP = 4.0
REFERENCE_START = 3000.0
REFERENCE_STEP = 1.0
#: A row of the direct dgrad of pairs of columns: its start, a multiply-add of a vector.
PAIR_START = 15.0
PAIR_STEP = 0.18
#: An element of an input or a result converted by NumPy, array by array; of float16, one by one.
CONVERT = 0.15
CONVERT_FLOAT16 = 2.2
#: BLAS: a float32 multiply-add, a column element written and read, an image.
BLAS_STEP = 0.025
BLAS_COLUMN = 2.0
BLAS_START = 20_000.0
#: A part of a call that has several: views, tables and two hand-overs.
PART_START = 15_000.0
#: An element transposed into wgrad's copies, a register tile loaded and stored for a unit, a sum
#: added up.
PACK_GRADIENT = 0.25
TILE_RESUME = 30.0
ADD_UP = 1.0
#: A row of the direct wgrad for the taps of a kernel row: its start, a vector for one tap.
DOT_START = 2.5
DOT_STEP = 0.17
#: A window tap of a pooling kernel, and of whole-plane NumPy operations.
POOL_TAP = 0.2
POOL_NUMPY_TAP = 5.0


def _outputs(problem: ConvProblem) -> int:
    return problem.n * problem.g * problem.o * problem.p * problem.q


def _packing(geometry: Any, problem: ConvProblem) -> float:
    """The packing of the weights."""
    if geometry.prepared:
        return 0.0
    width = int(TILE_BYTES // geometry.dtype.itemsize)
    weights = problem.g * ceil_div(problem.k, width) * width * reduction_length(problem)
    return weights * PACK_WEIGHT


def tiled(geometry: Any, problem: ConvProblem) -> float:
    """Register tiles over a padded copy of the input, or over the input itself."""
    cut = tiled_cut(problem, geometry.dtype.itemsize)
    length, panels = reduction_length(problem), ceil_div(problem.k, cut.width)
    places = cut.tasks // cut.k_blocks
    pixels = max(_outputs(problem), places * TILED_LEAST)
    padded = any(problem.pad) or any(problem.pad_after)
    transposed = geometry.input.stride_of("C") != 1
    store = PIXEL_TRANSPOSED if transposed else PIXEL_STORE
    cost = pixels * panels * (length * PIXEL_STEP + store)
    if padded or transposed:
        cost += places * cut.halo_elements * PACK_HALO
    if not geometry.prepared:
        pack = PACK_OWN if places == 1 else PACK_WEIGHT
        cost += cut.weight_panels * cut.width * length * pack
    return cost


def im2col(geometry: Any, problem: ConvProblem) -> float:
    """Vectors of pixels, and pixels that fill none, over columns in place or packed."""
    cut, length = gemm_cut(problem, geometry.dtype.itemsize), reduction_length(problem)
    plane, taps = problem.o * problem.p * problem.q, problem.t * problem.r * problem.s
    vectors, rest = divmod(plane, cut.width)
    blocks = vectors * ceil_div(problem.k, GEMM_ROWS)
    steps = blocks * GEMM_ROWS + rest * ceil_div(problem.k, cut.width)
    image = steps * length * GEMM_STEP + blocks * GEMM_BLOCK
    if rest:
        image += ceil_div(problem.k, 2 * cut.width) * GEMM_REST
    stretches = ceil_div(plane, cut.strip) + problem.o * problem.p
    begun = cut.k_blocks * taps * stretches * COLUMN_RUN
    if geometry.input.stride_of("W") != 1 or problem.stride_w > 2:
        image += cut.k_blocks * length * plane * COLUMN_TRANSPOSED + begun
        image += problem.k * plane * OUTPUT_TRANSPOSED
    elif taps > 1 or plane < problem.d * problem.h * problem.w:
        image += cut.k_blocks * length * (vectors + stretches) * COLUMN_VECTOR + begun
    return problem.n * problem.g * image + _packing(geometry, problem)


def im2col_in_place(geometry: Any, problem: ConvProblem) -> float:
    """The same where the loads of a run of memory leave the padding out instead of a copy."""
    taps = problem.t * problem.r * problem.s
    run = problem.output == problem.size and problem.stride == (1, 1, 1)
    if not run or taps > GEMM_TAPS or geometry.input.stride_of("W") != 1:
        return im2col(geometry, problem)
    cut, length = gemm_cut(problem, geometry.dtype.itemsize), reduction_length(problem)
    vectors, rest = divmod(problem.o * problem.p * problem.q, cut.width)
    full, half = divmod(ceil_div(problem.k, GEMM_ROWS // 2), 2)
    blocks = vectors * (full + half * GEMM_HALF)
    image = blocks * (GEMM_ROWS * length * GEMM_STEP + GEMM_BLOCK)
    if rest:
        pairs = ceil_div(problem.k, 2 * cut.width)
        image += pairs * (2 * max(rest, TILED_LEAST) * length * GEMM_STEP + GEMM_REST)
    return problem.n * problem.g * image + _packing(geometry, problem)


def dgrad_direct(geometry: Any, part: ConvProblem) -> float:
    """As an fprop, or pairs of columns of the whole result."""
    if part != geometry.problem or not in_pairs(part) or geometry.input.stride_of("W") != 1:
        return rows(geometry, part)
    lanes = TILE_BYTES // 2 // geometry.dtype.itemsize
    count = part.n * part.g * part.d * part.h * ceil_div(part.c, DIRECT_CHANNELS)
    taps = part.t * part.r / (part.stride_d * part.stride_h) * ceil_div(part.s, 2) * part.k
    step = ceil_div(part.w, 2 * lanes) * 2 * min(part.c, DIRECT_CHANNELS) * PAIR_STEP
    return count * (PAIR_START + taps * step)


def rows(geometry: Any, problem: ConvProblem) -> float:
    """Stretches of rows over copies, up to four channels side by side; one channel with 3 x 3 taps
    in place; depthwise layers that are channels last, vectors of channels."""
    lanes, length = TILE_BYTES // geometry.dtype.itemsize, reduction_length(problem)
    cut = rows_cut(problem, geometry.dtype.itemsize)
    lines = problem.n * problem.g * problem.o * problem.p
    if problem.c == 1 and problem.k == 1 < problem.g and geometry.input.stride_of("C") == 1:
        vectors = lines // problem.g * problem.q * ceil_div(problem.g, lanes)
        return float(vectors * length * CHANNELS_STEP)
    contiguous = geometry.input.stride_of("W") == 1
    if contiguous and takes_3x3(problem):
        vectors = lines * problem.k * ceil_div(problem.q, lanes)
        return float(cut.tasks * ROWS_TASK + vectors * ROWS_3X3[problem.stride_w])
    copied = cut.tasks * (cut.local_elements - cut.step_elements - cut.weight_elements)
    places = lines * ceil_div((cut.rows - 1) * cut.pitch + cut.columns, lanes) / cut.rows
    places *= cut.column_blocks
    full, rest = divmod(problem.k, DIRECT_CHANNELS)
    step = full * DIRECT_CHANNELS * ROWS_STEP[DIRECT_CHANNELS]
    if rest:
        step += rest * ROWS_STEP[rest]
    if rest == 1 and problem.stride_h == problem.stride_w == problem.dilation_h == 1:
        step += ROWS_SHARED - ROWS_STEP[1] if min(problem.r, problem.p) >= SHARED_ROWS else 0.0
    cost = places * (length * step + problem.k * ROWS_STORE) + cut.tasks * ROWS_TASK
    cost += cut.tasks * min(cut.channels, problem.k) * length * ROWS_GATHER
    return cost + copied * (ROWS_COPY / lanes if contiguous else GATHER)


def converting(geometry: Any) -> float:
    """Whole arrays converted in front of a row, and the result behind it."""
    operands = geometry.operands("fprop")
    elements: int = sum(math.prod(operand.shape) for operand in operands)
    return elements * (CONVERT_FLOAT16 if geometry.stored.name == "float16" else CONVERT)


def _products(problem: ConvProblem) -> int:
    return _outputs(problem) * problem.k * reduction_length(problem)


def loop(geometry: Any, problem: ConvProblem) -> float:
    """The plain loops."""
    return _products(problem) * LOOP_STEP


def blas(geometry: Any, problem: ConvProblem) -> float:
    """Columns written and read, and a matrix product for every image and group."""
    columns = _outputs(problem) * reduction_length(problem)
    products = _products(problem) * BLAS_STEP * int(geometry.dtype.itemsize) / 4
    return products + columns * BLAS_COLUMN + problem.n * problem.g * BLAS_START


def wgrad_tiled(geometry: Any, problem: ConvProblem) -> float:
    """Register tiles of weights, units of pixels after each other."""
    problem = exchanged_product(problem, geometry.dtype.itemsize) or problem
    cut = wgrad_cut(problem, geometry.dtype.itemsize)
    pixels = problem.n * problem.o * problem.p * problem.q
    tiles = cut.weight_panels * ceil_div(reduction_length(problem), TILE_PIXELS)
    computing = tiles * (pixels * TILE_STEP + cut.units * TILE_RESUME)
    packing = cut.channel_blocks * cut.weight_panels * cut.width * pixels * PACK_GRADIENT
    halos = problem.g * cut.k_blocks * cut.units * ceil_div(problem.c, cut.tile_channels)
    copying = halos * cut.halo_elements * PACK_GRADIENT
    return computing + packing + copying + cut.shared_elements * ADD_UP


def wgrad_direct(geometry: Any, problem: ConvProblem) -> float:
    """Dot products of rows, a kernel row of taps side by side."""
    lanes = int(TILE_BYTES // 2 // geometry.dtype.itemsize)
    cut = wgrad_direct_cut(problem, geometry.dtype.itemsize)
    rows = problem.n * problem.g * problem.k * problem.c * problem.o * problem.p
    vectors = ceil_div(problem.q, lanes) * DOT_STEP * (1 + problem.stride_w) / 2
    if geometry.input.stride_of("W") != 1 or problem.stride_w > 2:
        vectors = (problem.q + 2 * lanes) * GATHER
    row = DOT_START + problem.s * vectors
    return rows * problem.t * problem.r * row + cut.shared_elements * ADD_UP


def reference(geometry: Any, problem: ConvProblem | PoolProblem) -> float:
    """NumPy operations on whole planes, one per weight or window tap."""
    taps = geometry.kernel[0] * geometry.kernel[1] * geometry.kernel[2]
    operations = geometry.in_channels * geometry.out_channels * taps
    return float(operations * REFERENCE_START + geometry.flops * REFERENCE_STEP)


def pool(geometry: Any, problem: PoolProblem) -> float:
    """A pass over the windows."""
    return float(geometry.flops * POOL_TAP)


def pool_numpy(geometry: Any, problem: PoolProblem) -> float:
    """A pass over the outputs per window tap."""
    return float(geometry.flops * POOL_NUMPY_TAP)
