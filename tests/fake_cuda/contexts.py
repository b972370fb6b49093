"""Devices, contexts and streams."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

from .calls import CONTEXT, DEFAULT_STREAMS, INT, RELAXED, STREAM, Refused, require, store
from .capture import Graph


class Contexts:
    """The part of a Device that every call begins with."""

    def __init__(self) -> None:
        self.devices = 1
        self.version = 13000
        self.capability = (9, 0)
        self.multiprocessors = 4
        self.shared_optin = 227 * 1024
        self.pools = True
        self.name = "Fake GPU"
        self._pid = 0
        self._threads = threading.local()
        self._made = 0
        self._streams: set[int] = set(DEFAULT_STREAMS)
        self._graphs: dict[int, Graph] = {}

    def stream(self) -> int:
        """A new stream."""
        self._made += 1
        found = STREAM + self._made
        self._streams.add(found)
        return found

    def capture(self, stream: int) -> Graph:
        """``with device.capture(stream) as graph: ...`` and then ``graph.launch()``."""
        return Graph(stream, self._graphs)

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

    def cuDevicePrimaryCtxRelease_v2(self, given: Any) -> None:
        self._device(given[0])

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

    def cuDeviceGetUuid_v2(self, given: Any) -> None:
        ctypes.memset(given[0], self._device(given[1]), 16)

    def cuCtxPushCurrent_v2(self, given: Any) -> None:
        stack = self._threads.__dict__.setdefault("stack", [])
        stack.append(getattr(self._threads, "context", None))
        self._threads.context = given[0]

    def cuCtxPopCurrent_v2(self, given: Any) -> None:
        store(given[0], ctypes.c_void_p, self._context())
        stack = self._threads.__dict__.get("stack")
        self._threads.context = stack.pop() if stack else None

    # Streams.

    def cuThreadExchangeStreamCaptureMode(self, given: Any) -> None:
        before = getattr(self._threads, "mode", 0)
        self._threads.mode = INT.from_address(given[0]).value
        store(given[0], INT, before)

    def cuStreamCreate(self, given: Any) -> None:
        self._context()
        store(given[0], ctypes.c_void_p, self.stream())

    def cuStreamDestroy_v2(self, given: Any) -> None:
        require(given[0] in self._streams - set(DEFAULT_STREAMS), "CUDA_ERROR_INVALID_HANDLE")
        self._streams.remove(given[0])

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
