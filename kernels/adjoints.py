"""dgrad and wgrad made of fprop rows.

dgrad: the outputs of a transposed convolution whose positions agree modulo the stride read the same
taps, a stride apart, so each such phase is a convolution of stride 1 of the output's gradient with
every other (flipped) tap: fprop rows compute it on strided views, and nothing is scattered.
wgrad: a convolution too, of the input with the output's gradient as its kernel, where batch and
channels change places, and so do stride and dilation.
Source: Dumoulin and Visin 2016 (1603.07285) for the first; both are how cuDNN names its passes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .problem import ConvProblem, activate

Array = np.ndarray[Any, Any]
Row = Callable[..., None]
Slices = tuple[slice, ...]


class _AxisPhase(NamedTuple):
    """One axis of a phase: an fprop of stride 1 from ``source`` with ``taps`` to ``target``."""

    source: slice
    taps: slice
    target: slice
    size: int
    kernel: int
    output: int
    dilation: int
    pad: int


class Phase(NamedTuple):
    """An fprop of the places ``source`` of grad_output, with the weight's ``taps``, to the places
    ``target`` of the result."""

    problem: ConvProblem
    source: Slices
    taps: Slices
    target: Slices


def _axis_phases(
    size: int, kernel: int, output: int, stride: int, dilation: int, pad: int
) -> Iterator[_AxisPhase]:
    # Input position i = stride * u + a - pad is read by tap t of output u - (t * dilation - a) /
    # stride wherever that is whole: by every ``step``-th tap from a first one, which decides a.
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    for first in range(min(step, kernel)):
        a = first * dilation % stride
        start = (a - pad) % stride
        taps = (kernel - 1 - first) // step + 1
        behind = (first * dilation - a) // stride + (taps - 1) * spread
        before = behind - (start + pad) // stride
        begin = max(-before, 0)
        if start >= size or begin >= output:
            continue
        last = first + (taps - 1) * step
        yield _AxisPhase(
            source=slice(begin, None),
            taps=slice(last, first - 1 if first else None, -step),
            target=slice(start, None, stride),
            size=output - begin,
            kernel=taps,
            output=-(-(size - start) // stride),
            dilation=spread,
            pad=max(before, 0),
        )


@lru_cache(maxsize=256)
def phases_of(problem: ConvProblem) -> tuple[Phase, ...]:
    """The phases of a dgrad, at most one for each tap; no two have a place in common."""
    rows = zip(
        problem.size, problem.kernel, problem.output, problem.stride, problem.dilation, problem.pad,
        strict=True,
    )  # fmt: skip
    phases = []
    for depth, height, width in itertools.product(*(_axis_phases(*row) for row in rows)):
        axes = depth, height, width
        fields = dict(zip("dhw", (axis.size for axis in axes), strict=True))
        fields |= zip("trs", (axis.kernel for axis in axes), strict=True)
        fields |= zip("opq", (axis.output for axis in axes), strict=True)
        for letter, axis in zip("dhw", axes, strict=True):
            fields |= {f"dilation_{letter}": axis.dilation, f"pad_{letter}": axis.pad}
        part = problem._replace(
            c=problem.k, k=problem.c, stride_d=1, stride_h=1, stride_w=1, **fields
        )
        source, taps, target = zip(*(axis[:3] for axis in axes), strict=True)
        phases.append(Phase(part, source, taps, target))
    return tuple(phases)


def dgrad_parts(problem: ConvProblem) -> tuple[ConvProblem, ...]:
    """The fprop problems that a dgrad runs."""
    return tuple(phase.problem for phase in phases_of(problem))


def exchange_channels(weight: Array, groups: int) -> Array:
    """(K, C/G, ...) as (C, K/G, ...): a view, or a copy for groups of several channels.

    >>> exchange_channels(np.zeros((6, 2, 3, 3, 3)), 3).shape
    (6, 2, 3, 3, 3)
    """
    out_channels, per_group, *taps = weight.shape
    grouped = weight.reshape(groups, out_channels // groups, per_group, *taps)
    return grouped.swapaxes(1, 2).reshape(groups * per_group, out_channels // groups, *taps)


def dgrad(fprop: Row, skipping: Row | None = None) -> Row:
    """The dgrad row of an fprop row.

    No position of the result sees an output that isn't there, so an infinite weight must not be
    multiplied by padding: ``skipping`` is a dgrad row for that case, where ``fprop`` would.
    """

    def run_dgrad(
        grad_output: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem,
        scratch: Array, activation: int, threads: int,
    ) -> None:  # fmt: skip
        if skipping is not None and not np.isfinite(weight).all():
            skipping(grad_output, weight, bias, out, problem, scratch, activation, threads)
            return
        filters, phases = exchange_channels(weight, problem.g), phases_of(problem)
        covered = sum(math.prod(phase.problem.output) for phase in phases)
        if covered < math.prod(problem.size):
            # Places that no output reads.
            alone = bias.reshape(-1, 1, 1, 1) if bias.size else np.zeros(1, out.dtype)
            out[...] = activate(alone, activation)
        for phase in phases:
            source, taps = grad_output[:, :, *phase.source], filters[:, :, *phase.taps]
            target = out[:, :, *phase.target]
            fprop(source, taps, bias, target, phase.problem, scratch, activation, threads)

    return run_dgrad


def exchanged(problem: ConvProblem) -> ConvProblem:
    """The fprop problem that computes the weights' gradient of one group."""
    return ConvProblem(
        problem.c, 1, problem.n, problem.k, *problem.size, *problem.output, *problem.kernel,
        *problem.dilation, *problem.stride, *problem.pad,
    )  # fmt: skip


def wgrad_parts(problem: ConvProblem) -> tuple[ConvProblem, ...]:
    """The fprop problems that a wgrad made of an fprop row runs, one per group."""
    return (exchanged(problem),) * problem.g if problem.n else ()


def wgrad(fprop: Row) -> Row:
    """The wgrad row of an fprop row."""

    def run_wgrad(
        x: Array, grad_output: Array, bias: Array, out: Array, problem: ConvProblem,
        scratch: Array, activation: int, threads: int,
    ) -> None:  # fmt: skip
        if problem.n == 0:
            out[...] = 0
            return
        none, part = np.empty(0, x.dtype), exchanged(problem)
        for group in range(problem.g):
            channels = slice(group * problem.c, (group + 1) * problem.c)
            filters = slice(group * problem.k, (group + 1) * problem.k)
            fprop(
                x[:, channels].swapaxes(0, 1), grad_output[:, filters].swapaxes(0, 1), none,
                out[filters].swapaxes(0, 1), part, scratch, 0, threads,
            )  # fmt: skip

    return run_wgrad
