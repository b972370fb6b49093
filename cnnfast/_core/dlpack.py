"""Reading a DLPack capsule of a GPU's memory (Source: the DLPack specification, version 1)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32),
        ("ordinal", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


#: DLDataTypeCode -> NumPy's kind; bfloat16, 4, is apart.
KINDS = {0: "i", 1: "u", 2: "f", 5: "c"}
BFLOAT16 = 4
#: kDLCUDA and kDLCUDAManaged.
DEVICES = (2, 13)
#: The legacy default stream, on which the producer makes the data ready.
STREAM = 1


def read_capsule(
    source: Any,
) -> tuple[int, tuple[int, ...], tuple[int, ...], np.dtype[Any], bool]:
    """Pointer, shape, strides in bytes, dtype and whether it is read only, of what ``source``
    offers; the capsule, which is not consumed, gives its share of the memory back at once: it lives
    as long as ``source`` does."""
    capsule = source.__dlpack__(stream=STREAM)
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(address(capsule, b"dltensor"))
    if tensor.device not in DEVICES:
        raise TypeError(f"DLPack's device {tensor.device} is no GPU of NVIDIA's")
    if tensor.lanes != 1:
        raise TypeError(f"DLPack's dtype has {tensor.lanes} lanes, not one")
    dtype = _dtype(tensor.code, tensor.bits)
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if tensor.strides:
        steps = tuple(tensor.strides[i] for i in range(tensor.ndim))
    else:
        steps = tuple(int(np.prod(shape[i + 1 :])) for i in range(tensor.ndim))
    strides = tuple(step * dtype.itemsize for step in steps)
    return (tensor.data or 0) + tensor.offset, shape, strides, dtype, False


def _dtype(code: int, bits: int) -> np.dtype[Any]:
    if code == BFLOAT16 and bits == 16:
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    if code not in KINDS:
        raise TypeError(f"DLPack's dtype code {code} of {bits} bits isn't known here")
    dtype: np.dtype[Any] = np.dtype(f"{KINDS[code]}{bits // 8}")
    return dtype
