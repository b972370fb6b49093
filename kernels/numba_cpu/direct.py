"""Direct convolution: the input and the weights are read where they are.

x       (N, C, D, H, W)      any strides    IN
weight  (K, C/G, T, R, S)    any strides    IN
bias    (K,) or (0,)         contiguous     IN
out     (N, K, O, P, Q)      any strides    OUT
Accumulates in the dtype, in the order t, r, s, c, one fused multiply-add per product; rows in the
padding are skipped, columns in it too or add a zero. Scratch: ``[4][columns]`` sums.
Tasks: (n, g, 4 out-channels, o, p), one output row of each.
Assumes a validated ConvGeometry; raises nothing.
Why: nothing is copied, which is best where each input is used by few outputs: depthwise and tiny
problems. Source: the loop order of Zhang et al. 2018 (1809.10170).
"""

from __future__ import annotations

from typing import Any

from .. import adjoints, blocking, drivers
from . import loop
from ._compile import inner, task_range, tile, whole_tile
from ._entry import Entry, conv_arguments
from ._packing import activate
from ._queue import next_tasks
from ._rows import row_sums_1x1, row_sums_1x4, row_sums_4x1, row_sums_4x3
from ._strips import ROWS, has_strips, sum_strip
from ._vector import element_stride, lanes, load, multiply_add, store, widest_lanes


@tile
def add_row(x, source, step, weight, sums, at, count):
    """``sums[at + i] += weight * x[source + i * step]``."""
    if step == 1:
        for i in range(count):
            store(sums, at + i, multiply_add(weight, load(x, source + i), load(sums, at + i)))
    else:
        for i in range(count):
            value = load(x, source + i * step)
            store(sums, at + i, multiply_add(weight, value, load(sums, at + i)))


@tile
def tap_range(taps, first, count, output):
    """The taps ``begin .. end-1`` of an axis that read inside the input for one output."""
    begin = 0
    while begin < count and not taps[first + begin, 0] <= output < taps[first + begin, 1]:
        begin += 1
    end = begin
    while end < count and taps[first + end, 0] <= output < taps[first + end, 1]:
        end += 1
    return begin, end


@tile
def sum_in_registers(
    x, x_at, x_steps, w_first, weight, weight_at, weight_steps, begin, end, problem, local,
    channels, pitch, count,
):  # fmt: skip
    """Sum ``count`` columns, at least a vector of them, of some out-channels: of four side by side
    even where there are but two, which takes half as long as one after the other."""
    vector = lanes(x)
    step = problem.stride_w
    wide = (4 if channels == 1 else 3) * vector
    i = 0
    while i < count:
        # The last vector overlaps the one before and sums the same values again.
        i = min(i, count - vector)
        columns = (w_first + i * step, problem.dilation_w, step, problem.w)
        whole = i + wide <= count
        if channels > 1 and whole:
            row_sums_4x3(
                x, x_at, x_steps, columns, weight, weight_at, weight_steps, begin, end,
                local, i, pitch, channels,
            )  # fmt: skip
        elif channels > 1:
            row_sums_4x1(
                x, x_at, x_steps, columns, weight, weight_at, weight_steps, begin, end,
                local, i, pitch, channels,
            )  # fmt: skip
        elif whole:
            row_sums_1x4(
                x, x_at, x_steps, columns, weight, weight_at, weight_steps, begin, end,
                local, i, pitch, channels,
            )  # fmt: skip
        else:
            row_sums_1x1(
                x, x_at, x_steps, columns, weight, weight_at, weight_steps, begin, end,
                local, i, pitch, channels,
            )  # fmt: skip
        i += wide if whole else vector


