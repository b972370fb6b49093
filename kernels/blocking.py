"""How each algorithm cuts its work: block sizes, task counts and scratch, for every engine.

Everything here is a function of the problem alone, never of the number of threads. The numbers
come from the cache sizes of today's cores (32 KiB L1d, 512 KiB or more L2).
"""

from __future__ import annotations

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
#: Bytes of padded input that a tiled task copies: three quarters of a 512 KiB L2.
TILED_HALO_BYTES = 384 * 1024
#: Output rows (at least) and columns (at most) of a tiled task: flat tiles copy mostly halo, and
#: a wide image would outgrow the cache.
TILED_ROWS = 4
TILED_COLUMNS = 192
#: Pixels of a tiled task, at least, where its plane has them: four tiles to a pass over the weights.
TILED_PIXELS = 56
#: Out-channels times taps of a tiled task, at least: the halo copy, which every task of a place may
#: make again, is 5 % of it then.
TILED_PRODUCTS = 256
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

#: Pixels of a wgrad unit: 256 x 64 bytes of a panel's gradients (16 KiB) stay in L1; the panels of
#: a task; bytes of padded input beside them, a quarter of a 512 KiB L2.
WGRAD_PIXELS = 256
WGRAD_PANELS = 4
WGRAD_HALO_BYTES = 128 * 1024
#: Bytes of input and gradient rows that a unit of the direct wgrad reads for every tap: they stay
#: in L2 meanwhile.
WGRAD_ROWS_BYTES = 128 * 1024


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


def _split_panels(problem: ConvProblem, panels: int, pixel_tasks: int) -> tuple[int, int]:
    wanted = ceil_div(MIN_TASKS, max(pixel_tasks, 1))
    share = ceil_div(panels, min(wanted, ceil_div(problem.k, MIN_TASK_CHANNELS)))
    return share, ceil_div(panels, share)


def _split_tiled_panels(
    problem: ConvProblem, width: int, pixel_tasks: int
) -> tuple[int, int]:
    """Panels of a task, an even number of them, and blocks of panels."""
    panels = ceil_div(problem.k, width)
    channels = ceil_div(TILED_PRODUCTS, problem.t * problem.r * problem.s)
    least = min(round_up(ceil_div(channels, width), 2), panels)
    wanted = max(MIN_TASKS // max(pixel_tasks, 1), 1)
    share = min(round_up(max(ceil_div(panels, wanted), least), 2), panels)
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
    least = TILED_ROWS if problem.r > 1 else 1
    finest = max(ceil_div(problem.p * strips, MIN_TASKS), least, ceil_div(TILED_PIXELS, columns))
    rows = split_evenly(problem.p, max(min(cached, finest), 1))
    row_blocks = ceil_div(problem.p, rows)
    halo_rows = (rows - 1) * problem.stride_h + span
    panels = ceil_div(problem.k, width)
    share, k_blocks = _split_tiled_panels(problem, width, strips * row_blocks)
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
    """Task = (g, block of ``panels`` panels, slice of ``slice_units`` units of the reduction).

    A unit is (n, o, block of ``rows``, block of ``columns``). Local scratch: the gradients of a
    unit, ``[panel][pixels][width]``, then the padded input under it, for a block of ``channels``
    at a time, ``[channel][t][halo_rows][halo_columns]``. Shared scratch: the sums,
    ``[slice][g][panel][channel block][tile][TILE_PIXELS][width]``; the "pixels" of a register tile
    are a channel block's weights per out-channel, in the order c, t, r, s, ``tiles`` x TILE_PIXELS.
    """

    width: int
    panels: int
    k_blocks: int
    rows: int
    row_blocks: int
    columns: int
    column_blocks: int
    pixels: int
    channels: int
    channel_blocks: int
    tiles: int
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


def wgrad_cut(problem: ConvProblem, itemsize: int) -> WgradCut:
    """Blocks of the tiled rows of wgrad."""
    width = TILE_BYTES // itemsize
    columns = split_evenly(problem.q, WGRAD_PIXELS)
    rows = split_evenly(problem.p, max(WGRAD_PIXELS // columns, 1))
    row_blocks, column_blocks = ceil_div(problem.p, rows), ceil_div(problem.q, columns)
    halo_rows = (rows - 1) * problem.stride_h + effective_kernel(problem.r, problem.dilation_h)
    halo_columns = (columns - 1) * problem.stride_w + effective_kernel(
        problem.s, problem.dilation_w
    )
    channel_elements = problem.t * halo_rows * halo_columns
    cached = max(WGRAD_HALO_BYTES // (channel_elements * itemsize), 1)
    channels = split_evenly(problem.c, cached)
    channel_blocks = ceil_div(problem.c, channels)
    tiles = ceil_div(channels * problem.t * problem.r * problem.s, TILE_PIXELS)
    all_panels = ceil_div(problem.k, width)
    panels = split_evenly(all_panels, WGRAD_PANELS)
    k_blocks = ceil_div(all_panels, panels)
    units = problem.n * problem.o * row_blocks * column_blocks
    wanted = ceil_div(MIN_TASKS, problem.g * k_blocks)
    slice_units = ceil_div(max(units, 1), wanted)
    slices = ceil_div(max(units, 1), slice_units)
    sums = problem.g * all_panels * channel_blocks * tiles * TILE_PIXELS * width
    return WgradCut(
        width=width,
        panels=panels,
        k_blocks=k_blocks,
        rows=rows,
        row_blocks=row_blocks,
        columns=columns,
        column_blocks=column_blocks,
        pixels=rows * columns,
        channels=channels,
        channel_blocks=channel_blocks,
        tiles=tiles,
        halo_rows=halo_rows,
        halo_columns=halo_columns,
        halo_elements=channels * channel_elements,
        units=units,
        slices=slices,
        slice_units=slice_units,
        tasks=problem.g * k_blocks * slices,
        weight_panels=problem.g * all_panels,
        shared_elements=slices * sums,
        local_elements=panels * rows * columns * width + channels * channel_elements,
    )


class WgradDirectCut(NamedTuple):
    """Task = (g, out-channel of the group, slice of ``slice_units`` units of the reduction).

    A unit is (n, o, block of ``rows``). Local scratch: a vector of sums for every weight of an
    out-channel and a channel, ``[t][r][s][TILE_BYTES / 2]``. Shared scratch: the sums of the tasks,
    ``[slice][g][k][c][t][r][s]``.
    """

    rows: int
    row_blocks: int
    units: int
    slices: int
    slice_units: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


def wgrad_direct_cut(problem: ConvProblem, itemsize: int) -> WgradDirectCut:
    """Blocks of the direct rows of wgrad."""
    # Without the padding: drivers.multiplying_padding replaces it, and the cut must stay the same.
    row_bytes = (problem.stride_w + 1) * problem.q * itemsize
    rows = split_evenly(problem.p, max(WGRAD_ROWS_BYTES // row_bytes, 1))
    row_blocks = ceil_div(problem.p, rows)
    units = problem.n * problem.o * row_blocks
    filters = problem.g * problem.k
    slice_units = ceil_div(max(units, 1), ceil_div(MIN_TASKS, filters))
    slices = ceil_div(max(units, 1), slice_units)
    lanes = TILE_BYTES // 2 // itemsize
    return WgradDirectCut(
        rows=rows,
        row_blocks=row_blocks,
        units=units,
        slices=slices,
        slice_units=slice_units,
        tasks=filters * slices,
        weight_panels=filters,
        shared_elements=slices * filters * reduction_length(problem),
        local_elements=problem.t * problem.r * problem.s * lanes,
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
