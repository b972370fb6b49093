"""What a launch cost: instructions, sectors of global memory, bank conflicts of shared memory."""

from collections import Counter
from contextlib import contextmanager

import numpy as np


def sectors(warps, offsets):
    """How many 32-byte sectors the accesses touch, counted per warp."""
    return len(np.unique((warps << 40) | (offsets >> 5)))


def extra_wavefronts(lanes, offsets, size):
    """How many more passes than conflict-free ones shared memory takes for the accesses.

    Accesses of 8 bytes are served by halves of a warp, of 16 bytes by quarters; in each such
    phase a bank gives one word of 4 bytes, to any number of threads.
    """
    words = max(size // 4, 1)
    phase = lanes // (32 // words)
    at = (offsets // 4)[:, None] + np.arange(words)
    pairs = np.unique((phase[:, None] << 32 | at).ravel())
    phases, banks = pairs >> 32, pairs & 31
    _, load = np.unique(phases << 5 | banks, return_counts=True)
    keys = np.unique(phases << 5 | banks) >> 5
    most = np.zeros(int(keys.max()) + 1, np.int64)
    np.maximum.at(most, keys, load)
    return int((most[most > 0] - 1).sum())


class Observer:
    """Takes note of memory accesses for the race check and, if asked to, for the counts."""

    def __init__(self, batch):
        self.batch = batch
        self.paused = False
        self.counts = Counter()

    @contextmanager
    def pause(self):
        """Accesses that aren't to be looked at."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    def note(self, instruction, name, lanes, offsets, size, write):
        """One access of `size` bytes at `offsets` of a memory by `lanes`."""
        if self.paused:
            return
        batch = self.batch
        if name == "shared":
            batch.races.note(instruction, lanes, offsets, size, write)
            if write and batch.machine.racecheck:
                batch.readings.written(instruction, lanes, offsets, False)
        elif name == "global" and batch.machine.racecheck:
            blocks = batch.numbers[batch.block_of[lanes]]
            batch.machine.owners.note(blocks, offsets, size, write, "nc" in instruction.op)
        if batch.machine.profile:
            self.profile(name, lanes, offsets, size, write)

    def profile(self, name, lanes, offsets, size, write):
        """Count the access."""
        verb = "store" if write else "load"
        if name == "global":
            found = sectors(self.batch.warp_of[lanes], offsets)
            self.counts[f"global {verb} sectors"] += found
            self.counts["global sectors"] += found
        elif name == "shared":
            self.counts["bank conflicts"] += extra_wavefronts(lanes, offsets, size)
