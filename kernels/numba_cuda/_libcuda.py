"""NVIDIA's driver library as Python functions, and what its errors mean.

Why ctypes: ``cuda.bindings`` takes 42 ms to import and this 2 ms, a launch costs the same through
both (``Launcher``), and libcuda's symbols keep their meaning for ever, so nothing has to follow
the versions of another package.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

#: Codes that get words of their own, by their names in cuda.h without ``CUDA_ERROR_``.
OUT_OF_MEMORY, NOT_INITIALIZED, DEINITIALIZED = 2, 3, 4
NO_DEVICE, INVALID_CONTEXT = 100, 201
#: Codes after which a process can't use its context any more: ECC and NVLink errors, illegal
#: addresses, time-outs, assertions, and whatever else a kernel dies of.
LOST = frozenset({214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719})
#: Codes of calls that a CUDA graph can't record.
CAPTURE = frozenset(range(900, 909))

_KINDS: dict[str, Any] = {
    "p": ctypes.c_void_p,
    "s": ctypes.c_char_p,
    "i": ctypes.c_int,
    "u": ctypes.c_uint,
    "z": ctypes.c_size_t,
    "q": ctypes.c_uint64,
    "b": ctypes.c_ubyte,
}

#: Arguments of each function, a letter each: pointers and handles p, strings s, int i, unsigned u,
#: size_t z, device pointers q, unsigned char b. A suffix is the version that cuda.h calls today.
SIGNATURES = {
    "cuInit": "u",
    "cuDriverGetVersion": "p",
    "cuGetErrorName": "ip",
    "cuGetErrorString": "ip",
    "cuDeviceGetCount": "p",
    "cuDeviceGetName": "pii",
    "cuDeviceGetAttribute": "pii",
    "cuDevicePrimaryCtxRetain": "pi",
    "cuCtxGetCurrent": "p",
    "cuCtxSetCurrent": "p",
    "cuCtxGetDevice": "p",
    "cuThreadExchangeStreamCaptureMode": "p",
    "cuPointerGetAttributes": "uppq",
    "cuModuleLoadDataEx": "psupp",
    "cuModuleGetFunction": "pps",
    "cuFuncSetAttribute": "pii",
    "cuLaunchKernelEx": "pppp",
    "cuMemGetInfo_v2": "pp",
    "cuMemPoolCreate": "pp",
    "cuMemPoolSetAttribute": "pip",
    "cuMemAllocFromPoolAsync": "pzpp",
    "cuMemFreeAsync": "qp",
    "cuMemAlloc_v2": "pz",
    "cuMemFree_v2": "q",
    "cuMemcpyHtoDAsync_v2": "qpzp",
    "cuMemcpyDtoHAsync_v2": "pqzp",
    "cuMemsetD8Async": "qbzp",
    "cuStreamSynchronize": "p",
    "cuStreamIsCapturing": "pp",
}

#: Set in a child that was forked from a process that had initialised CUDA: there, calls of the
#: driver fail or hang, and its handles mean nothing.
forked = False


class CudaError(RuntimeError):
    """A CUDA call that failed, or that can't be made here; ``code`` is the driver's, if any."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class OutOfMemory(CudaError, MemoryError):
    """The device hasn't the memory that was asked for."""


class Library:
    """``libcuda``: attributes are its functions, which return an error's code."""

    def __init__(self) -> None:
        self._handle = ctypes.CDLL("libcuda.so.1")

    def __getattr__(self, name: str) -> Callable[..., int]:
        function = self._handle[name]
        function.argtypes = [_KINDS[letter] for letter in SIGNATURES[name]]
        function.restype = ctypes.c_int
        setattr(self, name, function)
        return function


_library: Library | None = None


def library() -> Library:
    """The library; OSError if there is none."""
    global _library
    if _library is None:
        _library = Library()
    return _library


def initialize() -> int:
    """Initialise CUDA: 0 or an error's code. Remembers that this process can't be forked then."""
    code = library().cuInit(0)
    if code == 0:
        os.register_at_fork(after_in_child=_after_fork)
    return code


def _after_fork() -> None:
    global forked
    forked = True


def words(code: int) -> str:
    """An error's name and what the driver says about it."""
    found = []
    for function in (library().cuGetErrorName, library().cuGetErrorString):
        text = ctypes.c_char_p()
        function(code, ctypes.byref(text))
        found.append((text.value or b"unknown").decode(errors="replace"))
    return f"{found[0]} ({code}): {found[1]}"


def check(code: int, doing: str, *sizes: object) -> None:
    """Raise CudaError if ``code`` isn't 0; ``doing % sizes`` is what failed."""
    if code:
        raise error(code, doing % sizes)


def error(code: int, doing: str) -> CudaError:
    """What to raise."""
    message = f"{doing}: {words(code)}"
    if code == OUT_OF_MEMORY:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        if library().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0:
            message += f"; {free.value} of the device's {total.value} bytes are free"
        return OutOfMemory(message, code)
    if code in LOST:
        message += (
            ". This or an earlier kernel or copy failed on the device, and the process's context "
            "is lost: CUDA calls fail from now on until the process is restarted"
        )
    if code in CAPTURE:
        message += (
            ". A CUDA graph is being captured, which can't record this: make the same call once "
            "before capturing, and synchronise or copy to the host after it"
        )
    return CudaError(message, code)
