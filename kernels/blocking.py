"""How each algorithm cuts its work: block sizes, task counts and scratch, for every engine.

Everything here is a function of the problem alone, never of the number of threads. The numbers
come from the cache sizes of today's cores (32 KiB L1d, 512 KiB or more L2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .problem import ConvProblem
from .shapes import ceil_div, effective_kernel, round_up

#: Pixels of a register tile, and the bytes of out-channels beside them (two 32-byte vectors):
#: 6 x 16 float32 or 6 x 8 float64 fill 12 of AVX2's 16 vector registers with sums.
TILE_PIXELS = 6
TILE_BYTES = 64
#: Pixels of the largest register tile, beside two panels: 28 of AVX-512's 32 vector registers.
MOST_PIXELS = 14
#: Pixels this far apart lie in the same set of an L1 cache, which holds eight of them.
CACHE_SETS_BYTES = 4096
#: Bytes of pixels of a strip, which the GEMM with vectors of pixels computes at a time: 3 vectors
#: of 64 bytes, or 6 of 32. Fewer than GEMM_MOST_BYTES at the end of a plane stay together.
GEMM_STRIP_BYTES = 192
GEMM_MOST_BYTES = 256
#: Reduction steps whose columns are packed at a time: 1024 x 192 bytes (192 KiB) stay in L2.
#: Shorter blocks would stay in L1, but their sums wait in memory more often (512: slower).
GEMM_DEPTH = 1024
#: Out-channels of a task at least, where columns are packed, for each task packs them again.
GEMM_CHANNELS = 128
#: Strips of a task, and panels: the sums of 1024 float32 channels (192 KiB) stay in L2.
GEMM_STRIPS = 8
GEMM_PANELS = 64
#: Bytes of padded input that a tiled task copies: three quarters of a 512 KiB L2.
TILED_HALO_BYTES = 384 * 1024
#: Output rows (at least) and columns (at most) of a tiled task: flat tiles copy mostly halo, and
#: a wide image would outgrow the cache.
TILED_ROWS = 4
TILED_COLUMNS = 192
#: Pixels of a tiled task, at least, where its plane has them: four tiles a pass over the weights.
TILED_PIXELS = 56
#: Out-channels times taps of a tiled task, at least: the halo copy, which every task of a place may
#: make again, is a small part of it then.
TILED_PRODUCTS = 256
#: A problem is cut finer until it has this many tasks, enough for the threads of a large machine,
#: but never into fewer out-channels than MIN_TASK_CHANNELS, for each task packs its pixels again.
MIN_TASKS = 16
MIN_TASK_CHANNELS = 64
#: Bytes of columns and product that the BLAS row fills at a time: enough for BLAS to forget the
#: call, and whole images of ordinary layers.
BLAS_BYTES = 128 * 1024 * 1024
#: Out-channels that a direct task sums side by side, and columns that it takes at least.
DIRECT_CHANNELS = 4
DIRECT_COLUMNS = 512


class GemmCut(NamedTuple):
    """Task = (n, g, block of ``pixels`` of the flat o x p x q plane, block of ``panels`` panels).

    In Cython blocks of pixels come first.
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
    ``[MOST_PIXELS][2][width]``, then two int64 per pixel of the task, then two weight panels where
    tasks pack their own (``tiled_cut_own``).
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


def _split_tiled_panels(problem: ConvProblem, width: int, pixel_tasks: int) -> tuple[int, int]:
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
        + MOST_PIXELS * 2 * width
        + ceil_div(2 * 8 * rows * columns, itemsize),
    )


def tiled_cut_own(problem: ConvProblem, itemsize: int) -> TiledCut:
    """The same where a task packs its weights itself, two panels at a time, if no other task reads
    them: all pixels are in one task. Panels that are read once needn't leave the L2 cache. Such a
    cut has no ``weight_panels``, which are packed for all tasks."""
    cut = tiled_cut(problem, itemsize)
    if cut.tasks > cut.k_blocks:
        return cut
    local = round_up(cut.local_elements, cut.width) + _own_elements(problem, cut.width)
    return cut._replace(weight_panels=0, shared_elements=0, local_elements=local)


def _own_elements(problem: ConvProblem, width: int) -> int:
    return 2 * width * reduction_length(problem)


def of_panels(cut: Any, problem: ConvProblem) -> Any:
    """The cut of a call whose weight comes as finished panels."""
    if not cut.weight_panels:
        cut = cut._replace(
            weight_panels=problem.g * ceil_div(problem.k, cut.width),
            local_elements=cut.local_elements - _own_elements(problem, cut.width),
        )
    return cut._replace(shared_elements=0)


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
