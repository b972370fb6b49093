"""Tiled wgrad: register tiles of weights over packed gradients and inputs.

x            (N, C, D, H, W)                       any strides    IN
grad_output  (N, K, O, P, Q)                       any strides    IN
sums         [slice][g][panel][c][t][r][s][width]  overwritten    OUT of tiles, of several slices
out          (K, C/G, T, R, S)                     any strides    OUT
The register tile is up to 12 in-channels (few ones together with the taps of a row, whose sums are
``[t][r][s][c]``) x two panels of ``width`` out-channels. Accumulates in the dtype: the pixels of a
unit in the order p, q, then the units of a slice, then slices; padding counts as zeros that are
multiplied. Scratch: a unit's gradients ``[panel][pixel][width]``, the padded input under it for the
channels of a tile, ``[t][halo_rows][halo_columns][channel]``, and the sums of the task if it is one
slice. Tasks of ``tiles``: (g, panels, channels, slice of the units); of ``finish``: the panels.
Assumes a validated ConvGeometry with n > 0; raises nothing.
Why: each gradient is packed once and read for all weights, each padded input once for all taps and
panels of the task, from L1.
Source: the update pass of Georganas et al. 2018 (1808.05567).
"""

from __future__ import annotations

from typing import Any

from .. import blocking_gradients, drivers
from ._compile import task_range, tile, whole_tile
from ._copying import clear_rows, copy_matrix
from ._packing import fill_zero
from ._queue import next_tasks
from ._vector import element_stride, load, store
from ._weights import sum_tile


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
    clear_rows(local, at + channels, width, rows * columns, width - channels)


