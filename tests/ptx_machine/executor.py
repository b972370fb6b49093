"""Runs a batch: which threads execute what, and when.

Threads at the same block of code form a group, an ascending array of lanes. The group that is
foremost in the program's order runs its block to the end, then its threads go on, part or meet
others.
"""

from collections import Counter

import numpy as np

from .barriers import Barriers
from .errors import Fault, MachineError
from .steps import build_step, naming, unknown


class Executor:
    """The compiled blocks of a batch."""

    def __init__(self, batch):
        self.batch = batch
        self.barriers = Barriers(batch)
        self.code = [self.compile(block) for block in batch.program.blocks]
        self.executions = np.zeros(len(self.code), np.int64)
        self.alive = 0

    def compile(self, block):
        """(steps, what ends the block, its instructions)."""
        steps = [build_step(self.batch, instruction) for instruction in block.code]
        with naming(block.end):
            return steps, self.ending(block), block.code

    def ending(self, block):
        """A function of the lanes that returns the (block, lanes) they go on to."""
        end, following, phases = block.end, block.next, self.batch.phases
        if end is None:
            return lambda lanes: ((following, lanes),)
        name = end.op[0]
        if name == "bra":
            if end.guard is None:
                target = block.targets[0]
                return lambda lanes: ((target, lanes),)
            return self.branch(end.guard, block.targets[0], following)
        if name == "brx":
            return self.switch(end, block.targets)
        if name in ("ret", "exit"):
            return self.guarded(end, lambda lanes: self.exit(lanes), following)
        if name == "trap":
            return self.guarded(end, self.trap, following)
        if name == "mbarrier":
            return self.guarded(end, phases.ending(end, following), following)
        if name in ("bar", "barrier"):
            return self.guarded(end, self.barriers.ending(end, following), following)
        raise unknown(end)

    def branch(self, guard, target, following):
        """A conditional branch."""
        row, negated = self.batch.registers[guard[0]], guard[1]

        def run(lanes):
            jump = row if len(lanes) == len(row) else row[lanes]
            count = np.count_nonzero(jump)
            if negated:
                count = len(lanes) - count
            if count == len(lanes):
                return ((target, lanes),)
            if count == 0:
                return ((following, lanes),)
            if negated:
                jump = ~jump
            return ((target, lanes[jump]), (following, lanes[~jump]))

        return run

    def switch(self, end, targets):
        """brx.idx: a branch through a table."""
        row = self.batch.source(end.operands[0], "u32")

        def run(lanes):
            index = row[lanes]
            if index.max() >= len(targets):
                raise Fault("brx.idx beyond its table", int(lanes[index.argmax()]))
            return tuple((targets[k], lanes[index == k]) for k in np.unique(index))

        return run

    def guarded(self, end, action, following):
        """The ending `action` for those that the guard lets through; the others go on."""
        if end.guard is None:
            return action
        row, negated = self.batch.registers[end.guard[0]], end.guard[1]

        def run(lanes):
            chosen = row[lanes] ^ negated
            out = ()
            if not chosen.all():
                out = ((following, lanes[~chosen]),)
            if chosen.any():
                out += tuple(action(lanes[chosen]))
            return out

        return run

    def exit(self, lanes):
        """Threads end; barriers may now be complete without them."""
        self.batch.alive[lanes] = False
        self.alive -= len(lanes)
        return self.barriers.release()

    def trap(self, lanes):
        raise Fault("trap", int(lanes[0]))

    def opcodes(self):
        """Instructions executed by opcode, counted per warp."""
        counts = Counter()
        for times, (_, _, code), block in zip(
            self.executions.tolist(), self.code, self.batch.program.blocks, strict=True
        ):
            for instruction in (*code, *([block.end] if block.end else ())):
                counts[".".join(instruction.op)] += times
        return counts

    def run(self):
        """Run the batch to its end."""
        batch = self.batch
        lanes = np.flatnonzero(batch.alive)
        self.alive = len(lanes)
        self.barriers.clear()
        ready, phases, left = {0: lanes}, batch.phases, batch.machine.patience
        while True:
            while ready:
                rank = min(ready) if len(ready) > 1 else next(iter(ready))
                lanes = ready.pop(rank)
                onwards = self.execute(rank, lanes)
                left -= 1
                if left < 0:
                    raise MachineError(f"the kernel seems endless: {batch.thread_name(lanes[0])}")
                if phases.woken:
                    onwards = (*onwards, *phases.take_woken())
                for target, some in onwards:
                    if target in ready:
                        some = np.concatenate((ready[target], some))
                        some.sort()
                    ready[target] = some
            if not self.alive:
                break
            self.barriers.stuck()
        batch.races.barrier()

    def execute(self, rank, lanes):
        """Run one block of code for some lanes; where they go on."""
        steps, ending, code = self.code[rank]
        batch = self.batch
        count = len(lanes)
        position = 0
        try:
            if count == batch.lanes:
                self.executions[rank] += count >> 5
                for position, step in enumerate(steps):  # noqa: B007 (the position is for errors)
                    step.full()
            else:
                warps = np.count_nonzero(np.bincount(lanes >> 5))
                self.executions[rank] += warps
                if count == self.alive:
                    for position, step in enumerate(steps):  # noqa: B007
                        if step.pure:
                            step.full()
                        else:
                            step.masked(lanes)
                else:
                    for position, step in enumerate(steps):  # noqa: B007
                        step.masked(lanes)
            position = len(steps)
            return ending(lanes)
        except Fault as fault:
            instruction = code[position] if position < len(code) else batch.program.blocks[rank].end
            where = "" if fault.lane is None else batch.thread_name(fault.lane) + ": "
            raise MachineError(
                f"line {instruction.line}: {where}{fault.text}: {instruction.text}"
            ) from None
