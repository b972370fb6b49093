"""im2col convolution: columns packed a block at a time, then the micro-kernel as a GEMM.

x       (N, C, D, H, W)                  any strides            IN
packed  [g][panel][t][r][s][c][width]    see _packing           IN
bias    (K,) or (0,)                     contiguous             IN
out     (N, K, O, P, Q)                  any strides            OUT
Accumulates in the dtype, in the order t, r, s, c. Scratch: ``[tile][depth][6]`` columns, then the
sums ``[panel][tile][6][width]`` that wait for the next block of depth.
Tasks: (n, g, pixels of the flat o x p x q plane, panels).
Assumes a validated ConvGeometry; raises nothing.
Why: weights and columns of a block stay in cache however long the reduction, where a halo copy and
c x t x r x s x width weights would not. Source: Goto & van de Geijn 2008; the columns are never
whole in memory, as in Zhang et al. 2018 (1809.10170).
"""

from __future__ import annotations

from typing import Any

from .. import adjoints, blocking, drivers
from ..blocking import TILE_PIXELS
from . import loop
from ._compile import task_range, tile, whole_tile
from ._microkernel import register_tile
from ._packing import pack_weight, pixel_step, set_pixels, store_tile
from ._queue import next_tasks
from ._vector import copy_six, element_stride, lanes, load, pixel_offsets, store, transpose_six


@tile
def copy_channels(x, pixels, step, stride_c, count, local, at):
    """Copy ``count`` channels of six pixels inside the input to ``[channel][6]``."""
    vector = lanes(x)
    if step == 1:
        for c in range(count):
            copy_six(x, pixels[0] + c * stride_c, local, at + c * TILE_PIXELS)
    elif step != 0 and stride_c == 1 and count >= vector:
        # The last block overlaps the one before and writes the same values again.
        for block in range(0, count, vector):
            c = min(block, count - vector)
            target = at + c * TILE_PIXELS
            transpose_six(x, pixels[0] + c, step, local, target, TILE_PIXELS, vector)
    else:
        for c in range(count):
            for m in range(TILE_PIXELS):
                store(local, at + c * TILE_PIXELS + m, load(x, pixels[m] + c * stride_c))


@tile
def copy_channels_or_zero(
    x, pixels, inside, stride_c, count, local, at,
):  # fmt: skip
    """The same where some pixels are padding (``inside`` is 0 for those)."""
    for m in range(TILE_PIXELS):
        if inside[m]:
            for c in range(count):
                store(local, at + c * TILE_PIXELS + m, load(x, pixels[m] + c * stride_c))
        else:
            for c in range(count):
                store(local, at + c * TILE_PIXELS + m, local.dtype.type(0))


@tile
def pack_columns(
    x, problem, origin, first, last, depth_first, depth_last, local, at,
):  # fmt: skip
    """Write the reduction steps ``depth_first .. depth_last-1`` of six pixels: ``[depth][6]``.

    ``origin`` is the offset in ``x`` of the image's and group's first element.
    """
    p, q, c = problem.p, problem.q, problem.c
    stride_c, stride_d = element_stride(x, 1), element_stride(x, 2)
    stride_h, stride_w = element_stride(x, 3), element_stride(x, 4)
    d_first, h_first, w_first = (
        pixel_offsets(TILE_PIXELS),
        pixel_offsets(TILE_PIXELS),
        pixel_offsets(TILE_PIXELS),
    )
    starts, pixels, inside = (
        pixel_offsets(TILE_PIXELS),
        pixel_offsets(TILE_PIXELS),
        pixel_offsets(TILE_PIXELS),
    )
    set_pixels(d_first, TILE_PIXELS, -problem.pad_d, first, last, p, q, problem.stride_d, 0, 0)
    set_pixels(h_first, TILE_PIXELS, -problem.pad_h, first, last, p, q, 0, problem.stride_h, 0)
    set_pixels(w_first, TILE_PIXELS, -problem.pad_w, first, last, p, q, 0, 0, problem.stride_w)
    for m in range(TILE_PIXELS):
        starts[m] = origin + d_first[m] * stride_d + h_first[m] * stride_h + w_first[m] * stride_w
    step = pixel_step(starts, TILE_PIXELS)
    interior = True
    for m in range(TILE_PIXELS):
        d_last = d_first[m] + (problem.t - 1) * problem.dilation_d
        h_last = h_first[m] + (problem.r - 1) * problem.dilation_h
        w_last = w_first[m] + (problem.s - 1) * problem.dilation_w
        interior &= (d_first[m] >= 0) & (h_first[m] >= 0) & (w_first[m] >= 0)
        interior &= (d_last < problem.d) & (h_last < problem.h) & (w_last < problem.w)

    depth, tap = depth_first, depth_first // c
    t, r, s = tap // (problem.r * problem.s), tap // problem.s % problem.r, tap % problem.s
    while depth < depth_last:
        c_first = depth - tap * c
        count = min(c - c_first, depth_last - depth)
        d_tap, h_tap = t * problem.dilation_d, r * problem.dilation_h
        w_tap = s * problem.dilation_w
        offset = d_tap * stride_d + h_tap * stride_h + w_tap * stride_w + c_first * stride_c
        for m in range(TILE_PIXELS):
            pixels[m] = starts[m] + offset
        all_inside = interior
        if not interior:
            all_inside = True
            for m in range(TILE_PIXELS):
                d, h, w = d_first[m] + d_tap, h_first[m] + h_tap, w_first[m] + w_tap
                inside[m] = (
                    (d >= 0) & (d < problem.d) & (h >= 0) & (h < problem.h)
                    & (w >= 0) & (w < problem.w)
                )  # fmt: skip
                all_inside &= inside[m] != 0
        if all_inside:
            copy_channels(x, pixels, step, stride_c, count, local, at)
        else:
            copy_channels_or_zero(x, pixels, inside, stride_c, count, local, at)
        at += count * TILE_PIXELS
        depth += count
        tap, s = tap + 1, s + 1
        if s == problem.s:
            s, r = 0, r + 1
        if r == problem.r:
            r, t = 0, t + 1


