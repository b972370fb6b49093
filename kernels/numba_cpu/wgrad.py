"""Tiled wgrad: the micro-kernel over pixels, where fprop runs it over channels and taps.

x            (N, C, D, H, W)                                    any strides    IN
grad_output  (N, K, O, P, Q)                                    any strides    IN
sums         [slice][g][panel][channel block][tile][6][width]   overwritten    OUT of tiles
out          (K, C/G, T, R, S)                                  any strides    OUT of finish
The register tile is 6 weights (neighbours in c, t, r, s) x ``width`` out-channels. Accumulates in
the dtype: the pixels of a unit in the order p, q, then the units of a slice, then slices; padding
counts as zeros that are multiplied. Scratch: a unit's gradients ``[panel][pixel][width]``, then the
padded input under it ``[channel][t][halo_rows][halo_columns]``, a block of channels at a time.
Tasks of ``tiles``: (g, panels, slice of the units); of ``finish``: the panels.
Assumes a validated ConvGeometry with n > 0; raises nothing.
Why: the same 12 multiply-adds per step as fprop, because each gradient is packed once and read for
all weights, each padded input once for all panels of the task.
Source: the update pass of Georganas et al. 2018 (1808.05567).
"""

from __future__ import annotations

from typing import Any

from .. import blocking, drivers
from ..blocking import TILE_PIXELS
from ._compile import task_range, tile, whole_tile
from ._copying import copy_matrix
from ._microkernel import register_tile
from ._packing import fill_zero, set_pixels
from ._queue import next_tasks
from ._vector import element_stride, load, pixel_offsets, store


@tile
def pack_gradients(
    grad_output, source, rows, columns, channels, width, local, at,
):  # fmt: skip
    """Copy the gradients of rows x columns pixels to ``[pixel][width]``."""
    stride_k, stride_p = element_stride(grad_output, 1), element_stride(grad_output, 3)
    stride_q = element_stride(grad_output, 4)
    if stride_p == columns * stride_q:
        rows, columns = 1, rows * columns
    for row in range(rows):
        copy_matrix(
            grad_output, source + row * stride_p, stride_q, stride_k,
            local, at + row * columns * width, width, columns, channels,
        )  # fmt: skip
    if channels < width:
        for pixel in range(rows * columns):
            fill_zero(local, at + pixel * width + channels, at + (pixel + 1) * width)


