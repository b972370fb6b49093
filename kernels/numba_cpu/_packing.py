"""Around the micro-kernel: weights into panels, pixels into scratch, sums into the result.

weight  (K, C/G, T, R, S)                    any strides    IN
packed  [g][panel][t][r][s][c][width]        overwritten    OUT
A panel is ``width`` out-channels, 64 bytes, the last one filled up with zeros.
Accumulates nothing. Scratch: none. Tasks of ``pack_weight``: the panels.
Assumes a validated ConvGeometry; raises nothing.
"""

from __future__ import annotations

from typing import Any

from ._activation import apply_function, finish_tile
from ._compile import inner, task_range, tile, whole_tile
from ._copying import clear_rows, copy_matrix
from ._entry import Entry, packing_arguments
from ._pack_taps import pack_taps
from ._queue import next_tasks
from ._vector import element_stride, lanes, prefetch_to_write, store

#: In-channels of a panel that are packed together: 16 x 3 x 3 x 16 float32 (9 KiB) stay in L1.
PACKED_CHANNELS = 16


@whole_tile
def pack_panel(weight, packed, problem, width, index):
    """Write panel ``index`` of all g x panels."""
    panels = (problem.k + width - 1) // width
    g, panel = index // panels, index % panels
    channels = min(problem.k - panel * width, width)
    stride_k, stride_c = element_stride(weight, 0), element_stride(weight, 1)
    first = (g * problem.k + panel * width) * stride_k
    at = index * problem.t * problem.r * problem.s * problem.c * width
    taps = problem.t * problem.r * problem.s
    side_by_side = (problem.s == 1) | (element_stride(weight, 4) == 1)
    side_by_side &= (problem.r == 1) | (element_stride(weight, 3) == problem.s)
    side_by_side &= (problem.t == 1) | (element_stride(weight, 2) == problem.r * problem.s)
    side_by_side &= (problem.c == 1) | (stride_c == taps)
    if taps > 1 and side_by_side:
        pack_taps(
            weight, first, stride_k, packed, at, width, channels, problem.c, taps,
        )  # fmt: skip
        return
    # A few channels at a time: all taps of their weights stay in L1 between one tap and the next.
    for c_first in range(0, problem.c, PACKED_CHANNELS):
        c_last = min(c_first + PACKED_CHANNELS, problem.c)
        for tap in range(problem.t * problem.r * problem.s):
            t, r, s = tap // (problem.r * problem.s), tap // problem.s % problem.r, tap % problem.s
            source = first + (
                t * element_stride(weight, 2)
                + r * element_stride(weight, 3)
                + s * element_stride(weight, 4)
            )
            target = at + (tap * problem.c + c_first) * width
            copy_matrix(
                weight, source + c_first * stride_c, stride_c, stride_k,
                packed, target, width, c_last - c_first, channels,
            )  # fmt: skip
            clear_rows(packed, target + channels, width, c_last - c_first, width - channels)


@task_range
def pack_weight(weight: Any, packed: Any, problem: Any, width: int, queue: Any) -> None:
    """Write the panels of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for index in range(begin, end):
            pack_panel(weight, packed, problem, width, index)
        begin, end = next_tasks(queue, begin, end)


@tile
def fill_zero(local, begin, end):
    """Fill padding."""
    for i in range(begin, end):
        store(local, i, local.dtype.type(0))


_pack_weight = inner(pack_weight)


@Entry
def run_packing(call: Any, packed: Any, width: Any, queue: Any) -> None:
    """The same as a C function."""
    weight, panels, problem, channels, tasks = packing_arguments(call, packed, width, queue)
    _pack_weight(weight, panels, problem, channels, tasks)


@tile
def activate(value, code):
    """Apply the activation of a code, where NaN stays NaN, or the function at an address."""
    zero, six = type(value)(0), type(value)(6)
    if code > 2:
        value = apply_function(value, code)
    elif code != 0 and value < zero:
        value = zero
    if code == 2 and value > six:
        value = six
    return value


@tile
def prefetch_tile(out, place, pixels, first, count, stride_k, channels):
    """Fetch the lines that ``store_tile`` will write, while the tile is summed."""
    line = 2 * lanes(out)
    if stride_k == 1:
        for m in range(first, first + count):
            for k in range(0, channels, line):
                prefetch_to_write(out, place + pixels[m] + k)
    else:
        for k in range(channels):
            prefetch_to_write(out, place + pixels[first + count - 1] + k * stride_k)


@tile
def store_tile(
    sums, at, pitch, out, place, pixels, first, count, stride_k, channels,
    bias, first_channel, activation,
):  # fmt: skip
    """Finish a register tile of ``count`` pixels and write its first ``channels`` channels.

    ``place + pixels[first]`` is the offset in ``out`` of the tile's first pixel and channel.
    """
    if bias.size > 0 or activation != 0:
        finish_tile(sums, at, pitch, count, channels, bias, first_channel, activation)
    m, last = first, first + count
    while m < last:
        # Neighbours in memory together, up to the end of an output row.
        end = m + 1
        while end < last and stride_k != 1 and pixels[end] == pixels[m] + end - m:
            end += 1
        source, target = at + (m - first) * pitch, place + pixels[m]
        if stride_k == 1:
            copy_matrix(sums, source, channels, 1, out, target, channels, 1, channels)
        else:
            copy_matrix(sums, source, 1, pitch, out, target, stride_k, channels, end - m)
        m = end


@tile
def set_pixels(
    pixels, count, origin, first, rows, columns, plane_stride, row_stride, column_stride,
):  # fmt: skip
    """Set the offsets from ``origin`` of the ``count`` pixels ``first``, ``first + 1``, ... of
    flat planes of rows x columns."""
    row, column = first // columns, first % columns
    plane, row = row // rows, row % rows
    offset = origin + plane * plane_stride + row * row_stride + column * column_stride
    for m in range(count):
        pixels[m] = offset
        column += 1
        offset += column_stride
        if column == columns:
            column = 0
            row += 1
            offset += row_stride - columns * column_stride
            if row == rows:
                row = 0
                offset += plane_stride - rows * row_stride
