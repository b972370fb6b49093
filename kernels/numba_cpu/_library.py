"""Machine code of ``_emit`` alone, made by LLVM without Numba's compiler around it, cached on disk.

Its functions are C functions ``void NAME(...)`` that compiled code calls by symbols, so they are in
memory once, whoever calls them, and a caller's own code stays small.
Why: Numba optimises a function three times, and again in every function that calls it. The direct
row takes it 2.7 s, and 1.0 s this way (``pytest -s tests/test_numba_functions.py -k time``).
"""

from __future__ import annotations

from collections.abc import Callable
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


class Source(NamedTuple):
    """A library's functions: by name their bodies, and the kinds of their arguments."""

    name: str
    functions: dict[str, tuple[Body, tuple[str, ...]]]


def symbol_of(source: Source, function: str, dtype: str) -> str:
    """What a function is called in compiled code: another name for other sources."""
    return f"cnnfast.{source.name}.{function}.{dtype}.{engine_stamp()[:16]}"


def kinds_of(source: Source, function: str, dtype: str) -> list[ir.Type]:
    """The LLVM types of a function's arguments."""
    real = {"float32": ir.FloatType(), "float64": ir.DoubleType()}[dtype]
    kinds = {"words": INT64.as_pointer(), "values": real.as_pointer(), "integer": INT64}
    return [kinds[kind] for kind in source.functions[function][1]]


def _module_of(source: Source, dtype: str) -> ir.Module:
    context = cpu_target.target_context
    module = ir.Module(f"cnnfast.{source.name}")
    module.triple = context.codegen().magic_tuple()[0]
    element = context.get_data_type(numba.from_dtype(np.dtype(dtype)))
    for name, (body, _) in source.functions.items():
        kind = ir.FunctionType(ir.VoidType(), kinds_of(source, name, dtype))
        function = ir.Function(module, kind, symbol_of(source, name, dtype))
        function.attributes.add("nounwind")
        builder = ir.IRBuilder(function.append_basic_block())
        first = function.append_basic_block()
        builder.branch(first)
        builder.position_at_end(first)
        code = Code(context, builder, element)
        body(code, *(Value(code, argument) for argument in function.args))
        builder.ret_void()
    return module


def _machine() -> llvm.TargetMachine:
    triple, processor, features = cpu_target.target_context.codegen().magic_tuple()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=processor, features=features, opt=OPTIMISATION, reloc="default", codemodel="jitdefault"
    )


def _compile(source: Source, dtype: str) -> bytes:
    """An object file. Vectors are written as such, so LLVM needn't look for any."""
    module, machine = llvm.parse_assembly(str(_module_of(source, dtype))), _machine()
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    made: bytes = machine.emit_object(module)
    return made


class _ObjectImpl(CacheImpl):  # type: ignore[misc]
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
    """The functions of a source, compiled for a dtype when ``load`` first asks for it, by name and
    for compiled code by symbol."""

    def __init__(self, source: Source) -> None:
        self.source = source
        #: dtype -> what owns the code.
        self.engines: dict[str, Any] = {}
        #: How often code was compiled, and read from the disk.
        self.compiled = self.read = 0

    @global_compiler_lock
    def load(self, dtype: str) -> None:
        """Have the functions for a dtype in memory, and their symbols known."""
        if dtype in self.engines:
            return
        target, cache = cpu_target.target_context, cache_of(_compile, _ObjectCache)
        key = self.source.name, dtype
        target.refresh()
        code = cache.load_overload(key, target) if cache is not None else None
        if code is None:
            code = _compile(self.source, dtype)
            self.compiled += 1
            if cache is not None:
                cache.save_overload(key, _Made(code, target.codegen()))
        else:
            self.read += 1
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        for function in self.source.functions:
            symbol = symbol_of(self.source, function, dtype)
            llvm.add_symbol(symbol, engine.get_function_address(symbol))
        self.engines[dtype] = engine

    def call(self, context: Any, builder: Any, function: str, dtype: str, values: Any) -> None:
        """Write a call in code that Numba compiles, which brings the library with it: also where
        that code comes from a cache."""
        self.load(dtype)
        context.environment.consts.append(_Needed(self.source.name, dtype))
        kind = ir.FunctionType(ir.VoidType(), kinds_of(self.source, function, dtype))
        symbol = symbol_of(self.source, function, dtype)
        known = builder.module.globals.get(symbol)
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
    from ._cores import LIBRARIES

    if stamp != engine_stamp():
        raise StaleError("compiled for another version of cnnfast's kernels")
    LIBRARIES[name].load(dtype)
    return _Needed(name, dtype)
