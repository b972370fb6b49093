"""The device behind the fake libcuda: one method for each of the driver's functions.

Stricter than a GPU where that finds mistakes: handles are checked, functions belong to contexts,
what can't be captured ends a capture. Everything happens at once, in the order of the calls.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from . import VARIABLE
from .capture import Graph
from .codes import CODES, NAMES
from .host_memory import HostMemory

HANDLER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64))
CONTEXT, POOL, FUNCTION, MODULE, STREAM = 0xC000, 0xA000, 0xF000, 0xE000, 0x5000
#: Default streams: the legacy one's two names, and the thread's.
DEFAULT_STREAMS = (0, 1, 2)
RELAXED = 2
INT = ctypes.c_int


class Machine(Protocol):
    """What has the memory and runs the launches."""

    def allocate(self, nbytes: int, /) -> int: ...
    def free(self, address: int, /) -> None: ...
    def write(self, address: int, data: bytes, /) -> None: ...
    def read(self, address: int, nbytes: int, /) -> bytes: ...
    def launch(self, *launch: Any) -> None: ...


class Launched(NamedTuple):
    """A launch as the driver was given it."""

    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    stream: int
    params: bytes


class Refused(Exception):
    """A call that fails with an error of the driver's."""

    def __init__(self, name: str) -> None:
        self.code = CODES[name]


def require(condition: object, name: str = "CUDA_ERROR_INVALID_VALUE") -> None:
    if not condition:
        raise Refused(name)


def store(address: int, kind: Any, value: Any) -> None:
    """Write what a call returns."""
    kind.from_address(address).value = value


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


