"""Arrays in the GPU's memory with guards around them, made through the driver alone.

They need neither torch nor CuPy, may have any strides, and what they don't span is looked at.
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType
from typing import Any

import numpy as np

from cnnfast.benchmarks.workloads import Array
from cnnfast.kernels.numba_cuda import device, driver

#: Bytes before and behind what an array spans. They read as NaN in every float's format.
GUARD = 1024
POISON = 0xFF
#: The stream of everything here: the legacy default one, as an interface without a stream means.
STREAM = 0


class Buffer:
    """A copy of an array on the device with its strides and its address modulo 256, offered through
    ``__cuda_array_interface__``. Not ``written``, it is poison."""

    device = 0

    def __init__(self, array: Array, written: bool = True, shift: int = 0) -> None:
        low, high = np.lib.array_utils.byte_bounds(array)
        size = high - low if array.size else 0
        self.like, self.dtype, self.shape, self.strides = (
            array, array.dtype, array.shape, array.strides,
        )  # fmt: skip
        self._first = array.__array_interface__["data"][0] - low if array.size else 0
        self._before, self._size = GUARD + shift, size
        self.base = driver.allocate(size + 2 * GUARD + shift, STREAM)
        whole = np.full(size + 2 * GUARD + shift, POISON, np.uint8)
        if written and size:
            data = np.frombuffer(ctypes.string_at(low, size), np.uint8)
            whole[self._before : self._before + size] = data
        driver.to_device(self.base, whole, STREAM)
        driver.synchronize(STREAM)
        self.pointer = self.base + self._before + self._first
        self.__cuda_array_interface__ = {
            "version": 3, "shape": self.shape, "typestr": self.dtype.str,
            "data": (self.pointer, False), "strides": self.strides, "stream": None,
        }  # fmt: skip

    def numpy(self) -> Array:
        """The elements as they are now; AssertionError if anything around them was written."""
        whole = np.empty(self._before + self._size + GUARD, np.uint8)
        driver.synchronize(STREAM)
        driver.to_host(whole, self.base, STREAM)
        end = self._before + self._size
        assert (whole[: self._before] == POISON).all(), "something was written before an array"
        assert (whole[end:] == POISON).all(), "something was written behind an array"
        if self.like.size == 0:
            return self.like.copy()
        inner = np.ndarray(
            self.shape, self.dtype, whole.data, self._before + self._first, self.strides
        )
        return inner.copy()

    def __array_namespace__(self, **given: object) -> ModuleType:
        return sys.modules[__name__]

    def __del__(self) -> None:
        driver.free(self.__dict__.get("base", 0), STREAM)


def empty(shape: tuple[int, ...], *, dtype: Any, device: int = 0) -> Buffer:
    """An array of poison, as cnnfast asks the namespace of an array for its results."""
    return Buffer(np.empty(shape, dtype), written=False)


def __getattr__(name: str) -> Any:
    """The namespace's dtypes are NumPy's."""
    found = getattr(np, name)
    if not (isinstance(found, type) and issubclass(found, np.generic)):
        raise AttributeError(name)
    return found


def run(program: Any, operands: dict[str, Array], written: tuple[str, ...]) -> dict[str, Array]:
    """Run a program on views of host arrays, scratch and what is written poisoned; what it wrote.

    AssertionError if something was written around an operand, or an input was changed.
    """
    scratch = np.empty(program.scratch_bytes, np.uint8)
    # First elements keep their addresses modulo 16, which programs are made for.
    places = {
        name: Buffer(array, name not in written, shift=_shift(array))
        for name, array in {**operands, "scratch": scratch}.items()
    }
    places["scratch"] = Buffer(scratch, written=False)
    ready = device.bind(program, tuple(places))
    ready.run([buffer.pointer for buffer in places.values()], STREAM)
    found = {name: buffer.numpy() for name, buffer in places.items()}
    for name, array in operands.items():
        if name not in written:
            same = np.ascontiguousarray(found[name]).tobytes() == array.tobytes()
            assert same, f"the kernel changed {name}"
    return {name: found[name] for name in written}


def _shift(array: Array) -> int:
    low, _ = np.lib.array_utils.byte_bounds(array)
    return int(low % 16) if array.size else 0
