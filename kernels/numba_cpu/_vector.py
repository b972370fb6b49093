"""LLVM building blocks: plain memory access, multiply-add, transposition.

Numba's ``array[i]`` wraps negative indices around, which costs a select per access and keeps loops
from being vectorised; ``load`` and ``store`` take an offset in elements from the array's first
element and do nothing else. LLVM legalises the vectors here for whatever the machine has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Bytes of the vectors that most intrinsics are written in (AVX2's).
VECTOR_BYTES = 32

INT32, INT64 = ir.IntType(32), ir.IntType(64)


def lanes_of(array: types.Array) -> int:
    """Elements of the array's dtype in a vector."""
    return VECTOR_BYTES * 8 // array.dtype.bitwidth


def vector_type(context: Any, array: types.Array) -> ir.VectorType:
    """The LLVM vector of the array's dtype."""
    return ir.VectorType(context.get_data_type(array.dtype), lanes_of(array))


def widest(context: Any) -> int:
    """Bytes of the widest vectors that pay on the machine (or that ``NUMBA_CPU_FEATURES`` names):
    AVX-512's, else AVX2's. The cache of compiled functions is kept apart by these features."""
    features = context.codegen().magic_tuple()[-1]
    return 64 if "+avx512f" in features.split(",") else VECTOR_BYTES


def widest_vector(context: Any, array: types.Array) -> ir.VectorType:
    """The LLVM vector of the array's dtype that is as wide as the machine's."""
    return ir.VectorType(
        context.get_data_type(array.dtype), widest(context) * 8 // array.dtype.bitwidth
    )


@contextmanager
def loop(builder: Any, begin: Any, end: Any, step: Any, scalar: bool = False) -> Iterator[Any]:
    """A loop that LLVM doesn't unroll: its body is long enough, and compiled once; if ``scalar``,
    one that it makes no vectors of either."""
    before = builder.block
    head, body = builder.append_basic_block("head"), builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(INT64)
    index.add_incoming(begin, before)
    builder.cbranch(builder.icmp_signed("<", index, end), body, after)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, step), builder.block)
    hints = [builder.module.add_metadata(["llvm.loop.unroll.disable"])]
    if scalar:
        no = ir.Constant(ir.IntType(1), 0)
        hints.append(builder.module.add_metadata(["llvm.loop.vectorize.enable", no]))
    kept = builder.module.add_metadata(hints)
    if kept.operands[0] is not kept:
        # What LLVM knows a loop by begins with itself.
        kept.operands = (kept, *kept.operands)
    builder.branch(head).set_metadata("llvm.loop", kept)
    builder.position_at_end(after)


def pointer(context: Any, builder: Any, array: Any, value: Any, offset: Any) -> Any:
    """The address of the element ``offset`` elements from an array's first one (or a pointer's)."""
    if isinstance(array, types.CPointer):
        return builder.gep(value, [offset])
    data = context.make_array(array)(context, builder, value).data
    return builder.gep(data, [offset])


def load_vector(builder: Any, vector: ir.VectorType, address: Any) -> Any:
    """Load a vector from an address aligned to an element."""
    return builder.load(
        builder.bitcast(address, vector.as_pointer()), align=element_bytes(vector.element)
    )


def store_vector(builder: Any, value: Any, address: Any) -> None:
    """Store a vector at an address aligned to an element."""
    builder.store(
        value,
        builder.bitcast(address, value.type.as_pointer()),
        align=element_bytes(value.type.element),
    )


def stream_vector(builder: Any, value: Any, address: Any) -> None:
    """Store a vector past the caches, at an address aligned to all of it."""
    size = value.type.count * element_bytes(value.type.element)
    place = builder.bitcast(address, value.type.as_pointer())
    once = builder.module.add_metadata([INT32(1)])
    builder.store(value, place, align=size).set_metadata("nontemporal", once)


