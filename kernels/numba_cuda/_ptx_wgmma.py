"""GPU operations of compute capability 9.0 alone: products of tiles that lie in shared memory."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types

from ._ptx import _I32, _I64, _assembly, _in_shared, _instruction, _typed

#: Of the matrix descriptor: 128 bytes swizzled, and 1024 bytes (in units of 16) from 8 rows to the
#: next.
_DESCRIPTOR = 1 << 62 | 64 << 32
#: Bytes that the swizzle repeats after, at which tiles begin.
SWIZZLE = 1024

#: The instruction, by what is multiplied.
_MULTIPLY = {
    "float16": "k16.f32.f16.f16",
    "bfloat16": "k16.f32.bf16.bf16",
    "float32": "k8.f32.tf32.tf32",
}

#: What this thread wrote to shared memory (copies that it waited for) can be multiplied, once all
#: threads of the tile said so.
publish = _instruction("fence.proxy.async.shared::cta;", types.void, [])


def _until_swizzle() -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, i = values
        address = _in_shared(context, builder, signature.args[0], array, i)
        bytes_left = builder.and_(builder.neg(address), _I32(SWIZZLE - 1))
        return builder.lshr(bytes_left, _I32(4))

    return _typed(generate, types.int32, [], places=1)


#: ``until_swizzle(array, i)``: how many 16 bytes behind element ``i`` a tile may begin.
until_swizzle = _until_swizzle()


@cache
def wide_wait(groups: int) -> Any:
    """``wide_wait(groups)()``: until all but the latest so many ``wide_step`` are finished."""
    return _instruction(f"wgmma.wait_group.sync.aligned {groups};", types.void, [])


def _wide_multiply(dtype: str, columns: int, turned: bool) -> ir.InlineAsm:
    count = 4 * columns
    # Operands of 16 bits may lie either way.
    majors = "" if dtype == "float32" else f", {int(turned)}, {int(turned)}"
    sums = ",".join(f"${i}" for i in range(count))
    template = (
        f"{{ .reg .pred p; setp.ne.b32 p, ${2 * count + 2}, 0; "
        f"wgmma.mma_async.sync.aligned.m64n{8 * columns}{_MULTIPLY[dtype]} "
        f"{{{sums}}}, ${2 * count}, ${2 * count + 1}, p, 1, 1{majors}; }}"
    )
    taken = [types.float32] * count + [types.uint64] * 2 + [types.int32]
    return _assembly(template, [types.float32] * count, taken, tied=count)


@cache
def wide_step(dtype: str, columns: int, depth: int = 0) -> Any:
    """``wide_step(dtype, columns)(array, row_a, row_b, sums)``: sums + a b for 64 rows of a and
    ``8 columns`` of b, over 128 bytes of the reduction, begun by the 128 threads of a warpgroup;
    finished after a ``wide_wait``, until when no one may touch the sums, a or b.

    ``array`` has 16 bytes an element and 8 elements a row, chunk c of row r at element
    ``c ^ r % 8`` of it; ``row_a`` and ``row_b`` are the first elements of the first rows, at
    multiples of 1024 bytes. Sums as ``multiply`` has them: warp w of four has rows from 16 w.

    With a ``depth`` the operands, of 16 bits, lie the other way: rows are places of the reduction,
    ``depth`` of them with 64 channels each, then as many with the next 64."""
    assembly = _wide_multiply(dtype, columns, depth > 0)
    parts, further = (depth // 16, 128) if depth else (4, 2)
    descriptor = _DESCRIPTOR | (8 * depth if depth else 1) << 16
    fence, commit = (
        _assembly(f"wgmma.{name}.sync.aligned;", [], []) for name in ("fence", "commit_group")
    )

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, row_a, row_b, packed = values
        sums = cgutils.unpack_tuple(builder, packed)
        described = []
        for row in (row_a, row_b):
            address = _in_shared(context, builder, signature.args[0], array, row)
            sixteens = builder.lshr(builder.and_(address, _I32(0x3FFFF)), _I32(4))
            described.append(builder.or_(builder.zext(sixteens, _I64), _I64(descriptor)))
        builder.call(fence, [])
        for part in range(parts):
            operands = [builder.add(each, _I64(further * part)) for each in described]
            made = builder.call(assembly, [*sums, *operands, _I32(1)])
            sums = [builder.extract_value(made, i) for i in range(4 * columns)]
        builder.call(commit, [])
        return cgutils.pack_array(builder, sums)

    sums = types.UniTuple(types.float32, 4 * columns)
    return _typed(generate, sums, [types.int32, sums], places=1)
