"""A user's own ``numba.njit`` scalar function as an activation that kernels call.

Numba compiles a C function ``void apply(REAL *values, int64_t count)`` around it, once per dtype,
and kernels of every engine take its address in place of an activation's code: they apply it to a
few values at a time, in their last store, while these are in registers or L1.
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakKeyDictionary

from .arrays import Dtype

#: function -> dtype -> the compiled C function, which lives as long as the function does.
_compiled: WeakKeyDictionary[Any, dict[Dtype, Any]] = WeakKeyDictionary()


def is_scalar_function(value: Any) -> bool:
    """Whether it is a function compiled by ``numba.njit``; imports nothing."""
    registry = sys.modules.get("numba.core.registry")
    return registry is not None and isinstance(value, registry.CPUDispatcher)


def is_device_function(value: Any) -> bool:
    """Whether it is a function compiled by ``numba.cuda.jit(device=True)``; imports nothing."""
    dispatcher = sys.modules.get("numba.cuda.dispatcher")
    kind = getattr(dispatcher, "CUDADispatcher", None)
    return kind is not None and isinstance(value, kind) and bool(value.targetoptions.get("device"))


def address_of(name: str, function: Any, dtype: Dtype) -> int:
    """The address of the C function that applies ``function`` to values of a dtype, in place.

    TypeError if it doesn't compile as a function of one such number that returns a real number. As
    in the kernels, dividing by zero gives an infinity or NaN.
    """
    known = _compiled.setdefault(function, {})
    if dtype not in known:
        known[dtype] = _compile(name, function, dtype)
    address: int = known[dtype].address
    return address


def _compile(name: str, function: Any, dtype: Dtype) -> Any:
    import numba
    from numba import types

    real = numba.from_dtype(dtype)
    options = {"fastmath": function.targetoptions.get("fastmath", False)}
    scalar = numba.njit(error_model="numpy", nogil=True, **options)(function.py_func)
    try:
        scalar.compile((real,))
    except (numba.core.errors.NumbaError, TypeError) as error:
        raise TypeError(
            f"{name}: activation {function.__name__!r} must compile as a function of one {dtype}: "
            f"{error}"
        ) from None
    returned = scalar.overloads[(real,)].signature.return_type
    if not isinstance(returned, types.Float | types.Integer | types.Boolean):
        raise TypeError(
            f"{name}: activation {function.__name__!r} must return a real number, got {returned}"
        )

    @numba.cfunc(types.void(types.CPointer(real), types.int64))  # type: ignore[untyped-decorator]
    def apply(values: Any, count: int) -> None:
        array = numba.carray(values, count)
        for i in range(count):
            array[i] = scalar(array[i])

    return apply
