"""im2col on NumPy's BLAS: unfold one image and group into columns, one matrix product.

x       (N, C, D, H, W)    any strides            IN
weight  (K, C/G, T, R, S)  same dtype             IN
out     (N, K, O, P, Q)    overwritten            OUT
Accumulates in <dtype>. Scratch: columns (C/G T R S, O P Q) and product (K/G, O P Q). Tasks: one;
the threads are BLAS's own, so this row alone is exempt from "same bits" (OpenBLAS differs between
1 and 2 threads on most shapes).
Assumes a validated ConvGeometry; raises nothing.
Why: no compiler needed, and the yardstick that people know. Source: Chellapilla et al. 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..blocking import reduction_length
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
    plane = problem.o * problem.p * problem.q
    length = reduction_length(problem)
    buffer = scratch[: plane * (length + problem.k) * x.itemsize].view(x.dtype)
    columns = buffer[: plane * length].reshape(length, plane)
    product = buffer[plane * length :].reshape(problem.k, plane)
    matrices = weight.reshape(problem.g, problem.k, length)
    for n, g in np.ndindex(problem.n, problem.g):
        channels = slice(g * problem.c, (g + 1) * problem.c)
        filters = slice(g * problem.k, (g + 1) * problem.k)
        _unfold(x[n, channels], columns, problem, geometry.taps)
        np.matmul(matrices[g], columns, out=product)
        if bias.size:
            np.add(product, bias[filters, None], out=product)
        out[n, filters] = activate(product, activation).reshape(
            problem.k, problem.o, problem.p, problem.q
        )


def _unfold(image: Array, columns: Array, problem: ConvProblem, taps: Array) -> None:
    """Fill ``columns`` with ``[c][t][r][s]`` rows of shifted, strided, zero-padded planes."""
    kernel = (problem.t, problem.r, problem.s)
    shape = (problem.c, *kernel, problem.o, problem.p, problem.q)
    target = columns.reshape(shape)
    target[...] = 0
    strides = (problem.stride_d, problem.stride_h, problem.stride_w)
    dilations = (problem.dilation_d, problem.dilation_h, problem.dilation_w)
    pads = (problem.pad_d, problem.pad_h, problem.pad_w)
    first = (0, problem.t, problem.t + problem.r)
    for tap in np.ndindex(*kernel):
        inside, source = [], []
        for axis in range(3):
            low, high = (int(v) for v in taps[first[axis] + tap[axis]])
            start = low * strides[axis] + tap[axis] * dilations[axis] - pads[axis]
            inside.append(slice(low, high))
            source.append(slice(start, start + (high - low - 1) * strides[axis] + 1, strides[axis]))
        if all(cut.stop > cut.start for cut in inside):
            target[:, *tap, *inside] = image[:, *source]
