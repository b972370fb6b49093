"""im2col on NumPy's BLAS: unfold one image and group into columns, one matrix product.

x       (N, C, D, H, W)    any strides            IN
weight  (K, C/G, T, R, S)  same dtype             IN
out     (N, K, O, P, Q)    overwritten            OUT
Accumulates in <dtype>. Scratch: columns (C/G T R S, O rows Q) and product (K/G, O rows Q) of a
strip of output rows. Tasks: one;
the threads are BLAS's own, so this row alone is exempt from "same bits" (OpenBLAS differs between
1 and 2 threads on most shapes).
Assumes a validated ConvGeometry; raises nothing.
Why: no compiler needed, and the yardstick that people know. Source: Chellapilla et al. 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..blocking import blas_cut, reduction_length
from ..problem import ConvProblem
from ..reference import activate

Array = np.ndarray[Any, Any]


@np.errstate(invalid="ignore", over="ignore")
def fprop(
    x: Array,
    weight: Array,
    bias: Array,
    out: Array,
    geometry: Any,
    scratch: Array,
    activation: int,
    threads: int,
) -> None:
    """The row's callable (arguments as in ``drivers``)."""
    problem: ConvProblem = geometry.problem
    length = reduction_length(problem)
    cut = blas_cut(problem, x.itemsize)
    buffer = scratch[: cut.shared_elements * x.itemsize].view(x.dtype)
    matrices = weight.reshape(problem.g, problem.k, length)
    for n, g, block in np.ndindex(problem.n, problem.g, cut.row_blocks):
        channels = slice(g * problem.c, (g + 1) * problem.c)
        filters = slice(g * problem.k, (g + 1) * problem.k)
        rows = range(block * cut.rows, min((block + 1) * cut.rows, problem.p))
        plane = problem.o * len(rows) * problem.q
        columns = buffer[: length * plane].reshape(length, plane)
        product = buffer[length * plane : (length + problem.k) * plane].reshape(problem.k, plane)
        _unfold(x[n, channels], columns, problem, geometry.taps, rows)
        np.matmul(matrices[g], columns, out=product)
        if bias.size:
            np.add(product, bias[filters, None], out=product)
        out[n, filters, :, rows.start : rows.stop] = activate(product, activation).reshape(
            problem.k, problem.o, len(rows), problem.q
        )


def _unfold(image: Array, columns: Array, problem: ConvProblem, taps: Array, rows: range) -> None:
    """Fill ``columns`` with ``[c][t][r][s]`` rows of shifted, strided, zero-padded planes."""
    kernel = (problem.t, problem.r, problem.s)
    target = columns.reshape(problem.c, *kernel, problem.o, len(rows), problem.q)
    target[...] = 0
    strides = (problem.stride_d, problem.stride_h, problem.stride_w)
    dilations = (problem.dilation_d, problem.dilation_h, problem.dilation_w)
    pads = (problem.pad_d, problem.pad_h, problem.pad_w)
    first_tap = (0, problem.t, problem.t + problem.r)
    outputs = (range(problem.o), rows, range(problem.q))
    for tap in np.ndindex(*kernel):
        inside, source = [], []
        for axis in range(3):
            low, high = (int(v) for v in taps[first_tap[axis] + tap[axis]])
            low, high = max(low, outputs[axis].start), min(high, outputs[axis].stop)
            start = low * strides[axis] + tap[axis] * dilations[axis] - pads[axis]
            inside.append(slice(low - outputs[axis].start, high - outputs[axis].start))
            source.append(slice(start, start + (high - low - 1) * strides[axis] + 1, strides[axis]))
        if all(cut.stop > cut.start for cut in inside):
            target[:, *tap, *inside] = image[:, *source]
