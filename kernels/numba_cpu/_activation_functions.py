"""A user's scalar function as the activation of a kernel, in the user's own compiled code.

A kernel takes the address of a C function ``void apply(REAL *values, int64_t count)``; here that
one is written around the scalar function into the library that calls the kernel.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numba
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from ._vector import INT64


@numba.njit
def relu(y):
    """``max(y, 0)``, where NaN stays NaN; kernels know it as an activation, and clamp in
    registers."""
    return y if not y < 0 else type(y)(0)


@numba.njit
def relu6(y):
    """``min(max(y, 0), 6)``, the same."""
    return y if not (y < 0 or y > 6) else type(y)(0 if y < 0 else 6)


#: Functions that kernels have codes for.
CODES = {relu: 1, relu6: 2}


#: Function -> the same with divisions that give an infinity or NaN, as all of a kernel's do.
_scalars: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _scalar_of(function: Any) -> Any:
    if function not in _scalars:
        options = {"fastmath": function.targetoptions.get("fastmath", False)}
        scalar = numba.njit(error_model="numpy", nogil=True, **options)(function.py_func)
        _scalars[function] = scalar
    return _scalars[function]


def check_activation(typing_context: Any, activation: Any, real: Any) -> None:
    """Refuse, while code is compiled, what isn't None or a scalar function."""
    if isinstance(activation, types.NoneType):
        return
    rule = "activation must be None or a function compiled by numba.njit that takes and returns one"
    if not isinstance(activation, types.Dispatcher):
        raise TypingError(f"{rule} {real}, got {activation}")
    function = types.Dispatcher(_scalar_of(activation.dispatcher))
    signature = typing_context.resolve_function_type(function, (real,), {})
    kind = types.Float | types.Integer | types.Boolean
    if signature is None or not isinstance(signature.return_type, kind):
        returned = None if signature is None else signature.return_type
        raise TypingError(f"{rule} {real}, got one that returns {returned}")


def activation_code(context: Any, builder: Any, activation: Any, real: Any) -> Any:
    """What a kernel takes for an activation: a code or an address."""
    if isinstance(activation, types.NoneType):
        return INT64(0)
    if activation.dispatcher in CODES:
        return INT64(CODES[activation.dispatcher])
    scalar = _scalar_of(activation.dispatcher)

    def change(values, count):
        for i in range(count):
            values[i] = real(scalar(values[i]))

    kinds = types.CPointer(real), types.int64
    compiled = context.compile_subroutine(builder, change, types.none(*kinds))
    return builder.ptrtoint(_c_function(context, builder, compiled, kinds), INT64)


def _c_function(context: Any, builder: Any, compiled: Any, kinds: Any) -> ir.Function:
    """A C function that calls a compiled one."""
    module = builder.module
    arguments = [context.get_value_type(kind) for kind in kinds]
    name = module.get_unique_name("cnnfast.apply")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    inside = ir.IRBuilder(function.append_basic_block())
    callee = context.declare_function(module, compiled.fndesc)
    context.call_conv.call_function(inside, callee, types.none, kinds, function.args)
    inside.ret_void()
    return function
