"""Global memory between blocks: nothing orders them within a launch.

Each byte that a launch writes is marked with its block. Another block that then reads or writes
there, other than by atomics, is an error, and so is a load through the read-only cache
(ld.global.nc) of what any block of the launch wrote. Reads before another block's write aren't
noticed.
"""

import numpy as np

from .errors import Fault


class Owners:
    """Two bytes per byte of an arena: the number of the block that wrote it, from 1, or 0.

    Numbers are taken modulo 65535: far apart blocks of a huge grid may pass for one.
    """

    def __init__(self, size):
        owner = np.zeros(size, np.uint16)
        self.views = {
            1: owner,
            2: owner.view(np.uint32),
            4: owner.view(np.uint64),
            8: owner.view(np.uint64).reshape(-1, 2),
            16: owner.view(np.uint64).reshape(-1, 4),
            32: owner.view(np.uint64).reshape(-1, 8),
        }
        self.touched = []

    def clear(self):
        """A new launch."""
        for size, at in self.touched:
            self.views[size][at] = 0
        self.touched = []

    def note(self, blocks, offsets, size, write, read_only):
        """An access by lanes of the given blocks (numbers in the grid)."""
        if not self.touched and not write:
            return
        view = self.views[size]
        at = offsets >> (size.bit_length() - 1)
        before = view.take(at, axis=0)
        if before.any():
            self.compare(before, blocks, size, write, read_only)
        if write:
            mark = self.mark(blocks, size)
            view[at] = mark if view.ndim == 1 else mark[:, None]
            self.touched.append((size, at))
            now = view.take(at, axis=0)
            if not (now.reshape(len(at), -1) == mark[:, None]).all():
                self.compare(now, blocks, size, write, read_only)

    @staticmethod
    def mark(blocks, size):
        """The words of marks of an access."""
        repeated = {1: 1, 2: 0x10001}.get(size, 0x1000100010001)
        dtype = {1: np.uint16, 2: np.uint32}.get(size, np.uint64)
        return (blocks % 65535 + 1).astype(dtype) * dtype(repeated)

    def compare(self, before, blocks, size, write, read_only):
        """Raise if one of the marks is another block's."""
        marks = before.reshape(len(before), -1).view(np.uint16)
        own = (blocks % 65535 + 1).astype(np.uint16)[:, None]
        bad = (marks != 0) & (read_only | (marks != own))
        if bad.any():
            lane = int(bad.any(axis=1).argmax())
            if read_only:
                raise Fault("a read-only load of what this launch wrote", lane)
            verb = "writes" if write else "reads"
            raise Fault(f"race in global memory: {verb} what another block wrote", lane)
