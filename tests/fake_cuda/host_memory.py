"""A device that has memory and runs nothing: what stands behind the fake without a PTX machine."""

from __future__ import annotations

import bisect


class HostMemory:
    """Allocations at addresses of their own, far apart, so that nothing runs into a neighbour."""

    START, APART = 0x7F00_0000_0000, 1 << 36

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._next = self.START

    def allocate(self, nbytes: int) -> int:
        address = self._next
        self._next += self.APART
        # As on a GPU, what was there before is there still: never zeros that help somebody.
        self._blocks[address] = bytearray(b"\xff" * nbytes)
        return address

    def free(self, address: int) -> None:
        del self._blocks[address]

    def write(self, address: int, data: bytes) -> None:
        block, offset = self._find(address, len(data))
        block[offset : offset + len(data)] = data

    def read(self, address: int, nbytes: int) -> bytes:
        block, offset = self._find(address, nbytes)
        return bytes(block[offset : offset + nbytes])

    def launch(self, *launch: object) -> None:
        """Launches are recorded by the Device; nothing runs."""

    def _find(self, address: int, nbytes: int) -> tuple[bytearray, int]:
        starts = sorted(self._blocks)
        at = bisect.bisect_right(starts, address) - 1
        if at < 0 or address + nbytes > starts[at] + len(self._blocks[starts[at]]):
            raise IndexError(f"{nbytes} bytes at {address:#x} aren't the device's")
        return self._blocks[starts[at]], address - starts[at]
