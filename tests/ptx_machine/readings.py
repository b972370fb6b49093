"""What wgmma instructions under way read from shared memory."""

from dataclasses import dataclass

import numpy as np


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
        self.clear()

    def clear(self):
        """None."""
        self.committed = {}
        self.under_way = []

    def issue(self, instruction, lane, offsets):
        """A warpgroup, named by its first lane, begins to read."""
        group = self.committed.get(lane, 0)
        self.under_way.append(Reading(instruction, lane, offsets, group))
        self.note(self.under_way[-1])

    def note(self, reading):
        """Tell the race check."""
        who = np.full(len(reading.offsets), reading.lane)
        self.batch.races.note(reading.instruction, who, reading.offsets, 16, False)

    def commit(self, lanes):
        """wgmma.commit_group."""
        for lane in lanes[::128].tolist():
            self.committed[lane] = self.committed.get(lane, 0) + 1

    def wait(self, lanes, allowed):
        """wgmma.wait_group."""
        below = {lane: self.committed.get(lane, 0) - allowed for lane in lanes[::128].tolist()}
        self.under_way = [r for r in self.under_way if r.group >= below.get(r.lane, 0)]

    def remind(self, done):
        """After a barrier: those under way read on."""
        for reading in self.under_way:
            if done is None or done[self.batch.block_of[reading.lane]]:
                self.note(reading)
