"""GPU operations that Numba has no name for, as LLVM IR and inline PTX (sm_80 and later).

``_simulated`` has the same names for Numba's simulator; ``ops`` picks one. Memory is given as a
pointer or a shared array and the int32 index of an element there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic
from numba.cuda.typing.templates import signature

_F16, _F32 = ir.HalfType(), ir.FloatType()
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)

#: How PTX takes a Numba type, and LLVM holds it.
_KINDS = {
    types.uint16: ("h", _I16),
    types.int32: ("r", _I32),
    types.uint32: ("r", _I32),
    types.uint64: ("l", _I64),
    types.float32: ("f", _F32),
    types.float64: ("d", ir.DoubleType()),
}
Generate = Callable[..., Any]


def _typed(generate: Generate, result: Any, arguments: Sequence[Any], places: int = 0) -> Any:
    """An intrinsic of ``places`` pairs of memory, of whatever type, and an index, and of arguments
    of fixed types. Numba wants a function with that many named parameters."""
    pairs = "".join(f", m{i}, i{i}" for i in range(places))
    names = "".join(f", a{i}" for i in range(len(arguments)))
    kinds = "".join(f"m{i}, index, " for i in range(places))

    def found(*memory: Any) -> Any:
        return signature(result, *memory, *arguments), generate

    space = {"found": found, "index": types.int32}
    exec(f"def op(typing_context{pairs}{names}):\n    return found({kinds})\n", space)
    return intrinsic(space["op"])


def _flat(kinds: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for kind in kinds:
        flat += [kind.dtype] * kind.count if isinstance(kind, types.UniTuple) else [kind]
    return flat


def _assembly(
    template: str,
    results: Sequence[Any],
    taken: Sequence[Any],
    pure: bool = False,
    memory: bool = True,
    tied: int = 0,
) -> ir.InlineAsm:
    """Inline PTX; the first ``tied`` operands taken are in the results' registers. What isn't
    ``pure`` stays where it is, and in order with accesses of ``memory``."""
    constraints = [f"={_KINDS[kind][0]}" for kind in results]
    constraints += [str(i) if i < tied else _KINDS[kind][0] for i, kind in enumerate(taken)]
    if memory and not pure:
        constraints.append("~{memory}")
    held = [_KINDS[kind][1] for kind in results]
    several = ir.LiteralStructType(held)
    returned = several if len(held) > 1 else held[0] if held else ir.VoidType()
    function = ir.FunctionType(returned, [_KINDS[kind][1] for kind in taken])
    return ir.InlineAsm(function, template, ",".join(constraints), side_effect=not pure)


def _instruction(
    template: str,
    result: Any,
    arguments: Sequence[Any],
    places: Sequence[Callable[..., Any]] = (),
    pure: bool = False,
) -> Any:
    """An intrinsic of one PTX template, operands ``$0`` ...: results, addresses of the ``places``,
    then the arguments, tuples laid flat. What isn't ``pure`` is kept in order with accesses of
    memory."""
    results = [] if result is types.void else _flat([result])
    addresses = [types.uint64 if place is _in_global else types.uint32 for place in places]
    assembly = _assembly(template, results, addresses + _flat(arguments), pure)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        flat: list[Any] = []
        for i, place in enumerate(places):
            kind = signature.args[2 * i]
            flat.append(place(context, builder, kind, values[2 * i], values[2 * i + 1]))
        rest = 2 * len(places)
        for kind, value in zip(signature.args[rest:], values[rest:], strict=True):
            flat += cgutils.unpack_tuple(builder, value) if _is_tuple(kind) else [value]
        made = builder.call(assembly, flat)
        if not results:
            return context.get_dummy_value()
        return _packed(builder, made, len(results)) if _is_tuple(result) else made

    return _typed(generate, result, arguments, len(places))


def _is_tuple(kind: Any) -> bool:
    return isinstance(kind, types.UniTuple)


def _packed(builder: Any, made: Any, count: int) -> Any:
    """The members of a struct as a tuple."""
    return cgutils.pack_array(builder, [builder.extract_value(made, i) for i in range(count)])


def _in_global(context: Any, builder: Any, kind: Any, pointer: Any, i: Any) -> Any:
    """The 64-bit address of element ``i`` of a pointer."""
    place = builder.gep(pointer, [builder.sext(i, _I64)])
    return builder.ptrtoint(_in_space(builder, place, 1), _I64)


def _in_shared(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
    """The 32-bit address of element ``i`` of a shared array."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    base = builder.ptrtoint(_in_space(builder, data, 3), _I32)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    return builder.add(base, builder.mul(i, _I32(size)))