@tile
def copy_channel_halo(
    x, source, problem, cut, local, at, channels, o, first_row, rows, first_column, columns,
):  # fmt: skip
    """Copy the input under rows x columns outputs to ``[channel][t][halo_rows][halo_columns]``.

    ``source`` is the offset in ``x`` of the first channel."""
    stride_c, stride_w = element_stride(x, 1), element_stride(x, 4)
    h_first = first_row * problem.stride_h - problem.pad_h
    w_first = first_column * problem.stride_w - problem.pad_w
    halo_rows = (rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1
    halo_columns = (columns - 1) * problem.stride_w + (problem.s - 1) * problem.dilation_w + 1
    low = min(max(-w_first, 0), halo_columns)
    high = max(min(problem.w - w_first, halo_columns), low)
    # Where windows don't touch each other, nobody reads the rows between them.
    reach = (problem.r - 1) * problem.dilation_h
    pitch = problem.t * cut.halo_rows * cut.halo_columns
    for t in range(problem.t):
        d = o * problem.stride_d - problem.pad_d + t * problem.dilation_d
        for row in range(halo_rows):
            if row % problem.stride_h > reach:
                continue
            h = h_first + row
            target = at + (t * cut.halo_rows + row) * cut.halo_columns
            inside = 0 <= d < problem.d and 0 <= h < problem.h
            begin, end = (low, high) if inside else (halo_columns, halo_columns)
            for c in range(channels):
                fill_zero(local, target + c * pitch, target + c * pitch + begin)
                fill_zero(local, target + c * pitch + end, target + c * pitch + halo_columns)
            if inside:
                row_source = d * element_stride(x, 2) + h * element_stride(x, 3)
                copy_matrix(
                    x, source + row_source + (w_first + low) * stride_w, stride_c, stride_w,
                    local, target + low, pitch, channels, high - low,
                )  # fmt: skip


@whole_tile
def wgrad_tile(
    x, grad_output, sums, problem, cut, local, task,
):  # fmt: skip
    """Compute one task."""
    rest, part = task // cut.slices, task % cut.slices
    g, k_block = rest // cut.k_blocks, rest % cut.k_blocks
    width, tile_size = cut.width, TILE_PIXELS * cut.width
    panels = (problem.k + width - 1) // width
    panel_first, panel_last = k_block * cut.panels, min((k_block + 1) * cut.panels, panels)
    panel_sums = cut.channel_blocks * cut.tiles * tile_size
    halo = cut.panels * cut.pixels * width
    row_step = cut.halo_columns * problem.stride_h
    taps = problem.t * problem.r * problem.s
    pixels = pixel_offsets(TILE_PIXELS)
    first_unit = part * cut.slice_units
    for unit in range(first_unit, min(first_unit + cut.slice_units, cut.units)):
        rest, first_column = unit // cut.column_blocks, unit % cut.column_blocks * cut.columns
        rest, first_row = rest // cut.row_blocks, rest % cut.row_blocks * cut.rows
        n, o = rest // problem.o, rest % problem.o
        rows = min(cut.rows, problem.p - first_row)
        columns = min(cut.columns, problem.q - first_column)
        panel_size = rows * columns * width
        runs, run_length = (1, rows, 1), columns
        # Where nothing lies between two rows, all rows are one run.
        if row_step == columns * problem.stride_w:
            runs, run_length = (1, 1, 1), rows * columns
        gradients = (
            n * element_stride(grad_output, 0)
            + o * element_stride(grad_output, 2)
            + first_row * element_stride(grad_output, 3)
            + first_column * element_stride(grad_output, 4)
        )
        for panel in range(panel_first, panel_last):
            source = (g * problem.k + panel * width) * element_stride(grad_output, 1)
            pack_gradients(
                grad_output, gradients + source, rows, columns,
                min(problem.k - panel * width, width), width,
                local, (panel - panel_first) * panel_size,
            )  # fmt: skip
        for block in range(cut.channel_blocks):
            c = block * cut.channels
            channels = min(cut.channels, problem.c - c)
            source = n * element_stride(x, 0) + (g * problem.c + c) * element_stride(x, 1)
            copy_channel_halo(
                x, source, problem, cut, local, halo, channels, o,
                first_row, rows, first_column, columns,
            )  # fmt: skip
            for panel in range(panel_first, panel_last):
                at = ((part * problem.g + g) * panels + panel) * panel_sums
                at += block * cut.tiles * tile_size
                for first in range(0, channels * taps, TILE_PIXELS):
                    valid = min(channels * taps - first, TILE_PIXELS)
                    set_pixels(
                        pixels, valid, halo, first, problem.r, problem.s,
                        cut.halo_rows * cut.halo_columns, problem.dilation_h * cut.halo_columns,
                        problem.dilation_w,
                    )  # fmt: skip
                    for m in range(valid, TILE_PIXELS):
                        pixels[m] = pixels[0]
                    register_tile(
                        TILE_PIXELS, 1, local, pixels, 0,
                        local, (panel - panel_first) * panel_size, 0, sums, at, width,
                        runs, (0, row_step, 0), run_length, problem.stride_w, unit > first_unit,
                    )  # fmt: skip
                    at += tile_size


@whole_tile
def finish_panel(sums, out, problem, cut, index):
    """Add up the slices of panel ``index`` of all g x panels, in place, and write its weights."""
    width = cut.width
    panels = (problem.k + width - 1) // width
    g, panel = index // panels, index % panels
    block_sums = cut.tiles * TILE_PIXELS * width
    panel_sums = cut.channel_blocks * block_sums
    first = index * panel_sums
    for part in range(1, cut.slices):
        source = (part * problem.g * panels + index) * panel_sums
        for i in range(panel_sums):
            store(sums, first + i, load(sums, first + i) + load(sums, source + i))
    stride_k, stride_c = element_stride(out, 0), element_stride(out, 1)
    stride_t, stride_r = element_stride(out, 2), element_stride(out, 3)
    stride_s = element_stride(out, 4)
    taps = problem.t * problem.r * problem.s
    filters = min(problem.k - panel * width, width)
    in_order = stride_s == 1 and stride_r == problem.s and stride_t == problem.r * problem.s
    for block in range(cut.channel_blocks):
        channels = min(cut.channels, problem.c - block * cut.channels)
        target = (g * problem.k + panel * width) * stride_k + block * cut.channels * stride_c
        at = first + block * block_sums
        if in_order and stride_c == taps:
            copy_matrix(sums, at, 1, width, out, target, stride_k, filters, channels * taps)
            continue
        for c in range(channels):
            for tap in range(taps):
                t, r = tap // (problem.r * problem.s), tap // problem.s % problem.r
                place = target + c * stride_c + t * stride_t + r * stride_r
                place += tap % problem.s * stride_s
                for k in range(filters):
                    store(out, place + k * stride_k, load(sums, at + (c * taps + tap) * width + k))


@task_range
def tiles(
    x: Any, grad_output: Any, sums: Any, problem: Any, cut: Any, local: Any, queue: Any
) -> None:
    """Compute the tasks of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            wgrad_tile(x, grad_output, sums, problem, cut, local, task)
        begin, end = next_tasks(queue, begin, end)


@task_range
def finish(sums: Any, out: Any, problem: Any, cut: Any, queue: Any) -> None:
    """Finish the panels of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for index in range(begin, end):
            finish_panel(sums, out, problem, cut, index)
        begin, end = next_tasks(queue, begin, end)


wgrad = drivers.wgrad(blocking.wgrad_cut, tiles, finish)