@tile
def sum_in_memory(
    x, x_at, x_steps, weight, weight_at, weight_steps, begin, end, problem, taps, local,
    channels, pitch, q_first, q_last,
):  # fmt: skip
    """Sum the columns ``q_first .. q_last-1`` of some out-channels, whatever the strides."""
    stride_w = element_stride(x, 4)
    for i in range(channels * pitch):
        store(local, i, local.dtype.type(0))
    for t in range(begin[0], end[0]):
        for r in range(begin[1], end[1]):
            for s in range(problem.s):
                low = max(taps[problem.t + problem.r + s, 0], q_first)
                high = min(taps[problem.t + problem.r + s, 1], q_last)
                w = low * problem.stride_w - problem.pad_w + s * problem.dilation_w
                tap = t * weight_steps[2] + r * weight_steps[3] + s * weight_steps[4]
                for c in range(problem.c):
                    row = x_at + c * x_steps[0] + t * x_steps[1] + r * x_steps[2] + w * stride_w
                    for j in range(channels):
                        factor = weight_at + j * weight_steps[0] + c * weight_steps[1] + tap
                        add_row(
                            x, row, problem.stride_w * stride_w, load(weight, factor),
                            local, j * pitch + low - q_first, high - low,
                        )  # fmt: skip


@whole_tile
def direct_tile(
    x, weight, bias, out, problem, taps, cut, local, activation, task,
):  # fmt: skip
    """Compute one task."""
    rest, p = task // problem.p, task % problem.p
    rest, o = rest // problem.o, rest % problem.o
    rest, k_block = rest // cut.k_blocks, rest % cut.k_blocks
    n, g = rest // problem.g, rest % problem.g
    channels = min(problem.k - k_block * cut.channels, cut.channels)
    k_first = g * problem.k + k_block * cut.channels
    stride_c, stride_d = element_stride(x, 1), element_stride(x, 2)
    stride_h, stride_w = element_stride(x, 3), element_stride(x, 4)
    x_at = (
        n * element_stride(x, 0)
        + g * problem.c * stride_c
        + (o * problem.stride_d - problem.pad_d) * stride_d
        + (p * problem.stride_h - problem.pad_h) * stride_h
    )
    x_steps = (stride_c, problem.dilation_d * stride_d, problem.dilation_h * stride_h)
    weight_at = k_first * element_stride(weight, 0)
    weight_steps = (
        element_stride(weight, 0), element_stride(weight, 1), element_stride(weight, 2),
        element_stride(weight, 3), element_stride(weight, 4),
    )  # fmt: skip
    t_begin, t_end = tap_range(taps, 0, problem.t, o)
    r_begin, r_end = tap_range(taps, problem.t, problem.r, p)
    begin, end = (t_begin, r_begin, 0, 0), (t_end, r_end, problem.s, problem.c)
    in_registers = stride_w == 1 and problem.stride_w <= 2
    for q_first in range(0, problem.q, cut.columns):
        q_last = min(q_first + cut.columns, problem.q)
        if in_registers and q_last - q_first >= lanes(x):
            w_first = q_first * problem.stride_w - problem.pad_w
            sum_in_registers(
                x, x_at, x_steps, w_first, weight, weight_at, weight_steps, begin, end,
                problem, local, channels, cut.columns, q_last - q_first,
            )  # fmt: skip
        else:
            sum_in_memory(
                x, x_at, x_steps, weight, weight_at, weight_steps, begin, end,
                problem, taps, local, channels, cut.columns, q_first, q_last,
            )  # fmt: skip
        for j in range(channels):
            store_row(
                local, j * cut.columns, out, n, k_first + j, o, p, q_first, q_last,
                bias, activation,
            )  # fmt: skip


@tile
def store_row(
    sums, at, out, n, k, o, p, q_first, q_last, bias, activation,
):  # fmt: skip
    """Finish one channel's sums and write them."""
    stride_q = element_stride(out, 4)
    target = (
        n * element_stride(out, 0)
        + k * element_stride(out, 1)
        + o * element_stride(out, 2)
        + p * element_stride(out, 3)
        + q_first * stride_q
    )
    biased = bias.size > 0
    shift = load(bias, k) if biased else sums.dtype.type(0)
    if stride_q == 1:
        for i in range(q_last - q_first):
            value = load(sums, at + i)
            store(out, target + i, activate(value + shift if biased else value, activation))
    else:
        for i in range(q_last - q_first):
            value = load(sums, at + i)
            value = activate(value + shift if biased else value, activation)
            store(out, target + i * stride_q, value)


