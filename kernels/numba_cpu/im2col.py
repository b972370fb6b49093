"""im2col + GEMM: vectors of pixels meet broadcast weights, and nothing is transposed.

x       (N, C, D, H, W)                  any strides            IN
packed  [g][panel][t][r][s][c][width]    see _packing           IN
bias    (K,) or (0,)                     contiguous             IN
out     (N, K, O, P, Q)                  any strides            OUT
Accumulates in the dtype, in the order t, r, s, c. Scratch: ``[depth][pixels]`` columns of a strip,
then the sums of the task's panels, ``[channel][whole vectors of pixels]`` and, of those pixels that
fill no vector, ``[pair of panels][pixel][width]``. Tasks: (n, g, pixels of the flat o x p x q
plane, panels), taken in strips of three 64-byte vectors of pixels.
Assumes a validated ConvGeometry; raises nothing.
Why: a channels-first plane is a matrix of columns as it lies, and so is its output, so 1x1 kernels
need no columns at all; those of larger ones are copies of stretches of rows.
Source: Goto & van de Geijn 2008.
"""

from __future__ import annotations

from typing import Any

from .. import adjoints, blocking, drivers
from ..blocking import MOST_PIXELS
from . import loop
from ._compile import inner, task_range, tile, whole_tile
from ._copying import clear_rows, copy_matrix
from ._entry import Entry, conv_arguments
from ._gemm import FINISH, FINISH_WITH_BIAS, GO_ON, multiply_pixels
from ._microkernel import MOST_PANELS, micro_kernel
from ._packing import pack_weight, run_packing, set_pixels, store_tile
from ._queue import next_tasks
from ._vector import (
    address,
    element_stride,
    load,
    pixel_offsets,
    prefetch_to_read,
    store,
    widest_lanes,
)


@tile
def is_flat(array, o, p, q):
    """Whether the positions of a volume lie side by side in memory."""
    flat = (q == 1) | (element_stride(array, 4) == 1)
    flat &= (p == 1) | (element_stride(array, 3) == q)
    return flat & ((o == 1) | (element_stride(array, 2) == p * q))


@tile
def is_columns(x, problem):
    """Whether the input is its own columns: a 1x1x1 kernel that reads every position in order."""
    same = (problem.o == problem.d) & (problem.p == problem.h) & (problem.q == problem.w)
    padding = problem.pad_d | problem.pad_h | problem.pad_w
    pointwise = problem.t * problem.r * problem.s == 1
    return same & pointwise & (padding == 0) & is_flat(x, problem.d, problem.h, problem.w)


@tile
def pack_columns(
    x, origin, problem, taps, first, pixels, begin, end, local,
):  # fmt: skip
    """Write the reduction steps ``begin .. end-1`` of a strip of pixels: ``[step][pixels]``. Of
    each output row the stretch that reads inside the input is copied, the others are zeros.

    ``origin`` is the offset in ``x`` of the image's and group's first element.
    """
    at = 0
    while begin < end:
        tap, c = begin // problem.c, begin % problem.c
        channels = min(problem.c - c, end - begin)
        s, r = tap % problem.s, tap // problem.s % problem.r
        t = tap // (problem.s * problem.r)
        d_tap = t * problem.dilation_d - problem.pad_d
        h_tap = r * problem.dilation_h - problem.pad_h
        w_tap = s * problem.dilation_w - problem.pad_w
        r, s = problem.t + r, problem.t + problem.r + s
        q, p = first % problem.q, first // problem.q % problem.p
        o = first // (problem.q * problem.p)
        done = 0
        while done < pixels:
            length = min(problem.q - q, pixels - done)
            low, high = 0, 0
            if taps[t, 0] <= o < taps[t, 1] and taps[r, 0] <= p < taps[r, 1]:
                low = min(max(taps[s, 0] - q, 0), length)
                high = max(min(taps[s, 1] - q, length), low)
            clear_rows(local, at + done, pixels, channels, low)
            clear_rows(local, at + done + high, pixels, channels, length - high)
            source = (
                origin
                + c * element_stride(x, 1)
                + (o * problem.stride_d + d_tap) * element_stride(x, 2)
                + (p * problem.stride_h + h_tap) * element_stride(x, 3)
                + ((q + low) * problem.stride_w + w_tap) * element_stride(x, 4)
            )
            copy_matrix(
                x, source, element_stride(x, 1), problem.stride_w * element_stride(x, 4),
                local, at + done + low, pixels, channels, high - low,
            )  # fmt: skip
            done += length
            q = 0
            p += 1
            if p == problem.p:
                p = 0
                o += 1
        at += channels * pixels
        begin += channels


