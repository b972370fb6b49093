"""The C functions of ``cnnfast.kernels.cython_cpu`` as ctypes calls them."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_get_name = ctypes.pythonapi.PyCapsule_GetName
_get_name.restype, _get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

POINTER, INT, INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64

DTYPES = ("float32", "float64")
#: Spatial axes and taps by rank.
LETTERS = {1: "w", 2: "hw", 3: "dhw"}
TAPS = {1: "s", 2: "rs", 3: "trs"}

CONV_FIELDS = (
    *("n", "c", "d", "h", "w", "k", "t", "r", "s"),
    *(f"{name}_{axis}" for name in ("stride", "dilation", "before", "after") for axis in "dhw"),
    *(f"output_padding_{axis}" for axis in "dhw"),
    "groups",
)
POOL_FIELDS = (
    *("n", "c", "d", "h", "w", "t", "r", "s"),
    *(f"{name}_{axis}" for name in ("stride", "dilation", "before", "after") for axis in "dhw"),
    *("ceil_mode", "count_include_pad", "divisor"),
)


def function(module: ModuleType, name: str, result: Any, *arguments: Any) -> Any:
    """A function of a module's ``__pyx_capi__``; ctypes lets go of the GIL while it runs."""
    capsule = module.__pyx_capi__[name]
    address = _get_pointer(capsule, _get_name(capsule))
    return ctypes.CFUNCTYPE(result, *arguments)(address)


class Struct(dict[str, int]):
    """Fields of a shape, 1 or 0 unless they are given, and the int64 that C reads."""

    def __init__(self, fields: Sequence[str], **given: int) -> None:
        zero = ("before", "after", "output_padding", "ceil_mode", "divisor")
        super().__init__({name: 0 if name.startswith(zero) else 1 for name in fields})
        assert given.keys() <= self.keys()
        self.update(given)

    @property
    def ints(self) -> Array:
        """The fields in order."""
        return np.array([*self.values()], np.int64)


def address(array: Array | None) -> int | None:
    """Where an array's first element is."""
    return None if array is None else array.ctypes.data


def five(array: Array) -> list[int]:
    """Strides in elements of an array (N, C, spatial) as of one with three spatial axes."""
    steps = [step // array.itemsize for step in array.strides]
    return [*steps[:2], *[0] * (5 - len(steps)), *steps[2:]]


def strides_of(*arrays: Array) -> Array:
    """What C reads of some arrays' strides."""
    return np.array([step for array in arrays for step in five(array)], np.int64)


def status(code: int) -> str:
    """A status in words."""
    from cnnfast.kernels.cython_cpu import conv

    text: bytes = function(conv, "status_text", ctypes.c_char_p, INT)(code)
    return text.decode()


def spread_out(rng: Any, array: Array) -> Array:
    """The same numbers in memory with other strides."""
    order = rng.permutation(array.ndim)
    steps = [random.choice((1, 1, 2, -1)) for _ in order]
    home = np.empty([n * abs(s) for n, s in zip(array.shape, steps, strict=True)], array.dtype)
    home = home.transpose(order).copy().transpose(np.argsort(order))
    view = home[tuple(slice(None, None, s) for s in steps)]
    view[...] = array
    assert view.shape == array.shape
    return view
