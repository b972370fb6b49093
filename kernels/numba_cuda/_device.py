"""Whether there is a GPU; its context, its properties, its streams."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from . import _libcuda
from ._libcuda import CudaError, check, library

#: The kernels copy by cp.async and multiply bfloat16 and tf32: Ampere's.
LEAST_CAPABILITY = (8, 0)

#: CUdevice_attribute, CUpointer_attribute and CUstreamCaptureMode of cuda.h.
MULTIPROCESSOR_COUNT, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
DEVICE_ORDINAL = 9
RELAXED = 2


# ---- Is there a GPU? -----------------------------------------------------------------------------


def missing() -> str | None:
    """Why no GPU can be used, and what to do about it; None if one can.

    Initialises CUDA: a process that has asked can't use the GPU in its forked children.
    """
    without = _libcuda.without()
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


# ---- Contexts and devices ------------------------------------------------------------------------


def context() -> int:
    """The calling thread's context; the first device's primary one becomes it if there is none.

    That is the one torch, CuPy and Numba use as well.
    """
    # Called by all others: an address costs half of what byref does, to make and to pass.
    found = ctypes.c_void_p()
    code = library().cuCtxGetCurrent(ctypes.addressof(found))
    if code:
        check(code, "looking for the thread's CUDA context")
    return found.value or _adopt(_primary(0))


def _adopt(found: int) -> int:
    check(library().cuCtxSetCurrent(found), "making a CUDA context the thread's")
    return found


@cache
def _primary(number: int) -> int:
    found = ctypes.c_void_p()
    code = library().cuDevicePrimaryCtxRetain(ctypes.byref(found), number)
    check(code, "retaining the context of device %d", number)
    return found.value or 0


def device() -> int:
    """The number of the current context's device."""
    return _device_of_context(context())


@cache
def _device_of_context(_: int) -> int:
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


def device_of(pointer: int) -> int | None:
    """The device that ``pointer`` was allocated on; None if CUDA doesn't know it.

    Pinned and managed memory count as their device's, whose kernels can address them.
    """
    return devices_of((pointer,))[0]


def devices_of(pointers: Iterable[int]) -> list[int | None]:
    """``device_of`` each of the pointers; one call for all operands."""
    context()
    number = ctypes.c_int()
    at, ask = ctypes.addressof(number), library().cuPointerGetAttribute
    found: list[int | None] = []
    for pointer in pointers:
        code = ask(at, DEVICE_ORDINAL, pointer)
        if code and code != _libcuda.INVALID_VALUE:
            check(code, "asking whose memory is at %#x", pointer)
        found.append(None if code else number.value)
    return found


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
