"""Which dtypes are taken, what kernels compute in, and what comes back.

float16 and bfloat16 are storage: computed in float32, rounded once. Integers of up to 16 bits are
computed in float32 or float64 as long as every partial sum is exact there (most fast kernels take
nothing else), else in int64, which wraps around like NumPy's. Rows that read float16, bfloat16,
int8 or uint8 as they are stored convert them by themselves, integers of 8 bits to pairs of int16,
whose products a processor adds up in int32.

int16 has no such way: the sum of two products takes all of 32 bits (and wraps around where each
factor is -2**15), so it must be widened before it is added. That is a multiply-add, three shifts
and two additions for 32 products, where float64 takes four fused multiply-adds: 36 against 29
products a nanosecond measured with AVX-512 on Zen 4, and AVX2 lacks the arithmetic shift.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from cnnfast.kernels.storage import stored_as

from .arguments import shown
from .arrays import Array, Dtype

#: dtype -> (kind, dtype that sums come back in, greatest magnitude of an integer).
_INTEGERS = {
    "int8": ("int32", 2**7),
    "uint8": ("int32", 2**8 - 1),
    "int16": ("int64", 2**15),
    "int32": ("int64", 2**31),
    "int64": ("int64", 2**63),
}
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_COMPLEX = ("complex64", "complex128")
_WIDE = ("float64", "complex128")

KINDS = {
    "integer": tuple(_INTEGERS),
    "float": _FLOATS,
    "complex": _COMPLEX,
}
_RANK = {"integer": 0, "float": 1, "complex": 2}

#: Integers up to these are exact in a float, with all sums of them in between.
EXACT = (("float32", 2**24), ("float64", 2**53))


@lru_cache(maxsize=64)
def kind_of(dtype: Dtype) -> str | None:
    """One of "integer", "float", "complex"; None for what no function takes.

    >>> kind_of(np.dtype(np.uint8)), kind_of(np.dtype(np.uint16))
    ('integer', None)
    """
    return next((kind for kind, names in KINDS.items() if dtype.name in names), None)


class Arithmetic(NamedTuple):
    """What inputs promote to, the dtype that comes back, and the kind of the former: "integer",
    "float" or "complex".
    """

    common: Dtype
    result: Dtype
    kind: str

    def stored(self, products: int) -> Dtype | None:
        """What rows may read as it is, if it is stored alone, with the same result: where a sum of
        that many products and a bias fits in what such a row computes in.

        >>> promote("conv2d", [np.ones(3, np.int8)]).stored(27)
        dtype('int8')
        """
        return _stored(self, products)

    def computing(self, products: int) -> Dtype:
        """What a kernel computes sums of that many products in; for complex the real parts' dtype.

        >>> promote("conv2d", [np.ones(3, np.int8)]).computing(27).name
        'float32'
        """
        return _computing(self, products)


@lru_cache(maxsize=1024)
def _stored(arithmetic: Arithmetic, products: int) -> Dtype | None:
    common, result, kind = arithmetic
    stored = stored_as(common)
    if stored is None or stored.result != result.name:
        return None
    if kind == "integer" and (products + 1) * _INTEGERS[common.name][1] ** 2 >= 2**31:
        return None
    return common


@lru_cache(maxsize=1024)
def _computing(arithmetic: Arithmetic, products: int) -> Dtype:
    common, result, kind = arithmetic
    if kind == "integer":
        most = (products + 1) * _INTEGERS[common.name][1] ** 2
        return np.dtype(next((name for name, limit in EXACT if most <= limit), "int64"))
    wide = common.name in _WIDE or result.name in _WIDE
    return np.dtype(np.float64 if wide else np.float32)


def promote(
    name: str,
    arrays: Iterable[Array | None],
    out_dtype: Any = None,
    kinds: tuple[str, ...] = tuple(KINDS),
) -> Arithmetic:
    """NumPy's promotion of all arrays, and the dtype of sums of their products, or ``out_dtype``.

    TypeError for dtypes that aren't of ``kinds`` or don't promote, and for an ``out_dtype`` that
    would drop a fraction or an imaginary part.
    """
    if out_dtype is not None:
        try:
            out_dtype = np.dtype(out_dtype)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: out_dtype must be a dtype, got {shown(out_dtype)}") from None
    given = tuple(array.dtype for array in arrays if array is not None)
    found = _arithmetic(given, out_dtype, kinds)
    if isinstance(found, str):
        raise TypeError(f"{name}{found}")
    return found


@lru_cache(maxsize=256)
def _arithmetic(
    given: tuple[Dtype, ...], out_dtype: Dtype | None, kinds: tuple[str, ...]
) -> Arithmetic | str:
    """The arithmetic, or what is wrong. Remembered: a dtype takes microseconds to find its name."""
    for dtype in given:
        if kind_of(dtype) not in kinds:
            taken = ", ".join(dtype for kind in kinds for dtype in KINDS[kind])
            return f" takes {taken}, got dtype {dtype}"
    try:
        common = np.result_type(*given).newbyteorder("=")
    except TypeError as error:
        return f": the inputs' dtypes don't promote to a common one: {error}"
    kind = kind_of(common)
    assert kind is not None, f"{given} promote to {common}"
    if out_dtype is None:
        result = np.dtype(_INTEGERS[common.name][0]) if kind == "integer" else common
        return Arithmetic(common, result, kind)
    wider = {names for other, names in KINDS.items() if _RANK[other] >= _RANK[kind]}
    allowed = [dtype for names in KINDS.values() if names in wider for dtype in names]
    if out_dtype.name not in allowed:
        names = ", ".join(allowed)
        return f": out_dtype must be one of {names} for inputs of {common}, got {out_dtype}"
    return Arithmetic(common, out_dtype.newbyteorder("="), kind)


def converted(array: Array, dtype: Dtype) -> Array:
    """``array`` in ``dtype``; floats that hold integers wrap around into narrower integers."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.kind in "iu" and array.dtype.kind == "f":
            array = array.astype(np.int64)
        return array.astype(dtype)
