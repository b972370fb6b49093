"""dgrad and wgrad made of fprop rows.

dgrad: the outputs of a transposed convolution whose positions agree modulo the stride read the same
taps, a stride apart, so each such phase is a convolution of stride 1 of the output's gradient with
every other (flipped) tap: fprop rows compute it on strided views, and nothing is scattered. Phases
that read the same windows (all of them where no windows overlap, as in 2x2/2) are out-channels of
one fprop. Where channels are too few for a row's registers, so are all phases, kernels filled up
with zeros, and neighbouring columns: an fprop of a greater stride, each kernel a column further on.
wgrad: a convolution too, of the input with the output's gradient as its kernel, where batch and
channels change places, and so do stride and dilation.
Source: Dumoulin and Visin 2016 (1603.07285) for the first; both are how cuDNN names its passes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from .blocking import DIRECT_CHANNELS, TILE_BYTES
from .drivers import ALIGNMENT, compiled_of, reads_padding
from .finite import all_finite
from .problem import ACTIVATION_CODES, REMEMBERED_TAPS, ConvProblem, activate
from .shapes import adjoint_phase, round_up
from .temporaries import carve, exchange_channels

Array = np.ndarray[Any, Any]
Row = Callable[..., None]
Slices = tuple[slice, ...]

#: Columns side by side at most: each makes the kernel a tap wider.
MOST_COLUMNS = 4


class _Member(NamedTuple):
    """Places of the result along an axis, and the taps that they read: ``taps`` of the weight, at
    ``offset`` in the kernel of the fprop."""

    target: slice
    taps: slice
    offset: int
    places: int


class _AxisPhases(NamedTuple):
    """Along an axis, phases that read the same windows of ``output`` places: ``kernel`` taps,
    ``dilation`` apart, the first window beginning ``before`` the first place."""

    output: int
    kernel: int
    stride: int
    dilation: int
    before: int
    members: tuple[_Member, ...]


class Phases(NamedTuple):
    """An fprop of the places ``source`` of grad_output; member i of the product of the axes'
    ``members`` is its i-th set of out-channels."""

    problem: ConvProblem
    source: Slices
    members: tuple[tuple[_Member, ...], ...]

    def views(self, grad_output: Array, filters: Array, out: Array) -> tuple[Array, Array, Array]:
        """What a single member's fprop reads and writes, of weights with channels exchanged."""
        (member,) = itertools.product(*self.members)
        taps = filters[:, :, *(m.taps for m in member)]
        return grad_output[:, :, *self.source], taps, _places_of(out, member)


