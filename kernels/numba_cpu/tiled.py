"""Tiled convolution: a padded, channels-last copy of a tile's input, then the micro-kernel.

x       (N, C, D, H, W)                  any strides            IN
packed  [g][panel][t][r][s][c][width]    see _packing           IN
bias    (K,) or (0,)                     contiguous             IN
out     (N, K, O, P, Q)                  any strides            OUT
Accumulates in the dtype, in the order t, r, s, c. Scratch: the halo copy (at most 256 KiB unless
one row needs more), one register tile, and where each pixel lies in the input and the output.
Tasks: (n, g, o, rows, columns, panels), panels fastest, so that a run of tasks copies each halo
once; an input that is channels last already and needs no padding isn't copied at all.
Assumes a validated ConvGeometry; raises nothing.
Why: padding, stride and dilation are gone once the copy is made, so one micro-kernel keeps its sums
in registers over the whole reduction. Source: Georganas et al. 2018 (1808.05567) and 2020;
pixels gathered across row ends after Dukhan 2019 (1907.02129).
"""

from __future__ import annotations

from typing import Any

from .. import adjoints, blocking, drivers
from ..blocking import MOST_PIXELS
from . import loop
from ._compile import inner, task_range, tile, whole_tile
from ._copying import clear_rows, copy_matrix
from ._entry import Entry, conv_arguments
from ._microkernel import MOST_PANELS, micro_kernel
from ._packing import pack_weight, prefetch_tile, run_packing, set_pixels, store_tile
from ._queue import next_tasks
from ._vector import address, element_stride, offsets_at

#: Input pixels that are a multiple of this apart share a few sets of the cache: they are copied.
CROWDED_ELEMENTS = 1024


@tile
def copied_step(taps, stride):
    """Along an axis of one tap nothing is read between the pixels, so nothing is copied there."""
    return stride if taps == 1 else 1


@tile
def needs_no_copy(x, problem, d, h, w, last_h, last_w):
    """Whether the micro-kernel can read the input as it is, from d, h, w to the last places that a
    task reads: channels last, nothing padded, and pixels that don't share a few sets of the cache.
    """
    inside = (d >= 0) & (d + (problem.t - 1) * problem.dilation_d < problem.d)
    inside &= (h >= 0) & (last_h < problem.h) & (w >= 0) & (last_w < problem.w)
    apart = element_stride(x, 4) * problem.stride_w
    return inside & (element_stride(x, 1) == 1) & (apart % CROWDED_ELEMENTS != 0)


