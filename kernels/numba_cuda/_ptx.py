"""GPU operations that Numba has no name for, as LLVM IR and inline PTX (sm_80 and later).

``_simulated`` has the same names for Numba's simulator; ``ops`` picks one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic
from numba.cuda.typing.templates import signature

#: How PTX takes a Numba type, and LLVM holds it.
_KINDS = {
    types.uint16: ("h", ir.IntType(16)),
    types.int32: ("r", ir.IntType(32)),
    types.uint32: ("r", ir.IntType(32)),
    types.uint64: ("l", ir.IntType(64)),
    types.float32: ("f", ir.FloatType()),
}


def _flat(kinds: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for kind in kinds:
        flat += [kind.dtype] * kind.count if isinstance(kind, types.UniTuple) else [kind]
    return flat


def _typed(generate: Callable[..., Any], result: Any, arguments: Sequence[Any]) -> Any:
    """An intrinsic of fixed types: Numba wants a function with as many named parameters."""
    names = "".join(f", a{i}" for i in range(len(arguments)))
    space = {"found": (signature(result, *arguments), generate)}
    exec(f"def op(typing_context{names}):\n    return found\n", space)
    return intrinsic(space["op"])


def _instruction(
    template: str, result: Any, arguments: Sequence[Any], pure: bool = False, tied: int = 0
) -> Any:
    """An intrinsic of one PTX template, operands ``$0`` ...: results, then the arguments, tuples
    laid flat. The first ``tied`` arguments are the results' registers. What isn't ``pure`` is kept
    in order with other accesses of memory."""
    results = [] if result is types.void else _flat([result])
    taken = _flat(arguments)
    constraints = [f"={_KINDS[kind][0]}" for kind in results]
    constraints += [str(i) if i < tied else _KINDS[kind][0] for i, kind in enumerate(taken)]
    if not pure:
        constraints.append("~{memory}")
    held = [_KINDS[kind][1] for kind in results]
    several = len(held) > 1
    returned = ir.LiteralStructType(held) if several else held[0] if held else ir.VoidType()
    function = ir.FunctionType(returned, [_KINDS[kind][1] for kind in taken])
    assembly = ir.InlineAsm(function, template, ",".join(constraints), side_effect=not pure)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        flat: list[Any] = []
        for kind, value in zip(signature.args, values, strict=True):
            if isinstance(kind, types.UniTuple):
                flat += [builder.extract_value(value, i) for i in range(kind.count)]
            else:
                flat.append(value)
        made = builder.call(assembly, flat)
        if not held:
            return context.get_dummy_value()
        if not isinstance(result, types.UniTuple):
            return made
        return cgutils.pack_array(
            builder, [builder.extract_value(made, i) for i in range(len(held))]
        )

    return _typed(generate, result, arguments)


def _bits_of(wide: Any) -> Any:
    """Code of ``wide(builder, bits)`` for an intrinsic of one argument."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return wide(builder, values[0])

    return generate


_F16, _F32, _I16, _I32 = ir.HalfType(), ir.FloatType(), ir.IntType(16), ir.IntType(32)

#: The float32 of the bits of a float16 or bfloat16, and the bits nearest to a float32.
widen_float16 = _typed(
    _bits_of(lambda b, bits: b.fpext(b.bitcast(bits, _F16), _F32)), types.float32, [types.uint16]
)
widen_bfloat16 = _typed(
    _bits_of(lambda b, bits: b.bitcast(b.shl(b.zext(bits, _I32), _I32(16)), _F32)),
    types.float32,
    [types.uint16],
)
narrow_float16 = _instruction("cvt.rn.f16.f32 $0, $1;", types.uint16, [types.float32], pure=True)
narrow_bfloat16 = _instruction("cvt.rn.bf16.f32 $0, $1;", types.uint16, [types.float32], pure=True)


def _four(pointer: Any) -> tuple[Any, int]:
    """LLVM's pointer to four elements at once, and the multiple of bytes that they lie at."""
    element = pointer.type.pointee
    size = 8 if isinstance(element, ir.DoubleType) else 4
    size = element.width // 8 if isinstance(element, ir.IntType) else size
    return ir.PointerType(ir.VectorType(element, 4)), min(4 * size, 16)


@intrinsic
def read4(typing_context, pointer, i):
    """Elements ``i`` to ``i + 3``, which lie at a multiple of 16 bytes, or of 8 if they are two
    bytes each: one load."""

    def generate(context, builder, signature, values):
        at = builder.gep(values[0], [values[1]])
        kind, align = _four(at)
        loaded = builder.load(builder.bitcast(at, kind), align=align)
        taken = [builder.extract_element(loaded, _I32(j)) for j in range(4)]
        return cgutils.pack_array(builder, taken)

    return signature(types.UniTuple(pointer.dtype, 4), pointer, types.int64), generate


@intrinsic
def write4(typing_context, pointer, i, values):
    """Store four elements that lie as ``read4`` has it: one store."""

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
