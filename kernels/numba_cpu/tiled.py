"""Tiled convolution: a padded, channels-last copy of a tile's input, then the micro-kernel.

x       (N, C, D, H, W)                  any strides            IN
packed  [g][panel][t][r][s][c][width]    see _packing           IN
bias    (K,) or (0,)                     contiguous             IN
out     (N, K, O, P, Q)                  any strides            OUT
Accumulates in the dtype, in the order t, r, s, c. Scratch: the halo copy (at most 256 KiB unless
one row needs more) and one register tile. Tasks: (n, g, o, rows, columns, panels), panels fastest,
so that a run of tasks copies each halo once.
Assumes a validated ConvGeometry; raises nothing.
Why: padding, stride and dilation are gone once the copy is made, so one micro-kernel keeps its sums
in registers over the whole reduction. Source: Georganas et al. 2018 (1808.05567) and 2020;
pixels gathered across row ends after Dukhan 2019 (1907.02129).
"""

from __future__ import annotations

from typing import Any

from .. import adjoints, blocking, drivers
from . import loop
from ._compile import task_range, tile, whole_tile
from ._copying import copy_matrix
from ._microkernel import MOST_PANELS, MOST_PIXELS, micro_kernel
from ._packing import fill_zero, pack_weight, prefetch_tile, set_pixels, store_tile
from ._queue import next_tasks
from ._vector import element_stride, pixel_offsets


@tile
def copy_halo(
    x, problem, cut, local, n, g, o, first_row, rows, first_column, columns,
):  # fmt: skip
    """Copy the input under rows x columns outputs to ``[t][halo_rows][halo_columns][c]``."""
    c = problem.c
    stride_c, stride_w = element_stride(x, 1), element_stride(x, 4)
    h_first = first_row * problem.stride_h - problem.pad_h
    w_first = first_column * problem.stride_w - problem.pad_w
    halo_rows = (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1
    halo_columns = (columns - 1) * problem.stride_w + (problem.s - 1) * problem.dilation_w + 1
    low = min(max(-w_first, 0), halo_columns)
    high = max(min(problem.w - w_first, halo_columns), low)
    image = n * element_stride(x, 0) + g * c * stride_c + (w_first + low) * stride_w
    for t in range(problem.t):
        d = o * problem.stride_d - problem.pad_d + t * problem.dilation_d
        for row in range(halo_rows):
            h = h_first + row
            at = (t * cut.halo_rows + row) * cut.halo_columns * c
            if 0 <= d < problem.d and 0 <= h < problem.h:
                source = image + d * element_stride(x, 2) + h * element_stride(x, 3)
                fill_zero(local, at, at + low * c)
                copy_matrix(x, source, stride_w, stride_c, local, at + low * c, c, high - low, c)
                fill_zero(local, at + high * c, at + halo_columns * c)
            else:
                fill_zero(local, at, at + halo_columns * c)


@whole_tile
def tiled_tile(
    x, packed, bias, out, problem, cut, local, activation, task, halo_ready,
):  # fmt: skip
    """Compute one task; ``halo_ready`` if ``local`` still has the halo of the task before."""
    rest, k_block = task // cut.k_blocks, task % cut.k_blocks
    rest, first_column = rest // cut.column_blocks, rest % cut.column_blocks * cut.columns
    rest, first_row = rest // cut.row_blocks, rest % cut.row_blocks * cut.rows
    rest, o = rest // problem.o, rest % problem.o
    n, g = rest // problem.g, rest % problem.g
    rows = min(cut.rows, problem.p - first_row)
    columns = min(cut.columns, problem.q - first_column)
    if k_block == 0 or not halo_ready:
        copy_halo(x, problem, cut, local, n, g, o, first_row, rows, first_column, columns)

    c, width = problem.c, cut.width
    halo_row = cut.halo_columns * c
    runs = (problem.t, problem.r, problem.s)
    run_length = c
    if problem.dilation_w == 1:
        runs = (problem.t, problem.r, 1)
        run_length = problem.s * c
    run_steps = (cut.halo_rows * halo_row, problem.dilation_h * halo_row, problem.dilation_w * c)
    stride_k = element_stride(out, 1)
    stride_p, stride_q = element_stride(out, 3), element_stride(out, 4)
    plane = n * element_stride(out, 0) + o * element_stride(out, 2)
    plane += first_row * stride_p + first_column * stride_q
    panels = (problem.k + width - 1) // width
    panel_size = problem.t * problem.r * problem.s * c * width
    panel_last = min((k_block + 1) * cut.panels, panels)
    pixels = rows * columns
    inputs, outputs = pixel_offsets(MOST_PIXELS), pixel_offsets(MOST_PIXELS)
    for panel in range(k_block * cut.panels, panel_last, MOST_PANELS):
        beside = min(panel_last - panel, MOST_PANELS)
        first_channel = g * problem.k + panel * width
        channels = min(problem.k - panel * width, beside * width)
        weights = (g * panels + panel) * panel_size
        first = 0
        for tiles_left in range((pixels + MOST_PIXELS - 1) // MOST_PIXELS, 0, -1):
            count = (pixels - first + tiles_left - 1) // tiles_left
            set_pixels(
                inputs, count, 0, first, pixels, rows, columns,
                0, problem.stride_h * halo_row, problem.stride_w * c,
            )  # fmt: skip
            set_pixels(
                outputs, count, plane + first_channel * stride_k, first, pixels, rows, columns,
                0, stride_p, stride_q,
            )  # fmt: skip
            prefetch_tile(out, outputs, count, stride_k, channels)
            micro_kernel(
                count, beside, local, inputs, packed, weights, panel_size,
                local, cut.halo_elements, width, runs, run_steps, run_length, 1, False,
            )  # fmt: skip
            store_tile(
                local, cut.halo_elements, beside * width, out, outputs, count, stride_k, channels,
                bias, first_channel, activation,
            )  # fmt: skip
            first += count


@task_range
def tiles(
    x: Any, packed: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            tiled_tile(x, packed, bias, out, problem, cut, local, activation, task, task > begin)
        begin, end = next_tasks(queue, begin, end)


fprop = drivers.fprop(blocking.tiled_cut, tiles, pack_weight)
dgrad = adjoints.dgrad(fprop, skipping=loop.dgrad, split=adjoints.in_tiles)
