"""Adjoints of pooling: gradients to where maxima were, or spread over the windows of means.

grad_output  (N, C, O, P, Q)    any strides           IN
places       (N, C, O, P, Q)    int64, any strides    IN, of maxima: flat positions in (D, H, W)
windows      (o + p + q, 3)     first, end, extent    IN, of means
out          (N, C, D, H, W)    any strides           OUT
Accumulates in the dtype, in ``out``; what one place gets is added in the order o, p, q. Scratch:
none. Tasks: (n, c), one plane of ``out``.
Assumes a validated PoolGeometry; a place outside the plane is skipped; raises nothing.
Why: the same tap of neighbouring windows goes to neighbouring places, so that columns are added
side by side; from the last tap to the first, which leaves each place its order.
"""

from __future__ import annotations

from typing import Any

from .. import pool_drivers
from ._compile import task_range, tile, whole_tile
from ._queue import next_tasks
from ._vector import element_stride, load, stack_values, store

#: Columns of gradients that are divided at a time: 512 bytes of float64 on the stack.
COLUMNS = 64


@tile
def regular_span(windows, first, count):
    """The longest run ``begin .. end-1`` of output columns whose windows are equally long and
    equally far apart, and that distance."""
    best_begin, best_end, best_step = 0, 1, 1
    begin = 0
    while begin < count:
        start, end = windows[first + begin, 0], windows[first + begin, 1]
        last = begin + 1
        step = windows[first + last, 0] - start if last < count else 1
        while (
            last < count
            and windows[first + last, 0] == start + (last - begin) * step
            and windows[first + last, 1] - windows[first + last, 0] == end - start
        ):
            last += 1
        if last - begin > best_end - best_begin:
            best_begin, best_end, best_step = begin, last, step
        begin = last
    return best_begin, best_end, best_step


