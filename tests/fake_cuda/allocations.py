"""Memory and copies."""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

from .calls import CONTEXT, INT, POOL, Refused, require, store
from .contexts import Contexts


class Machine(Protocol):
    """What has the memory and runs the launches."""

    def allocate(self, nbytes: int, /) -> int: ...
    def free(self, address: int, /) -> None: ...
    def write(self, address: int, data: bytes, /) -> None: ...
    def read(self, address: int, nbytes: int, /) -> bytes: ...
    def launch(self, *launch: Any) -> None: ...


class Memory(Contexts):
    """The part of a Device that has memory, the machine's."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.total = 1 << 34
        #: Allocations by address: bytes and device.
        self.allocations: dict[int, tuple[int, int]] = {}

    def cuMemGetInfo_v2(self, given: Any) -> None:
        self._context()
        store(given[0], ctypes.c_size_t, self.total - sum(n for n, _ in self.allocations.values()))
        store(given[1], ctypes.c_size_t, self.total)

    def cuMemPoolCreate(self, given: Any) -> None:
        self._not_captured()
        kind, exported, located, number = (INT * 4).from_address(given[1])
        require((kind, exported, located) == (1, 0, 1))
        require(not any(ctypes.string_at(given[1] + 16, 72)))
        store(given[0], ctypes.c_void_p, POOL + self._device(number))

    def cuMemPoolSetAttribute(self, given: Any) -> None:
        require(POOL <= given[0] < POOL + self.devices, "CUDA_ERROR_INVALID_HANDLE")

    def cuMemAllocFromPoolAsync(self, given: Any) -> None:
        require(self.pools, "CUDA_ERROR_NOT_SUPPORTED")
        require(given[2] == POOL + self._context() - CONTEXT, "CUDA_ERROR_INVALID_HANDLE")
        require(given[3] in self._streams, "CUDA_ERROR_INVALID_HANDLE")
        self._allocate(given[0], given[1])

    def cuMemAlloc_v2(self, given: Any) -> None:
        self._not_captured()
        self._allocate(given[0], given[1])

    def _allocate(self, result: int, nbytes: int) -> None:
        number = self._context() - CONTEXT
        require(nbytes)
        free = self.total - sum(n for n, _ in self.allocations.values())
        require(nbytes <= free, "CUDA_ERROR_OUT_OF_MEMORY")
        try:
            address = self.machine.allocate(nbytes)
        except Exception:
            raise Refused("CUDA_ERROR_OUT_OF_MEMORY") from None
        self.allocations[address] = nbytes, number
        store(result, ctypes.c_uint64, address)

    def cuMemFreeAsync(self, given: Any) -> None:
        require(given[0] in self.allocations)
        address = given[0]
        if given[1] not in self._graphs:
            self._enqueue(given[1], lambda: self._free(address))

    def cuMemFree_v2(self, given: Any) -> None:
        self._not_captured()
        require(given[0] in self.allocations)
        self._free(given[0])

    def _free(self, address: int) -> None:
        del self.allocations[address]
        self.machine.free(address)

    def _check_span(self, address: int, nbytes: int) -> None:
        require(any(a <= address and address + nbytes <= a + n for a, (n, _) in self._live()))

    def _live(self) -> list[tuple[int, tuple[int, int]]]:
        return list(self.allocations.items())

    def cuPointerGetAttribute(self, given: Any) -> None:
        self._context()
        require(given[1] & 0xFFFFFFFF == 9)
        owners = [owner for a, (n, owner) in self._live() if a <= given[2] < a + n]
        require(owners)
        store(given[0], INT, owners[0])

    def cuMemcpyHtoDAsync_v2(self, given: Any) -> None:
        to, source, nbytes = given[:3]
        self._check_span(to, nbytes)
        self._enqueue(given[3], lambda: self.machine.write(to, ctypes.string_at(source, nbytes)))

    def cuMemcpyDtoHAsync_v2(self, given: Any) -> None:
        to, source, nbytes = given[:3]
        self._check_span(source, nbytes)

        def copy() -> None:
            ctypes.memmove(to, self.machine.read(source, nbytes), nbytes)

        self._enqueue(given[3], copy)

    def cuMemcpyHtoD_v2(self, given: Any) -> None:
        self._not_captured()
        self.cuMemcpyHtoDAsync_v2([*given[:3], 0])

    def cuMemcpyDtoH_v2(self, given: Any) -> None:
        self._not_captured()
        self.cuMemcpyDtoHAsync_v2([*given[:3], 0])

    def cuMemsetD8Async(self, given: Any) -> None:
        to, byte, nbytes = given[0], given[1] & 0xFF, given[2]
        self._check_span(to, nbytes)
        self._enqueue(given[3], lambda: self.machine.write(to, bytes([byte]) * nbytes))