@tile
def copy_halo(
    x, source, problem, local, at, channels, width, o, first_row, rows, first_column, columns,
):  # fmt: skip
    """Copy the input under rows x columns outputs to ``[t][halo_rows][halo_columns][width]``.

    Where a kernel axis has one tap nothing is read between its pixels, and only every ``step``-th
    row or column is copied. ``source`` is the offset in ``x`` of the first channel."""
    step_h = problem.stride_h if problem.r == 1 else 1
    step_w = problem.stride_w if problem.s == 1 else 1
    halo_rows = (rows - 1) * (problem.stride_h // step_h) + (problem.r - 1) * problem.dilation_h + 1
    halo_columns = (
        (columns - 1) * (problem.stride_w // step_w) + (problem.s - 1) * problem.dilation_w + 1
    )
    w_first = first_column * problem.stride_w - problem.pad_w
    low = min(max((step_w - 1 - w_first) // step_w, 0), halo_columns)
    high = max(min((problem.w - w_first + step_w - 1) // step_w, halo_columns), low)
    for t in range(problem.t):
        d = o * problem.stride_d - problem.pad_d + t * problem.dilation_d
        for row in range(halo_rows):
            h = first_row * problem.stride_h - problem.pad_h + row * step_h
            target = at + (t * halo_rows + row) * halo_columns * width
            inside = 0 <= d < problem.d and 0 <= h < problem.h
            begin, end = (low, high) if inside else (halo_columns, halo_columns)
            fill_zero(local, target, target + begin * width)
            fill_zero(local, target + end * width, target + halo_columns * width)
            if inside:
                row_source = d * element_stride(x, 2) + h * element_stride(x, 3)
                first = (w_first + low * step_w) * element_stride(x, 4)
                copy_matrix(
                    x, source + row_source + first, step_w * element_stride(x, 4),
                    element_stride(x, 1), local, target + low * width, width, high - low, channels,
                )  # fmt: skip


@tile
def sum_weights(
    local, halo, problem, cut, sums, at, sum_gap, rows, columns, channels, panels, resume,
):  # fmt: skip
    """Add a unit's products to the sums of all weights of a tile's channels."""
    width, taps = cut.width, problem.t * problem.r * problem.s
    stride_h = 1 if problem.r == 1 else problem.stride_h
    stride_w = 1 if problem.s == 1 else problem.stride_w
    halo_rows = (rows - 1) * stride_h + (problem.r - 1) * problem.dilation_h + 1
    halo_columns = (columns - 1) * stride_w + (problem.s - 1) * problem.dilation_w + 1
    x_row, x_column = stride_h * halo_columns * cut.tile_channels, stride_w * cut.tile_channels
    steps = (rows, columns, x_row, x_column)
    # Where nothing lies between two rows, all rows are one.
    if x_row == columns * x_column:
        steps = (1, rows * columns, x_row, x_column)
    positions, run, pitch = problem.s, channels, taps * width
    if cut.together == 1:
        positions, run, pitch = 1, problem.s * channels, width
    for panel in range(0, panels, 2):
        for row in range(problem.t * problem.r):
            t, r = row // problem.r, row % problem.r
            for s in range(positions):
                under = (t * halo_rows + r * problem.dilation_h) * halo_columns
                under = (under + s * problem.dilation_w) * cut.tile_channels
                weight = row * (run if cut.together == 1 else problem.s) + s
                for first in range(0, run, cut.tile_weights):
                    sum_tile(
                        min(cut.tile_weights, run - first), min(panels - panel, 2),
                        local, halo + under + first,
                        local, panel * cut.pixels * width, cut.pixels * width,
                        sums, at + panel * sum_gap + weight * width + first * pitch, pitch, sum_gap,
                        steps, resume,
                    )  # fmt: skip


@tile
def write_panel(sums, at, out, target, problem, cut, filters, channels):
    """Write a panel's sums of ``filters`` out-channels and ``channels`` channels."""
    stride_k, stride_c = element_stride(out, 0), element_stride(out, 1)
    stride_t, stride_r = element_stride(out, 2), element_stride(out, 3)
    stride_s = element_stride(out, 4)
    width, taps = cut.width, problem.t * problem.r * problem.s
    tap_step, channel_step = width, taps * width
    # An axis of one tap has any stride.
    in_order = (problem.s == 1 or stride_s == 1) and (problem.r == 1 or stride_r == problem.s)
    in_order = in_order and (problem.t == 1 or stride_t == problem.r * problem.s)
    if cut.together == 1 and channels > 1:
        tap_step, channel_step = problem.c * width, width
    elif in_order and stride_c == taps:
        copy_matrix(sums, at, 1, width, out, target, stride_k, filters, channels * taps)
        return
    elif taps == 1 and stride_k == 1:
        copy_matrix(sums, at, width, 1, out, target, stride_c, channels, filters)
        return
    for tap in range(taps):
        t, r, s = tap // (problem.r * problem.s), tap // problem.s % problem.r, tap % problem.s
        place = target + t * stride_t + r * stride_r + s * stride_s
        for c in range(channels):
            for k in range(filters):
                value = load(sums, at + tap * tap_step + c * channel_step + k)
                store(out, place + c * stride_c + k * stride_k, value)


@whole_tile
def wgrad_tile(
    x, grad_output, sums, out, problem, cut, local, task,
):  # fmt: skip
    """Compute one task."""
    rest, part = task // cut.slices, task % cut.slices
    rest, c_block = rest // cut.channel_blocks, rest % cut.channel_blocks
    g, k_block = rest // cut.k_blocks, rest % cut.k_blocks
    width, taps = cut.width, problem.t * problem.r * problem.s
    all_panels = (problem.k + width - 1) // width
    panel_first = k_block * cut.panels
    panels = min(panel_first + cut.panels, all_panels) - panel_first
    c_first = c_block * cut.channels
    c_last = min(c_first + cut.channels, problem.c)
    halo = cut.panels * cut.pixels * width
    target, at, sum_gap = sums, 0, problem.c * taps * width
    if cut.slices == 1:
        target, at, sum_gap = local, halo + cut.halo_elements, cut.channels * taps * width
    else:
        at = ((part * problem.g + g) * all_panels + panel_first) * sum_gap
        at += c_first * taps * width
    first_unit = part * cut.slice_units
    for unit in range(first_unit, min(first_unit + cut.slice_units, cut.units)):
        rest, first_column = unit // cut.column_blocks, unit % cut.column_blocks * cut.columns
        rest, first_row = rest // cut.row_blocks, rest % cut.row_blocks * cut.rows
        n, o = rest // problem.o, rest % problem.o
        rows = min(cut.rows, problem.p - first_row)
        columns = min(cut.columns, problem.q - first_column)
        gradients = (
            n * element_stride(grad_output, 0)
            + o * element_stride(grad_output, 2)
            + first_row * element_stride(grad_output, 3)
            + first_column * element_stride(grad_output, 4)
        )
        for panel in range(panels):
            k = (panel_first + panel) * width
            pack_gradients(
                grad_output, gradients + (g * problem.k + k) * element_stride(grad_output, 1),
                rows, columns, min(problem.k - k, width), width,
                local, panel * cut.pixels * width,
            )  # fmt: skip
        for c in range(c_first, c_last, cut.tile_channels):
            channels = min(cut.tile_channels, c_last - c)
            source = n * element_stride(x, 0) + (g * problem.c + c) * element_stride(x, 1)
            copy_halo(
                x, source, problem, local, halo, channels, cut.tile_channels, o,
                first_row, rows, first_column, columns,
            )  # fmt: skip
            sum_weights(
                local, halo, problem, cut, target, at + (c - c_first) * taps * width, sum_gap,
                rows, columns, channels, panels, unit > first_unit,
            )  # fmt: skip
    if cut.slices > 1:
        return
    for panel in range(panels):
        k = (panel_first + panel) * width
        place = (g * problem.k + k) * element_stride(out, 0) + c_first * element_stride(out, 1)
        write_panel(
            target, at + panel * sum_gap, out, place, problem, cut, min(problem.k - k, width),
            c_last - c_first,
        )  # fmt: skip


@whole_tile
def finish_panel(sums, out, problem, cut, index):
    """Add up the slices of panel ``index`` of all g x panels, in place, and write its weights."""
    width = cut.width
    panels = (problem.k + width - 1) // width
    g, k = index // panels, index % panels * width
    panel_sums = problem.c * problem.t * problem.r * problem.s * width
    first = index * panel_sums
    for part in range(1, cut.slices):
        source = (part * problem.g * panels + index) * panel_sums
        for i in range(panel_sums):
            store(sums, first + i, load(sums, first + i) + load(sums, source + i))
    place = (g * problem.k + k) * element_stride(out, 0)
    write_panel(sums, first, out, place, problem, cut, min(problem.k - k, width), problem.c)


@task_range
def tiles(
    x: Any, grad_output: Any, sums: Any, out: Any, problem: Any, cut: Any, local: Any, queue: Any
) -> None:
    """Compute the tasks of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            wgrad_tile(x, grad_output, sums, out, problem, cut, local, task)
        begin, end = next_tasks(queue, begin, end)


@task_range
def finish(sums: Any, out: Any, problem: Any, cut: Any, queue: Any) -> None:
    """Finish the panels of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for index in range(begin, end):
            finish_panel(sums, out, problem, cut, index)
        begin, end = next_tasks(queue, begin, end)


wgrad = drivers.wgrad_of_products(drivers.wgrad(blocking_gradients.wgrad_cut, tiles, finish))
