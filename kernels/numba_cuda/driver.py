"""What the host does with the GPU, through NVIDIA's driver.

Handles (contexts, streams, functions) and device pointers are ints. A stream is the caller's: 0 or
1 the legacy default stream, 2 the thread's own, else a CUstream. Every call is checked: CudaError
says what was being done and what the driver answered, and OutOfMemory is a MemoryError too.
"""

from __future__ import annotations

from ._device import (
    capability,
    capturing,
    context,
    device,
    device_name,
    device_of,
    devices_of,
    memory,
    missing,
    multiprocessors,
    synchronize,
)
from ._kernels import Function, Launcher, load
from ._libcuda import CudaError, OutOfMemory
from ._memory import allocate, fill, free, to_device, to_host

__all__ = [
    "CudaError",
    "Function",
    "Launcher",
    "OutOfMemory",
    "allocate",
    "capability",
    "capturing",
    "context",
    "device",
    "device_name",
    "device_of",
    "devices_of",
    "fill",
    "free",
    "load",
    "memory",
    "missing",
    "multiprocessors",
    "synchronize",
    "to_device",
    "to_host",
]