def load_masked(
    builder: Any, vector: ir.VectorType, address: Any, mask: Any, other: Any = None
) -> Any:
    """Load the lanes that a mask allows; the others aren't touched, they are ``other`` or zeros."""
    kind = vector.as_pointer()
    bits = 8 * element_bytes(vector.element)
    letter = "i" if isinstance(vector.element, ir.IntType) else "f"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [kind, INT32, mask.type, vector]),
        f"llvm.masked.load.v{vector.count}{letter}{bits}.p0",
    )
    alignment = INT32(element_bytes(vector.element))
    other = other or ir.Constant(vector, None)
    return builder.call(function, [builder.bitcast(address, kind), alignment, mask, other])


def store_first(builder: Any, value: Any, address: Any, count: Any) -> None:
    """Store the first ``count`` lanes."""
    vector = value.type
    indices = ir.VectorType(INT64, vector.count)
    lanes = ir.Constant(indices, list(range(vector.count)))
    mask = builder.icmp_signed("<", lanes, splat(builder, indices, count))
    kind, size = vector.as_pointer(), element_bytes(vector.element)
    letter = "i" if isinstance(vector.element, ir.IntType) else "f"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [vector, kind, INT32, mask.type]),
        f"llvm.masked.store.v{vector.count}{letter}{8 * size}.p0",
    )
    builder.call(function, [value, builder.bitcast(address, kind), INT32(size), mask])


def load_gathered(
    builder: Any, vector: ir.VectorType, address: Any, offsets: Any, mask: Any
) -> Any:
    """Load the elements at a vector of offsets that a mask allows, and zeros for the others, which
    aren't touched."""
    size = element_bytes(vector.element)
    first = splat(builder, offsets.type, builder.ptrtoint(address, INT64))
    places = builder.add(first, builder.mul(offsets, splat(builder, offsets.type, INT64(size))))
    pointers = builder.inttoptr(places, ir.VectorType(vector.element.as_pointer(), vector.count))
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [pointers.type, INT32, mask.type, vector]),
        f"llvm.masked.gather.v{vector.count}f{8 * size}.v{vector.count}p0",
    )
    return builder.call(function, [pointers, INT32(size), mask, ir.Constant(vector, None)])


def own_function(module: Any, name: str, kinds: list[ir.Type]) -> ir.Function:
    """A function that stays one: its loop is compiled by itself, with all registers."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function


def prefetch(builder: Any, address: Any, to_write: bool, near: bool = True) -> None:
    """Fetch the cache line of an address, into the second cache if not ``near``."""
    kind = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [kind, *[INT32] * 3]), "llvm.prefetch.p0"
    )
    wanted = INT32(int(to_write)), INT32(3 if near else 2), INT32(1)
    builder.call(function, [builder.bitcast(address, kind), *wanted])


#: The processor's maxima, by bytes.
_MAXIMA = {16: ("sse", "sse2", ""), 32: ("avx", "avx", ".256"), 64: ("avx512", "avx512", ".512")}


def maximum(context: Any, builder: Any, value: Any, former: Any) -> Any:
    """``value`` where it is greater, else ``former``, by an x86 instruction of its own; None where
    there isn't one. (Written as a choice, LLVM makes one of it and of that for NaN: two comparisons
    and an "or" of masks.)"""
    vector = value.type
    if not isinstance(vector, ir.VectorType) or isinstance(vector.element, ir.IntType):
        return None
    triple, _, features = context.codegen().magic_tuple()
    size = element_bytes(vector.element)
    family = _MAXIMA[vector.count * size]
    if not triple.startswith("x86_64") or "+avx" not in features.split(","):
        return None
    name = f"llvm.x86.{family[size // 8]}.max.{'pd' if size == 8 else 'ps'}{family[2]}"
    operands = [value, former]
    if vector.count * size == 64:
        operands.append(INT32(4))
    kind = ir.FunctionType(vector, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, operands)


def least(builder: Any, a: Any, b: Any) -> Any:
    """The lesser of two integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def greatest(builder: Any, a: Any, b: Any) -> Any:
    """The greater of two integers."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def splat(builder: Any, vector: ir.VectorType, scalar: Any) -> Any:
    """A vector of one value."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, INT32(0))
    lanes = ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, lanes)


def shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """The chosen lanes of two vectors side by side."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))


def multiply_add_values(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``: one fused operation wherever the machine has one, on scalars and vectors;
    integers wrap around."""
    kind = a.type
    scalar = kind.element if isinstance(kind, ir.VectorType) else kind
    if isinstance(scalar, ir.IntType):
        return builder.add(builder.mul(a, b), c)
    bits = 8 * element_bytes(scalar)
    suffix = f"v{kind.count}f{bits}" if isinstance(kind, ir.VectorType) else f"f{bits}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.{suffix}"
    )
    return builder.call(function, [a, b, c])


def element_bytes(element: ir.Type) -> int:
    if isinstance(element, ir.IntType):
        return int(element.width) // 8
    return 4 if isinstance(element, ir.FloatType) else 8


@intrinsic
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """``load(array, offset)``: the element ``offset`` elements from the first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(pointer(context, builder, array, *arguments))

    return array.dtype(array, types.int64), generate


@intrinsic
def store(typing_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """``store(array, offset, value)``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, item = arguments
        builder.store(item, pointer(context, builder, array, target, at))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


@intrinsic
def lanes(typing_context: Any, array: Any) -> Any:
    """``lanes(array)``: elements of the array's dtype in a vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return INT64(lanes_of(array))

    return types.int64(array), generate


def load_every_second(builder: Any, vector: ir.VectorType, address: Any) -> Any:
    """Load every second element: two overlapping vectors, which end with the last one needed, not
    behind it."""
    lanes = vector.count
    low = load_vector(builder, vector, address)
    high = load_vector(builder, vector, builder.gep(address, [INT64(lanes - 1)]))
    even = [lane if lane < lanes else lane + 1 for lane in range(0, 2 * lanes, 2)]
    return shuffle(builder, low, high, even)


def _make_prefetch(to_write: bool) -> Any:
    @intrinsic
    def fetch(typing_context: Any, array: Any, offset: Any) -> Any:
        """Fetch the cache line of an element."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            prefetch(builder, pointer(context, builder, array, *arguments), to_write)
            return context.get_dummy_value()

        return types.void(array, types.int64), generate

    return fetch


prefetch_to_read = _make_prefetch(False)
prefetch_to_write = _make_prefetch(True)


@intrinsic
def address(typing_context: Any, array: Any, offset: Any) -> Any:
    """``address(array, offset)``: a pointer to an element."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return pointer(context, builder, array, *arguments)

    return types.CPointer(array.dtype)(array, types.int64), generate


@intrinsic
def widest_lanes(typing_context: Any, array: Any) -> Any:
    """Elements of the array's dtype in a vector as wide as the machine's."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return INT64(widest_vector(context, array).count)

    return types.int64(array), generate


@intrinsic(prefer_literal=True)
def pixel_offsets(typing_context: Any, count: Any) -> Any:
    """Room for the offsets of a register tile's pixels, on the stack of the calling function
    (which is why it must not be returned)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return cgutils.alloca_once(builder, INT64, size=INT64(count.literal_value))

    return types.CPointer(types.int64)(count), generate


@intrinsic
def offsets_at(typing_context: Any, array: Any, offset: Any, place: Any) -> Any:
    """A pointer to the int64 ``place`` of those that begin at an element of an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = pointer(context, builder, array, *arguments[:2])
        return builder.gep(builder.bitcast(first, INT64.as_pointer()), [arguments[2]])

    return types.CPointer(types.int64)(array, types.int64, types.int64), generate


@intrinsic(prefer_literal=True)
def stack_values(typing_context: Any, array: Any, count: Any) -> Any:
    """``stack_values(array, count)``: the same for a constant number of the array's elements."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = context.get_data_type(array.dtype)
        return cgutils.alloca_once(builder, element, size=INT64(count.literal_value))

    return types.CPointer(array.dtype)(array, count), generate


@intrinsic(prefer_literal=True)
def element_stride(typing_context: Any, array: Any, axis: Any) -> Any:
    """``element_stride(array, axis)``: a stride in elements. (Numba's ``array.itemsize`` is read at
    run time, which makes every one of these a division.)"""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        strides = context.make_array(array)(context, builder, arguments[0]).strides
        stride = cgutils.unpack_tuple(builder, strides)[axis.literal_value]
        return builder.sdiv(stride, INT64(array.dtype.bitwidth // 8))

    return types.int64(array, axis), generate
