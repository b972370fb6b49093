"""bar.sync and barrier.sync: threads wait until those of their block have come."""

from dataclasses import dataclass

import numpy as np

from .errors import Fault, MachineError
from .steps import condition, unknown


@dataclass(slots=True)
class Parked:
    """Threads waiting at one barrier instruction."""

    instruction: object
    lanes: np.ndarray
    following: int
    finish: object


class Barriers:
    """The barriers of a batch's blocks and who waits at them."""

    def __init__(self, batch):
        self.batch = batch
        self.clear()

    def clear(self):
        """Nobody waits."""
        self.parked = {}
        self.arrived = {}
        self.expected = {}

    def ending(self, instruction, following):
        """What a barrier instruction that ends a block does with its lanes."""
        op = instruction.op
        if "cluster" in op or not {"sync", "arrive", "red"} & set(op):
            raise unknown(instruction)
        operands = list(instruction.operands)
        finish = None
        if "red" in op:
            target = operands.pop(0)
            finish = self.reduction(instruction, target, operands.pop())
        number = self.batch.source(operands.pop(0), "u32")
        threads = self.batch.source(operands.pop(0), "u32") if operands else None
        arrive = "arrive" in op
        aligned = op[0] == "bar" or "aligned" in op

        def run(lanes):
            if aligned:
                self.batch.whole_warps(lanes, "divergent barrier: reached")
            if threads is None and len(lanes) == self.batch.alive.sum() and not self.parked:
                self.meet(None)
                if finish:
                    finish(lanes)
                return ((following, lanes),)
            each = number[lanes]
            for k in np.unique(each):
                some = lanes[each == k]
                wanted = None if threads is None else int(threads[some[0]])
                self.arrive(int(k), some, wanted)
                if not arrive:
                    waiting = Parked(instruction, some, following, finish)
                    self.parked.setdefault(int(k), []).append(waiting)
            out = self.release()
            return (*out, (following, lanes)) if arrive else out

        return run

    def reduction(self, instruction, target, source):
        """What bar.red leaves in every thread when its block is complete."""
        batch = self.batch
        name = next(part for part in instruction.op if part in ("popc", "and", "or"))
        out = batch.target(target, "u32" if name == "popc" else "pred")
        row, negated = condition(batch, source)

        def finish(lanes):
            blocks = batch.block_of[lanes]
            yes = np.bincount(blocks, row[lanes] ^ negated, minlength=batch.blocks)
            all_ = np.bincount(blocks, minlength=batch.blocks)
            value = {"popc": yes, "and": yes == all_, "or": yes > 0}[name]
            out[lanes] = value[blocks]

        return finish

    def arrive(self, number, lanes, wanted):
        """Count threads in."""
        batch = self.batch
        counts = np.bincount(batch.block_of[lanes], minlength=batch.blocks)
        if number not in self.arrived:
            self.arrived[number] = np.zeros(batch.blocks, np.int64)
            self.expected[number] = np.zeros(batch.blocks, np.int64)
        before = self.expected[number]
        here = counts > 0
        now = -1 if wanted is None else wanted
        if ((before != 0) & (before != now) & here).any():
            raise Fault(f"barrier {number} is awaited with different counts", int(lanes[0]))
        before[here] = now
        self.arrived[number] += counts

    def release(self):
        """Let those go on whose barriers are complete: (block of code, lanes) pairs."""
        if not self.arrived:
            return ()
        batch = self.batch
        alive = np.count_nonzero(batch.alive.reshape(batch.blocks, -1), axis=1)
        out = []
        for number, arrived in list(self.arrived.items()):
            expected = self.expected[number]
            wanted = np.where(expected < 0, alive, expected)
            done = (arrived > 0) & (arrived >= wanted)
            if not done.any():
                continue
            self.meet(None if done.all() else done)
            out += self.leave(number, done)
            arrived[done] = 0
            expected[done] = 0
            if not arrived.any():
                del self.arrived[number], self.expected[number]
        return tuple(out)

    def leave(self, number, done):
        """Unpark the threads of complete blocks."""
        batch = self.batch
        stay, go = [], []
        where = np.full(batch.blocks, -1)
        for parked in self.parked.pop(number, ()):
            blocks = batch.block_of[parked.lanes]
            released = parked.lanes[done[blocks]]
            kept = parked.lanes[~done[blocks]]
            if len(kept):
                stay.append(Parked(parked.instruction, kept, parked.following, parked.finish))
            if len(released):
                mine = batch.block_of[released]
                other = (where[mine] >= 0) & (where[mine] != parked.following)
                if other.any() and self.expected[number][mine[other.argmax()]] < 0:
                    raise Fault(
                        "divergent barrier: threads of a block wait at different instructions, "
                        f"one on line {parked.instruction.line}",
                        int(released[other.argmax()]),
                    )
                where[mine] = parked.following
                go.append(Parked(parked.instruction, released, parked.following, parked.finish))
        if stay:
            self.parked[number] = stay
        finish = go[0].finish if go else None
        if finish:
            finish(np.concatenate([parked.lanes for parked in go]))
        return [(parked.following, parked.lanes) for parked in go]

    def meet(self, blocks):
        """The threads of these blocks (None: of all) have met."""
        self.batch.meet(blocks)
        self.batch.phases.publish(blocks)

    def stuck(self):
        """Nobody can run, threads wait."""
        self.batch.phases.stuck()
        waiting = next(iter(self.parked.values()))
        parked = waiting[0]
        lane = int(parked.lanes[0])
        block = self.batch.block_of[lane]
        alive = self.batch.alive.reshape(self.batch.blocks, -1)[block]
        count = sum(int((self.batch.block_of[p.lanes] == block).sum()) for p in waiting)
        raise MachineError(
            f"line {parked.instruction.line}: {self.batch.thread_name(lane)}: divergent barrier or "
            f"deadlock: {count} of the {int(alive.sum())} threads of the block wait here, nobody "
            f"else can run: {parked.instruction.text}"
        )
