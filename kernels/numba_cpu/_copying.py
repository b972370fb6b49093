"""Copies of matrices between strides, each dtype's as one LLVM function.

``target[i * pitch + j] = source[i * row_stride + j * column_stride]`` for i < rows, j < columns

Vectors wherever rows or columns are contiguous in the source: a last vector overlaps the one before
and writes the same values again, so nothing is read outside of the matrix.
Why: written for Numba, the same loops took four times as long to compile, for they would be
compiled with every function that they are inlined into.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import _vector
from ._vector import INT64, least, load_vector, loop, store_vector


@intrinsic
def copy_matrix(
    typing_context: Any,
    source: Any,
    source_at: Any,
    row_stride: Any,
    column_stride: Any,
    target: Any,
    target_at: Any,
    pitch: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """Copy rows x columns elements to rows that are contiguous and ``pitch`` apart."""
    integers = [types.int64] * 3
    signature = types.void(source, *integers, target, *integers, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        read, read_at, *strides, write, write_at, apart, height, width = arguments
        function = _copy_function(builder.module, _vector.vector_type(context, source))
        from_first = _vector.pointer(context, builder, source, read, read_at)
        to_first = _vector.pointer(context, builder, target, write, write_at)
        builder.call(function, [to_first, apart, from_first, *strides, height, width])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def clear_rows(
    typing_context: Any, target: Any, target_at: Any, pitch: Any, rows: Any, columns: Any
) -> Any:
    """Fill rows x columns elements with zeros."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        write, write_at, apart, height, width = arguments
        vector = _vector.vector_type(context, target)
        name = f"cnnfast.clear.{vector.element.intrinsic_name}"
        first = _vector.pointer(context, builder, target, write, write_at)
        function = builder.module.globals.get(name) or _clear_function(builder.module, vector, name)
        builder.call(function, [first, apart, height, width])
        return context.get_dummy_value()

    return types.void(target, *[types.int64] * 4), generate


def _clear_function(module: Any, vector: ir.VectorType, name: str) -> ir.Function:
    real = vector.element.as_pointer()
    function = _vector.own_function(module, name, [real, *[INT64] * 3])
    to, pitch, rows, columns = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    whole = builder.icmp_signed(">=", columns, INT64(vector.count))
    with loop(builder, INT64(0), rows, INT64(1)) as i:
        row = builder.gep(to, [builder.mul(pitch, i)])
        with builder.if_else(whole) as (then, otherwise):
            with then, _blocks(builder, vector.count, columns) as j:
                zero = ir.Constant(vector, None)
                store_vector(builder, zero, builder.gep(row, [j]))
            with otherwise, loop(builder, INT64(0), columns, INT64(1)) as j:
                builder.store(vector.element(0.0), builder.gep(row, [j]))
    builder.ret_void()
    return function


@contextmanager
def _blocks(builder: Any, size: int, count: Any) -> Iterator[Any]:
    """A loop over ``count`` places, a block at a time; the last one begins early enough."""
    last = builder.sub(count, INT64(size))
    with loop(builder, INT64(0), count, INT64(size)) as first:
        yield least(builder, first, last)


def _copy_function(module: Any, vector: ir.VectorType) -> ir.Function:
    name = f"cnnfast.copy.{vector.element.intrinsic_name}"
    if name in module.globals:
        return module.globals[name]
    real, lanes = vector.element.as_pointer(), vector.count
    function = _vector.own_function(module, name, [real, INT64, real, *[INT64] * 4])
    to, pitch, source, row_stride, column_stride, rows, columns = function.args
    for pointer in (to, source):
        pointer.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block())

    def equal(value: Any, other: Any) -> Any:
        return builder.icmp_signed("==", value, other)

    one = INT64(1)
    # The stride of a single column says nothing.
    column_stride = builder.select(equal(columns, one), one, column_stride)
    # Rows that follow one another on both sides are one row.
    flat = builder.and_(equal(row_stride, columns), equal(pitch, columns))
    flat = builder.and_(flat, equal(column_stride, one))
    columns = builder.select(flat, builder.mul(rows, columns), columns)
    rows = builder.select(flat, one, rows)

    def at_least(count: Any, size: int) -> Any:
        return builder.icmp_signed(">=", count, INT64(size))

    for step, load in ((1, load_vector), (2, _vector.load_every_second)):
        usable = builder.and_(equal(column_stride, INT64(step)), at_least(columns, lanes))
        with builder.if_then(usable):
            with loop(builder, INT64(0), rows, one) as i:
                from_row = builder.gep(source, [builder.mul(row_stride, i)])
                to_row = builder.gep(to, [builder.mul(pitch, i)])
                with _blocks(builder, lanes, columns) as j:
                    first = builder.gep(from_row, [builder.mul(column_stride, j)])
                    store_vector(builder, load(builder, vector, first), builder.gep(to_row, [j]))
            builder.ret_void()
    high = builder.and_(equal(row_stride, one), at_least(rows, lanes))
    for size in sorted({4, lanes}, reverse=True):
        with builder.if_then(builder.and_(high, at_least(columns, size))):
            with _blocks(builder, lanes, rows) as i, _blocks(builder, size, columns) as j:
                at = builder.add(i, builder.mul(column_stride, j))
                place = builder.gep(to, [builder.add(builder.mul(pitch, i), j)])
                _transpose_block(
                    builder, vector, size, builder.gep(source, [at]), column_stride, place, pitch
                )
            builder.ret_void()
    with loop(builder, INT64(0), columns, one) as j, loop(builder, INT64(0), rows, one) as i:
        at = builder.add(builder.mul(row_stride, i), builder.mul(column_stride, j))
        value = builder.load(builder.gep(source, [at]))
        builder.store(value, builder.gep(to, [builder.add(builder.mul(pitch, i), j)]))
    builder.ret_void()
    return function


def _transpose_block(
    builder: Any, vector: ir.VectorType, size: int, source: Any, step: Any, to: Any, pitch: Any
) -> None:
    """Transpose ``size`` vectors, ``step`` apart."""
    lanes = vector.count
    block: list[Any] = [ir.Constant(vector, ir.Undefined)] * lanes
    for column in range(size):
        at = builder.mul(step, INT64(column))
        block[column] = load_vector(builder, vector, builder.gep(source, [at]))
    for lane, row in enumerate(transpose(builder, block)):
        part = _vector.shuffle(builder, row, row, list(range(size)))
        store_vector(builder, part, builder.gep(to, [builder.mul(pitch, INT64(lane))]))


def _interleaved(lanes: int, near: int, group: int, half: int) -> list[int]:
    """Of each ``near`` lanes of two vectors one half, ``group`` by turns from either."""
    return [
        first + lanes * (i // group % 2) + half * near // 2 + i // (2 * group) * group + i % group
        for first in range(0, lanes, near)
        for i in range(near)
    ]


def transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose a square of vectors: within 16 bytes first, which machines do fastest, then the
    16 bytes."""
    lanes = len(rows)
    near = 16 // _vector.element_bytes(rows[0].type.element)
    size = 1
    while size < near:
        chosen = [_interleaved(lanes, near, size, half) for half in (0, 1)]
        rows = [
            _vector.shuffle(builder, rows[row], rows[row + size], part)
            for first in range(0, lanes, 2 * size)
            for row in range(first, first + size)
            for part in chosen
        ]
        size *= 2
    chosen = [[first + i for first in (at, lanes + at) for i in range(near)] for at in (0, near)]
    return [
        _vector.shuffle(builder, rows[row], rows[row + near], part)
        for part in chosen
        for row in range(near)
    ]