def _in_space(builder: Any, pointer: Any, space: int) -> Any:
    return builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, space))


def _of_bits(wide: Callable[[Any, Any], Any]) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return wide(builder, values[0])

    return _typed(generate, types.float32, [types.uint16])


def _round_tf32() -> Any:
    template = "cvt.rna.tf32.f32 $0, $1;"
    assembly = _assembly(template, [types.uint32], [types.float32], pure=True)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.call(assembly, values), _F32)

    return _typed(generate, types.float32, [types.float32])


# Numbers. -----------------------------------------------------------------------------------------

#: The float32 of the bits of a float16 or bfloat16, and the bits nearest to a float32.
widen_float16 = _of_bits(lambda b, bits: b.fpext(b.bitcast(bits, _F16), _F32))
widen_bfloat16 = _of_bits(lambda b, bits: b.bitcast(b.shl(b.zext(bits, _I32), _I32(16)), _F32))
narrow_float16 = _instruction("cvt.rn.f16.f32 $0, $1;", types.uint16, [types.float32], pure=True)
narrow_bfloat16 = _instruction("cvt.rn.bf16.f32 $0, $1;", types.uint16, [types.float32], pure=True)
#: A float32 rounded to the 11 bits of tf32, ties away from zero.
round_tf32 = _round_tf32()
#: Two values of 16 bits as one of 32, the first in the low half.
pair = _instruction("mov.b32 $0, {$1, $2};", types.uint32, [types.uint16] * 2, pure=True)

# Memory, 16 bytes at a time. ----------------------------------------------------------------------

_WORDS, _INTEGERS, _FLOATS = (
    types.UniTuple(kind, 4) for kind in (types.uint32, types.int32, types.float32)
)
store_words = _instruction(
    "st.global.v4.b32 [$0], {$1,$2,$3,$4};", types.void, [_WORDS], [_in_global]
)
store_floats = _instruction(
    "st.global.v4.f32 [$0], {$1,$2,$3,$4};", types.void, [_FLOATS], [_in_global]
)
load_shared = _instruction("ld.shared.v4.f32 {$0,$1,$2,$3}, [$4];", _FLOATS, [], [_in_shared])
load_shared_integers = _instruction(
    "ld.shared.v4.b32 {$0,$1,$2,$3}, [$4];", _INTEGERS, [], [_in_shared]
)
store_shared_integers = _instruction(
    "st.shared.v4.b32 [$0], {$1,$2,$3,$4};", types.void, [_INTEGERS], [_in_shared]
)
#: ``copy_async(array, i, pointer, j, size)``: 16 bytes of shared memory from ``size`` bytes of
#: global memory (0 or 16), else zeros; there after a ``wait``.
copy_async = _instruction(
    "cp.async.cg.shared.global [$0], [$1], 16, $2;",
    types.void,
    [types.int32],
    [_in_shared, _in_global],
)
commit = _instruction("cp.async.commit_group;", types.void, [])


@cache
def wait(groups: int) -> Any:
    """``wait(groups)()``: until all but the latest so many committed groups of copies are there."""
    return _instruction(f"cp.async.wait_group {groups};", types.void, [])


# Tensor cores: what the lanes of a warp hold of tiles. --------------------------------------------


