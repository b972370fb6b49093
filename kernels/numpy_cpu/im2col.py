"""im2col on NumPy's BLAS: unfold one image and group into columns, one matrix product.

x       (N, C, D, H, W)    any strides            IN
weight  (K, C/G, T, R, S)  same dtype             IN
out     (N, K, O, P, Q)    overwritten            OUT
wgrad: x and grad_output (N, K, O, P, Q) to out (K, C/G, T, R, S), sums over images in order.
Accumulates in <dtype>. Scratch: columns (C/G T R S, O rows Q) and product (K/G, O rows Q) of a
strip of output rows. Tasks: one;
the threads are BLAS's own, so this row alone is exempt from "same bits" (OpenBLAS differs between
1 and 2 threads on most shapes).
Assumes a validated ConvGeometry; raises nothing.
Why: no compiler needed, and the yardstick that people know. Source: Chellapilla et al. 2006.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import adjoints, reference
from ..blocking import blas_cut, reduction_length
from ..problem import ConvProblem, activate, taps_of

Array = np.ndarray[Any, Any]


@np.errstate(invalid="ignore", over="ignore")
def fprop(
    x: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem, scratch: Array,
    activation: int, threads: int,
) -> None:  # fmt: skip
    """The row's callable (arguments as in ``drivers``)."""
    length = reduction_length(problem)
    matrices = weight.reshape(problem.g, problem.k, length)
    for n, g, rows, columns, product in _strips(x, problem, scratch):
        filters = slice(g * problem.k, (g + 1) * problem.k)
        np.matmul(matrices[g], columns, out=product)
        if bias.size:
            np.add(product, bias[filters, None], out=product)
        out[n, filters, :, rows.start : rows.stop] = activate(product, activation).reshape(
            problem.k, problem.o, len(rows), problem.q
        )


dgrad = adjoints.dgrad(fprop, skipping=reference.dgrad)


@np.errstate(invalid="ignore", over="ignore")
def wgrad(
    x: Array, grad_output: Array, bias: Array, out: Array, problem: ConvProblem, scratch: Array,
    activation: int, threads: int,
) -> None:  # fmt: skip
    """The row's callable (arguments as in ``drivers``)."""
    out[...] = 0
    for n, g, rows, columns, grads in _strips(x, problem, scratch):
        filters = slice(g * problem.k, (g + 1) * problem.k)
        grads.reshape(problem.k, problem.o, len(rows), problem.q)[...] = grad_output[
            n, filters, :, rows.start : rows.stop
        ]
        out[filters] += np.matmul(grads, columns.T).reshape(out[filters].shape)


def _strips(
    x: Array, problem: ConvProblem, scratch: Array
) -> Iterator[tuple[int, int, range, Array, Array]]:
    """Image, group and output rows of each strip, its columns (C/G T R S, O rows Q), and room for
    (K/G, O rows Q) more."""
    length = reduction_length(problem)
    cut = blas_cut(problem, x.itemsize)
    buffer = scratch[: cut.shared_elements * x.itemsize].view(x.dtype)
    taps = taps_of(problem)
    for n, g, block in np.ndindex(problem.n, problem.g, cut.row_blocks):
        channels = slice(g * problem.c, (g + 1) * problem.c)
        rows = range(block * cut.rows, min((block + 1) * cut.rows, problem.p))
        plane = problem.o * len(rows) * problem.q
        columns = buffer[: length * plane].reshape(length, plane)
        beside = buffer[length * plane : (length + problem.k) * plane].reshape(problem.k, plane)
        _unfold(x[n, channels], columns, problem, taps, rows)
        yield n, g, rows, columns, beside


def _unfold(image: Array, columns: Array, problem: ConvProblem, taps: Array, rows: range) -> None:
    """Fill ``columns`` with ``[c][t][r][s]`` rows of shifted, strided, zero-padded planes."""
    kernel, strides, dilations = problem.kernel, problem.stride, problem.dilation
    target = columns.reshape(problem.c, *kernel, problem.o, len(rows), problem.q)
    target[...] = 0
    first_tap = (0, problem.t, problem.t + problem.r)
    outputs = (range(problem.o), rows, range(problem.q))
    for tap in np.ndindex(*kernel):
        inside, source = [], []
        for axis in range(3):
            low, high = (int(v) for v in taps[first_tap[axis] + tap[axis]])
            low, high = max(low, outputs[axis].start), min(high, outputs[axis].stop)
            start = low * strides[axis] + tap[axis] * dilations[axis] - problem.pad[axis]
            inside.append(slice(low - outputs[axis].start, high - outputs[axis].start))
            source.append(slice(start, start + (high - low - 1) * strides[axis] + 1, strides[axis]))
        if all(cut.stop > cut.start for cut in inside):
            target[:, *tap, *inside] = image[:, *source]