@tile
def copy_halo(
    x, problem, cut, local, image, d_first, h_first, w_first, halo_rows, halo_columns,
):  # fmt: skip
    """Copy the input from d, h, w on to ``[t][halo_rows][halo_columns][halo_channels]``."""
    pixel, stride_c = cut.halo_channels, element_stride(x, 1)
    step_h = copied_step(problem.r, problem.stride_h)
    step_w = copied_step(problem.s, problem.stride_w)
    stride_w = element_stride(x, 4)
    low = min((max(-w_first, 0) + step_w - 1) // step_w, halo_columns)
    inside = max(min((problem.w - w_first + step_w - 1) // step_w, halo_columns), low) - low
    at = 0
    for t in range(problem.t):
        d = d_first + t * problem.dilation_d
        for row in range(halo_rows):
            h = h_first + row * step_h
            if 0 <= d < problem.d and 0 <= h < problem.h:
                source = image + d * element_stride(x, 2) + h * element_stride(x, 3)
                source += (w_first + low * step_w) * stride_w
                clear_rows(local, at, 0, 1, low * pixel)
                copy_matrix(
                    x, source, step_w * stride_w, stride_c,
                    local, at + low * pixel, pixel, inside, problem.c,
                )  # fmt: skip
                after = low + inside
                clear_rows(local, at + after * pixel, 0, 1, (halo_columns - after) * pixel)
            else:
                clear_rows(local, at, 0, 1, halo_columns * pixel)
            at += halo_columns * pixel


@whole_tile
def tiled_tile(
    x, packed, bias, out, problem, cut, local, activation, task, halo_ready,
):  # fmt: skip
    """Compute one task; ``halo_ready`` if ``local`` still has the halo of a task before it that
    differs from it in its panels alone."""
    rest, k_block = task // cut.k_blocks, task % cut.k_blocks
    rest, first_column = rest // cut.column_blocks, rest % cut.column_blocks * cut.columns
    rest, first_row = rest // cut.row_blocks, rest % cut.row_blocks * cut.rows
    rest, o = rest // problem.o, rest % problem.o
    n, g = rest // problem.g, rest % problem.g
    rows = min(cut.rows, problem.p - first_row)
    columns = min(cut.columns, problem.q - first_column)
    pixels, c, width = rows * columns, problem.c, cut.width

    d = o * problem.stride_d - problem.pad_d
    h = first_row * problem.stride_h - problem.pad_h
    w = first_column * problem.stride_w - problem.pad_w
    step_h = copied_step(problem.r, problem.stride_h)
    step_w = copied_step(problem.s, problem.stride_w)
    down, right = problem.stride_h // step_h, problem.stride_w // step_w
    halo_rows = (rows - 1) * down + (problem.r - 1) * problem.dilation_h + 1
    halo_columns = (columns - 1) * right + (problem.s - 1) * problem.dilation_w + 1
    image = n * element_stride(x, 0) + g * c * element_stride(x, 1)
    last_h, last_w = h + (halo_rows - 1) * step_h, w + (halo_columns - 1) * step_w
    if needs_no_copy(x, problem, d, h, w, last_h, last_w):
        stride_h, stride_w = element_stride(x, 3), element_stride(x, 4)
        step_t = problem.dilation_d * element_stride(x, 2)
        source = address(x, image + d * element_stride(x, 2) + h * stride_h + w * stride_w)
        stride_h, stride_w = stride_h * step_h, stride_w * step_w
    else:
        if not halo_ready:
            copy_halo(x, problem, cut, local, image, d, h, w, halo_rows, halo_columns)
        stride_w = cut.halo_channels
        stride_h = halo_columns * stride_w
        step_t = halo_rows * stride_h
        source = address(local, 0)
    run_steps = (step_t, problem.dilation_h * stride_h, problem.dilation_w * stride_w)
    runs, run_length = (problem.t, problem.r, problem.s), c
    if run_steps[2] == c:
        # The taps of a kernel row are one run.
        runs, run_length = (problem.t, problem.r, 1), problem.s * c

    sums = cut.halo_elements
    inputs = offsets_at(local, sums + MOST_PIXELS * MOST_PANELS * width, 0)
    outputs = offsets_at(local, sums + MOST_PIXELS * MOST_PANELS * width, pixels)
    set_pixels(inputs, pixels, 0, 0, rows, columns, 0, down * stride_h, right * stride_w)
    stride_p, stride_q = element_stride(out, 3), element_stride(out, 4)
    set_pixels(outputs, pixels, 0, 0, rows, columns, 0, stride_p, stride_q)
    stride_k = element_stride(out, 1)
    plane = n * element_stride(out, 0) + o * element_stride(out, 2)
    plane += first_row * stride_p + first_column * stride_q
    panels = (problem.k + width - 1) // width
    panel_size = problem.t * problem.r * problem.s * c * width
    panel_last = min((k_block + 1) * cut.panels, panels)
    for panel in range(k_block * cut.panels, panel_last, MOST_PANELS):
        beside = min(panel_last - panel, MOST_PANELS)
        first_channel = g * problem.k + panel * width
        channels = min(problem.k - panel * width, beside * width)
        weights = (g * panels + panel) * panel_size
        place = plane + first_channel * stride_k
        first = 0
        for tiles_left in range((pixels + MOST_PIXELS - 1) // MOST_PIXELS, 0, -1):
            count = (pixels - first + tiles_left - 1) // tiles_left
            prefetch_tile(out, place, outputs, first, count, stride_k, channels)
            micro_kernel(
                count, beside, source, inputs, first, packed, weights, panel_size,
                local, sums, width, runs, run_steps, run_length, 1, False,
            )  # fmt: skip
            store_tile(
                local, sums, beside * width, out, place, outputs, first, count, stride_k, channels,
                bias, first_channel, activation,
            )  # fmt: skip
            first += count


@task_range
def tiles(
    x: Any, packed: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    copied = -1
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            place = task // cut.k_blocks
            tiled_tile(x, packed, bias, out, problem, cut, local, activation, task, place == copied)
            copied = place
        begin, end = next_tasks(queue, begin, end)


_arguments, _tiles = conv_arguments(blocking.TiledCut, weight_axes=1), inner(tiles)


@Entry
def run_tasks(call: Any, local: Any, queue: Any) -> None:
    """The same as a C function."""
    x, packed, bias, out, problem, taps, cut, scratch, activation, tasks = _arguments(
        call, local, queue
    )
    _tiles(x, packed, bias, out, problem, taps, cut, scratch, activation, tasks)


_compiled = drivers.CompiledConv(blocking.tiled_cut, run_tasks, run_packing)
fprop = drivers.fprop(blocking.tiled_cut, tiles, pack_weight, _compiled)
dgrad = adjoints.dgrad(fprop, skipping=loop.dgrad, split=adjoints.in_tiles)