@cache
def zeros(count: int) -> Any:
    """``zeros(count)()``: a tuple of float32 zeros, for as many as a tuple has in no source."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(ir.ArrayType(_F32, count), [0.0] * count)

    return _typed(generate, types.UniTuple(types.float32, count), [])


def _load_matrices(
    context: Any, builder: Any, kind: Any, array: Any, places: Sequence[Any], order: str = ""
) -> list[Any]:
    """Registers of ldmatrix at elements of a shared array."""
    template = f"ldmatrix.sync.aligned.m8n8.x4{order}.shared.b16 {{$0,$1,$2,$3}}, [$4];"
    assembly = _assembly(template, [types.uint32] * 4, [types.uint32])
    held = []
    for place in places:
        made = builder.call(assembly, [_in_shared(context, builder, kind, array, place)])
        held += [builder.extract_value(made, register) for register in range(4)]
    return held


#: The instruction, by what is multiplied.
_MULTIPLY = {
    "float16": "m16n8k16.row.col.f32.f16.f16.f32",
    "bfloat16": "m16n8k16.row.col.f32.bf16.bf16.f32",
    "float32": "m16n8k8.row.col.f32.tf32.tf32.f32",
}


def _multiply(builder: Any, dtype: str, sums: list[Any], a: list[Any], b: list[Any]) -> None:
    """Add products to sums in place."""
    assembly = _assembly(
        f"mma.sync.aligned.{_MULTIPLY[dtype]} "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};",
        [types.float32] * 4, [types.uint32] * 6 + [types.float32] * 4, memory=False,
    )  # fmt: skip
    rows, columns = len(a) // 4, len(b) // 2
    for i in range(rows):
        # There and back: neighbours share an operand.
        for j in range(columns) if i % 2 == 0 else reversed(range(columns)):
            at = 4 * (i * columns + j)
            operands = a[4 * i : 4 * i + 4] + b[2 * j : 2 * j + 2] + sums[at : at + 4]
            made = builder.call(assembly, operands)
            sums[at : at + 4] = [builder.extract_value(made, r) for r in range(4)]


@cache
def matrices(count: int, pitch: int, transposed: bool = False) -> Any:
    """``matrices(count, pitch)(array, i)``: four 8x8 matrices of 16-bit (or 8x4 of 32-bit) elements
    at a time, whose 32 rows of 16 bytes begin at the element that each lane names; ``count`` such,
    ``pitch`` elements of the array further on each."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, i = values
        places = [builder.add(i, _I32(step * pitch)) for step in range(count)]
        order = ".trans" if transposed else ""
        held = _load_matrices(context, builder, signature.args[0], array, places, order)
        return cgutils.pack_array(builder, held)

    return _typed(generate, types.UniTuple(types.uint32, 4 * count), [], places=1)


