"""Arrays on the device, as CuPy, torch and Numba show theirs, and their namespace."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType
from typing import Any

import numpy as np

from cnnfast.kernels.numba_cuda import driver

Array = np.ndarray[Any, Any]


class DeviceArray:
    """A copy of an array on the device, with its strides; ``numpy`` copies it back.

    The memory that the array spans goes along, so what lies between its elements can be looked at
    as well (``span``). ``stream`` is what the interface says, if anything.
    """

    device = 0

    def __init__(
        self,
        array: Array,
        stream: int | None = None,
        readonly: bool = False,
        written: bool = True,
    ) -> None:
        low, high = np.lib.array_utils.byte_bounds(array)
        self._like, self._nbytes = array, high - low
        self._offset = array.__array_interface__["data"][0] - low if array.size else 0
        self.base = driver.allocate(self._nbytes if array.size else 0, 0)
        self.pointer = self.base + self._offset
        self.shape, self.dtype, self.strides = array.shape, array.dtype, array.strides
        if written and array.size:
            data = np.frombuffer(ctypes.string_at(low, high - low), np.uint8)
            driver.to_device(self.base, data, 0)
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.pointer, readonly),
            "strides": None if array.flags.c_contiguous else array.strides,
            "stream": stream,
        }

    def span(self) -> Array:
        """All bytes that the array spans."""
        data = np.empty(self._nbytes, np.uint8)
        driver.to_host(data, self.base, 0)
        return data

    def numpy(self) -> Array:
        """The elements as they are now."""
        if self._like.size == 0:
            return self._like.copy()
        memory = self.span().data
        return np.ndarray(self.shape, self.dtype, memory, self._offset, self.strides).copy()

    def reshape(self, shape: tuple[int, ...]) -> DeviceArray:
        """A copy of another shape."""
        return DeviceArray(self.numpy().reshape(shape))

    def __array_namespace__(self, **given: object) -> ModuleType:
        return sys.modules[__name__]

    def __del__(self) -> None:
        driver.free(self.__dict__.get("base", 0), 0)


def empty(shape: tuple[int, ...], *, dtype: Any, device: int = 0) -> DeviceArray:
    """An array of which nothing is written."""
    assert device == 0
    return DeviceArray(np.empty(shape, dtype), written=False)


def __getattr__(name: str) -> Any:
    """The namespace's dtypes are NumPy's."""
    found = getattr(np, name)
    if not (isinstance(found, type) and issubclass(found, np.generic)):
        raise AttributeError(name)
    return found
