"""Windows of an image side by side (im2col), and added back into their places (col2im)."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from cnnfast.kernels.problem import ConvProblem, taps_of, windows_of

from .arguments import INDEX_LIMIT
from .arrays import Array
from .axes import Axes


def problem_of(name: str, batch: int, channels: int, axes: Axes) -> ConvProblem:
    """The windows of all channels as the problem of a convolution that has one output channel.

    ValueError where an array of all windows, or the padded input, passes what can be indexed.
    """
    counts = {
        "the windows' size": math.prod((*axes.kernel, *axes.output)),
        "the padded input's size": axes.padded_size,
    }
    for what, count in counts.items():
        if batch * channels * count >= INDEX_LIMIT:
            raise ValueError(f"{name}: {what} must be below 2**62, got {batch * channels * count}")
    before = (pair[0] for pair in axes.padding)
    return ConvProblem(
        batch, 1, channels, 1, *axes.size, *axes.kernel, *axes.output, *axes.stride,
        *axes.dilation, *before,
    )  # fmt: skip


def windows_view(x: Array, problem: ConvProblem) -> Array:
    """All windows of ``x`` (N, C, D, H, W): a read-only view (N, C, T, R, S, O, P, Q), without a
    copy where there is no padding. Any dtype and strides.
    """
    padding = tuple(zip(problem.pad, problem.pad_after, strict=True))
    if any(map(any, padding)):
        x = _padded(x, padding)
    # Where there is one tap or one output, the step to the next may be larger than any address.
    spread = (gap * (taps > 1) for gap, taps in zip(problem.dilation, problem.kernel, strict=True))
    steps = (step * (many > 1) for step, many in zip(problem.stride, problem.output, strict=True))
    per_tap = (s * gap for s, gap in zip(x.strides[2:], spread, strict=True))
    per_output = (s * step for s, step in zip(x.strides[2:], steps, strict=True))
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *problem.kernel, *problem.output),
        (*x.strides[:2], *per_tap, *per_output),
        writeable=False,
    )


def _padded(x: Array, padding: tuple[tuple[int, int], ...]) -> Array:
    """A copy of ``x`` between zeros."""
    rows = list(zip(x.shape[2:], padding, strict=True))
    shape = (*x.shape[:2], *(extent + sum(pair) for extent, pair in rows))
    copy = np.zeros(shape, x.dtype)
    inside = tuple(slice(pair[0], pair[0] + extent) for extent, pair in rows)
    copy[:, :, *inside] = x
    return copy


def fold_windows(columns: Array, out: Array, problem: ConvProblem) -> None:
    """Clear ``out`` (N, C, D, H, W) and add ``columns`` (N, C, T, R, S, O, P, Q), each element in
    its place, tap by tap in the order t, r, s; what lies in the padding is dropped.

    The adjoint of ``windows_view``; sums are made in the dtype of ``out``.
    """
    out[...] = 0
    table = taps_of(problem)
    t, r, _ = problem.kernel
    starts = (0, t, t + r)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for tap in product(*map(range, problem.kernel)):
            rows = [table[start + at] for start, at in zip(starts, tap, strict=True)]
            used = tuple(slice(int(low), int(high)) for low, high in rows)
            if any(part.start >= part.stop for part in used):
                continue
            places: tuple[Any, ...] = (..., *_places(problem, tap, used))
            source: tuple[Any, ...] = (slice(None), slice(None), *tap, *used)
            out[places] += columns[source]


def _places(
    problem: ConvProblem, tap: tuple[int, ...], outputs: tuple[slice, ...]
) -> tuple[slice, ...]:
    """What one tap reads of the input (not padded) for some of the outputs."""
    padded = windows_of(problem, tap)
    places = []
    for whole, part, before in zip(padded, outputs, problem.pad, strict=True):
        first = whole.start - before + part.start * whole.step
        count = part.stop - part.start
        places.append(slice(first, first + (count - 1) * whole.step + 1, whole.step))
    return tuple(places)