@cache
def multiply(dtype: str, rows: int, columns: int) -> Any:
    """``multiply(dtype, rows, columns)(sums, a, b)``: sums + a b for ``rows`` x ``columns`` tiles
    of 16x8, 32 bytes of the reduction; a and b as ``matrices`` gives them, four registers a row of
    tiles and two a column; sums in float32, four a tile."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        sums, a, b = (cgutils.unpack_tuple(builder, value) for value in values)
        _multiply(builder, dtype, sums, a, b)
        return cgutils.pack_array(builder, sums)

    sums = types.UniTuple(types.float32, 4 * rows * columns)
    a, b = types.UniTuple(types.uint32, 4 * rows), types.UniTuple(types.uint32, 2 * columns)
    return _typed(generate, sums, [sums, a, b])


@cache
def step(dtype: str, rows: int, columns: int, chunks: int) -> Any:
    """``step(dtype, rows, columns, chunks)(array, row_a, chunk_a, row_b, chunk_b, sums)``: sums +
    a b over ``chunks`` chunks of 16 bytes (two or more, a power of two).

    ``array`` has 16 bytes an element and ``chunks`` elements a row, chunk c of a row at element
    ``c ^ x`` of it, x the same for rows 8 apart. Each lane names the first element of its row of
    the first four 8x8 matrices (``matrices``) of a and of b, and which element of that row."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0]
        array, row_a, chunk_a, row_b, chunk_b, packed = values
        sums = cgutils.unpack_tuple(builder, packed)

        def load(row: Any, chunk: Any, at: int, count: int) -> list[Any]:
            first = builder.add(row, builder.xor(chunk, _I32(2 * at)))
            places = [builder.add(first, _I32(16 * chunks * i)) for i in range(count)]
            return _load_matrices(context, builder, kind, array, places)

        def both(at: int) -> tuple[list[Any], list[Any]]:
            return load(row_b, chunk_b, at, columns // 2), load(row_a, chunk_a, at, rows)

        b, a = both(0)
        for at in range(chunks // 2):
            ahead = both(at + 1) if at + 1 < chunks // 2 else (b, a)
            _multiply(builder, dtype, sums, a, b)
            b, a = ahead
        return cgutils.pack_array(builder, sums)

    sums = types.UniTuple(types.float32, 4 * rows * columns)
    return _typed(generate, sums, [types.int32] * 3 + [sums], places=1)


@cache
def turned_step(dtype: str, rows: int, columns: int, chunks: tuple[int, int], depth: int) -> Any:
    """As ``step``, of operands that lie the other way: rows are places of the reduction, ``depth``
    of them, with ``chunks`` elements each of a and of b, 8 channels of 16 bits an element. Lanes
    name the row and element of the first four matrices, of a with lanes 8 to 15 a chunk further
    and the second half 8 rows further, of b the other way round."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0]
        array, row_a, chunk_a, row_b, chunk_b, packed = values
        sums = cgutils.unpack_tuple(builder, packed)

        def load(row: Any, chunk: Any, first: int, count: int) -> list[Any]:
            begin = builder.add(row, _I32(first))
            turned = [builder.xor(chunk, _I32(2 * i)) for i in range(count)]
            places = [builder.add(begin, each) for each in turned]
            return _load_matrices(context, builder, kind, array, places, ".trans")

        for at in range(0, depth, 16):
            b = load(row_b, chunk_b, at * chunks[1], columns // 2)
            a = load(row_a, chunk_a, at * chunks[0], rows)
            _multiply(builder, dtype, sums, a, b)
        return cgutils.pack_array(builder, sums)

    sums = types.UniTuple(types.float32, 4 * rows * columns)
    return _typed(generate, sums, [types.int32] * 3 + [sums], places=1)


@cache
def keep(rows: int, columns: int, pitch: int, turned: bool = False) -> Any:
    """``keep(rows, columns, pitch)(array, i, sums)``: what ``multiply`` made to a shared float32
    array with ``pitch`` elements a row. ``i`` is where the lane's first element goes: row
    ``lane / 4`` and column ``lane % 4 * 2`` of the warp's tile. ``turned``: with rows and columns
    of the array exchanged."""
    floats = [types.float32] * (1 if turned else 2)
    template = "st.shared.f32 [$0], $1;" if turned else "st.shared.v2.f32 [$0], {$1,$2};"
    assembly = _assembly(template, [], [types.uint32, *floats])

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, i, packed = values
        sums = cgutils.unpack_tuple(builder, packed)
        for first in range(0, len(sums), len(floats)):
            tile, at = divmod(first, 4)
            row = 16 * (tile // columns) + 8 * (at // 2)
            column = 8 * (tile % columns) + at % 2
            further = column * pitch + row if turned else row * pitch + column
            place = builder.add(i, _I32(further))
            address = _in_shared(context, builder, signature.args[0], array, place)
            builder.call(assembly, [address, *sums[first : first + len(floats)]])
        return context.get_dummy_value()

    return _typed(generate, types.void, [types.UniTuple(types.float32, 4 * rows * columns)], 1)
