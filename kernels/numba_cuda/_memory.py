"""Memory of the GPU in a stream's order, and copies from and to the host."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from . import _libcuda
from ._device import attribute, capturing, context, device, memory, relaxed_capture, synchronize
from ._libcuda import CudaError, check, library

#: CUdevice_attribute and CUmemPool_attribute of cuda.h.
POOLS_SUPPORTED = 115
RELEASE_THRESHOLD = 4
#: The share of a device's memory that the pool keeps when nothing uses it. The driver's default,
#: none, would unmap scratch at every synchronisation and map it again at the next call.
KEPT = 1 / 16


class _PoolProps(ctypes.Structure):
    """CUmemPoolProps."""

    _fields_ = (
        ("allocation", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("location", ctypes.c_int),
        ("device", ctypes.c_int),
        ("security", ctypes.c_void_p),
        ("most", ctypes.c_size_t),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 54),
    )


@cache
def _pool(here: int) -> int | None:
    """A pool of our own on a context's device, so that nobody else's is set to keep memory."""
    if not attribute(POOLS_SUPPORTED):
        return None
    number = device()
    pinned, of_device = 1, 1
    props = _PoolProps(allocation=pinned, location=of_device, device=number)
    pool = ctypes.c_void_p()
    keep = ctypes.c_uint64(int(memory()[1] * KEPT))
    with relaxed_capture():
        code = library().cuMemPoolCreate(ctypes.byref(pool), ctypes.byref(props))
        check(code, "making a pool of device %d's memory", number)
        code = library().cuMemPoolSetAttribute(pool, RELEASE_THRESHOLD, ctypes.byref(keep))
        check(code, "setting what device %d's pool keeps", number)
    return pool.value


def allocate(nbytes: int, stream: int) -> int:
    """Device memory that a stream's later work may use. In a graph's capture it is the graph's,
    and has to be freed in the same capture."""
    pool = _pool(context())
    if nbytes == 0:
        return 0
    pointer = ctypes.c_uint64()
    if pool is not None:
        code = library().cuMemAllocFromPoolAsync(ctypes.addressof(pointer), nbytes, pool, stream)
    elif capturing(stream):
        raise CudaError("this device has no memory pools, so a CUDA graph can't hold scratch")
    else:
        code = library().cuMemAlloc_v2(ctypes.byref(pointer), nbytes)
    check(code, "allocating %d bytes on the device", nbytes)
    return pointer.value


def free(pointer: int, stream: int) -> None:
    """Give memory back when a stream's earlier work is done with it.

    Nothing happens where the process is ending, or was forked and the memory is its parent's.
    """
    if pointer == 0 or _libcuda.forked:
        return
    try:
        if _pool(context()) is not None:
            code = library().cuMemFreeAsync(pointer, stream)
        else:
            code = library().cuMemFree_v2(pointer)
        check(code, "freeing the device's memory at %#x", pointer)
    except CudaError as error:
        if error.code != _libcuda.DEINITIALIZED:
            raise


def to_device(pointer: int, array: np.ndarray[Any, Any], stream: int) -> None:
    """Copy a contiguous array to the device. It has to live, unchanged, until the stream is
    synchronised: where the device reads pageable memory by itself, nothing is staged."""
    if array.nbytes == 0:
        return
    context()
    code = library().cuMemcpyHtoDAsync_v2(pointer, _address(array), array.nbytes, stream)
    check(code, "copying %d bytes to the device", array.nbytes)


def to_host(array: np.ndarray[Any, Any], pointer: int, stream: int) -> None:
    """Copy from the device into a contiguous array, and wait until it is there."""
    if array.nbytes == 0:
        return
    context()
    code = library().cuMemcpyDtoHAsync_v2(_address(array), pointer, array.nbytes, stream)
    check(code, "copying %d bytes from the device", array.nbytes)
    synchronize(stream)


def fill(pointer: int, byte: int, nbytes: int, stream: int) -> None:
    """Set bytes of the device's memory: 0 makes zeros, 255 NaN in every float's format."""
    if nbytes == 0:
        return
    context()
    code = library().cuMemsetD8Async(pointer, byte, nbytes, stream)
    check(code, "filling %d bytes on the device", nbytes)


def _address(array: np.ndarray[Any, Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of strides {array.strides} isn't contiguous")
    address: int = array.__array_interface__["data"][0]
    return address
