"""Weight gradients directly: input and gradients are read where they are.

x            (N, C, D, H, W)                   any strides    IN
grad_output  (N, K, O, P, Q)                   any strides    IN
sums         [slice][g][k][c][t][r][s]         overwritten    OUT of tiles
out          (K, C/G, T, R, S)                 any strides    OUT of finish
Accumulates in the dtype: a vector of sums for every weight, of a unit's pixels, then of the units
of a slice; then its lanes are added up, then slices. Taps in the padding are skipped or add a
gradient times zero. Scratch: the vectors of a channel, ``[t][r][s][lanes]``.
Tasks of ``tiles``: (g, k, slice of the units); of ``finish``: the filters (g, k).
Assumes a validated ConvGeometry with n > 0; raises nothing.
Why: where a group has one or few channels, the register tile of the tiled row is mostly empty;
here the columns of a row fill the vectors, whatever the number of channels.
"""

from __future__ import annotations

from typing import Any

from .. import blocking_gradients, drivers, shapes
from ._compile import task_range, tile, whole_tile
from ._dots import TAPS, WHOLE_VECTORS, edge_dots, whole_dots
from ._packing import fill_zero
from ._queue import next_tasks
from ._vector import element_stride, lanes, load, store

tap_low, tap_high = tile(shapes.tap_low), tile(shapes.tap_high)


@tile
def add_rows(x, x_at, grad, grad_at, rows, problem, local, at):
    """Add some rows' products to the sums of all taps s of one (t, r).

    ``x_at`` and ``grad_at`` are the offsets of the first row's column 0."""
    x_stride, grad_stride = element_stride(x, 4), element_stride(grad, 4)
    row_steps = (problem.stride_h * element_stride(x, 3), element_stride(grad, 3))
    step, dilation, vector = problem.stride_w, problem.dilation_w, lanes(x)
    contiguous = x_stride == 1 and grad_stride == 1 and step <= 2
    for s in range(0, problem.s, TAPS):
        taps = min(TAPS, problem.s - s)
        low = tap_low(s, step, dilation, problem.pad_w, problem.q)
        high = tap_high(s + taps - 1, problem.w, step, dilation, problem.pad_w, problem.q)
        whole = (low + vector - 1) // vector * vector
        blocks = max(high - whole, 0) // (WHOLE_VECTORS * vector) if contiguous else 0
        q = 0
        while q < problem.q:
            w = q * step + s * dilation - problem.pad_w
            if q == whole and blocks > 0:
                whole_dots(
                    x, x_at + w, grad, grad_at + q, row_steps, (dilation, step),
                    taps, rows, blocks, local, at + s * vector,
                )  # fmt: skip
                q += blocks * WHOLE_VECTORS * vector
            else:
                edge_dots(
                    x, x_at, grad, grad_at + q * grad_stride, row_steps, (x_stride, grad_stride),
                    (w, dilation, step, problem.w), taps, rows, problem.q - q,
                    local, at + s * vector,
                )  # fmt: skip
                q += vector


@tile
def add_unit(x, grad, problem, cut, local, g, k, c, unit):
    """Add one unit's products to the sums of all taps."""
    rest, row_block = unit // cut.row_blocks, unit % cut.row_blocks
    n, o = rest // problem.o, rest % problem.o
    p_first = row_block * cut.rows
    p_last = min(p_first + cut.rows, problem.p)
    x_plane = n * element_stride(x, 0) + (g * problem.c + c) * element_stride(x, 1)
    grad_plane = (
        n * element_stride(grad, 0)
        + (g * problem.k + k) * element_stride(grad, 1)
        + o * element_stride(grad, 2)
    )
    for t in range(problem.t):
        d = o * problem.stride_d + t * problem.dilation_d - problem.pad_d
        if not 0 <= d < problem.d:
            continue
        for r in range(problem.r):
            steps = (problem.stride_h, problem.dilation_h, problem.pad_h, problem.p)
            low = max(tap_low(r, *steps), p_first)
            high = min(tap_high(r, problem.h, *steps), p_last)
            if low >= high:
                continue
            h = low * problem.stride_h + r * problem.dilation_h - problem.pad_h
            add_rows(
                x, x_plane + d * element_stride(x, 2) + h * element_stride(x, 3),
                grad, grad_plane + low * element_stride(grad, 3), high - low, problem,
                local, (t * problem.r + r) * problem.s * lanes(x),
            )  # fmt: skip


@whole_tile
def wgrad_direct_tile(
    x, grad_output, sums, out, problem, cut, local, task,
):  # fmt: skip
    """Compute one task."""
    rest, part = task // cut.slices, task % cut.slices
    g, k_first = rest // cut.k_blocks, rest % cut.k_blocks * cut.filters
    taps, vector = problem.t * problem.r * problem.s, lanes(x)
    first_unit = part * cut.slice_units
    for k in range(k_first, min(k_first + cut.filters, problem.k)):
        index = g * problem.k + k
        for c in range(problem.c):
            fill_zero(local, 0, taps * vector)
            for unit in range(first_unit, min(first_unit + cut.slice_units, cut.units)):
                add_unit(x, grad_output, problem, cut, local, g, k, c, unit)
            for tap in range(taps):
                total = load(local, tap * vector)
                for lane in range(1, vector):
                    total += load(local, tap * vector + lane)
                if cut.slices > 1:
                    target = (part * problem.g * problem.k + index) * problem.c + c
                    store(sums, target * taps + tap, total)
                else:
                    store(out, weight_place(out, problem, index, c, tap), total)


@tile
def weight_place(out, problem, index, c, tap):
    """The offset of a weight: filter ``index`` of all, channel c, tap in the order t, r, s."""
    t, r, s = tap // (problem.r * problem.s), tap // problem.s % problem.r, tap % problem.s
    return (
        index * element_stride(out, 0)
        + c * element_stride(out, 1)
        + t * element_stride(out, 2)
        + r * element_stride(out, 3)
        + s * element_stride(out, 4)
    )


@whole_tile
def finish_filter(sums, out, problem, cut, index):
    """Add up the slices of filter ``index`` of all g x k and write its weights."""
    taps = problem.t * problem.r * problem.s
    filters, weights = problem.g * problem.k, problem.c * taps
    for i in range(weights):
        total = load(sums, index * weights + i)
        for part in range(1, cut.slices):
            total += load(sums, (part * filters + index) * weights + i)
        store(out, weight_place(out, problem, index, i // taps, i % taps), total)


@task_range
def tiles(
    x: Any, grad_output: Any, sums: Any, out: Any, problem: Any, cut: Any, local: Any, queue: Any
) -> None:
    """Compute the tasks of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            wgrad_direct_tile(x, grad_output, sums, out, problem, cut, local, task)
        begin, end = next_tasks(queue, begin, end)


@task_range
def finish(sums: Any, out: Any, problem: Any, cut: Any, queue: Any) -> None:
    """Finish the filters of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for index in range(begin, end):
            finish_filter(sums, out, problem, cut, index)
        begin, end = next_tasks(queue, begin, end)


_skipping_padding = drivers.wgrad(blocking_gradients.wgrad_direct_cut, tiles, finish)
wgrad = drivers.wgrad_multiplying_padding(_skipping_padding)
