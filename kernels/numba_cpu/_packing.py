"""Around the micro-kernel: weights into panels, pixels into scratch, sums into the result.

weight  (K, C/G, T, R, S)                    any strides    IN
packed  [g][panel][t][r][s][c][width]        overwritten    OUT
A panel is ``width`` out-channels, 64 bytes, the last one filled up with zeros.
Accumulates nothing. Scratch: none. Tasks of ``pack_weight``: the panels.
Assumes a validated ConvGeometry; raises nothing.
"""

from __future__ import annotations

from typing import Any

from ._compile import task_range, tile, whole_tile
from ._queue import next_tasks
from ._vector import (
    copy_every_second,
    copy_vector,
    element_stride,
    finish_tile,
    lanes,
    load,
    prefetch_to_write,
    store,
    transpose_block,
    transpose_four,
)

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
    zero = packed.dtype.type(0)
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
            for c in range(c_first, c_last):
                target = at + (tap * problem.c + c) * width
                for k in range(channels):
                    store(packed, target + k, load(weight, source + c * stride_c + k * stride_k))
                for k in range(channels, width):
                    store(packed, target + k, zero)


@task_range
def pack_weight(weight: Any, packed: Any, problem: Any, width: int, queue: Any) -> None:
    """Write the panels of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for index in range(begin, end):
            pack_panel(weight, packed, problem, width, index)
        begin, end = next_tasks(queue, begin, end)


@tile
def copy_matrix(
    source, source_at, row_stride, column_stride, target, target_at, pitch, rows, columns,
):  # fmt: skip
    """Copy rows x columns elements to rows that are contiguous and ``pitch`` apart."""
    square = lanes(source)
    if row_stride == 1 and rows >= square and columns >= square:
        # The last blocks overlap the ones before and write the same values again.
        for first_row in range(0, rows, square):
            row = min(first_row, rows - square)
            for first in range(0, columns, square):
                column = min(first, columns - square)
                block_source = source_at + row + column * column_stride
                block_target = target_at + row * pitch + column
                transpose_block(
                    source, block_source, column_stride, target, block_target, pitch, square
                )
    elif column_stride == 1 and row_stride == columns == pitch:
        copy_row(source, source_at, 1, target, target_at, rows * columns)
    elif column_stride == 1 or column_stride == 2:
        for row in range(rows):
            copy_row(
                source, source_at + row * row_stride, column_stride,
                target, target_at + row * pitch, columns,
            )  # fmt: skip
    else:
        for column in range(columns):
            for row in range(rows):
                value = load(source, source_at + row * row_stride + column * column_stride)
                store(target, target_at + row * pitch + column, value)


@tile
def copy_row(source, source_at, step, target, target_at, count):
    """Copy ``count`` elements, 1 or 2 apart, to neighbours."""
    vector = lanes(source)
    if count >= vector:
        for first in range(0, count, vector):
            # The last vector overlaps the one before and writes the same values again.
            i = min(first, count - vector)
            if step == 1:
                copy_vector(source, source_at + i, target, target_at + i)
            else:
                copy_every_second(source, source_at + 2 * i, target, target_at + i)
    else:
        for i in range(count):
            store(target, target_at + i, load(source, source_at + i * step))


@tile
def clear_rows(local, at, pitch, rows, count):
    """Fill ``count`` elements of each row with zeros."""
    if count > 0:
        for row in range(rows):
            fill_zero(local, at + row * pitch, at + row * pitch + count)


@tile
def fill_zero(local, begin, end):
    """Fill padding."""
    for i in range(begin, end):
        store(local, i, local.dtype.type(0))


@tile
def activate(value, code):
    """Apply the activation of a code: 0 none, 1 relu, 2 relu6; NaN stays NaN."""
    zero, six = type(value)(0), type(value)(6)
    if code != 0 and value < zero:
        value = zero
    if code == 2 and value > six:
        value = six
    return value


@tile
def prefetch_tile(out, pixels, count, stride_k, channels):
    """Fetch the lines that ``store_tile`` will write, while the tile is summed."""
    line = 2 * lanes(out)
    if stride_k == 1:
        for m in range(count):
            for k in range(0, channels, line):
                prefetch_to_write(out, pixels[m] + k)
    else:
        for k in range(channels):
            prefetch_to_write(out, pixels[count - 1] + k * stride_k)


@tile
def store_tile(
    sums, at, pitch, out, pixels, count, stride_k, channels, bias, first_channel, activation,
):  # fmt: skip
    """Finish a register tile of ``count`` pixels and write its first ``channels`` channels.

    ``pixels`` are the offsets in ``out`` of the tile's pixels and the first channel.
    """
    if bias.size > 0 or activation != 0:
        finish_tile(sums, at, pitch, count, channels, bias, first_channel, activation)
    if stride_k == 1 and channels >= lanes(sums):
        for m in range(count):
            for first in range(0, channels, lanes(sums)):
                # The last vector overlaps the one before and writes the same values again.
                k = min(first, channels - lanes(sums))
                copy_vector(sums, at + m * pitch + k, out, pixels[m] + k)
    elif count >= 4 and pixel_step(pixels, count) == 1:
        for k in range(0, channels, lanes(sums)):
            for first in range(0, count, 4):
                # The last four overlap the ones before and write the same values again.
                m = min(first, count - 4)
                target = pixels[m] + k * stride_k
                source = at + m * pitch + k
                transpose_four(sums, source, pitch, out, target, stride_k, channels - k)
    else:
        for m in range(count):
            for k in range(channels):
                store(out, pixels[m] + k * stride_k, load(sums, at + m * pitch + k))


@tile
def pixel_step(pixels, count):
    """The distance from each of some pixels to the next, or 0 if it isn't always the same."""
    step = pixels[1] - pixels[0]
    for m in range(2, count):
        if pixels[m] - pixels[m - 1] != step:
            return 0
    return step


@tile
def set_pixels(
    pixels, count, origin, first, last, rows, columns, plane_stride, row_stride, column_stride,
):  # fmt: skip
    """Set the offsets from ``origin`` of the ``count`` pixels ``first``, ``first + 1``, ... of
    flat planes of rows x columns; those from ``last`` on repeat the one before: all are valid."""
    row, column = first // columns, first % columns
    plane, row = row // rows, row % rows
    offset = origin + plane * plane_stride + row * row_stride + column * column_stride
    for m in range(count):
        pixels[m] = offset
        if first + m + 1 < last:
            column += 1
            offset += column_stride
            if column == columns:
                column = 0
                row += 1
                offset += row_stride - columns * column_stride
                if row == rows:
                    row = 0
                    offset += plane_stride - rows * row_stride
