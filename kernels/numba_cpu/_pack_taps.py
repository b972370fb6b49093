"""Weights whose taps and channels lie side by side, as in (K, C, R, S), into a panel.

``to[tap][c][k] = from[k * stride_k + c * taps + tap]`` for k < rows, zeros for the others

Whole vectors of a filter are loaded and transposed, squares at a time, wherever a tap or a channel
ends. Accumulates nothing. Scratch: none.
Why: copied a tap at a time, an element is a cache line (512 -> 512 channels of 3x3).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import _vector
from ._copying import transpose
from ._emit import Code, Value
from ._vector import INT64


@intrinsic
def pack_taps(
    typing_context: Any, weight: Any, at: Any, stride_k: Any, packed: Any, target: Any, width: Any,
    rows: Any, channels: Any, taps: Any,
) -> Any:  # fmt: skip
    """Write a panel."""
    integers = [types.int64] * 4

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        code = Code(context, builder, context.get_data_type(weight.dtype))
        arguments = (
            code.of(_vector.pointer(context, builder, packed, given[3], given[4])),
            code.of(_vector.pointer(context, builder, weight, given[0], given[1])),
            code.of(given[2]), *(code.of(value) for value in given[5:]),
        )  # fmt: skip
        code.function("pack_taps", _pack, arguments)
        return context.get_dummy_value()

    return types.void(
        weight, types.int64, types.int64, packed, types.int64, *integers
    ), generate  # fmt: skip


def _pack(
    code: Code, to: Value, from_: Value, stride_k: Value, width: Value, rows: Value,
    channels: Value, taps: Value,
) -> None:  # fmt: skip
    """All squares of a panel."""
    side = _vector.VECTOR_BYTES // code.itemsize
    vector = ir.VectorType(code.real, side)
    length = channels * taps
    lanes = Value(code, ir.Constant(ir.VectorType(INT64, side), list(range(side))))
    places = [code.builder.alloca(vector) for _ in range(side)]
    with code.range(0, width, side) as k, code.range(0, length, side) as j:
        first = from_ + (k * stride_k + j)
        with code.either((k + side <= rows) & (j + side <= length)) as (whole, edge):
            with whole:
                for i, place in enumerate(places):
                    row = first + stride_k * i
                    loaded = _vector.load_vector(code.builder, vector, row.value)
                    code.builder.store(loaded, place)
            with edge:
                left = Value(
                    code,
                    _vector.splat(code.builder, lanes.value.type, (length - j).value),
                )
                for i, place in enumerate(places):
                    used = _vector.splat(
                        code.builder, ir.VectorType(ir.IntType(1), side), (k + i < rows).value
                    )
                    mask = code.builder.and_((lanes < left).value, used)
                    row = first + stride_k * i
                    loaded = _vector.load_masked(code.builder, vector, row.value, mask)
                    code.builder.store(loaded, place)
        columns = transpose(code.builder, [code.builder.load(place) for place in places])
        c, tap = j // taps, j % taps
        for i, column in enumerate(columns):
            with code.when(j + i < length):
                target = to + ((tap * channels + c) * width + k)
                _vector.store_vector(code.builder, column, target.value)
            ends = (tap + 1).equals(taps)
            c, tap = code.choose(ends, c + 1, c), code.choose(ends, 0, tap + 1)
