"""Pooling as whole-plane NumPy operations, one per window tap.

x        (N, C, D, H, W)    any strides                  IN
out      (N, C, O, P, Q)    overwritten                  OUT
indices  (N, C, O, P, Q)    int64, or None               OUT
Accumulates in <dtype>, taps in the order d, h, w. Allocates one plane per tap. Tasks: one.
Assumes a validated PoolGeometry; raises nothing.
Why: windows of one output row start at any place (adaptive pooling), so taps are gathered through
index tables; an operation covers all outputs, where the reference takes one for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@np.errstate(invalid="ignore", over="ignore")
def pool(x: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
    """The row's callable (arguments as in ``drivers``)."""
    problem = geometry.problem
    depth, height, width = np.split(geometry.windows, [problem.o, problem.o + problem.p])
    steps = (problem.dilation_d, problem.dilation_h, problem.dilation_w)
    longest = [
        max(-(-int((table[:, 1] - table[:, 0]).max()) // step), 0)
        for table, step in zip((depth, height, width), steps, strict=True)
    ]
    out[...] = 0 if geometry.reduction == "mean" else -np.inf
    if indices is not None:
        indices[...] = -1
    for tap in np.ndindex(*longest):
        places, inside = [], []
        for table, step, i in zip((depth, height, width), steps, tap, strict=True):
            place = table[:, 0] + i * step
            rows = np.flatnonzero(place < table[:, 1])
            places.append(place[rows])
            inside.append(rows)
        target = np.ix_(np.arange(problem.n), np.arange(problem.c), *inside)
        values = x[:, :, *np.ix_(*places)]
        if geometry.reduction == "mean":
            out[target] += values
        elif indices is None:
            out[target] = np.maximum(out[target], values)
        else:
            _keep_maximum(values, _flat(places, x.shape), target, out, indices)
    if geometry.reduction == "mean":
        extent = depth[:, None, None, 2] * height[:, None, 2] * width[:, 2]
        out /= np.asarray(problem.divisor or extent, out.dtype)


def _flat(places: list[Array], shape: tuple[int, ...]) -> Array:
    d, h, w = np.ix_(*places)
    return np.asarray((d * shape[3] + h) * shape[4] + w)


def _keep_maximum(values: Array, flat: Array, target: Any, out: Array, indices: Array) -> None:
    best, where = out[target], indices[target]
    better = (values > best) | np.isnan(values) | ((where < 0) & ~np.isnan(best))
    out[target] = np.where(better, values, best)
    indices[target] = np.where(better, flat, where)
