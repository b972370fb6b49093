"""Data races in shared memory.

Two accesses of different threads to one byte, at least one a write, are a race if no barrier of
the block stands between them, nor, for threads of one warp, a `bar.warp.sync`. Every access of an
interval between barriers is kept in a log; at the barrier first the writes are compared with each
other, then the reads with the writes. A named barrier for some of a block's threads counts as one
for all of them: races between those it leaves out and the others may be missed.
"""

import numpy as np

from .errors import MachineError

#: Accesses in the log before it is thinned out.
LIMIT = 2048


class Races:
    """The log of one batch; `on` switches it."""

    def __init__(self, batch):
        self.batch = batch
        self.on = True
        self.owner = {}
        self.log = []
        self.warp_time = None

    def clear(self):
        """Forget everything: a new batch begins."""
        self.log = []
        self.limit = LIMIT
        self.warp_time = None

    def note(self, instruction, lanes, offsets, size, write):
        """An access of `size` bytes at `offsets` by `lanes`."""
        if self.on:
            tokens = lanes
            if self.warp_time is not None:
                tokens = lanes | self.warp_time[self.batch.warp_of[lanes]] << 32
            self.log.append((tokens, offsets, size, write, instruction))
            if len(self.log) >= self.limit:
                self.thin()

    def thin(self):
        """Drop what the log of a long interval holds twice, as loops make it."""
        groups = {}
        for tokens, offsets, size, write, instruction in self.log:
            key = (id(instruction), size, write)
            groups.setdefault(key, (instruction, []))[1].append(np.stack((tokens, offsets)))
        self.log = []
        for (_, size, write), (instruction, pairs) in groups.items():
            tokens, offsets = np.unique(np.concatenate(pairs, axis=1), axis=1)
            self.log.append((tokens, offsets, size, write, instruction))
        self.limit = LIMIT + 2 * len(self.log)

    def warp_barrier(self, lanes):
        """`bar.warp.sync` or the like: accesses of these warps before and after it are ordered."""
        if self.on:
            if self.warp_time is None:
                self.warp_time = np.zeros(self.batch.lanes >> 5, np.int64)
            self.warp_time[np.unique(self.batch.warp_of[lanes])] += 1

    def barrier(self, blocks=None):
        """All threads of the given blocks (None: of all) have met: check and begin anew."""
        if not self.log:
            return
        if blocks is None:
            now, self.log = self.log, []
        else:
            now, later = [], []
            for tokens, offsets, size, write, instruction in self.log:
                mine = blocks[self.batch.block_of[tokens & 0xFFFFFFFF]]
                for into, which in ((now, mine), (later, ~mine)):
                    if which.any():
                        into.append((tokens[which], offsets[which], size, write, instruction))
            self.log = later
        self.check(now)

    def check(self, log):
        """Compare the accesses of one interval."""
        writes = [entry for entry in log if entry[3]]
        if not writes:
            return
        unit = min(entry[2] for entry in log)
        unit = unit if unit in (1, 2, 4) else 4
        if unit not in self.owner:
            self.owner[unit] = np.full(self.batch.shared.size // unit, -1, np.int64)
        owner = self.owner[unit]
        try:
            for tokens, offsets, size, _, instruction in writes:
                at, who = self.units(tokens, offsets, size, unit)
                self.compare(owner, at, who, instruction, "write")
                owner[at] = who
                self.compare(owner, at, who, instruction, "write")
            for tokens, offsets, size, write, instruction in log:
                if not write:
                    at, who = self.units(tokens, offsets, size, unit)
                    self.compare(owner, at, who, instruction, "read")
        finally:
            for _, offsets, size, *_ in writes:
                owner[self.units(offsets, offsets, size, unit)[0]] = -1

    @staticmethod
    def units(tokens, offsets, size, unit):
        """The access in units: their numbers and who touches them."""
        at = offsets // unit
        many = size // unit
        if many == 1:
            return at, tokens
        spread = at[:, None] + np.arange(many)
        return spread.ravel(), np.repeat(tokens, many)

    def compare(self, owner, at, who, instruction, what):
        """Raise if another thread owns one of the units."""
        before = owner.take(at)
        bad = (before != who) & (before >= 0)
        if not bad.any():
            return
        batch = self.batch
        one, other = before[bad], who[bad]
        lane_one, lane_other = one & 0xFFFFFFFF, other & 0xFFFFFFFF
        ordered = (batch.warp_of[lane_one] == batch.warp_of[lane_other]) & (
            one >> 32 != other >> 32
        )
        race = (lane_one != lane_other) & ~ordered
        if race.any():
            k = int(race.argmax())
            raise MachineError(
                f"line {instruction.line}: race in shared memory: "
                f"{batch.thread_name(lane_other[k])} and {batch.thread_name(lane_one[k])} "
                f"touch the same bytes without a barrier between them, one to {what}: "
                f"{instruction.text}"
            )
