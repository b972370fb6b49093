"""The reference: every family as plain NumPy loops. Slow and obvious, it is the specification.

x       (N, C, D, H, W)    any strides            IN
weight  (K, C/G, T, R, S)  same dtype             IN
out     (N, K, O, P, Q)    overwritten            OUT
Accumulates in float64. Scratch: none is taken; it allocates for itself. Tasks: one.
Assumes a validated geometry; raises nothing.
Padding contributes nothing as long as weights are finite; what 0 x infinity or 0 x NaN adds to an
output at the border is not specified, and rows differ in it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

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
    """``out[n, k] = activation(bias[k] + sum of weight[k, c, t, r, s] * window(c, t, r, s))``."""
    problem = geometry.problem
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *geometry.padding))
    result = np.zeros(out.shape)
    for k, c, t, r, s in np.ndindex(*weight.shape):
        channel = k // problem.k * problem.c + c
        window = tuple(
            slice(tap * dilation, tap * dilation + (outputs - 1) * stride + 1, stride)
            for tap, dilation, stride, outputs in zip(
                (t, r, s), geometry.dilation, geometry.stride, geometry.output, strict=True
            )
        )
        result[:, k] += np.float64(weight[k, c, t, r, s]) * padded[:, channel, *window]
    if bias.size:
        result += bias.reshape(-1, 1, 1, 1)
    out[...] = activate(result, activation)


def activate(values: Array, activation: int) -> Array:
    """Apply an activation code of ``problem.ACTIVATION_CODES``; NaN stays NaN."""
    if activation == 0:
        return values
    values = np.where(values < 0, 0, values)
    return np.where(values > 6, 6, values) if activation == 2 else values


@np.errstate(invalid="ignore", over="ignore")
def pool(x: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
    """``out[n, c, o, p, q] = reduction of x over the window of (o, p, q)``.

    max: NaN wins, an empty window gives -inf; ``indices`` get the flat position in (D, H, W) of the
    first maximum or the last NaN, -1 for an empty window. mean: the sum over the window by the
    extents' product, or by ``divisor``.
    """
    problem = geometry.problem
    tables = np.split(geometry.windows, [problem.o, problem.o + problem.p])
    plane = np.arange(problem.d * problem.h * problem.w).reshape(x.shape[2:])
    steps = (problem.dilation_d, problem.dilation_h, problem.dilation_w)
    for position in itertools.product(range(problem.o), range(problem.p), range(problem.q)):
        rows = [table[i] for table, i in zip(tables, position, strict=True)]
        window = tuple(slice(row[0], row[1], step) for row, step in zip(rows, steps, strict=True))
        places = plane[window].ravel()
        values = x[:, :, *window].astype(np.float64).reshape(problem.n, problem.c, places.size)
        if geometry.reduction == "mean":
            extent = problem.divisor or rows[0][2] * rows[1][2] * rows[2][2]
            out[:, :, *position] = values.sum(axis=-1) / extent
        else:
            out[:, :, *position] = values.max(axis=-1, initial=-np.inf)
            if indices is not None:
                indices[:, :, *position] = _first_maximum(values, places)


def _first_maximum(values: Array, flat: Array) -> Array:
    if flat.size == 0:
        return np.full(values.shape[:2], -1)
    last = flat.size - 1 - np.isnan(values[..., ::-1]).argmax(axis=-1)
    chosen = np.where(np.isnan(values).any(axis=-1), last, values.argmax(axis=-1))
    return np.asarray(flat[chosen])
