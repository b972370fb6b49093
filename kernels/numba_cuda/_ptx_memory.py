"""Several elements of global memory at a time, and loads under a predicate: inline PTX and LLVM
vectors. ``_simulated_memory`` is its twin, ``ops`` the way to both.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic
from numba.cuda.typing.templates import signature

from ._ptx import _I32, _KINDS


def _four(pointer: Any) -> tuple[Any, int]:
    """LLVM's pointer to four elements at once, and the multiple of bytes that they lie at."""
    element = pointer.type.pointee
    size = 8 if isinstance(element, ir.DoubleType) else 4
    size = element.width // 8 if isinstance(element, ir.IntType) else size
    return ir.PointerType(ir.VectorType(element, 4)), min(4 * size, 16)


def _load_if(count: int) -> Any:
    """Code of a load of ``count`` elements under a predicate: zeros where it doesn't hold. No
    branch, so that what follows isn't held up, and nothing is read in vain."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0].dtype
        letter, held = _KINDS[kind]
        name = f"{'f' if kind in types.real_domain else 'u'}{kind.bitwidth}"
        wide = min(count, 16 // (kind.bitwidth // 8))
        at = builder.addrspacecast(builder.gep(values[0], [values[1]]), ir.PointerType(held, 1))
        address, wanted = builder.ptrtoint(at, ir.IntType(64)), builder.zext(values[2], _I32)
        loaded: list[Any] = []
        for first in range(0, count, wide):
            places = ",".join(f"${j}" for j in range(wide))
            text = f"{{{places}}}" if wide > 1 else places
            form = f".v{wide}.{name}" if wide > 1 else f".{name}"
            template = (
                f"{{ .reg .pred p; setp.ne.b32 p, ${2 * wide + 1}, 0; "
                f"@p ld.global.nc{form} {text}, [${2 * wide} + {first * kind.bitwidth // 8}]; }}"
            )
            constraints = [f"={letter}"] * wide + [str(j) for j in range(wide)] + ["l", "r"]
            returned = ir.LiteralStructType([held] * wide) if wide > 1 else held
            taken = [held] * wide + [ir.IntType(64), _I32]
            assembly = ir.InlineAsm(
                ir.FunctionType(returned, taken), template, ",".join(constraints), side_effect=True
            )
            zeros = [ir.Constant(held, 0)] * wide
            made = builder.call(assembly, [*zeros, address, wanted])
            parts = [builder.extract_value(made, j) for j in range(wide)] if wide > 1 else [made]
            loaded += parts
        return cgutils.pack_array(builder, loaded) if count > 1 else loaded[0]

    return generate


@intrinsic
def read_if(typing_context, pointer, i, wanted):
    """Element ``i`` of an array that the kernel doesn't write if it is ``wanted``, else zero."""
    return signature(pointer.dtype, pointer, types.int64, types.boolean), _load_if(1)


@intrinsic
def read4_if(typing_context, pointer, i, wanted):
    """Elements ``i`` to ``i + 3`` at a multiple of 16 bytes (of 8 if they are two bytes each), as
    ``read_if``."""
    four = types.UniTuple(pointer.dtype, 4)
    return signature(four, pointer, types.int64, types.boolean), _load_if(4)


@intrinsic
def read4(typing_context, pointer, i):
    """Elements ``i`` to ``i + 3``, which lie at a multiple of 16 bytes, or of 8 if they are two
    bytes each: one load. Of a pointer, or of an array (of a kernel of a user's)."""

    def generate(context, builder, signature, values):
        begin, kind = values[0], signature.args[0]
        if isinstance(kind, types.Array):
            begin = cgutils.create_struct_proxy(kind)(context, builder, begin).data
        at = builder.gep(begin, [values[1]])
        kind, align = _four(at)
        loaded = builder.load(builder.bitcast(at, kind), align=align)
        taken = [builder.extract_element(loaded, _I32(j)) for j in range(4)]
        return cgutils.pack_array(builder, taken)

    return signature(types.UniTuple(pointer.dtype, 4), pointer, types.int64), generate


@intrinsic
def write4(typing_context, pointer, i, values):
    """Store four elements at a multiple of 16 bytes (of 8 if they are two bytes each) at once."""

    def generate(context, builder, signature, given):
        at = builder.gep(given[0], [given[1]])
        kind, align = _four(at)
        vector = ir.Constant(kind.pointee, ir.Undefined)
        for j in range(4):
            vector = builder.insert_element(vector, builder.extract_value(given[2], j), _I32(j))
        builder.store(vector, builder.bitcast(at, kind), align=align)
        return context.get_dummy_value()

    four = types.UniTuple(pointer.dtype, 4)
    return signature(types.void, pointer, types.int64, four), generate
