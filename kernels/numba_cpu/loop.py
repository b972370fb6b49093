"""Plain convolution: the seven loops, compiled as they stand.

x       (N, C, D, H, W)      any strides    IN
weight  (K, C/G, T, R, S)    any strides    IN
bias    (K,) or (0,)         contiguous     IN
out     (N, K, O, P, Q)      any strides    OUT
Accumulates in the dtype, in the order c, t, r, s; integers wrap around. Scratch: none.
Tasks: (n, k), one output plane.
Assumes a validated ConvGeometry; raises nothing.
Why: the baseline that every other kernel is compared with, so it has no tricks.
"""

from __future__ import annotations

from typing import Any

from .. import adjoints, blocking, drivers
from ._compile import task_range, whole_tile
from ._packing import activate
from ._queue import next_tasks


@whole_tile
def loop_tile(x, weight, bias, out, problem, activation, n, k):
    """Compute one output plane."""
    c_first = k // problem.k * problem.c
    for o in range(problem.o):
        for p in range(problem.p):
            for q in range(problem.q):
                total = x.dtype.type(0)
                for c in range(problem.c):
                    for t in range(problem.t):
                        for r in range(problem.r):
                            for s in range(problem.s):
                                d = o * problem.stride_d - problem.pad_d + t * problem.dilation_d
                                h = p * problem.stride_h - problem.pad_h + r * problem.dilation_h
                                w = q * problem.stride_w - problem.pad_w + s * problem.dilation_w
                                if 0 <= d < problem.d and 0 <= h < problem.h and 0 <= w < problem.w:
                                    total += x[n, c_first + c, d, h, w] * weight[k, c, t, r, s]
                if bias.size > 0:
                    total += bias[k]
                out[n, k, o, p, q] = activate(total, activation)


@task_range
def tiles(
    x: Any, weight: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    channels = problem.g * problem.k
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        for task in range(begin, end):
            n, k = task // channels, task % channels
            loop_tile(x, weight, bias, out, problem, activation, n, k)
        begin, end = next_tasks(queue, begin, end)


skipping_padding = drivers.fprop(blocking.plain_cut, tiles)
fprop = drivers.multiplying_padding(skipping_padding)
dgrad = adjoints.dgrad(skipping_padding)
wgrad = adjoints.wgrad(fprop)