@tile
def unpack_sums(
    local, at, pitch, channels, problem, first, pixels, out, origin,
):  # fmt: skip
    """Copy ``[channel][pixel]`` to pixels that aren't side by side in ``out``."""
    q, p = first % problem.q, first // problem.q % problem.p
    o = first // (problem.q * problem.p)
    stride_k, stride_o = element_stride(out, 1), element_stride(out, 2)
    stride_p, stride_q = element_stride(out, 3), element_stride(out, 4)
    for m in range(pixels):
        place = origin + o * stride_o + p * stride_p + q * stride_q
        for k in range(channels):
            store(out, place + k * stride_k, load(local, at + k * pitch + m))
        q += 1
        if q == problem.q:
            q = 0
            p += 1
        if p == problem.p:
            p = 0
            o += 1


@whole_tile
def multiply_rest(
    columns, step, depth, packed, weights, gap, panels, local, at, width, problem, first, pixels,
    out, origin, channels, bias, first_channel, resume, finish, activation,
):  # fmt: skip
    """Sum the pixels from ``first`` on, too few for a vector, and one or two panels."""
    inputs, outputs = pixel_offsets(MOST_PIXELS), pixel_offsets(MOST_PIXELS)
    done = 0
    for parts_left in range((pixels + MOST_PIXELS - 1) // MOST_PIXELS, 0, -1):
        count = (pixels - done + parts_left - 1) // parts_left
        sums = at + done * panels * width
        for m in range(count):
            inputs[m] = done + m
        micro_kernel(
            count, panels, columns, inputs, 0, packed, weights, gap, local, sums, width,
            (1, 1, 1), (0, 0, 0), depth, step, resume,
        )  # fmt: skip
        if finish != GO_ON:
            set_pixels(
                outputs, count, 0, first + done, problem.p, problem.q,
                element_stride(out, 2), element_stride(out, 3), element_stride(out, 4),
            )  # fmt: skip
            store_tile(
                local, sums, panels * width, out, origin, outputs, 0, count, element_stride(out, 1),
                channels, bias, first_channel, activation,
            )  # fmt: skip
        done += count


@whole_tile
def multiply_strip(
    x, origin, packed, bias, out, problem, taps, cut, local, activation,
    n, g, first, pixels, panel_first, panel_last, ahead,
):  # fmt: skip
    """Compute the outputs of a strip of pixels and the channels of some panels; ``ahead`` pixels
    follow."""
    width, lanes = cut.width, widest_lanes(x)
    length = problem.c * problem.t * problem.r * problem.s
    panels = (problem.k + width - 1) // width
    main = pixels // lanes * lanes
    sums_first = cut.depth * cut.strip
    rest_first = sums_first + (panel_last - panel_first) * width * main
    stride_k = element_stride(out, 1)
    in_place, flat = is_columns(x, problem), is_flat(out, problem.o, problem.p, problem.q)
    for begin in range(0, length, cut.depth):
        depth = min(length - begin, cut.depth)
        finish = GO_ON
        if begin + depth == length:
            finish = FINISH_WITH_BIAS if bias.size > 0 else FINISH
        if in_place:
            step = element_stride(x, 1)
            columns = address(x, origin + first + begin * step)
        else:
            step = pixels
            columns = address(local, 0)
            pack_columns(x, origin, problem, taps, first, pixels, begin, begin + depth, local)
        for panel in range(panel_first, panel_last):
            done = panel - panel_first
            weights = ((g * panels + panel) * length + begin) * width
            first_channel = g * problem.k + panel * width
            channels = min(problem.k - panel * width, width)
            place = n * element_stride(out, 0) + first_channel * stride_k
            at = sums_first + done * width * main
            direct = flat and finish != GO_ON
            multiply_pixels(
                address(out, place + first) if direct else address(local, at),
                stride_k if direct else main, address(local, at), main, columns, step, depth,
                address(packed, weights), address(bias, first_channel), begin > 0, finish,
                activation, channels, main // lanes,
            )  # fmt: skip
            if finish != GO_ON and not flat:
                unpack_sums(local, at, main, channels, problem, first, main, out, place)
            if in_place and ahead > 0:
                # The next strip comes from memory meanwhile, a part of it per panel.
                share = (depth + panel_last - panel_first - 1) // (panel_last - panel_first)
                for i in range(done * share, min((done + 1) * share, depth)):
                    for m in range(0, ahead, width):
                        prefetch_to_read(columns, i * step + pixels + m)
                    prefetch_to_read(columns, i * step + pixels + ahead - 1)
            beside = min(panel_last - panel, MOST_PANELS)
            if main < pixels and done % MOST_PANELS == 0:
                multiply_rest(
                    address(columns, main), step, depth, packed, weights, length * width, beside,
                    local, rest_first + done * width * (pixels - main), width, problem,
                    first + main, pixels - main, out, place,
                    min(problem.k - panel * width, beside * width), bias, first_channel,
                    begin > 0, finish, activation,
                )  # fmt: skip


@whole_tile
def im2col_tile(
    x, packed, bias, out, problem, taps, cut, local, activation, task,
):  # fmt: skip
    """Compute one task."""
    rest, k_block = task // cut.k_blocks, task % cut.k_blocks
    rest, block = rest // cut.pixel_blocks, rest % cut.pixel_blocks
    n, g = rest // problem.g, rest % problem.g
    width = cut.width
    panels = (problem.k + width - 1) // width
    panel_first, panel_last = k_block * cut.panels, min((k_block + 1) * cut.panels, panels)
    origin = n * element_stride(x, 0) + g * problem.c * element_stride(x, 1)
    first, last = block * cut.pixels, (block + 1) * cut.pixels
    if block + 1 == cut.pixel_blocks:
        last = problem.o * problem.p * problem.q
    while first < last:
        pixels = last - first
        if pixels >= 4 * width:
            pixels = 3 * width
        multiply_strip(
            x, origin, packed, bias, out, problem, taps, cut, local, activation,
            n, g, first, pixels, panel_first, panel_last, min(last - first - pixels, 3 * width),
        )  # fmt: skip
        first += pixels


@task_range
def tiles(
    x: Any, packed: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            im2col_tile(x, packed, bias, out, problem, taps, cut, local, activation, task)
        begin, end = next_tasks(queue, begin, end)


_arguments, _tiles = conv_arguments(blocking.GemmCut, weight_axes=1), inner(tiles)


@Entry
def run_tasks(call: Any, local: Any, queue: Any) -> None:
    """The same as a C function."""
    x, packed, bias, out, problem, taps, cut, scratch, activation, tasks = _arguments(
        call, local, queue
    )
    _tiles(x, packed, bias, out, problem, taps, cut, scratch, activation, tasks)


_compiled = drivers.CompiledConv(blocking.gemm_cut, run_tasks, run_packing)
fprop = drivers.fprop(blocking.gemm_cut, tiles, pack_weight, _compiled)
dgrad = adjoints.dgrad(fprop, skipping=loop.dgrad, split=adjoints.in_panels)
wgrad = adjoints.wgrad(fprop)
