"""Whether there is a GPU; its context, its properties, its streams."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from . import _libcuda
from ._libcuda import CudaError, check, library

#: What the PTX that numba-cuda's NVVM of CUDA 13.0 writes needs, as cuDriverGetVersion says it.
LEAST_DRIVER = 13000
#: The kernels copy by cp.async and multiply bfloat16 and tf32: Ampere's.
LEAST_CAPABILITY = (8, 0)

#: CUdevice_attribute, CUpointer_attribute and CUstreamCaptureMode of cuda.h.
MULTIPROCESSOR_COUNT, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
MEMORY_TYPE, DEVICE_ORDINAL = 2, 9
MEMORY_OF_DEVICE = 2
RELAXED = 2

FORKED = (
    "CUDA was initialised before this process was forked, and can't be used in a forked child: "
    'start it with multiprocessing\'s "spawn" or "forkserver", or call nothing on the GPU before'
)


# ---- Is there a GPU? -----------------------------------------------------------------------------


def missing() -> str | None:
    """Why no GPU can be used, and what to do about it; None if one can.

    Initialises CUDA: a process that has asked can't use the GPU in its forked children.
    """
    if _libcuda.forked:
        return FORKED
    without = _without_driver()
    if without is not None:
        return without
    try:
        number = _current_device()
        found = capability_of(number)
        if found >= LEAST_CAPABILITY:
            return None
        return (
            f"{name_of(number)} has compute capability {found[0]}.{found[1]}, and these kernels "
            f"need {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]} (Ampere) or newer"
        )
    except CudaError as error:
        return str(error)


@cache
def _without_driver() -> str | None:
    """What is missing whichever device is meant."""
    try:
        code = _libcuda.initialize()
        version, count = ctypes.c_int(), ctypes.c_int()
        if code == 0:
            code = library().cuDriverGetVersion(ctypes.byref(version))
        if code == 0:
            code = library().cuDeviceGetCount(ctypes.byref(count))
        says = _libcuda.words(code) if code else ""
    except (OSError, AttributeError) as error:
        return f"there is no NVIDIA driver here, which brings libcuda.so.1: {error}"
    if code == _libcuda.NO_DEVICE or (code == 0 and count.value == 0):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            return (
                f"the NVIDIA driver shows no GPU, and CUDA_VISIBLE_DEVICES is {visible!r}: unset "
                "it, or name a device of nvidia-smi's list"
            )
        return "the NVIDIA driver finds no GPU (nvidia-smi lists what it finds)"
    if code == _libcuda.NOT_INITIALIZED:
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


def _require() -> None:
    """Raise CudaError if CUDA can't be used at all."""
    without = FORKED if _libcuda.forked else _without_driver()
    if without is not None:
        raise CudaError(without)


# ---- Contexts and devices ------------------------------------------------------------------------


def context() -> int:
    """The calling thread's context; the first device's primary one becomes it if there is none.

    That is the one torch, CuPy and Numba use as well.
    """
    _require()
    found = ctypes.c_void_p()
    check(library().cuCtxGetCurrent(ctypes.byref(found)), "looking for the thread's CUDA context")
    if found.value is None:
        found.value = _primary(0)
        code = library().cuCtxSetCurrent(found)
        check(code, "making device 0's context the thread's")
    return found.value or 0


@cache
def _primary(number: int) -> int:
    found = ctypes.c_void_p()
    code = library().cuDevicePrimaryCtxRetain(ctypes.byref(found), number)
    check(code, "retaining the context of device %d", number)
    return found.value or 0


def device() -> int:
    """The number of the current context's device."""
    context()
    return _current_device()


def _current_device() -> int:
    """As ``device``, but makes no context: the first device is what it would be made on."""
    number = ctypes.c_int()
    code = library().cuCtxGetDevice(ctypes.byref(number))
    if code == _libcuda.INVALID_CONTEXT:
        return 0
    check(code, "asking for the current device")
    return number.value


@cache
def _attribute(attribute: int, number: int) -> int:
    found = ctypes.c_int()
    code = library().cuDeviceGetAttribute(ctypes.byref(found), attribute, number)
    check(code, "asking for attribute %d of device %d", attribute, number)
    return found.value


def attribute(which: int) -> int:
    """An attribute of the current device, by its number in cuda.h."""
    return _attribute(which, device())


def capability_of(number: int) -> tuple[int, int]:
    """The compute capability of a device."""
    return _attribute(CAPABILITY_MAJOR, number), _attribute(CAPABILITY_MINOR, number)


def capability() -> tuple[int, int]:
    """The current device's compute capability: (9, 0) for H100 and H200."""
    return capability_of(device())


def multiprocessors() -> int:
    """The number of the current device's multiprocessors."""
    return attribute(MULTIPROCESSOR_COUNT)


def name_of(number: int) -> str:
    """The name of a device."""
    text = ctypes.create_string_buffer(128)
    check(library().cuDeviceGetName(text, len(text), number), "asking for device %d's name", number)
    return text.value.decode(errors="replace")


def device_name() -> str:
    """The current device's name."""
    return name_of(device())


def memory() -> tuple[int, int]:
    """The current device's free and total bytes."""
    context()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    code = library().cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    check(code, "asking for the device's free memory")
    return free.value, total.value


_ASKED = (ctypes.c_int * 2)(MEMORY_TYPE, DEVICE_ORDINAL)


def device_of(pointer: int) -> int | None:
    """The device whose memory ``pointer`` is in; None if it is the host's or nobody's."""
    context()
    kind, number = ctypes.c_uint(), ctypes.c_int(-1)
    found = (ctypes.c_void_p * 2)(ctypes.addressof(kind), ctypes.addressof(number))
    code = library().cuPointerGetAttributes(2, _ASKED, found, pointer)
    check(code, "asking whose memory is at %#x", pointer)
    return number.value if kind.value == MEMORY_OF_DEVICE else None


# ---- Streams -------------------------------------------------------------------------------------


def synchronize(stream: int) -> None:
    """Wait for all that a stream was given."""
    context()
    check(library().cuStreamSynchronize(stream), "waiting for a stream")


def capturing(stream: int) -> bool:
    """Whether what a stream is given now becomes part of a CUDA graph."""
    context()
    status = ctypes.c_int()
    code = library().cuStreamIsCapturing(stream, ctypes.byref(status))
    check(code, "asking whether a stream is captured")
    return status.value != 0


@contextmanager
def relaxed_capture() -> Iterator[None]:
    """While a CUDA graph is captured, calls that can't be part of it may be made in here.

    For those whose effect outlasts the graph: loading a module, making a pool.
    """
    mode = ctypes.c_int(RELAXED)

    def exchange() -> None:
        code = library().cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
        check(code, "changing what may be called while a graph is captured")

    exchange()
    try:
        yield
    finally:
        exchange()
