"""dgrad rows made of fprop rows: the phases of ``kernels/adjoints.py``, on the host alone.

grad_output (N, K, O, P, Q)    any strides            IN   "first"
weight      (K, C/G, T, R, S)  same dtype             IN   "second"
out         (N, C, D, H, W)    overwritten            OUT
Each phase is an fprop of stride 1 on strided views: offsets into the operands and other strides,
so nothing is copied. Scratch: that of the fprop which takes most, for phases run one after the
other. Places that no output reads are filled with the activated bias by a launch of their own.
An infinite weight isn't multiplied by what an output that isn't there would give as long as the
fprop doesn't multiply its padding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numba
from numba import cuda, int32, uint32

from ..adjoints import Phases, phases_of
from ..problem import ConvProblem
from ..shapes import ceil_div
from .activations import activation_of
from .elements import reader, writer
from .indices import split
from .moving import itemsize_of, moved
from .program import ACCUMULATED, STORED, At, ConvCall, Entry, Launch, Program

Row = Callable[[ConvCall], Program]

FILL_THREADS = 128


def dgrad_of(fprop: Row) -> Row:
    """The dgrad row of an fprop row that takes any strides and ``ConvCall.second_group``."""

    def dgrad(call: ConvCall) -> Program:
        parts = [part for phases in phases_of(call.problem) for part in _calls(call, phases)]
        covered = sum(math.prod(part.problem.output) for part, _ in parts)
        gaps = covered < math.prod(call.problem.size)
        launches = list(_fill(call)) if gaps else []
        scratch = 0
        for part, offsets in parts:
            program = fprop(part)
            launches += [moved(launch, offsets, call.dtype) for launch in program.launches]
            scratch = max(scratch, program.scratch_bytes)
        return Program(tuple(launches), scratch)

    return dgrad


def _calls(call: ConvCall, phases: Phases) -> Iterator[tuple[ConvCall, dict[str, int]]]:
    """The fprops of phases that read the same windows, and where their operands begin."""
    problem, first, out = call.problem, call.first, call.out
    k_step, c_step, *tap_steps = call.second
    begins = [part.start for part in phases.source]
    for member in itertools.product(*phases.members):
        taps = [m.taps.start for m in member]
        places = [m.target.start for m in member]
        offsets = {
            "first": _dot(begins, first[2:]),
            "second": _dot(taps, tap_steps),
            "out": _dot(places, out[2:]),
        }
        o, p, q = (m.places for m in member)
        tap_strides = [m.taps.step * step for m, step in zip(member, tap_steps, strict=True)]
        out_strides = [m.target.step * step for m, step in zip(member, out[2:], strict=True)]
        one, two, three = (
            was and offset * itemsize_of(call.dtype) % 16 == 0
            for was, offset in zip(call.aligned, offsets.values(), strict=True)
        )
        yield (
            call._replace(
                problem=phases.problem._replace(k=problem.c, o=o, p=p, q=q),
                second=(c_step, k_step, *tap_strides),
                second_group=call.group_step if problem.g > 1 else 0,
                out=(*out[:2], *out_strides),
                aligned=(one, two, three),
            ),
            offsets,
        )


def _dot(positions: Any, steps: Any) -> int:
    return sum(at * step for at, step in zip(positions, steps, strict=True))


def build_fill(dtype: str, bias: bool, activation: Any) -> Callable[..., None]:
    """``out[n, c, d, h, w] = activation(bias[c])``, a thread per element, ``w`` fastest."""
    read, write, activate = reader(dtype), writer(dtype), activation_of(activation)
    threads, zero = FILL_THREADS, getattr(numba, ACCUMULATED[dtype])(0)

    def fill(values, out, problem, steps):
        i = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + uint32(cuda.threadIdx.x))
        i, w = split(i, problem.w)
        i, h = split(i, problem.h)
        i, d = split(i, problem.d)
        n, c = split(i, problem.g * problem.c)
        if n < problem.n:
            at = n * steps[0] + c * steps[1]
            at += d * steps[2] + h * steps[3] + w * steps[4]
            value = zero
            if bias:
                value = read(values, c)
            write(out, int32(at), activate(value))

    return fill


def _fill(call: ConvCall) -> Iterator[Launch]:
    problem: ConvProblem = call.problem
    total = problem.n * problem.g * problem.c * math.prod(problem.size)
    if total:
        pointer = f"{STORED[call.dtype]}*"
        entry = Entry(
            build_fill,
            (call.dtype, call.bias, call.activation),
            (pointer, pointer, "problem", "int32[5]"),
            FILL_THREADS,
        )
        values = At("bias" if call.bias else "second")
        grid = ceil_div(total, FILL_THREADS), 1, 1
        yield Launch(entry, grid, (values, At("out"), problem, call.out))
