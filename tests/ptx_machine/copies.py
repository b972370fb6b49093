"""cp.async: copies to shared memory that land when their thread waits for them."""

from dataclasses import dataclass

import numpy as np

from .bulk import bulk_copy
from .errors import Fault
from .memory import ALLOCATED, GOOD, PENDING, check_alignment
from .operands import Imm, Sym
from .steps import Step, builds, by_lanes, nothing, unknown


@dataclass(slots=True)
class Copy:
    """One cp.async of some lanes: where to, what, and each lane's group."""

    instruction: object
    lanes: np.ndarray
    offsets: np.ndarray
    data: np.ndarray
    group: np.ndarray


class Copies:
    """The copies under way in a batch."""

    def __init__(self, batch):
        self.batch = batch
        self.committed = np.zeros(batch.lanes, np.int64)
        self.under_way = []

    def clear(self):
        """Nothing is under way."""
        self.committed[:] = 0
        self.under_way = []

    def issue(self, instruction, lanes, offsets, data):
        """Begin copies of data (lanes, bytes) to offsets of shared memory."""
        batch = self.batch
        size = data.shape[1]
        at = offsets[:, None] + np.arange(size)
        state = batch.shared.state
        if not (state[at] & ALLOCATED).all():
            raise Fault("copy outside what is allocated in shared memory", int(lanes[0]))
        state[at] = ALLOCATED | PENDING
        batch.observe(instruction, "shared", lanes, offsets, size, True)
        group = self.committed[lanes]
        self.under_way.append(Copy(instruction, lanes, offsets, data, group))

    def commit(self, lanes):
        """cp.async.commit_group."""
        self.committed[lanes] += 1

    def wait(self, lanes, allowed):
        """cp.async.wait_group: land all but the `allowed` latest groups of each lane."""
        if not self.under_way:
            return
        below = np.full(self.batch.lanes, -1)
        below[lanes] = self.committed[lanes] - allowed
        left = []
        for copy in self.under_way:
            done = copy.group < below[copy.lanes]
            if done.all():
                self.land(copy)
                continue
            if done.any():
                self.land(self.part(copy, done))
                copy = self.part(copy, ~done)
            left.append(copy)
        self.under_way = left

    @staticmethod
    def part(copy, which):
        """The copy of some of its lanes."""
        return Copy(
            copy.instruction,
            copy.lanes[which],
            copy.offsets[which],
            copy.data[which],
            copy.group[which],
        )

    def land(self, copy):
        """Put the data where it belongs."""
        batch = self.batch
        size = copy.data.shape[1]
        at = copy.offsets[:, None] + np.arange(size)
        batch.shared.data[at] = copy.data
        batch.shared.state[at] = GOOD
        batch.races.note(copy.instruction, copy.lanes, copy.offsets, size, True)
        if batch.machine.racecheck:
            batch.readings.written(copy.instruction, copy.lanes, copy.offsets, False)

    def remind(self, done):
        """After a barrier: what is under way may be written in the next interval too."""
        for copy in self.under_way:
            which = slice(None) if done is None else done[self.batch.block_of[copy.lanes]]
            lanes = copy.lanes[which]
            if len(lanes):
                size = copy.data.shape[1]
                self.batch.races.note(copy.instruction, lanes, copy.offsets[which], size, True)


def gather(batch, instruction, lanes, addresses, sizes, size):
    """Read `sizes` bytes at global addresses, the rest of each row of `size` bytes zeros."""
    out = np.zeros((len(addresses), size), np.uint8)
    for count in np.unique(sizes):
        if count == 0:
            continue
        if count > size:
            raise Fault("src-size exceeds cp-size", int((sizes == count).argmax()))
        which = np.flatnonzero(sizes == count)
        try:
            offsets = batch.arena.offsets(addresses[which], 1)
            at = offsets[:, None] + np.arange(count)
            state = batch.arena.state[at]
            if not (state == GOOD).all():
                batch.arena.blame(state, int(count), batch.initcheck, "global")
            out[which[:, None], np.arange(count)] = batch.arena.data[at]
            batch.observe(instruction, "global", lanes[which], offsets, int(count), False)
        except Fault as fault:
            fault.lane = int(which[fault.lane])
            raise
    return out


@builds("cp")
def copy(batch, instruction):
    """cp.async and its group instructions; cp.async.bulk elsewhere."""
    op = instruction.op
    if op[1] != "async":
        raise unknown(instruction)
    if op[2] == "bulk":
        return bulk_copy(batch, instruction)
    copies = batch.copies
    if op[2] == "commit_group":
        return by_lanes(batch, copies.commit)
    if op[2] == "wait_group":
        allowed = batch.constant(instruction.operands[0])
        return by_lanes(batch, lambda lanes: copies.wait(lanes, allowed))
    if op[2] == "wait_all":

        def wait_all(lanes):
            copies.commit(lanes)
            copies.wait(lanes, 0)

        return by_lanes(batch, wait_all)
    if op[2] not in ("ca", "cg"):
        raise unknown(instruction)
    return _copy(batch, instruction)


def _copy(batch, instruction):
    """cp.async.ca and .cg."""
    to, source, size, *rest = instruction.operands
    size = batch.constant(size)
    if size not in (4, 8, 16) or (instruction.op[2] == "cg" and size != 16):
        raise unknown(instruction)
    sizes = batch.source(rest[0] if rest else Imm(size), "u32")
    into = (
        batch.source(to.base, "u32")
        if not isinstance(to.base, Sym)
        else batch.spread(np.uint32(batch.address(to.base)))
    )
    come_from = batch.source(source.base, "u64")

    def run(lanes):
        try:
            where = into[lanes].astype(np.int64) + to.offset
            offsets = batch.shared.offsets(where.view(np.uint64), lanes, size)
            addresses = come_from[lanes] + np.uint64(source.offset & (2**64 - 1))
            check_alignment(addresses.view(np.int64), size, "global")
            data = gather(batch, instruction, lanes, addresses, sizes[lanes].astype(int), size)
        except Fault as fault:
            fault.lane = int(lanes[fault.lane])
            raise
        batch.copies.issue(instruction, lanes, offsets, data)

    return by_lanes(batch, run)


@builds("fence")
def fence(batch, instruction):
    """fence.proxy.async and fence.mbarrier_init matter; memory is in order without the others."""
    if not {"async", "mbarrier_init"} & set(instruction.op):
        return Step(nothing, nothing)

    def run(lanes):
        batch.readings.fence(lanes)
        batch.phases.fence(lanes)

    return by_lanes(batch, run)


@builds("membar", "griddepcontrol", "nanosleep", "setmaxnreg", "createpolicy", "pmevent")
def no_operation(batch, instruction):
    """What has no effect here."""
    return Step(nothing, nothing)