@tile
def fits_strips(x, out, problem):
    """Whether the strip kernel can compute the problem."""
    known = (problem.r == problem.s) & (problem.stride_h == problem.stride_w)
    known &= ((problem.r == 3) | (problem.r == 5)) & (problem.stride_h <= 2)
    known &= (problem.stride_w == 1) | (problem.dilation_w == 1)
    known &= (problem.c == 1) & (problem.t == 1) & (problem.dilation_h == 1)
    return known & (element_stride(x, 4) == 1) & (element_stride(out, 4) == 1)


@whole_tile
def direct_strips(
    x, weight, bias, out, problem, cut, activation, task, rows,
):  # fmt: skip
    """Compute ``rows`` tasks, one output row each of the same plane, a vector of columns at a
    time."""
    rest, p = task // problem.p, task % problem.p
    rest, o = rest // problem.o, rest % problem.o
    rest, k_block = rest // cut.k_blocks, rest % cut.k_blocks
    n, g = rest // problem.g, rest % problem.g
    vector = widest_lanes(x)
    d = o * problem.stride_d - problem.pad_d
    h = p * problem.stride_h - problem.pad_h
    plane = n * element_stride(x, 0) + g * element_stride(x, 1) + d * element_stride(x, 2)
    # A plane in the padding has no rows to read.
    height = problem.h if 0 <= d < problem.d else 0
    place = n * element_stride(out, 0) + o * element_stride(out, 2) + p * element_stride(out, 3)
    for k in range(k_block * cut.channels, min((k_block + 1) * cut.channels, problem.k)):
        channel = g * problem.k + k
        for first in range(0, problem.q, vector):
            # The last vector overlaps the one before and sums the same values again.
            q = max(min(first, problem.q - vector), 0)
            w = q * problem.stride_w - problem.pad_w
            sum_strip(
                problem.r, problem.stride_h, problem.dilation_w,
                x, plane + h * element_stride(x, 3) + w, element_stride(x, 3), h, height,
                w, problem.w,
                weight, channel * element_stride(weight, 0),
                element_stride(weight, 3), element_stride(weight, 4),
                out, place + channel * element_stride(out, 1) + q, element_stride(out, 3),
                rows, problem.q - q, bias, channel, activation,
            )  # fmt: skip


@task_range
def tiles(
    x: Any, weight: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    strips = has_strips(x) and fits_strips(x, out, problem)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        task = begin
        while task < end:
            rows = 1
            if strips:
                rows = min(problem.p - task % problem.p, end - task, ROWS)
                direct_strips(x, weight, bias, out, problem, cut, activation, task, rows)
            else:
                direct_tile(x, weight, bias, out, problem, taps, cut, local, activation, task)
            task += rows
        begin, end = next_tasks(queue, begin, end)


_arguments, _tiles = conv_arguments(blocking.DirectCut, weight_axes=5), inner(tiles)


@Entry
def run_tasks(call: Any, local: Any, queue: Any) -> None:
    """The same as a C function."""
    x, weight, bias, out, problem, taps, cut, scratch, activation, tasks = _arguments(
        call, local, queue
    )
    _tiles(x, weight, bias, out, problem, taps, cut, scratch, activation, tasks)


_compiled = drivers.Compiled(blocking.direct_cut, run_tasks)
skipping_padding = drivers.fprop(blocking.direct_cut, tiles, compiled=_compiled)
fprop = drivers.multiplying_padding(skipping_padding)
# Masked lanes of a row add zero times the weight.
dgrad = adjoints.dgrad(skipping_padding, skipping=loop.dgrad, split=adjoints.in_rows)
