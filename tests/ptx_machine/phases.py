"""mbarriers: arrivals and bytes are counted, threads wait for phases to end.

Threads whose `try_wait` (or `test_wait`) would fail are parked until the phase ends, so that loops
that wait cost nothing and a wait that nobody will end is found. The end of a phase counts as a
barrier of the block to the race check.
"""

from dataclasses import dataclass, field

import numpy as np

from .errors import Fault, MachineError
from .memory import GOOD
from .moves import Access
from .operands import Imm, Sym
from .steps import builds, by_lanes, unknown


@dataclass(slots=True)
class Phaser:
    """One mbarrier: who must come in each phase, who is awaited in this one, bytes to come."""

    expected: int
    pending: int
    bytes: int = 0
    by: int = 0
    phase: int = 0
    public: bool = False
    fenced: bool = False
    copies: list = field(default_factory=list)


@dataclass(slots=True)
class Waiting:
    """Threads parked at a wait."""

    instruction: object
    lanes: np.ndarray
    following: int
    target: np.ndarray
    phase: int | None
    parity: int | None


class Phases:
    """The mbarriers of a batch, by their place in its shared memory."""

    def __init__(self, batch):
        self.batch = batch
        self.clear()

    def clear(self):
        """No mbarrier is there."""
        self.barriers = {}
        self.parked = {}
        self.woken = []

    def at(self, offset, lane):
        """The mbarrier at a place."""
        if offset not in self.barriers:
            raise Fault("no mbarrier was initialised there", lane)
        barrier = self.barriers[offset]
        if not barrier.public and lane >> 5 != barrier.by >> 5:
            raise Fault("an mbarrier is used with no barrier after its initialisation", lane)
        return barrier

    def publish(self, blocks):
        """All threads of these blocks (None: of all) have met: they may use their mbarriers."""
        for offset, barrier in self.barriers.items():
            if blocks is None or blocks[offset // self.batch.shared.stride]:
                barrier.public = True

    def fence(self, lanes):
        """Their mbarriers may be used by the asynchronous proxy."""
        for barrier in self.barriers.values():
            barrier.fenced |= barrier.by in lanes

    def advance(self, offset, arrivals, transferred, lane):
        """Count arrivals in and bytes (those expected as negative numbers)."""
        barrier = self.at(offset, lane)
        barrier.pending -= arrivals
        barrier.bytes -= transferred
        if barrier.pending < 0:
            raise Fault("more arrivals at an mbarrier than its phase awaits", lane)
        if barrier.pending or barrier.bytes:
            return
        barrier.phase += 1
        barrier.pending = barrier.expected
        block = np.zeros(self.batch.blocks, bool)
        block[offset // self.batch.shared.stride] = True
        self.batch.meet(block)
        for waiting in self.parked.pop(offset, ()):
            if not self.try_wait(offset, waiting):
                self.parked.setdefault(offset, []).append(waiting)

    def try_wait(self, offset, waiting):
        """Let threads go on if their phase has ended: whether it had."""
        barrier = self.at(offset, int(waiting.lanes[-1]))
        if waiting.parity is None:
            done = barrier.phase > waiting.phase
        else:
            done = barrier.phase & 1 != waiting.parity
        if done:
            for land in barrier.copies:
                land()
            barrier.copies.clear()
            if waiting.target is not None:
                waiting.target[waiting.lanes] = True
            self.woken.append((waiting.following, waiting.lanes))
        return done

    def ending(self, instruction, following):
        """What try_wait and test_wait, which end a block, do with their lanes."""
        target, address, value, *_ = instruction.operands
        place = Place(self.batch, instruction, address)
        target = self.batch.target(target, "pred")
        parity = "parity" in instruction.op
        value = self.batch.source(value, "u32" if parity else "u64")

        def run(lanes):
            offsets, values = place.offsets(lanes), value[lanes]
            for offset in np.unique(offsets):
                here = offsets == offset
                for number in np.unique(values[here]):
                    some = lanes[here & (values == number)]
                    phase = None if parity else int(number)
                    waiting = Waiting(
                        instruction, some, following, target, phase, int(number) if parity else None
                    )
                    if not self.try_wait(int(offset), waiting):
                        self.parked.setdefault(int(offset), []).append(waiting)
            return ()

        return run

    def take_woken(self):
        """Those who can go on, as (block of code, lanes)."""
        woken, self.woken = self.woken, []
        return woken

    def stuck(self):
        """Raise if threads wait for a phase that nobody can end."""
        for offset, parked in self.parked.items():
            barrier, waiting = self.barriers[offset], parked[0]
            raise MachineError(
                f"line {waiting.instruction.line}: "
                f"{self.batch.thread_name(int(waiting.lanes[0]))}: deadlock: phase "
                f"{barrier.phase} of an mbarrier never ends, {barrier.pending} arrivals and "
                f"{barrier.bytes} bytes are missing: {waiting.instruction.text}"
            )


class Place:
    """The place in shared memory that an address operand of an instruction names."""

    def __init__(self, batch, instruction, address, size=8):
        self.batch = batch
        self.access = Access(batch, instruction, address, "shared", size)
        self.size = size

    def offsets(self, lanes):
        """The places of some lanes."""
        addresses = self.access.addresses(lanes)
        try:
            return self.batch.shared.offsets(addresses, lanes, self.size)
        except Fault as fault:
            fault.lane = int(lanes[fault.lane])
            raise


@builds("mbarrier")
def mbarrier(batch, instruction):
    """mbarrier.init, inval, expect_tx, complete_tx, arrive, arrive_drop."""
    op, operands = instruction.op, list(instruction.operands)
    name = op[1]
    state = operands.pop(0) if name.startswith("arrive") else Sym("_")
    if name not in ("init", "inval", "expect_tx", "complete_tx", "arrive", "arrive_drop"):
        raise unknown(instruction)
    place = Place(batch, instruction, operands.pop(0))
    state = batch.target(state, "u64")
    number = batch.source(operands[0] if operands else Imm(1), "u32")
    phases = batch.phases

    def one(lane, offset, count):
        if name == "init":
            if offset in phases.barriers:
                raise Fault("an mbarrier is initialised twice", lane)
            phases.barriers[offset] = Phaser(count, count, by=lane)
            batch.shared.state[offset : offset + 8] = GOOD
            return
        barrier = phases.at(offset, lane)
        if state is not None:
            state[lane] = barrier.phase
        if name == "inval":
            del phases.barriers[offset]
        elif name.endswith("tx"):
            phases.advance(offset, 0, count if name == "complete_tx" else -count, lane)
        elif "expect_tx" in op:
            barrier.bytes += count
            phases.advance(offset, 1, 0, lane)
        else:
            if name == "arrive_drop":
                barrier.expected -= count
            phases.advance(offset, count, 0, lane)

    def run(lanes):
        for lane, offset, count in zip(lanes, place.offsets(lanes), number[lanes], strict=True):
            one(int(lane), int(offset), int(count))

    return by_lanes(batch, run)
