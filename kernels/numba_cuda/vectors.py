"""Loads and stores of several neighbours at once: up to 16 bytes, which lie at a multiple of their
size. Device functions by dtype; as with ``elements`` 16-bit floats are float32 in between.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import config, cuda, int64

from . import ops

#: Bytes of the widest load.
WIDEST = 16


def _simulated(count: int) -> tuple[Any, Any]:
    def load(pointer: Any, i: Any) -> Any:
        assert pointer.address(i) % (count * pointer.memory.itemsize) == 0, "misaligned load"
        return tuple(pointer[i + k] for k in range(count))

    def store(pointer: Any, i: Any, values: Any) -> None:
        assert pointer.address(i) % (count * pointer.memory.itemsize) == 0, "misaligned store"
        for k, value in enumerate(values):
            pointer[i + k] = value

    return load, store


def _compiled(count: int) -> tuple[Any, Any]:
    from llvmlite import ir
    from numba.cuda import cgutils, types
    from numba.cuda.extending import intrinsic
    from numba.cuda.typing.templates import signature

    word = ir.IntType(32)

    def access(builder: Any, context: Any, kind: Any, given: Any) -> tuple[Any, Any, Any, int]:
        """The place as one of words, the vectors of words and of elements, and their bytes."""
        element = context.get_value_type(kind.dtype)
        size = count * kind.dtype.bitwidth // 8
        # Vectors of 16-bit elements would be cut in two.
        words = ir.VectorType(word, size // 4) if size > 4 else word
        at = builder.gep(given[0], [given[1]])
        return builder.bitcast(at, words.as_pointer()), words, ir.VectorType(element, count), size

    @intrinsic
    def load(typing_context: Any, pointer: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            at, _, elements, size = access(builder, context, signature.args[0], given)
            vector = builder.bitcast(builder.load(at, align=size), elements)
            values = [builder.extract_element(vector, word(k)) for k in range(count)]
            return cgutils.pack_array(builder, values)

        return signature(types.UniTuple(pointer.dtype, count), pointer, types.int64), generate

    @intrinsic
    def store(typing_context: Any, pointer: Any, i: Any, values: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            at, words, _elements, size = access(builder, context, signature.args[0], given)
            parts = [builder.extract_value(given[2], k) for k in range(count)]
            if size < 4 * count:
                parts = [halves(builder, *parts[k : k + 2]) for k in range(0, count, 2)]
            vector = ir.Constant(ir.VectorType(parts[0].type, len(parts)), ir.Undefined)
            for k, part in enumerate(parts):
                vector = builder.insert_element(vector, part, word(k))
            builder.store(builder.bitcast(vector, words), at, align=size)
            return context.get_dummy_value()

        wanted = types.UniTuple(pointer.dtype, count)
        return signature(types.void, pointer, types.int64, wanted), generate

    def halves(builder: Any, low: Any, high: Any) -> Any:
        """A word of two; LLVM would take words apart again that are made as vectors."""
        return builder.or_(builder.zext(low, word), builder.shl(builder.zext(high, word), word(16)))

    return load, store


@cache
def _operations(count: int) -> tuple[Any, Any]:
    return _simulated(count) if config.ENABLE_CUDASIM else _compiled(count)


@cuda.jit(device=True)
def _itself(value):
    return value


@cuda.jit(device=True)
def _whole(value):
    return int64(value)


_WIDEN = {"float16": ops.widen_float16, "bfloat16": ops.widen_bfloat16}
_NARROW = {"float16": ops.narrow_float16, "bfloat16": ops.narrow_bfloat16, "int64": _whole}


@cache
def filler(dtype: str, count: int) -> Any:
    """``fill(array, at, pointer, i)``: ``count`` neighbours from element ``i`` on go to a local
    array from ``at`` on."""
    load, _ = _operations(count)
    widen = _WIDEN.get(dtype, _itself)

    @cuda.jit(device=True)
    def fill2(array, at, pointer, i):
        a, b = load(pointer, i)
        array[at], array[at + 1] = widen(a), widen(b)

    @cuda.jit(device=True)
    def fill4(array, at, pointer, i):
        a, b, c, d = load(pointer, i)
        array[at], array[at + 1] = widen(a), widen(b)
        array[at + 2], array[at + 3] = widen(c), widen(d)

    @cuda.jit(device=True)
    def fill8(array, at, pointer, i):
        a, b, c, d, e, f, g, h = load(pointer, i)
        array[at], array[at + 1] = widen(a), widen(b)
        array[at + 2], array[at + 3] = widen(c), widen(d)
        array[at + 4], array[at + 5] = widen(e), widen(f)
        array[at + 6], array[at + 7] = widen(g), widen(h)

    return {2: fill2, 4: fill4, 8: fill8}[count]


@cache
def storer(dtype: str, count: int) -> Any:
    """``store(pointer, i, array, at)``: the other way round; rounds once, to nearest."""
    _, put = _operations(count)
    narrow = _NARROW.get(dtype, _itself)

    @cuda.jit(device=True)
    def store2(pointer, i, array, at):
        put(pointer, i, (narrow(array[at]), narrow(array[at + 1])))

    @cuda.jit(device=True)
    def store4(pointer, i, array, at):
        a, b, c, d = array[at], array[at + 1], array[at + 2], array[at + 3]
        put(pointer, i, (narrow(a), narrow(b), narrow(c), narrow(d)))

    @cuda.jit(device=True)
    def store8(pointer, i, array, at):
        a, b, c, d = array[at], array[at + 1], array[at + 2], array[at + 3]
        e, f, g, h = array[at + 4], array[at + 5], array[at + 6], array[at + 7]
        first = narrow(a), narrow(b), narrow(c), narrow(d)
        put(pointer, i, (*first, narrow(e), narrow(f), narrow(g), narrow(h)))

    return {2: store2, 4: store4, 8: store8}[count]
