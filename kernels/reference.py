"""The reference: every family as plain NumPy loops. Slow and obvious, it is the specification.

x       (N, C, D, H, W)    any strides            IN
weight  (K, C/G, T, R, S)  same dtype             IN
out     (N, K, O, P, Q)    overwritten            OUT
and the same arrays in other roles for dgrad and wgrad. Accumulates in float64, integers in int64.
Scratch: none is taken; it allocates for itself. Tasks: one. Assumes a validated geometry; raises
nothing.
Padding is zeros that are multiplied: an infinite weight over it gives NaN, as in a padded copy.
What an output that isn't there would add to dgrad isn't computed at all.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from .problem import ConvProblem, activate, windows_of

Array = np.ndarray[Any, Any]


@np.errstate(invalid="ignore", over="ignore")
def fprop(
    x: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem, scratch: Array,
    activation: int, threads: int,
) -> None:  # fmt: skip
    """``out[n, k] = activation(bias[k] + sum of weight[k, c, t, r, s] * window(c, t, r, s))``."""
    padded, result = _padded(x, problem), np.zeros(out.shape, _widest(x))
    for k, c, t, r, s in np.ndindex(*weight.shape):
        window = (slice(None), k // problem.k * problem.c + c, *windows_of(problem, (t, r, s)))
        result[:, k] += _widest(x)(weight[k, c, t, r, s]) * padded[window]
    _finish(result, bias, out, activation)


@np.errstate(invalid="ignore", over="ignore")
def dgrad(
    grad_output: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem,
    scratch: Array, activation: int, threads: int,
) -> None:  # fmt: skip
    """``window(c, t, r, s) of out[n] += weight[k, c, t, r, s] * grad_output[n, k]``, then bias and
    activation: the adjoint of ``fprop`` in x.
    """
    wide = _widest(weight)
    padded = _padded(np.zeros(out.shape, wide), problem)
    for k, c, t, r, s in np.ndindex(*weight.shape):
        window = (slice(None), k // problem.k * problem.c + c, *windows_of(problem, (t, r, s)))
        padded[window] += wide(weight[k, c, t, r, s]) * grad_output[:, k]
    inside = (
        slice(before, before + size) for before, size in zip(problem.pad, problem.size, strict=True)
    )
    _finish(padded[:, :, *inside], bias, out, activation)


@np.errstate(invalid="ignore", over="ignore")
def wgrad(
    x: Array, grad_output: Array, bias: Array, out: Array, problem: ConvProblem, scratch: Array,
    activation: int, threads: int,
) -> None:  # fmt: skip
    """``out[k, c, t, r, s] = sum of window(c, t, r, s) * grad_output[n, k]``: the adjoint of
    ``fprop`` in weight.
    """
    padded = _padded(x, problem)
    for k, c, t, r, s in np.ndindex(*out.shape):
        window = (slice(None), k // problem.k * problem.c + c, *windows_of(problem, (t, r, s)))
        out[k, c, t, r, s] = (padded[window] * grad_output[:, k].astype(padded.dtype)).sum()


def _widest(array: Array) -> Any:
    return np.int64 if array.dtype.kind == "i" else np.float64


def _padded(x: Array, problem: ConvProblem) -> Array:
    pairs = zip(problem.pad, problem.pad_after, strict=True)
    return np.pad(x.astype(_widest(x)), ((0, 0), (0, 0), *pairs))


def _finish(result: Array, bias: Array, out: Array, activation: int) -> None:
    if bias.size:
        result += bias.reshape(-1, 1, 1, 1)
    out[...] = activate(result.astype(out.dtype), activation)


@np.errstate(invalid="ignore", over="ignore")
def pool(x: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
    """``out[n, c, o, p, q] = reduction of x over the window of (o, p, q)``.

    max: NaN wins, an empty window gives -inf; ``indices`` get the flat position in (D, H, W) of the
    first maximum or the last NaN, -1 for an empty window. mean: the sum over the window by the
    extents' product, or by ``divisor``. Of integers: the least int64 for -inf, a quotient rounded
    towards zero.
    """
    problem, wide = geometry.problem, _widest(x)
    plane = np.arange(problem.d * problem.h * problem.w).reshape(x.shape[2:])
    for position, window, extent in _windows(geometry):
        places = plane[window].ravel()
        values = x[:, :, *window].astype(wide).reshape(problem.n, problem.c, places.size)
        if geometry.reduction == "mean":
            out[:, :, *position] = quotient(values.sum(axis=-1), extent)
        else:
            out[:, :, *position], found = _first_maximum(values, places)
            if indices is not None:
                indices[:, :, *position] = found


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def pool_grad(
    grad_output: Array, indices: Array | None, out: Array, geometry: Any, threads: int
) -> None:
    """The adjoint of ``pool``: each gradient to its maximum's place (``indices``), or a share of it
    to all of its window.
    """
    result = np.zeros(out.shape)
    for position, window, extent in _windows(geometry):
        grad = grad_output[:, :, *position].astype(np.float64)
        if indices is None:
            result[:, :, *window] += (grad / extent)[:, :, None, None, None]
            continue
        planes = result.reshape(*out.shape[:2], math.prod(out.shape[2:]))
        for n, c in np.ndindex(*grad.shape):
            if 0 <= indices[n, c, *position] < planes.shape[2]:
                planes[n, c, indices[n, c, *position]] += grad[n, c]
    out[...] = result


def _windows(geometry: Any) -> Any:
    """Each output position, its window, and what its sum is divided by."""
    problem = geometry.problem
    tables = np.split(geometry.windows, [problem.o, problem.o + problem.p])
    steps = (problem.dilation_d, problem.dilation_h, problem.dilation_w)
    for position in itertools.product(range(problem.o), range(problem.p), range(problem.q)):
        rows = [table[i] for table, i in zip(tables, position, strict=True)]
        window = tuple(slice(row[0], row[1], step) for row, step in zip(rows, steps, strict=True))
        yield position, window, problem.divisor or rows[0][2] * rows[1][2] * rows[2][2]


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def quotient(sums: Array, divisor: Any) -> Array:
    """A mean's division: integers are rounded towards zero, and by zero give 0."""
    if sums.dtype.kind == "f":
        return np.asarray(sums / divisor)
    negative = (sums < 0) != (np.asarray(divisor) < 0)
    return np.asarray(sums // divisor + (negative & (sums % divisor != 0)))


def _first_maximum(values: Array, flat: Array) -> tuple[Any, Any]:
    """The maxima along the last axis, and where in ``flat`` the first of equals, or the last NaN,
    is."""
    if flat.size == 0:
        return -np.inf if values.dtype.kind == "f" else np.iinfo(np.int64).min, -1
    missing = np.isnan(values)
    last = flat.size - 1 - missing[..., ::-1].argmax(axis=-1)
    chosen = np.where(missing.any(axis=-1), last, values.argmax(axis=-1))
    return np.take_along_axis(values, chosen[..., None], axis=-1)[..., 0], flat[chosen]
