"""Bytes with a state each, and the checks of compute-sanitizer's memcheck and initcheck.

`Bytes` is flat storage addressed by offsets; `Arena` is global memory (addresses, allocations with
red zones), `Window` is shared or local memory (one piece per block or per thread).
"""

import numpy as np

from .errors import Fault, MachineError

#: Bits of a byte's state.
ALLOCATED, WRITTEN, PENDING = 1, 2, 4
GOOD = ALLOCATED | WRITTEN

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def repeated(byte, size):
    """A word whose every byte is `byte`."""
    return _UNSIGNED[size](int.from_bytes(bytes([byte]) * size, "little"))


class Bytes:
    """Storage of `size` bytes (a multiple of 64) and the state of each.

    Loads and stores take int64 offsets known to be aligned and inside.
    """

    def __init__(self, size):
        self.size = size
        self.data = np.zeros(size, np.uint8)
        self.state = np.zeros(size, np.uint8)  # pages of memory are taken only when touched
        self.words = {}
        self.states = {}
        for width, dtype in _UNSIGNED.items():
            for count in (1, 2, 4, 8):
                shape = (-1, count) if count > 1 else (-1,)
                self.words[width, count] = self.data.view(dtype).reshape(shape)
        for total in (1, 2, 4, 8, 16, 32):
            dtype = _UNSIGNED[min(total, 8)]
            shape = (-1, total // 8) if total > 8 else (-1,)
            self.states[total] = self.state.view(dtype).reshape(shape)
        self.good = {total: repeated(GOOD, min(total, 8)) for total in self.states}
        self.allocated = {total: repeated(ALLOCATED, min(total, 8)) for total in self.states}

    def load(self, offsets, width, count, initcheck, name):
        """`count` words of `width` bytes at each offset: (lanes,) or (lanes, count)."""
        total = width * count
        at = offsets >> (total.bit_length() - 1)
        state = self.states[total].take(at, axis=0)
        good = self.good[total]
        if not (state == good).all():
            self.blame(state, total, initcheck, name)
        return self.words[width, count].take(at, axis=0)

    def store(self, offsets, width, count, values, name):
        """Put `values` (lanes,) or (lanes, count) at the offsets."""
        total = width * count
        at = offsets >> (total.bit_length() - 1)
        states = self.states[total]
        state = states.take(at, axis=0)
        allocated = self.allocated[total]
        if not (state & allocated == allocated).all():
            bad = (state & allocated != allocated).reshape(len(state), -1).any(axis=1)
            raise Fault(f"store outside what is allocated in {name} memory", int(bad.argmax()))
        states[at] = self.good[total]
        self.words[width, count][at] = values

    def blame(self, state, total, initcheck, name):
        """Say what is wrong with a load whose states aren't all good."""
        if total == 1:
            state = state.astype(np.uint8)
        each = state.view(np.uint8).reshape(len(state), total)
        outside = (each & ALLOCATED == 0).any(axis=1)
        if outside.any():
            raise Fault(f"load outside what is allocated in {name} memory", int(outside.argmax()))
        if not initcheck:
            return
        pending = (each & PENDING != 0).any(axis=1)
        if pending.any():
            raise Fault(
                f"load of {name} memory that an asynchronous copy hasn't been waited for",
                int(pending.argmax()),
            )
        never = (each & WRITTEN == 0).any(axis=1)
        if never.any():
            raise Fault(f"load of {name} memory never written", int(never.argmax()))

    def range(self, start, size):
        """A slice of the data and of its states."""
        return self.data[start : start + size], self.state[start : start + size]


def check_alignment(offsets, total, name):
    """Accesses must be aligned to their whole size."""
    if np.bitwise_or.reduce(offsets) & (total - 1):
        lane = int((offsets & (total - 1) != 0).argmax())
        raise Fault(f"misaligned access of {total} bytes to {name} memory", lane)


class Arena(Bytes):
    """Global memory: a made-up address range with allocations in it."""

    BASE = 0x7E0000000000
    RED = 256

    def __init__(self, size):
        super().__init__(-(-size // 256) * 256)
        self.sizes = {}
        self.free_list = [(self.RED, self.size - self.RED)]

    def allocate(self, size):
        """The address of `size` fresh bytes, aligned to 256, a red zone on either side."""
        room = -(-max(size, 1) // 256) * 256 + self.RED
        for k, (start, length) in enumerate(self.free_list):
            if length >= room:
                self.free_list[k] = (start + room, length - room)
                self.sizes[start] = (size, room)
                self.state[start : start + size] = ALLOCATED
                return self.BASE + start
        raise MachineError(f"out of memory: {size} bytes asked for")

    def free(self, address):
        """Give an allocation back."""
        start = address - self.BASE
        if start not in self.sizes:
            raise MachineError(f"free of {address:#x}, which isn't the start of an allocation")
        size, room = self.sizes.pop(start)
        self.state[start : start + size] = 0
        self.free_list.append((start, room))
        self.free_list.sort()
        merged = []
        for start, length in self.free_list:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self.free_list = merged

    def span(self, address, size):
        """The data and states of a range wholly inside allocations."""
        start = address - self.BASE
        if start < 0 or start + size > self.size:
            raise MachineError(f"{address:#x} is no address of this machine")
        data, state = self.range(start, size)
        if not (state & ALLOCATED).all():
            raise MachineError(f"{size} bytes at {address:#x} aren't allocated")
        return data, state

    def offsets(self, addresses, total):
        """Offsets of 64-bit addresses, checked for range and alignment."""
        offsets = addresses - np.uint64(self.BASE)
        if offsets.size and offsets.max() >= self.size - 64:
            lane = int((offsets >= self.size - 64).argmax())
            raise Fault(f"address {int(addresses[lane]):#x} is outside global memory", lane)
        offsets = offsets.view(np.int64)
        check_alignment(offsets, total, "global")
        return offsets


class Window(Bytes):
    """Memory of which every block (shared) or thread (local) has its own piece of `each` bytes.

    `piece_of` gives each lane's piece.
    """

    def __init__(self, name, base, each, piece_of):
        self.name = name
        self.base = base
        self.each = each
        self.stride = -(-each // 64) * 64
        super().__init__(max(self.stride * (int(piece_of.max()) + 1), 64))
        self.starts = piece_of * self.stride

    def clear(self):
        """Fresh memory: everything allocated, nothing written."""
        self.state[:] = 0
        if self.stride:
            self.state.reshape(-1, self.stride)[:, : self.each] = ALLOCATED

    def offsets(self, addresses, lanes, total):
        """Offsets of window addresses (any unsigned integers) in the pieces of lanes."""
        inside = addresses.astype(np.int64)
        inside -= self.base
        room = self.each - total
        if room < 0 or inside.view(np.uint64).max(initial=0) > room:
            lane = int(((inside < 0) | (inside > room)).argmax())
            raise Fault(
                f"address {int(addresses[lane]):#x} is outside the {self.each} bytes of "
                f"{self.name} memory that begin at {self.base:#x}",
                lane,
            )
        check_alignment(inside, total, self.name)
        inside += self.starts if len(lanes) == len(self.starts) else self.starts[lanes]
        return inside
