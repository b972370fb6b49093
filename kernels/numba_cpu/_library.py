"""Machine code of ``_emit`` alone, made by LLVM without Numba's compiler around it, cached on disk.

Its functions are C functions ``void NAME(...)`` that compiled code calls by symbols, so they are in
memory once, whoever calls them, and a caller's own code stays small.
Why: Numba optimises a function three times, and again in every function that calls it. The direct
row takes it 3.0 s, and 2.0 s this way (``_conv_core``, where it had all of the row's loops).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core.caching import CacheImpl
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from ._compile import EngineCache, cache_of, engine_stamp
from ._emit import Code, Value
from ._vector import INT64

#: What writes a function from its arguments, and their kinds: "words" (int64) or "values".
Body = Callable[..., None]
OPTIMISATION = 2


#: By name, a function's body and the kinds of its arguments.
Functions = dict[str, tuple[Body, tuple[str, ...]]]
#: All libraries by name, as code that comes from a cache asks for them.
_libraries: dict[str, Library] = {}
#: Where they are made.
_MODULES = {
    "conv": "_conv_core",
    "adjoint": "_adjoint_core",
    "max_pool": "_pool_core",
    "avg_pool": "_pool_core",
}


def _machine() -> llvm.TargetMachine:
    triple, processor, features = cpu_target.target_context.codegen().magic_tuple()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=processor, features=features, opt=OPTIMISATION, reloc="default", codemodel="jitdefault"
    )


def _compile(library: Library, dtype: str) -> bytes:
    """An object file. Vectors are written as such, so LLVM needn't look for any."""
    module, machine = llvm.parse_assembly(str(library.module_of(dtype))), _machine()
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    made: bytes = machine.emit_object(module)
    return made


class _ObjectImpl(CacheImpl):
    """Object files as they are."""

    def reduce(self, data: Any) -> bytes:
        return bytes(data.code)

    def rebuild(self, target_context: Any, reduced_data: bytes) -> bytes:
        return reduced_data

    def check_cachable(self, data: Any) -> bool:
        return True


class _ObjectCache(EngineCache):
    _impl_class = _ObjectImpl


class _Made(NamedTuple):
    """What Numba's cache wants to know of what it saves."""

    code: bytes
    codegen: Any


class Library:
    """Functions, compiled for a dtype when ``load`` first asks for it. They call those of the
    libraries that they ``need``."""

    def __init__(self, name: str, functions: Functions, needs: tuple[Library, ...] = ()) -> None:
        self.name, self.functions, self.needs = name, functions, needs
        #: dtype -> what owns the code.
        self.engines: dict[str, Any] = {}
        #: How often code was compiled, and read from the disk.
        self.compiled = self.read = 0
        _libraries[name] = self

    def symbol_of(self, function: str, dtype: str) -> str:
        """What a function is called in compiled code: another name for other sources."""
        return f"cnnfast.{self.name}.{function}.{dtype}.{engine_stamp()[:16]}"

    def kind_of(self, function: str, dtype: str) -> ir.FunctionType:
        """A function's LLVM type."""
        real = {"float32": ir.FloatType(), "float64": ir.DoubleType()}[dtype]
        kinds = {"words": INT64.as_pointer(), "values": real.as_pointer(), "integer": INT64}
        return ir.FunctionType(ir.VoidType(), [kinds[kind] for kind in self.functions[function][1]])

    def module_of(self, dtype: str) -> ir.Module:
        """The functions as LLVM's code."""
        context = cpu_target.target_context
        module = ir.Module(f"cnnfast.{self.name}")
        module.triple = context.codegen().magic_tuple()[0]
        element = context.get_data_type(numba.from_dtype(np.dtype(dtype)))
        for name, (body, _) in self.functions.items():
            symbol = self.symbol_of(name, dtype)
            function = ir.Function(module, self.kind_of(name, dtype), symbol)
            function.attributes.add("nounwind")
            # Room on the stack is made before all else.
            builder = ir.IRBuilder(function.append_basic_block())
            first = function.append_basic_block()
            builder.branch(first)
            builder.position_at_end(first)
            code = Code(context, builder, element)
            body(code, *(Value(code, argument) for argument in function.args))
            builder.ret_void()
        return module

    @global_compiler_lock
    def load(self, dtype: str) -> None:
        """Have the functions for a dtype in memory, and their symbols known."""
        if dtype in self.engines:
            return
        for library in self.needs:
            library.load(dtype)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(self._code_of(dtype)))
        engine.finalize_object()
        for function in self.functions:
            symbol = self.symbol_of(function, dtype)
            llvm.add_symbol(symbol, engine.get_function_address(symbol))
        self.engines[dtype] = engine

    def _code_of(self, dtype: str) -> bytes:
        target, cache = cpu_target.target_context, cache_of(_compile, _ObjectCache)
        target.refresh()
        key = self.name, dtype
        code: bytes | None = cache.load_overload(key, target) if cache is not None else None
        if code is not None:
            self.read += 1
            return code
        code = _compile(self, dtype)
        self.compiled += 1
        if cache is not None:
            cache.save_overload(key, _Made(code, target.codegen()))
        return code

    def call(self, context: Any, builder: Any, function: str, dtype: str, values: Any) -> None:
        """Write a call in code that Numba compiles, which brings the library with it: also where
        that code comes from a cache."""
        self.load(dtype)
        context.environment.consts.append(_Needed(self.name, dtype))
        self._write_call(builder, function, dtype, values)

    def call_from(self, code: Code, function: str, *values: Value) -> None:
        """Write a call in another library, which needs this one."""
        dtype = {4: "float32", 8: "float64"}[code.itemsize]
        self._write_call(code.builder, function, dtype, [value.value for value in values])

    def _write_call(self, builder: Any, function: str, dtype: str, values: Any) -> None:
        symbol = self.symbol_of(function, dtype)
        known = builder.module.globals.get(symbol)
        kind = self.kind_of(function, dtype)
        builder.call(known or ir.Function(builder.module, kind, symbol), values)


class StaleError(OSError):
    """Compiled code was made for other kernels. To Numba's cache an OSError means that the code
    isn't there, so it compiles it again."""


class _Needed:
    """A library that a compiled function calls, kept among that function's constants: who reads
    these from a cache loads it, before the function's code is linked."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name, self.dtype = name, dtype

    def __reduce__(self) -> Any:
        return _need, (self.name, self.dtype, engine_stamp())


def _need(name: str, dtype: str, stamp: str) -> _Needed:
    if stamp != engine_stamp():
        raise StaleError("compiled for another version of cnnfast's kernels")
    import_module(f".{_MODULES[name]}", __package__)
    _libraries[name].load(dtype)
    return _Needed(name, dtype)