class Device:
    """Settings (``capability``, ``version``, ``devices`` ...), faults, and what was called."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.devices = 1
        self.version = 13000
        self.capability = (9, 0)
        self.multiprocessors = 4
        self.shared_optin = 227 * 1024
        self.pools = True
        self.name = "Fake GPU"
        self.total = 1 << 34
        #: What the PTX compiler says when a module is loaded.
        self.log = ""
        #: Names of calls, the latest last; how often each was made; launches.
        self.calls: deque[str] = deque(maxlen=10_000)
        self.counts: Counter[str] = Counter()
        self.launched: deque[Launched] = deque(maxlen=1000)
        #: Allocations by address: bytes and device.
        self.allocations: dict[int, tuple[int, int]] = {}
        #: What a launch died of; calls fail from then on, as on a GPU, and say it.
        self.lost: str | None = None
        self._faults: dict[str, tuple[int, int]] = {}
        self._pid = 0
        self._threads = threading.local()
        self._modules: dict[int, tuple[int, str]] = {}
        #: Context, PTX, entry, dynamic shared memory.
        self._functions: dict[int, tuple[int, str, str, int]] = {}
        self._handles: dict[tuple[int, str], int] = {}
        self._graphs: dict[int, Graph] = {}
        self._streams: set[int] = set(DEFAULT_STREAMS)
        self._texts: dict[bytes, Any] = {}

    # What tests do to it.

    def fail(self, name: str, code: int | str, times: int = -1) -> None:
        """Let a function fail, always or ``times`` times; ``code`` 0 lets it work again."""
        self._faults[name] = (CODES[code] if isinstance(code, str) else code, times)

    def stream(self) -> int:
        """A new stream."""
        found = STREAM + len(self._streams)
        self._streams.add(found)
        return found

    def capture(self, stream: int) -> Graph:
        """``with device.capture(stream) as graph: ...`` and then ``graph.launch()``."""
        return Graph(self, stream, self._graphs)

    def reset(self) -> None:
        """Let a lost context live again."""
        self.lost = None

    # What the driver is called with.

    def answer(self, name: str, given: Any) -> int:
        """The code that a function returns."""
        self.calls.append(name)
        self.counts[name] += 1
        try:
            if name in ("cuGetErrorName", "cuGetErrorString"):
                return int(getattr(self, name)(given) or 0)
            code, times = self._faults.get(name, (0, 0))
            if code and times:
                self._faults[name] = code, times - 1
                return code
            require(self.lost is None, "CUDA_ERROR_LAUNCH_FAILED")
            if name not in ("cuInit", "cuDriverGetVersion"):
                require(self._pid == os.getpid(), "CUDA_ERROR_NOT_INITIALIZED")
            getattr(self, name)(given)
        except Refused as refused:
            return refused.code
        except BaseException as error:
            self.lost = f"{type(error).__name__}: {error}"
            traceback.print_exc(file=sys.stderr)
            return CODES["CUDA_ERROR_LAUNCH_FAILED"]
        return 0

    def text(self, value: str) -> int:
        """The address of a string that stays."""
        encoded = value.encode()
        if encoded not in self._texts:
            self._texts[encoded] = ctypes.create_string_buffer(encoded)
        return ctypes.addressof(self._texts[encoded])

    def cuGetErrorName(self, given: Any) -> int:
        name = NAMES.get(given[0] & 0xFFFFFFFF)
        store(given[1], ctypes.c_void_p, self.text(name) if name else None)
        return 0 if name else 1

    def cuGetErrorString(self, given: Any) -> int:
        code = given[0] & 0xFFFFFFFF
        said = NAMES.get(code, "").removeprefix("CUDA_ERROR_").lower().replace("_", " ")
        if code == CODES["CUDA_ERROR_LAUNCH_FAILED"] and self.lost is not None:
            said = self.lost
        store(given[1], ctypes.c_void_p, self.text(said) if said else None)
        return 0 if said else 1

    # Devices and contexts.

    def cuInit(self, given: Any) -> None:
        require(self._pid in (0, os.getpid()), "CUDA_ERROR_NOT_INITIALIZED")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        require(self.devices and visible not in ("", "-1"), "CUDA_ERROR_NO_DEVICE")
        self._pid = os.getpid()

    def cuDriverGetVersion(self, given: Any) -> None:
        store(given[0], INT, self.version)

    def cuDeviceGetCount(self, given: Any) -> None:
        store(given[0], INT, self.devices)

    def cuDeviceGet(self, given: Any) -> None:
        store(given[0], INT, self._device(given[1]))

    def cuDeviceGetName(self, given: Any) -> None:
        self._device(given[2])
        ctypes.memmove(given[0], self.name.encode() + b"\0", len(self.name.encode()) + 1)

    def cuDeviceGetAttribute(self, given: Any) -> None:
        self._device(given[2])
        values = {
            1: 1024,
            10: 32,
            16: self.multiprocessors,
            75: self.capability[0],
            76: self.capability[1],
            97: self.shared_optin,
            115: int(self.pools),
        }
        require(given[1] & 0xFFFFFFFF in values)
        store(given[0], INT, values[given[1] & 0xFFFFFFFF])

    def _device(self, number: int) -> int:
        require(number & 0xFFFFFFFF < self.devices, "CUDA_ERROR_INVALID_DEVICE")
        return number & 0xFFFFFFFF

    def cuDevicePrimaryCtxRetain(self, given: Any) -> None:
        store(given[0], ctypes.c_void_p, CONTEXT + self._device(given[1]))

    def cuCtxGetCurrent(self, given: Any) -> None:
        store(given[0], ctypes.c_void_p, getattr(self._threads, "context", None))

    def cuCtxSetCurrent(self, given: Any) -> None:
        self._threads.context = given[0] or None

    def cuCtxGetDevice(self, given: Any) -> None:
        store(given[0], INT, self._context() - CONTEXT)

    def _context(self) -> int:
        found = getattr(self._threads, "context", None)
        require(found is not None, "CUDA_ERROR_INVALID_CONTEXT")
        require(CONTEXT <= found < CONTEXT + self.devices, "CUDA_ERROR_INVALID_HANDLE")
        return int(found)

    # Streams.

    def cuThreadExchangeStreamCaptureMode(self, given: Any) -> None:
        before = getattr(self._threads, "mode", 0)
        self._threads.mode = INT.from_address(given[0]).value
        store(given[0], INT, before)

    def cuStreamSynchronize(self, given: Any) -> None:
        self._context()
        require(given[0] in self._streams, "CUDA_ERROR_INVALID_HANDLE")
        if given[0] in self._graphs:
            self._graphs[given[0]].valid = False
            raise Refused("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def cuStreamIsCapturing(self, given: Any) -> None:
        graph = self._graphs.get(given[0])
        store(given[1], INT, 0 if graph is None else 1 if graph.valid else 2)

    def _not_captured(self) -> None:
        """What isn't ordered by a stream ends captures, but in a thread that said it knows."""
        if self._graphs and getattr(self._threads, "mode", 0) != RELAXED:
            for graph in self._graphs.values():
                graph.valid = False
            raise Refused("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def _enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """Do it now, or when the graph is launched."""
        self._context()
        require(stream in self._streams, "CUDA_ERROR_INVALID_HANDLE")
        graph = self._graphs.get(stream)
        if graph is None:
            work()
        else:
            require(graph.valid, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
            graph.nodes.append(work)

    # Memory.

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

    def cuMemsetD8Async(self, given: Any) -> None:
        to, byte, nbytes = given[0], given[1] & 0xFF, given[2]
        self._check_span(to, nbytes)
        self._enqueue(given[3], lambda: self.machine.write(to, bytes([byte]) * nbytes))

    # Kernels.

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


current: Device | None = None
_kept: list[Any] = []


def install(machine: Machine | None = None) -> Device:
    """Put a device behind the process's libcuda: the PTX machine if there is one, else memory."""
    global current
    if machine is None:
        try:
            from ptx_machine import Machine as Interpreter
        except ImportError:
            machine = HostMemory()
        else:
            machine = Interpreter()
    assert machine is not None
    library = ctypes.CDLL(os.environ[VARIABLE])
    device = current = Device(machine)

    def answer(name: bytes, given: Any) -> int:
        return device.answer(name.decode(), given)

    _kept.append(HANDLER(answer))
    library.fake_set_handler(_kept[-1])
    return device


def quiet(on: bool) -> None:
    """Let every call succeed and do nothing, to time what calls it."""
    ctypes.CDLL(os.environ[VARIABLE]).fake_set_quiet(CONTEXT if on else 0)