def _axis_phases(
    size: int, kernel: int, output: int, stride: int, dilation: int, pad: int
) -> list[_AxisPhases]:
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    found: dict[tuple[int, int], list[_Member]] = {}
    for first in range(min(step, kernel)):
        start, taps, before = adjoint_phase(first, kernel, step, stride, dilation, pad)
        if start < size and -before < output:
            last = first + (taps - 1) * step
            flipped = slice(last, first - 1 if first else None, -step)
            count = -(-(size - start) // stride)
            member = _Member(slice(start, None, stride), flipped, 0, count)
            found.setdefault((before, taps), []).append(member)
    return [
        _AxisPhases(output, taps, 1, spread, before, tuple(members))
        for (before, taps), members in found.items()
    ]


def _merged(axis: list[_AxisPhases]) -> list[_AxisPhases]:
    """All phases of an axis as one: windows that begin with the first and end with the last, where
    taps are next to each other (else as they were)."""
    if len(axis) < 2 or axis[0].dilation > 1:
        return axis
    before = max(part.before for part in axis)
    members = [
        member._replace(offset=before - part.before) for part in axis for member in part.members
    ]
    kernel = max(before - part.before + part.kernel for part in axis)
    return [axis[0]._replace(kernel=kernel, before=before, members=tuple(members))]


def _side_by_side(part: _AxisPhases, columns: int) -> _AxisPhases:
    """The only phase of an axis of stride 1 as ``columns`` phases of neighbouring places."""
    (member,) = part.members
    size = member.places
    columns = min(columns, size)
    members = [
        _Member(slice(at, None, columns), member.taps, at, -(-(size - at) // columns))
        for at in range(columns)
    ]
    kernel = part.kernel + columns - 1
    return part._replace(kernel=kernel, stride=columns, members=tuple(members))


def _members(axes: Iterable[list[_AxisPhases]]) -> int:
    return math.prod(sum(len(part.members) for part in axis) for axis in axes)


def phases_of(problem: ConvProblem, channels: int = 0, columns: bool = False) -> tuple[Phases, ...]:
    """The fprops of a dgrad; no two have a place of the result in common.

    ``channels`` is how many out-channels a row computes side by side: if all phases together have
    no more, they are one fprop, and with ``columns`` so are neighbouring columns.
    """
    find = (
        _find_phases if math.prod(problem.kernel) <= REMEMBERED_TAPS else _find_phases.__wrapped__
    )
    return find(problem, channels, columns)


@lru_cache(maxsize=64)
def _find_phases(problem: ConvProblem, channels: int, columns: bool) -> tuple[Phases, ...]:
    rows = zip(
        problem.size, problem.kernel, problem.output, problem.stride, problem.dilation, problem.pad,
        strict=True,
    )  # fmt: skip
    each = [_axis_phases(*row) for row in rows]
    room = channels // max(problem.c * _members(each), 1)
    if room:
        each = [_merged(axis) for axis in each]
    if columns and room > 1 and problem.stride_w == 1 and len(each[2]) == 1:
        (axis,) = each[2]
        if axis.dilation == 1:
            each[2] = [_side_by_side(axis, min(room, MOST_COLUMNS))]
    return tuple(_phases(problem, axes) for axes in itertools.product(*each))


def _phases(problem: ConvProblem, axes: tuple[_AxisPhases, ...]) -> Phases:
    fields = dict(zip("trs", (axis.kernel for axis in axes), strict=True))
    fields |= zip("opq", (max(m.places for m in axis.members) for axis in axes), strict=True)
    source = []
    for letter, axis in zip("dhw", axes, strict=True):
        begin = max(-axis.before, 0)
        source.append(slice(begin, None))
        fields |= {letter: axis.output - begin, f"pad_{letter}": max(axis.before, 0)}
        fields |= {f"stride_{letter}": axis.stride, f"dilation_{letter}": axis.dilation}
    together = math.prod(len(axis.members) for axis in axes)
    part = problem._replace(c=problem.k, k=problem.c * together, **fields)
    return Phases(part, tuple(source), tuple(axis.members for axis in axes))


Split = Callable[[ConvProblem, int], tuple[Phases, ...]]


def by_itself(problem: ConvProblem, itemsize: int) -> tuple[Phases, ...]:
    """Each phase by itself, unless others read the same windows."""
    return phases_of(problem)


def in_rows(problem: ConvProblem, itemsize: int) -> tuple[Phases, ...]:
    """For the direct rows: phases side by side."""
    return phases_of(problem, DIRECT_CHANNELS)


def in_tiles(problem: ConvProblem, itemsize: int) -> tuple[Phases, ...]:
    """For rows of register tiles: phases and columns side by side."""
    return phases_of(problem, TILE_BYTES // itemsize, columns=True)


def in_panels(problem: ConvProblem, itemsize: int) -> tuple[Phases, ...]:
    """For rows that broadcast weights to vectors of pixels: phases side by side. Columns, of which
    each is a kernel of its own there, would make results to be copied, which costs more than all
    the rest."""
    return phases_of(problem, TILE_BYTES // itemsize)


def parts_of(split: Split) -> Callable[[ConvProblem, int], tuple[ConvProblem, ...]]:
    """The fprop problems that a dgrad runs."""

    def parts(problem: ConvProblem, itemsize: int) -> tuple[ConvProblem, ...]:
        return tuple(phases.problem for phases in split(problem, itemsize))

    return parts


def own_bytes(split: Split) -> Callable[[ConvProblem, int], int]:
    """The scratch that a dgrad takes besides that of its fprops: weights with their channels
    exchanged, and weights and result of phases that run together."""

    def size(problem: ConvProblem, itemsize: int) -> int:
        several = problem.g > 1 and problem.c > 1
        weights = problem.g * problem.k * problem.c * math.prod(problem.kernel)
        exchanged = round_up(weights * itemsize, ALIGNMENT) if several else 0
        every = *split(problem, itemsize), *by_itself(problem, itemsize)
        together = [part.problem for part in every if part.problem.k != problem.c]
        return exchanged + max((_together_bytes(part, itemsize) for part in together), default=0)

    return size


def _together_bytes(part: ConvProblem, itemsize: int) -> int:
    filters = part.g * part.k
    sizes = filters * part.c * math.prod(part.kernel), part.n * filters * math.prod(part.output)
    return sum(round_up(size * itemsize, ALIGNMENT) for size in sizes)


class _Plan(NamedTuple):
    """How a dgrad runs: its phases; whether some are together, so that zeros fill up kernels;
    whether an fprop reads padding; and whether phases leave places out."""

    phases: tuple[Phases, ...]
    together: bool
    padded: bool
    gaps: bool


def _plan(split: Split, problem: ConvProblem, itemsize: int) -> _Plan:
    make = _make_plan if math.prod(problem.kernel) <= REMEMBERED_TAPS else _make_plan.__wrapped__
    return make(split, problem, itemsize)


@lru_cache(maxsize=256)
def _make_plan(split: Split, problem: ConvProblem, itemsize: int) -> _Plan:
    phases = split(problem, itemsize)
    padded = any(reads_padding(part.problem) for part in phases)
    together = phases != by_itself(problem, itemsize)
    return _Plan(phases, together, padded, _covered(phases) < math.prod(problem.size))


def on_views(split: Split, problem: ConvProblem, itemsize: int) -> tuple[Phases, ...]:
    """The phases of a dgrad, if all it does is to run them on views; otherwise none."""
    plan, copied = _plan(split, problem, itemsize), problem.g > 1 and problem.c > 1
    more = copied or plan.gaps or any(part.problem.k != problem.c for part in plan.phases)
    return () if more else plan.phases


def dgrad(fprop: Row, skipping: Row | None = None, split: Split = by_itself) -> Row:
    """The dgrad row of an fprop row, its phases as ``split`` has them.

    No position of the result sees an output that isn't there, so an infinite weight must not be
    multiplied by padding: ``skipping`` is a dgrad row for that case, where ``fprop`` would. Nor may
    an infinite gradient be multiplied by the zeros that fill up a kernel. Either makes a NaN, so
    where the result is smaller than what would have to be looked at, the result is, and only if it
    has one are they.
    """

    def run_dgrad(
        grad_output: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem,
        scratch: Array, activation: int, threads: int,
    ) -> None:  # fmt: skip
        def run(plan: _Plan) -> None:
            _run_phases(
                fprop, plan, grad_output, weight, bias, out, problem, scratch, activation, threads
            )

        plan = _plan(split, problem, out.itemsize)
        doubtful = []
        if skipping is not None and plan.padded:
            doubtful.append(weight)
        if plan.together:
            doubtful.append(grad_output)
        afterwards = out.size < sum(array.size for array in doubtful)
        # A function of the user's might make something else of NaN.
        afterwards = afterwards and activation in ACTIVATION_CODES.values()
        if afterwards:
            run(plan)
            if not np.isnan(out).any():
                return
        if all(map(all_finite, doubtful)):
            if not afterwards:
                run(plan)
        elif skipping is not None and plan.padded and not all_finite(weight):
            skipping(grad_output, weight, bias, out, problem, scratch, activation, threads)
        else:
            run(_plan(by_itself, problem, out.itemsize))

    if (compiled := compiled_of(fprop)) is not None:
        run_dgrad.compiled = compiled._replace(  # type: ignore[attr-defined]
            skips_padding=skipping is not None, on_views=partial(on_views, split)
        )
    return run_dgrad


def _run_phases(
    fprop: Row, plan: _Plan, grad_output: Array, weight: Array, bias: Array, out: Array,
    problem: ConvProblem, scratch: Array, activation: int, threads: int,
) -> None:  # fmt: skip
    if plan.gaps:
        # Places that no output reads.
        alone = bias.reshape(-1, 1, 1, 1) if bias.size else np.zeros(1, out.dtype)
        out[...] = activate(alone, activation)
    filters, scratch = exchange_channels(weight, problem.g, scratch)
    for part in plan.phases:
        if part.problem.k == problem.c:
            source, taps, target = part.views(grad_output, filters, out)
            fprop(source, taps, bias, target, part.problem, scratch, activation, threads)
        else:
            source = grad_output[:, :, *part.source]
            _run_together(fprop, source, filters, bias, out, part, scratch, activation, threads)


def _covered(phases: tuple[Phases, ...]) -> int:
    """Places of the result that phases compute."""
    return sum(
        math.prod(sum(member.places for member in axis) for axis in part.members) for part in phases
    )


def _places_of(out: Array, member: Sequence[_Member]) -> Array:
    return out[:, :, *(m.target for m in member)]


def _run_together(
    fprop: Row, source: Array, filters: Array, bias: Array, out: Array, part: Phases,
    scratch: Array, activation: int, threads: int,
) -> None:  # fmt: skip
    """Run phases as out-channels of one fprop, ``[g][member][c]``, and copy each to its places."""
    problem, members = part.problem, list(itertools.product(*part.members))
    c = problem.k // len(members)
    per_group = filters.reshape(problem.g, c, *filters.shape[1:])
    shape = problem.g, len(members), c, problem.c, *problem.kernel
    weight, scratch = carve(scratch, shape, filters.dtype)
    weight[...] = 0
    for i, member in enumerate(members):
        taps = per_group[:, :, :, *(m.taps for m in member)]
        filled: Slices = tuple(
            slice(m.offset, m.offset + extent)
            for m, extent in zip(member, taps.shape[3:], strict=True)
        )
        weight[:, i][:, :, :, *filled] = taps
    if bias.size:
        bias = np.repeat(bias.reshape(problem.g, 1, c), len(members), axis=1).reshape(-1)
    every = problem.n, problem.g * problem.k, *problem.output
    result, scratch = carve(scratch, every, out.dtype)
    flat = weight.reshape(problem.g * problem.k, *weight.shape[3:])
    fprop(source, flat, bias, result, problem, scratch, activation, threads)
    sets = result.reshape(problem.n, problem.g, len(members), c, *problem.output)
    for i, member in enumerate(members):
        target = _places_of(out, member)
        computed: Slices = tuple(slice(m.places) for m in member)
        target[...] = sets[:, :, i][:, :, :, *computed].reshape(target.shape)


def exchanged(problem: ConvProblem) -> ConvProblem:
    """The fprop problem that computes the weights' gradient of one group."""
    return ConvProblem(
        problem.c, 1, problem.n, problem.k, *problem.size, *problem.output, *problem.kernel,
        *problem.dilation, *problem.stride, *problem.pad,
    )  # fmt: skip


def wgrad_parts(problem: ConvProblem, itemsize: int) -> tuple[ConvProblem, ...]:
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
