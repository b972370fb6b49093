"""How each algorithm cuts its work: block sizes, task counts and scratch, for every engine.

Everything here is a function of the problem alone, never of the number of threads. The numbers
come from the cache sizes of today's cores (32 KiB L1d, 512 KiB or more L2).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from .problem import ConvProblem
from .shapes import ceil_div, effective_kernel, round_up

#: Pixels of a register tile, and the bytes of out-channels beside them (two 32-byte vectors):
#: 6 x 16 float32 or 6 x 8 float64 fill 12 of AVX2's 16 vector registers with sums.
TILE_PIXELS = 6
TILE_BYTES = 64
#: Pixels of the largest register tile, beside two panels: 28 of AVX-512's 32 vector registers. Its
#: store reads up to 15 rows more than there are pixels.
MOST_PIXELS = 14
TILE_ROWS = MOST_PIXELS + 15
#: Pixels this far apart lie in the same set of an L1 cache, which holds eight of them.
CACHE_SETS_BYTES = 4096
#: Reduction steps that the im2col rows pack at a time: 6 x 256 float32 pixels (6 KiB) and
#: 256 x 16 weights (16 KiB) stay in L1.
IM2COL_DEPTH = 256
#: Output pixels of an im2col task: 96 x 256 float32 (96 KiB) stay in L2.
IM2COL_PIXELS = 96
#: Bytes of pixels of a strip, which the GEMM with vectors of pixels computes at a time: 3 vectors
#: of 64 bytes, or 6 of 32. Fewer than GEMM_MOST_BYTES at the end of a plane stay together.
GEMM_STRIP_BYTES = 192
GEMM_MOST_BYTES = 256
#: Reduction steps whose columns are packed at a time: 1024 x 192 bytes (192 KiB) stay in L2. Shorter
#: blocks would stay in L1, but their sums wait in memory more often (512: 3 % slower).
GEMM_DEPTH = 1024
#: Out-channels of a task at least, where columns are packed, for each task packs them again.
GEMM_CHANNELS = 128
#: Strips of a task, and panels: the sums of 1024 float32 channels (192 KiB) stay in L2.
GEMM_STRIPS = 8
GEMM_PANELS = 64
#: Bytes of padded input that a tiled task copies: half of a 512 KiB L2.
TILED_HALO_BYTES = 256 * 1024
#: Output rows (at least) and columns (at most) of a tiled task: flat tiles copy mostly halo, and
#: a wide image would outgrow the cache.
TILED_ROWS = 4
TILED_COLUMNS = 192
#: A problem is cut finer until it has this many tasks, enough for the threads of a large machine,
#: but never into fewer out-channels than MIN_TASK_CHANNELS, for each task packs its pixels again.
MIN_TASKS = 16
MIN_TASK_CHANNELS = 64
#: Bytes of columns and product that the BLAS row fills at a time: enough for BLAS to forget the
#: call, and whole images of ordinary layers.
BLAS_BYTES = 128 * 1024 * 1024
#: Out-channels that a direct task sums side by side, and the columns it has scratch for.
DIRECT_CHANNELS = 4
DIRECT_COLUMNS = 512

#: Weights of a wgrad register tile, and channels that are too few for one: their taps along a row
#: lie side by side with them.
WGRAD_WEIGHTS = 12
WGRAD_FEW_CHANNELS = 6
#: Pixels of a wgrad unit, 256 x 64 bytes of a panel's gradients (16 KiB), and its columns at most:
#: of a flat unit the taps would copy the same rows again.
WGRAD_PIXELS = 256
WGRAD_COLUMNS = 64
#: Bytes of a task's sums, which units go through one after the other: they stay in L2. Panels of a
#: task at most, tasks that are wanted at least, and scratch that slices may always have for it.
WGRAD_SUM_BYTES = 512 * 1024
WGRAD_PANELS = 16
WGRAD_TASKS = 8
WGRAD_SLICE_BYTES = 1024 * 1024
#: Bytes of input and gradient rows that a unit of the direct wgrad reads for every tap: they stay
#: in L2 meanwhile.
WGRAD_ROWS_BYTES = 128 * 1024
#: Out-channels that a task of the direct wgrad sums side by side.
WGRAD_FILTERS = 4


class Im2colCut(NamedTuple):
    """Task = (n, g, block of ``pixels`` of the flat o x p x q plane, block of ``panels`` panels).

    A panel is ``width`` out-channels. Local scratch: ``pixels x depth`` columns, then the sums of
    the task's panels, ``[panel][tile][TILE_PIXELS][width]``.
    """

    width: int
    panels: int
    k_blocks: int
    pixels: int
    pixel_blocks: int
    depth: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


class GemmCut(NamedTuple):
    """Task = (n, g, block of ``pixels`` of the flat o x p x q plane, block of ``panels`` panels).

    A panel is ``width`` out-channels; a block is taken in strips of at most ``strip`` pixels. Local
    scratch: ``depth x strip`` columns, then the sums of the strip for the task's panels.
    """

    width: int
    panels: int
    k_blocks: int
    pixels: int
    pixel_blocks: int
    strip: int
    depth: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


class TiledCut(NamedTuple):
    """Task = (n, g, o, block of ``rows``, block of ``columns``, block of ``panels`` panels).

    Local scratch: the padded input under the task's outputs, channels last
    ``[t][halo_rows][halo_columns][halo_channels]``, then one register tile
    ``[TILE_ROWS][2][width]``, then two int64 per pixel of the task.
    """

    width: int
    panels: int
    k_blocks: int
    rows: int
    row_blocks: int
    columns: int
    column_blocks: int
    halo_rows: int
    halo_columns: int
    halo_channels: int
    halo_elements: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


class DirectCut(NamedTuple):
    """Task = (n, g, block of ``channels`` out-channels, o, p): one output row of each.

    Local scratch: ``[channels][columns]`` sums.
    """

    channels: int
    k_blocks: int
    columns: int
    tasks: int
    shared_elements: int
    local_elements: int


def split_evenly(total: int, most: int) -> int:
    """The block size of the least number of equal blocks no larger than ``most``.

    >>> split_evenly(200, 192)
    100
    """
    return ceil_div(total, ceil_div(total, most))


def _split_panels(
    problem: ConvProblem, panels: int, pixel_tasks: int, channels: int = MIN_TASK_CHANNELS
) -> tuple[int, int]:
    wanted = ceil_div(MIN_TASKS, max(pixel_tasks, 1))
    share = ceil_div(panels, min(wanted, ceil_div(problem.k, channels)))
    return share, ceil_div(panels, share)


def reduction_length(problem: ConvProblem) -> int:
    """Products per output: c x t x r x s."""
    return problem.c * problem.t * problem.r * problem.s


def im2col_cut(problem: ConvProblem, itemsize: int) -> Im2colCut:
    """Blocks of the packed im2col + GEMM rows."""
    width = TILE_BYTES // itemsize
    plane = problem.o * problem.p * problem.q
    images = problem.n * problem.g
    finest = max(ceil_div(plane * images, MIN_TASKS), 4 * TILE_PIXELS)
    pixels = round_up(split_evenly(plane, min(IM2COL_PIXELS, finest)), TILE_PIXELS)
    pixel_blocks = ceil_div(plane, pixels)
    panels = ceil_div(problem.k, width)
    share, k_blocks = _split_panels(problem, panels, images * pixel_blocks)
    length = reduction_length(problem)
    depth = min(IM2COL_DEPTH, length)
    return Im2colCut(
        width=width,
        panels=share,
        k_blocks=k_blocks,
        pixels=pixels,
        pixel_blocks=pixel_blocks,
        depth=depth,
        tasks=images * pixel_blocks * k_blocks,
        weight_panels=problem.g * panels,
        shared_elements=problem.g * panels * length * width,
        local_elements=pixels * (depth + share * width),
    )


def gemm_cut(problem: ConvProblem, itemsize: int) -> GemmCut:
    """Blocks of the im2col rows whose vectors run over pixels."""
    width = TILE_BYTES // itemsize
    whole, most = GEMM_STRIP_BYTES // itemsize, GEMM_MOST_BYTES // itemsize
    plane = problem.o * problem.p * problem.q
    images = problem.n * problem.g
    strips = max((plane - (most - whole)) // whole + 1, 1)
    together = split_evenly(strips, min(max(strips * images // MIN_TASKS, 1), GEMM_STRIPS))
    pixel_blocks = ceil_div(strips, together)
    panels = ceil_div(problem.k, width)
    channels = MIN_TASK_CHANNELS if problem.t * problem.r * problem.s == 1 else GEMM_CHANNELS
    share, _ = _split_panels(problem, panels, images * pixel_blocks, channels)
    share = split_evenly(panels, min(share, GEMM_PANELS))
    length = reduction_length(problem)
    depth, strip = split_evenly(length, GEMM_DEPTH), min(round_up(plane, width), most)
    return GemmCut(
        width=width,
        panels=share,
        k_blocks=ceil_div(panels, share),
        pixels=together * whole,
        pixel_blocks=pixel_blocks,
        strip=strip,
        depth=depth,
        tasks=images * pixel_blocks * ceil_div(panels, share),
        weight_panels=problem.g * panels,
        shared_elements=problem.g * panels * length * width,
        local_elements=strip * (depth + share * width),
    )


def tiled_cut(problem: ConvProblem, itemsize: int) -> TiledCut:
    """Blocks of the tiled rows."""
    width = TILE_BYTES // itemsize
    columns = split_evenly(problem.q, TILED_COLUMNS)
    column_blocks = ceil_div(problem.q, columns)
    span = effective_kernel(problem.r, problem.dilation_h)
    halo_columns = (columns - 1) * problem.stride_w + effective_kernel(
        problem.s, problem.dilation_w
    )
    between = problem.stride_w if problem.s > 1 else 1
    crowded = between * problem.c * itemsize % CACHE_SETS_BYTES == 0
    channels = problem.c + width if crowded else problem.c
    row_elements = problem.t * halo_columns * channels
    cached = (TILED_HALO_BYTES // (row_elements * itemsize) - span) // problem.stride_h + 1
    strips = problem.n * problem.g * problem.o * column_blocks
    finest = max(ceil_div(problem.p * strips, MIN_TASKS), TILED_ROWS)
    rows = split_evenly(problem.p, max(min(cached, finest), 1))
    row_blocks = ceil_div(problem.p, rows)
    halo_rows = (rows - 1) * problem.stride_h + span
    panels = ceil_div(problem.k, width)
    share, k_blocks = _split_panels(problem, panels, strips * row_blocks)
    halo_elements = round_up(halo_rows * row_elements, width)
    return TiledCut(
        width=width,
        panels=share,
        k_blocks=k_blocks,
        rows=rows,
        row_blocks=row_blocks,
        columns=columns,
        column_blocks=column_blocks,
        halo_rows=halo_rows,
        halo_columns=halo_columns,
        halo_channels=channels,
        halo_elements=halo_elements,
        tasks=strips * row_blocks * k_blocks,
        weight_panels=problem.g * panels,
        shared_elements=problem.g * panels * reduction_length(problem) * width,
        local_elements=halo_elements
        + TILE_ROWS * 2 * width
        + ceil_div(2 * 8 * rows * columns, itemsize),
    )


def direct_cut(problem: ConvProblem, itemsize: int) -> DirectCut:
    """Blocks of the direct rows."""
    k_blocks = ceil_div(problem.k, DIRECT_CHANNELS)
    columns = split_evenly(problem.q, DIRECT_COLUMNS)
    return DirectCut(
        channels=DIRECT_CHANNELS,
        k_blocks=k_blocks,
        columns=columns,
        tasks=problem.n * problem.g * k_blocks * problem.o * problem.p,
        shared_elements=0,
        local_elements=DIRECT_CHANNELS * columns,
    )


class WgradCut(NamedTuple):
    """Task = (g, block of ``panels`` panels, block of ``channels``, slice of ``slice_units`` units).

    A unit is (n, o, block of ``rows``, block of ``columns``). Local scratch: the gradients of a
    unit, ``[panel][pixels][width]``, then the padded input under it, channels last, for
    ``tile_channels`` at a time, ``[t][halo_rows][halo_columns][tile_channels]``. A register tile is
    ``tile_weights`` of them, or of them and the taps of a row if they go ``together``, x one or two
    panels. The sums of one slice are local, of several shared scratch:
    ``[slice][g][panel][c][t][r][s][width]``.
    """

    width: int
    panels: int
    k_blocks: int
    channels: int
    channel_blocks: int
    together: int
    tile_channels: int
    tile_weights: int
    rows: int
    row_blocks: int
    columns: int
    column_blocks: int
    pixels: int
    halo_rows: int
    halo_columns: int
    halo_elements: int
    units: int
    slices: int
    slice_units: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


@lru_cache(maxsize=256)
def wgrad_cut(problem: ConvProblem, itemsize: int) -> WgradCut:
    """Blocks of the tiled rows of wgrad."""
    width, taps = TILE_BYTES // itemsize, problem.t * problem.r * problem.s
    columns = split_evenly(problem.q, WGRAD_COLUMNS)
    rows = split_evenly(problem.p, max(WGRAD_PIXELS // columns, 1))
    row_blocks, column_blocks = ceil_div(problem.p, rows), ceil_div(problem.q, columns)
    halo_rows = (rows - 1) * problem.stride_h + effective_kernel(problem.r, problem.dilation_h)
    halo_columns = (columns - 1) * problem.stride_w + effective_kernel(
        problem.s, problem.dilation_w
    )
    together = problem.c <= WGRAD_FEW_CHANNELS and problem.dilation_w == 1
    tile_channels = split_evenly(problem.c, WGRAD_WEIGHTS)
    run = tile_channels * problem.s if together else tile_channels
    all_panels, units = ceil_div(problem.k, width), problem.n * problem.o * row_blocks * column_blocks
    sums = problem.g * all_panels * problem.c * taps * width
    slices = _wgrad_slices(problem, units, sums, itemsize)
    slice_units = ceil_div(max(units, 1), slices)
    slices = ceil_div(max(units, 1), slice_units)
    panels, channels = _wgrad_block(
        problem, problem.g * slices, all_panels, tile_channels, taps * TILE_BYTES
    )
    k_blocks, channel_blocks = ceil_div(all_panels, panels), ceil_div(problem.c, channels)
    halo_elements = round_up(problem.t * halo_rows * halo_columns * tile_channels, width)
    return WgradCut(
        width=width,
        panels=panels,
        k_blocks=k_blocks,
        channels=channels,
        channel_blocks=channel_blocks,
        together=int(together),
        tile_channels=tile_channels,
        tile_weights=split_evenly(run, WGRAD_WEIGHTS),
        rows=rows,
        row_blocks=row_blocks,
        columns=columns,
        column_blocks=column_blocks,
        pixels=rows * columns,
        halo_rows=halo_rows,
        halo_columns=halo_columns,
        halo_elements=halo_elements,
        units=units,
        slices=slices,
        slice_units=slice_units,
        tasks=problem.g * k_blocks * channel_blocks * slices,
        weight_panels=problem.g * all_panels,
        shared_elements=slices * sums if slices > 1 else 0,
        local_elements=panels * rows * columns * width
        + halo_elements
        + (panels * channels * taps * width if slices == 1 else 0),
    )


def _wgrad_slices(problem: ConvProblem, units: int, sums: int, itemsize: int) -> int:
    """Slices of the reduction: an eighth of what is read may go into their sums."""
    read = problem.n * problem.g * (
        problem.c * problem.d * problem.h * problem.w + problem.k * problem.o * problem.p * problem.q
    )
    room = max(WGRAD_SLICE_BYTES // itemsize, read // 8)
    wanted = ceil_div(MIN_TASKS, problem.g)
    return max(min(wanted, units, room // max(sums, 1)), 1)


def _wgrad_block(
    problem: ConvProblem, others: int, all_panels: int, tile_channels: int, weight_bytes: int
) -> tuple[int, int]:
    """Panels and channels of a task. Each block of the former copies all of the input again, each
    of the latter all gradients, so what is larger is cut."""
    pairs, tiles = ceil_div(all_panels, 2), ceil_div(problem.c, tile_channels)
    input_elements = problem.c * problem.d * problem.h * problem.w
    grad_elements = problem.k * problem.o * problem.p * problem.q
    share, part = min(pairs, WGRAD_PANELS // 2), tiles
    while share > 1 or part > 1:
        k_blocks, channel_blocks = ceil_div(pairs, share), ceil_div(tiles, part)
        sum_bytes = 2 * share * part * tile_channels * weight_bytes
        if others * k_blocks * channel_blocks >= WGRAD_TASKS and sum_bytes <= WGRAD_SUM_BYTES:
            break
        again = k_blocks * input_elements, channel_blocks * grad_elements
        if part == 1 or (share > 1 and again[0] <= again[1]):
            share = ceil_div(share, 2)
        else:
            part = ceil_div(part, 2)
    return min(2 * share, all_panels), min(part * tile_channels, problem.c)


class WgradDirectCut(NamedTuple):
    """Task = (g, block of ``filters`` out-channels, slice of ``slice_units`` units).

    A unit is (n, o, block of ``rows``). Local scratch: a vector of sums for every weight of the
    out-channels and a channel, ``[k][t][r][s][TILE_BYTES]``. Every ``row_step``-th kernel row reads
    the same input rows, for outputs ``row_spread`` apart. Shared scratch, of several slices: the
    sums of the tasks, ``[slice][g][k][c][t][r][s]``.
    """

    filters: int
    k_blocks: int
    row_step: int
    row_spread: int
    rows: int
    row_blocks: int
    units: int
    slices: int
    slice_units: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


@lru_cache(maxsize=256)
def wgrad_direct_cut(problem: ConvProblem, itemsize: int) -> WgradDirectCut:
    """Blocks of the direct rows of wgrad."""
    filters = split_evenly(problem.k, WGRAD_FILTERS)
    k_blocks = ceil_div(problem.k, filters)
    # Without the padding: drivers.wgrad_multiplying_padding replaces it, and the cut must stay the
    # same.
    planes = problem.n * problem.o * problem.g * k_blocks
    most = ceil_div(problem.p * planes, MIN_TASKS)
    if filters > 1:
        most = WGRAD_ROWS_BYTES // ((problem.stride_w + filters) * problem.q * itemsize)
    rows = split_evenly(problem.p, max(most, 1))
    row_blocks = ceil_div(problem.p, rows)
    common = math.gcd(problem.stride_h, problem.dilation_h)
    units = problem.n * problem.o * row_blocks
    slice_units = ceil_div(max(units, 1), ceil_div(MIN_TASKS, problem.g * k_blocks))
    slices = ceil_div(max(units, 1), slice_units)
    weights = problem.g * problem.k * reduction_length(problem)
    return WgradDirectCut(
        filters=filters,
        k_blocks=k_blocks,
        row_step=problem.stride_h // common,
        row_spread=problem.dilation_h // common,
        rows=rows,
        row_blocks=row_blocks,
        units=units,
        slices=slices,
        slice_units=slice_units,
        tasks=problem.g * k_blocks * slices,
        weight_panels=problem.g * problem.k,
        shared_elements=slices * weights if slices > 1 else 0,
        local_elements=filters * problem.t * problem.r * problem.s * TILE_BYTES // itemsize,
    )


class PlainCut(NamedTuple):
    """Task = (n, out-channel): one whole output plane, no scratch."""

    tasks: int
    shared_elements: int = 0
    local_elements: int = 0


def plain_cut(problem: ConvProblem, itemsize: int) -> PlainCut:
    """Blocks of the plain loops."""
    return PlainCut(tasks=problem.n * problem.g * problem.k)


class BlasCut(NamedTuple):
    """One task for all: strips of ``rows`` output rows of one image and group at a time.

    Shared scratch: the strip's columns, and their product.
    """

    rows: int
    row_blocks: int
    tasks: int
    shared_elements: int
    local_elements: int = 0


def blas_cut(problem: ConvProblem, itemsize: int) -> BlasCut:
    """Blocks of im2col on NumPy's BLAS."""
    row_elements = problem.o * problem.q * (reduction_length(problem) + problem.k)
    most = max(BLAS_BYTES // (row_elements * itemsize), 1)
    rows = split_evenly(problem.p, most)
    return BlasCut(rows, ceil_div(problem.p, rows), 1, rows * row_elements)