@tile
def tap_count(windows, row, dilation):
    """Taps of one window along one axis."""
    return max((windows[row, 1] - windows[row, 0] + dilation - 1) // dilation, 0)


@tile
def plane_of(array, task, channels):
    """The offset of a task's plane."""
    return task // channels * element_stride(array, 0) + task % channels * element_stride(array, 1)


@tile
def clear_plane(out, plane, problem):
    """Fill a plane with zeros."""
    zero, stride_w = out.dtype.type(0), element_stride(out, 4)
    for d in range(problem.d):
        for h in range(problem.h):
            row = plane + d * element_stride(out, 2) + h * element_stride(out, 3)
            if stride_w == 1:
                for w in range(problem.w):
                    store(out, row + w, zero)
            else:
                for w in range(problem.w):
                    store(out, row + w * stride_w, zero)


@tile
def first_plane(problem, block, task):
    """The first plane of a task, which is `block` channels of an image or what is left of them."""
    blocks = (problem.c + block - 1) // block
    return task // blocks * problem.c + task % blocks * block


@whole_tile
def scatter_tile(grad_output, places, out, problem, task):
    """Add each gradient of a plane to its place."""
    plane = plane_of(out, task, problem.c)
    clear_plane(out, plane, problem)
    stride_d, stride_h = element_stride(out, 2), element_stride(out, 3)
    stride_w, area = element_stride(out, 4), problem.h * problem.w
    in_order = stride_h == problem.w * stride_w and stride_d == area * stride_w
    for o in range(problem.o):
        for p in range(problem.p):
            row = plane_of(grad_output, task, problem.c)
            row += o * element_stride(grad_output, 2) + p * element_stride(grad_output, 3)
            places_row = plane_of(places, task, problem.c)
            places_row += o * element_stride(places, 2) + p * element_stride(places, 3)
            for q in range(problem.q):
                place = load(places, places_row + q * element_stride(places, 4))
                if 0 <= place < problem.d * area:
                    at = plane + place * stride_w
                    if not in_order:
                        at = plane + place // area * stride_d
                        at += place % area // problem.w * stride_h + place % problem.w * stride_w
                    grad = load(grad_output, row + q * element_stride(grad_output, 4))
                    store(out, at, load(out, at) + grad)


@tile
def add_columns(values, out, at, step, count):
    """``out[at + i * step] += values[i]``."""
    if step == 1:
        for i in range(count):
            store(out, at + i, load(out, at + i) + values[i])
    else:
        for i in range(count):
            store(out, at + i * step, load(out, at + i * step) + values[i])


@tile
def add_value(value, out, at, step, count):
    """``out[at + i * step] += value``."""
    if step == 1:
        for i in range(count):
            store(out, at + i, load(out, at + i) + value)
    else:
        for i in range(count):
            store(out, at + i * step, load(out, at + i * step) + value)


@tile
def spread_row(
    grad_output, row, out, plane, problem, windows, span, o, p, values,
):  # fmt: skip
    """Add the shares of one row of gradients."""
    first_p, first_q = problem.o, problem.o + problem.p
    stride_q, stride_w = element_stride(grad_output, 4), element_stride(out, 4)
    d_step = problem.dilation_d * element_stride(out, 2)
    h_step = problem.dilation_h * element_stride(out, 3)
    w_step = problem.dilation_w * stride_w
    d_count = tap_count(windows, o, problem.dilation_d)
    h_count = tap_count(windows, first_p + p, problem.dilation_h)
    plane += windows[o, 0] * element_stride(out, 2)
    plane += windows[first_p + p, 0] * element_stride(out, 3)
    begin, end, step = span
    q = 0
    while q < problem.q:
        count = min(end - q, COLUMNS) if begin <= q < end else 1
        for i in range(count):
            divisor = windows[o, 2] * windows[first_p + p, 2] * windows[first_q + q + i, 2]
            if problem.divisor != 0:
                divisor = problem.divisor
            values[i] = load(grad_output, row + (q + i) * stride_q) / out.dtype.type(divisor)
        w_count = tap_count(windows, first_q + q, problem.dilation_w)
        for d in range(d_count):
            for h in range(h_count):
                at = plane + d * d_step + h * h_step + windows[first_q + q, 0] * stride_w
                if count == 1:
                    add_value(values[0], out, at, w_step, w_count)
                else:
                    for w in range(w_count - 1, -1, -1):
                        add_columns(values, out, at + w * w_step, step * stride_w, count)
        q += count


@whole_tile
def spread_tile(grad_output, out, problem, windows, span, task):
    """Add each gradient of a plane, by its divisor, to all of its window."""
    plane = plane_of(out, task, problem.c)
    clear_plane(out, plane, problem)
    values = stack_values(out, COLUMNS)
    for o in range(problem.o):
        for p in range(problem.p):
            row = plane_of(grad_output, task, problem.c)
            row += o * element_stride(grad_output, 2) + p * element_stride(grad_output, 3)
            spread_row(grad_output, row, out, plane, problem, windows, span, o, p, values)


@task_range
def scatter(
    grad_output: Any, places: Any, out: Any, problem: Any, block: Any, queue: Any
) -> None:  # fmt: skip
    """Fill the planes of the queue from gradients of maxima."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(first_plane(problem, block, begin), first_plane(problem, block, end)):
            scatter_tile(grad_output, places, out, problem, task)
        begin, end = next_tasks(queue, begin, end)


@task_range
def spread(
    grad_output: Any, out: Any, problem: Any, windows: Any, block: Any, queue: Any
) -> None:  # fmt: skip
    """Fill the planes of the queue from gradients of means."""
    span = regular_span(windows, problem.o + problem.p, problem.q)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(first_plane(problem, block, begin), first_plane(problem, block, end)):
            spread_tile(grad_output, out, problem, windows, span, task)
        begin, end = next_tasks(queue, begin, end)


pool_grad = pool_drivers.pool_grad({"scatter": scatter, "spread": spread})
