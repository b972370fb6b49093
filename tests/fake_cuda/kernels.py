"""Modules, functions and launches."""

from __future__ import annotations

import ctypes
import re
from collections import deque
from typing import Any, NamedTuple

from .allocations import Machine, Memory
from .calls import FUNCTION, INT, MODULE, Refused, require, store


class Launched(NamedTuple):
    """A launch as the driver was given it."""

    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    stream: int
    params: bytes


class Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    )


class Kernels(Memory):
    """The part of a Device that runs kernels, on the machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        #: What the PTX compiler says when a module is loaded.
        self.log = ""
        self.launched: deque[Launched] = deque(maxlen=1000)
        self._modules: dict[int, tuple[int, str]] = {}
        #: Context, PTX, entry, dynamic shared memory; handles by module and entry.
        self._functions: dict[int, tuple[int, str, str, int]] = {}
        self._handles: dict[tuple[int, str], int] = {}

    def cuModuleLoadDataEx(self, given: Any) -> None:
        self._not_captured()
        ptx = ctypes.string_at(given[1]).decode()
        if self.log or not ptx.lstrip().startswith((".version", "//")):
            count = given[2] & 0xFFFFFFFF
            options = list((INT * count).from_address(given[3]))
            values = list((ctypes.c_uint64 * count).from_address(given[4]))
            if 5 in options:
                room = values[options.index(6)]
                text = (self.log or "not PTX").encode()[: room - 1] + b"\0"
                ctypes.memmove(values[options.index(5)], text, len(text))
            raise Refused("CUDA_ERROR_INVALID_PTX")
        handle = MODULE + len(self._modules)
        self._modules[handle] = self._context(), ptx
        store(given[0], ctypes.c_void_p, handle)

    def cuModuleGetFunction(self, given: Any) -> None:
        require(given[1] in self._modules, "CUDA_ERROR_INVALID_HANDLE")
        context, ptx = self._modules[given[1]]
        entry = ctypes.string_at(given[2]).decode()
        found = re.search(rf"\.entry\s+{re.escape(entry)}\b", ptx)
        require(found, "CUDA_ERROR_NOT_FOUND")
        handle = self._handles.setdefault((given[1], entry), FUNCTION + len(self._handles))
        self._functions.setdefault(handle, (context, ptx, entry, 48 * 1024))
        store(given[0], ctypes.c_void_p, handle)

    def cuFuncSetAttribute(self, given: Any) -> None:
        require(given[0] in self._functions, "CUDA_ERROR_INVALID_HANDLE")
        require(given[1] & 0xFFFFFFFF == 8)
        context, ptx, entry, _ = self._functions[given[0]]
        most = given[2] & 0xFFFFFFFF
        require(most <= self.shared_optin)
        self._functions[given[0]] = context, ptx, entry, most

    def cuLaunchKernelEx(self, given: Any) -> None:
        config = Config.from_address(given[0])
        require(config.count == 0, "CUDA_ERROR_NOT_SUPPORTED")
        grid, block = tuple(config.grid), tuple(config.block)
        self._launch(given[1], grid, block, config.shared, config.stream or 0, given[2:4])

    def cuLaunchKernel(self, given: Any) -> None:
        sizes = [word & 0xFFFFFFFF for word in given[1:8]]
        self._launch(given[0], tuple(sizes[:3]), tuple(sizes[3:6]), sizes[6], given[8], given[9:11])

    def _launch(
        self, handle: int, grid: Any, block: Any, shared: int, stream: int, given: Any
    ) -> None:
        here = self._context()
        require(handle in self._functions, "CUDA_ERROR_INVALID_HANDLE")
        context, ptx, entry, most = self._functions[handle]
        require(context == here, "CUDA_ERROR_INVALID_HANDLE")
        require(min(*grid, *block) >= 1 and shared <= most)
        require(max(grid[1:]) <= 65535 and block[0] * block[1] * block[2] <= 1024)
        # Arrays of pointers to parameters don't say how long those are.
        require(not given[0], "CUDA_ERROR_NOT_SUPPORTED")
        params = b""
        if given[1]:
            first, buffer, second, size, end = (ctypes.c_uint64 * 5).from_address(given[1])
            require((first, second, end) == (1, 2, 0))
            params = ctypes.string_at(buffer, ctypes.c_size_t.from_address(size).value)
        launch = Launched(entry, grid, block, shared, stream, params)

        def work() -> None:
            self.launched.append(launch)
            self.machine.launch(ptx, entry, grid, block, shared, params)

        self._enqueue(stream, work)