@whole_tile
def im2col_tile(
    x, packed, bias, out, problem, cut, local, activation, task,
):  # fmt: skip
    """Compute one task."""
    rest, k_block = task // cut.k_blocks, task % cut.k_blocks
    rest, block = rest // cut.pixel_blocks, rest % cut.pixel_blocks
    n, g = rest // problem.g, rest % problem.g
    p, q, width = problem.p, problem.q, cut.width
    first, last = block * cut.pixels, min((block + 1) * cut.pixels, problem.o * p * q)
    length = problem.c * problem.t * problem.r * problem.s
    panels = (problem.k + width - 1) // width
    panel_first, panel_last = k_block * cut.panels, min((k_block + 1) * cut.panels, panels)
    image = n * element_stride(x, 0) + g * problem.c * element_stride(x, 1)
    stride_k, stride_o = element_stride(out, 1), element_stride(out, 2)
    stride_p, stride_q = element_stride(out, 3), element_stride(out, 4)
    tile_size = TILE_PIXELS * width
    panel_sums = cut.pixels // TILE_PIXELS * tile_size
    inputs, outputs = pixel_offsets(TILE_PIXELS), pixel_offsets(TILE_PIXELS)
    for depth_first in range(0, length, cut.depth):
        depth_last = min(depth_first + cut.depth, length)
        for pixel in range(first, last, TILE_PIXELS):
            at = (pixel - first) * cut.depth
            pack_columns(x, problem, image, pixel, last, depth_first, depth_last, local, at)
        for panel in range(panel_first, panel_last):
            weights = ((g * panels + panel) * length + depth_first) * width
            first_channel = g * problem.k + panel * width
            origin = n * element_stride(out, 0) + first_channel * stride_k
            sums = cut.pixels * cut.depth + (panel - panel_first) * panel_sums
            for pixel in range(first, last, TILE_PIXELS):
                for m in range(TILE_PIXELS):
                    inputs[m] = (pixel - first) * cut.depth + m
                register_tile(
                    TILE_PIXELS, 1, local, inputs, 0, packed, weights, 0, local, sums, width,
                    (1, 1, 1), (0, 0, 0), depth_last - depth_first, TILE_PIXELS, depth_first > 0,
                )  # fmt: skip
                if depth_last == length:
                    set_pixels(
                        outputs,
                        TILE_PIXELS,
                        origin,
                        pixel,
                        last,
                        p,
                        q,
                        stride_o,
                        stride_p,
                        stride_q,
                    )
                    store_tile(
                        local, sums, width, out, outputs, min(last - pixel, TILE_PIXELS), stride_k,
                        min(problem.k - panel * width, width), bias, first_channel, activation,
                    )  # fmt: skip
                sums += tile_size


@task_range
def tiles(
    x: Any, packed: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            im2col_tile(x, packed, bias, out, problem, cut, local, activation, task)
        begin, end = next_tasks(queue, begin, end)


fprop = drivers.fprop(blocking.im2col_cut, tiles, pack_weight)
dgrad = adjoints.dgrad(fprop, skipping=loop.dgrad, split=adjoints.in_tiles)
wgrad = adjoints.wgrad(fprop)
