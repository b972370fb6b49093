"""What wgmma instructions under way read from shared memory, and what they may read there.

They read through the asynchronous proxy: what threads wrote (not tensor copies) must have been
fenced by its writer with fence.proxy.async. Notes are kept per 16 bytes.
"""

from dataclasses import dataclass

import numpy as np

from .errors import Fault, MachineError


@dataclass(slots=True)
class Reading:
    """Operands of one wgmma in shared memory: who reads where, and each warpgroup's group."""

    instruction: object
    lane: int
    offsets: np.ndarray
    group: int


class Readings:
    """The wgmmas of a batch that weren't waited for."""

    def __init__(self, batch):
        self.batch = batch
        code = (i for block in batch.program.blocks for i in block.code)
        self.on = any(i.op[0] == "wgmma" for i in code)
        units = batch.shared.size // 16 if self.on else 0
        self.writers = np.zeros(units, np.int64)
        self.readers = np.zeros(units, np.int64)
        self.clear()

    def clear(self):
        """Nothing is read, nothing unfenced."""
        self.committed = {}
        self.under_way = []
        self.writers[:] = 0
        self.readers[:] = 0

    def written(self, instruction, lanes, offsets, fenced):
        """Lanes write up to 16 bytes at offsets; tensor copies need no fence."""
        if not self.on:
            return
        units = offsets >> 4
        self.writers[units] = 0 if fenced else lanes + 1
        if self.under_way and self.readers[units].any():
            lane = int(lanes[self.readers[units].argmax()])
            raise MachineError(
                f"line {instruction.line}: {self.batch.thread_name(lane)}: writes where a wgmma "
                f"that wasn't waited for reads: {instruction.text}"
            )

    def fence(self, lanes):
        """fence.proxy.async: what these lanes wrote may be read."""
        if self.on:
            fenced = np.zeros(self.batch.lanes + 1, bool)
            fenced[lanes + 1] = True
            self.writers[fenced[self.writers]] = 0

    def issue(self, instruction, lane, offsets):
        """A warpgroup, named by its first lane, begins to read."""
        group = self.committed.get(lane, 0)
        units = offsets >> 4
        if self.writers[units].any():
            who = self.batch.thread_name(int(self.writers[units].max()) - 1)
            raise Fault(f"wgmma reads what {who} wrote without a fence.proxy.async", lane)
        self.readers[units] += 1
        self.under_way.append(Reading(instruction, lane, offsets, group))
        self.note(self.under_way[-1])

    def note(self, reading):
        """Tell the race check, for each of the four warps."""
        who = np.repeat(reading.lane + np.arange(0, 128, 32), len(reading.offsets))
        offsets = np.tile(reading.offsets, 4)
        self.batch.races.note(reading.instruction, who, offsets, 16, False)

    def commit(self, lanes):
        """wgmma.commit_group."""
        for lane in lanes[::128].tolist():
            self.committed[lane] = self.committed.get(lane, 0) + 1

    def wait(self, lanes, allowed):
        """wgmma.wait_group."""
        below = {lane: self.committed.get(lane, 0) - allowed for lane in lanes[::128].tolist()}
        left = []
        for reading in self.under_way:
            if reading.group >= below.get(reading.lane, 0):
                left.append(reading)
            else:
                self.readers[reading.offsets >> 4] -= 1
        self.under_way = left

    def remind(self, done):
        """After a barrier: those under way read on."""
        for reading in self.under_way:
            if done is None or done[self.batch.block_of[reading.lane]]:
                self.note(reading)
