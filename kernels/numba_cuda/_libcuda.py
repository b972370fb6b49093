"""NVIDIA's driver library as Python functions, and what its errors mean.

Why ctypes: it is there at once, a launch with prebuilt arguments is one short call (``Launcher``),
and libcuda's symbols keep their meaning for ever, so nothing has to follow the versions of another
package.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

#: Codes that get words of their own, by their names in cuda.h without ``CUDA_ERROR_``.
INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, DEINITIALIZED = 1, 2, 3, 4
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
    "cuPointerGetAttribute": "piq",
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

#: What the PTX that numba-cuda's NVVM of CUDA 13.0 writes needs, as cuDriverGetVersion says it.
LEAST_DRIVER = 13000

#: Set in a child that was forked from a process that had initialised CUDA: there, calls of the
#: driver fail or hang, and its handles mean nothing.
forked = False
FORKED = (
    "CUDA was initialised before this process was forked, and can't be used in a forked child: "
    'start it with multiprocessing\'s "spawn" or "forkserver", or call nothing on the GPU before'
)


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


#: The library where CUDA is known to work.
_usable: Library | None = None


def library() -> Library:
    """The library, initialised; CudaError, in words, if CUDA can't be used."""
    return _usable or _use()


def _use() -> Library:
    global _usable
    reason = without()
    if reason is not None:
        raise CudaError(reason)
    _usable = _load()
    return _usable


@cache
def _load() -> Library:
    return Library()


def without() -> str | None:
    """Why CUDA can't be used here, whichever device is meant, and what to do about it."""
    return FORKED if forked else _without()


@cache
def _without() -> str | None:
    try:
        code = _load().cuInit(0)
        version, count = ctypes.c_int(), ctypes.c_int()
        if code == 0:
            os.register_at_fork(after_in_child=_after_fork)
            code = _load().cuDriverGetVersion(ctypes.byref(version))
        if code == 0:
            code = _load().cuDeviceGetCount(ctypes.byref(count))
        says = words(code) if code else ""
    except (OSError, AttributeError) as error:
        return f"there is no NVIDIA driver here, which brings libcuda.so.1: {error}"
    if code == NO_DEVICE or (code == 0 and count.value == 0):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            return (
                f"the NVIDIA driver shows no GPU, and CUDA_VISIBLE_DEVICES is {visible!r}: unset "
                "it, or name a device of nvidia-smi's list"
            )
        return "the NVIDIA driver finds no GPU (nvidia-smi lists what it finds)"
    if code == NOT_INITIALIZED:
        return f"CUDA can't be initialised: {says}. If this process was forked: {FORKED}"
    if code:
        return f"CUDA can't be initialised: {says}. nvidia-smi should say more"
    if version.value < LEAST_DRIVER:
        return (
            f"the NVIDIA driver is too old: it runs CUDA {_dotted(version.value)}, and these "
            f"kernels need {_dotted(LEAST_DRIVER)} (driver 580 or newer)"
        )
    return None


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _after_fork() -> None:
    global forked, _usable
    forked, _usable = True, None


def words(code: int) -> str:
    """An error's name and what the driver says about it."""
    found = []
    for function in (_load().cuGetErrorName, _load().cuGetErrorString):
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
        if _load().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0:
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
