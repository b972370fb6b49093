"""Pooling as whole-plane NumPy operations, one per window tap.

x        (N, C, D, H, W)    any strides                  IN
out      (N, C, O, P, Q)    overwritten                  OUT
indices  (N, C, O, P, Q)    int64, or None               OUT
and for the adjoint grad_output (N, C, O, P, Q) and indices to out (N, C, D, H, W).
Accumulates in <dtype>, taps in the order d, h, w. Allocates one plane per tap. Tasks: one.
Assumes a validated PoolGeometry; raises nothing.
Why: windows of one output row start at any place (adaptive pooling), so taps are gathered through
index tables; an operation covers all outputs, where the reference takes one for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..reference import quotient

Array = np.ndarray[Any, Any]


@np.errstate(invalid="ignore", over="ignore")
def pool(x: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
    """The row's callable (arguments as in ``drivers``)."""
    mean = geometry.reduction == "mean"
    out[...] = 0 if mean else -np.inf if out.dtype.kind == "f" else np.iinfo(out.dtype).min
    if indices is not None:
        indices[...] = -1
    for inside, places in _taps(geometry):
        target, values = _mesh(inside), x[_mesh(places)]
        if mean:
            out[target] += values
        elif indices is None:
            best = out[target]
            # Not np.maximum, for which the later one of 0.0 and -0.0 is the larger.
            out[target] = np.where((values > best) | np.isnan(values), values, best)
        else:
            _keep_maximum(values, _flat(places, x.shape), target, out, indices)
    if mean:
        out[...] = quotient(out, _divisor(geometry))


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def pool_grad(
    grad_output: Array, indices: Array | None, out: Array, geometry: Any, threads: int
) -> None:
    """The row's callable (arguments as in ``drivers``)."""
    out[...] = 0
    if indices is None:
        share = grad_output / _divisor(geometry).astype(out.dtype)
        for inside, places in _taps(geometry):
            # Of one tap's places none comes twice, unless windows begin alike (adaptive pooling).
            np.add.at(out, _mesh(places), share[_mesh(inside)])
        return
    for n, c in np.ndindex(*out.shape[:2]):
        plane = np.zeros(out[n, c].size, out.dtype)
        found = (indices[n, c] >= 0) & (indices[n, c] < plane.size)
        np.add.at(plane, indices[n, c][found], grad_output[n, c][found])
        out[n, c] = plane.reshape(out.shape[2:])


def _taps(geometry: Any) -> Iterator[tuple[list[Array], list[Array]]]:
    """Per tap of the longest window, along each axis, the outputs that have it and its places."""
    problem = geometry.problem
    tables = np.split(geometry.windows, [problem.o, problem.o + problem.p])
    steps = (problem.dilation_d, problem.dilation_h, problem.dilation_w)
    longest = [
        max(-(-int((table[:, 1] - table[:, 0]).max()) // step), 0)
        for table, step in zip(tables, steps, strict=True)
    ]
    for tap in np.ndindex(*longest):
        places, inside = [], []
        for table, step, i in zip(tables, steps, tap, strict=True):
            place = table[:, 0] + i * step
            rows = np.flatnonzero(place < table[:, 1])
            places.append(place[rows])
            inside.append(rows)
        yield inside, places


def _mesh(places: list[Array]) -> Any:
    """The index of all planes' elements at these places of each axis."""
    mesh: tuple[Any, ...] = np.ix_(*places)
    return (slice(None), slice(None), *mesh)


def _divisor(geometry: Any) -> Array:
    """What each window's sum is divided by: (O, P, Q)."""
    problem = geometry.problem
    depth, height, width = np.split(geometry.windows, [problem.o, problem.o + problem.p])
    extent = depth[:, None, None, 2] * height[:, None, 2] * width[:, 2]
    if problem.divisor:
        extent = np.full_like(extent, problem.divisor)
    return np.asarray(extent, geometry.dtype)


def _flat(places: list[Array], shape: tuple[int, ...]) -> Array:
    d, h, w = np.ix_(*places)
    return np.asarray((d * shape[3] + h) * shape[4] + w)


def _keep_maximum(values: Array, flat: Array, target: Any, out: Array, indices: Array) -> None:
    best, where = out[target], indices[target]
    better = (values > best) | np.isnan(values) | ((where < 0) & ~np.isnan(best))
    out[target] = np.where(better, values, best)
    indices[target] = np.where(better, flat, where)
