"""The executable form of an instruction, and the table of what builds it.

A builder takes (batch, instruction) and returns a `Step`. `full()` executes it for all lanes of the
batch, `masked(lanes)` for some. A `pure` step touches registers only and cannot fail: it may run
for lanes that have ended, whose registers nobody will read.
"""

from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np

from .errors import MachineError
from .operands import Not


class Step(NamedTuple):
    """How to execute one instruction."""

    full: object
    masked: object
    pure: bool = True


#: Opcode (its first part) to builder.
BUILDERS = {}


def builds(*names):
    """Register a builder for opcodes."""

    def register(builder):
        for name in names:
            BUILDERS[name] = builder
        return builder

    return register


def unknown(instruction):
    """The error for what the machine doesn't model."""
    return MachineError(f"line {instruction.line}: unknown instruction: {instruction.text}")


def nothing(*_):
    """Do nothing."""


def elementwise(target, sources, compute, ufunc=None, pure=True):
    """The step ``target = compute(*sources)``; `ufunc` is the same with an output argument."""
    if target is None:
        return Step(nothing, nothing)
    if ufunc is not None:
        full = partial(ufunc, *sources, out=target)
    else:

        def full():
            target[...] = compute(*sources)

    if len(sources) == 2:
        first, second = sources

        def masked(lanes):
            target[lanes] = compute(first[lanes], second[lanes])
    else:

        def masked(lanes):
            target[lanes] = compute(*[source[lanes] for source in sources])

    return Step(full, masked, pure)


def by_lanes(batch, run, pure=False):
    """The step of an instruction written for a set of lanes only."""
    every = batch.every
    return Step(lambda: run(every), run, pure)


def condition(batch, operand):
    """A predicate operand, which may be negated: its row and whether to negate."""
    if isinstance(operand, Not):
        return batch.source(operand.operand, "pred"), True
    return batch.source(operand, "pred"), False


def guarded(step, predicate, negated):
    """The step under a predicate."""
    whole = len(predicate)

    def full():
        lanes = np.flatnonzero(~predicate if negated else predicate)
        if len(lanes) == whole:
            step.full()
        elif len(lanes):
            step.masked(lanes)

    def masked(lanes):
        keep = predicate[lanes]
        keep = lanes[~keep if negated else keep]
        if len(keep):
            step.masked(keep)

    return Step(full, masked, step.pure)


@contextmanager
def naming(instruction):
    """Errors of operands that don't fit name the instruction."""
    try:
        yield
    except MachineError as error:
        if str(error).startswith("line "):
            raise
        raise MachineError(f"line {instruction.line}: {error}: {instruction.text}") from None
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise MachineError(f"line {instruction.line}: {error!r}: {instruction.text}") from error


def build_step(batch, instruction):
    """The step of an instruction, its guard included."""
    builder = BUILDERS.get(instruction.op[0])
    if builder is None:
        raise unknown(instruction)
    with naming(instruction):
        step = builder(batch, instruction)
    if instruction.guard:
        name, negated = instruction.guard
        step = guarded(step, batch.registers[name], negated)
    return step
