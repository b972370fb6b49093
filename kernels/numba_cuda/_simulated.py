"""What stands for the operations of ``_ptx`` in Numba's simulator: the same names, and the same
lanes of a warp hold the same elements.

Where hardware would give anything, these give what is surely wrong: a copy's place reads as NaN
until it was waited for, and what a warp does together without all its lanes raises.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: The quiet NaN that conversions to 16 bits give.
_NAN = np.uint16(0x7FFF)
LANES = 32


# Numbers. -----------------------------------------------------------------------------------------


def widen_float16(bits: Any) -> Any:
    """The float32 of a float16's bits."""
    return np.float32(np.uint16(bits).view(np.float16))


def narrow_float16(value: Any) -> Any:
    """The bits of the float16 nearest to a float32."""
    if np.isnan(value):
        return _NAN
    with np.errstate(over="ignore"):
        return np.float16(np.float32(value)).view(np.uint16)


def widen_bfloat16(bits: Any) -> Any:
    """The float32 of a bfloat16's bits."""
    return np.uint32(int(bits) << 16).view(np.float32)


def narrow_bfloat16(value: Any) -> Any:
    """The bits of the bfloat16 nearest to a float32, ties to even."""
    if np.isnan(value):
        return _NAN
    bits = int(np.float32(value).view(np.uint32))
    return np.uint16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def round_tf32(value: Any) -> Any:
    """A float32 rounded to 11 bits, ties away from zero."""
    if not np.isfinite(value):
        return np.float32(value)
    bits = int(np.float32(value).view(np.uint32))
    return np.uint32((bits + 0x1000) & 0xFFFFE000).view(np.float32)


def pair(low: Any, high: Any) -> Any:
    """Two values of 16 bits as one of 32."""
    return np.uint32(int(low) | int(high) << 16)


# Memory, 16 bytes at a time. ----------------------------------------------------------------------


def _elements(pointer: Any, i: Any) -> Array:
    """16 bytes of a simulated pointer, of which none may lie outside its operand."""
    if pointer.address(i) % 16:
        raise ValueError(f"element {i} isn't at a multiple of 16 bytes")
    return np.array([pointer[i + j] for j in range(16 // pointer.memory.itemsize)])


def _store(pointer: Any, i: Any, values: Any, kind: Any) -> None:
    elements = np.array(values, kind).view(pointer.memory.dtype)
    _elements(pointer, i)
    for j, element in enumerate(elements):
        pointer[i + j] = element


def store_words(pointer: Any, i: Any, values: Any) -> None:
    """Four uint32 to global memory."""
    _store(pointer, i, values, np.uint32)


def store_floats(pointer: Any, i: Any, values: Any) -> None:
    """Four float32 to global memory."""
    _store(pointer, i, values, np.float32)


def _shared(array: Array, i: Any, count: int = 16) -> Array:
    """``count`` bytes of a shared array from element ``i`` on."""
    begin = int(i) * array.itemsize
    if not 0 <= begin <= array.nbytes - count:
        raise IndexError(f"bytes {begin} .. of {array.nbytes} of shared memory")
    if (array.ctypes.data + begin) % count:
        raise ValueError(f"element {i} of shared memory isn't at a multiple of {count} bytes")
    return array.view(np.uint8)[begin : begin + count]


def load_shared(array: Array, i: Any) -> Any:
    """Four float32 of shared memory."""
    return tuple(_shared(array, i).view(np.float32).copy())


def load_shared_integers(array: Array, i: Any) -> Any:
    """Four int32 of shared memory."""
    return tuple(_shared(array, i).view(np.int32).copy())


def store_shared_integers(array: Array, i: Any, values: Any) -> None:
    """Four int32 to shared memory."""
    _shared(array, i).view(np.int32)[:] = values


def copy_async(array: Array, i: Any, pointer: Any, j: Any, size: Any) -> None:
    """16 bytes of shared memory from ``size`` bytes of global memory, or zeros: NaN until then."""
    place, data = _shared(array, i), np.zeros(16, np.uint8)
    if size == 16:
        data[:] = _elements(pointer, j).view(np.uint8)
    elif size != 0:
        raise ValueError(f"a copy of {size} bytes")
    else:
        pointer.address(j)
    place[:] = 0xFF
    _copies().append((place, data))


def commit() -> None:
    """End a group of copies."""
    _copies().append(None)


@cache
def wait(groups: int) -> Callable[[], None]:
    """Until all but the latest so many committed groups of copies are there."""

    def wait_for() -> None:
        copies = _copies()
        while sum(copy is None for copy in copies) > groups:
            copy = copies.pop(0)
            if copy is not None:
                copy[0][:] = copy[1]

    return wait_for


def _copies() -> list[Any]:
    """What the running thread hasn't waited for."""
    return vars(threading.current_thread()).setdefault("cnnfast_copies", [])


# Tensor cores: what the lanes of a warp hold of tiles. --------------------------------------------


def _of_warp(operation: Any, given: Any) -> tuple[int, list[Any]]:
    """The running lane, and what each lane of its warp gave to an operation."""
    thread: Any = threading.current_thread()
    warp, lane = divmod(thread.thread_id, LANES)
    slots = vars(thread._manager).setdefault("cnnfast_lanes", {})
    turn = vars(thread).setdefault("cnnfast_turn", 0)
    thread.cnnfast_turn = turn + 1
    slots[warp, lane] = turn, operation, given
    thread.syncthreads()
    lanes = [slots.get((warp, i), (None, None, None)) for i in range(LANES)]
    if any(each[:2] != (turn, operation) for each in lanes):
        raise RuntimeError(f"not all lanes of warp {warp} came to {operation}")
    thread.syncthreads()
    return lane, [each[2] for each in lanes]


@cache
def zeros(count: int) -> Callable[[], Any]:
    """A tuple of float32 zeros."""
    return lambda: (np.float32(0),) * count


@cache
def matrices(count: int, pitch: int, transposed: bool = False) -> Callable[..., Any]:
    """Four 8x8 matrices of 16-bit elements at a time; lane ``8 m + r`` names row r of matrix m."""

    def load(array: Array, i: Any) -> Any:
        lane, places = _of_warp(("matrices", count, pitch), int(i))
        held = []
        for step in range(count):
            rows = [_shared(array, place + step * pitch).view(np.uint16) for place in places]
            every = np.array(rows).reshape(4, 8, 8)
            if transposed:
                every = every.swapaxes(1, 2)
            # Lane l has elements 2 (l mod 4) and the next of row l div 4.
            pairs = every[:, lane // 4, lane % 4 * 2 : lane % 4 * 2 + 2]
            held += [np.uint32(int(low) | int(high) << 16) for low, high in pairs]
        return tuple(held)

    return load


def _float16_pairs(words: Array) -> Array:
    return words.view(np.float16).astype(np.float32).reshape(*words.shape, 2)


def _bfloat16_pairs(words: Array) -> Array:
    wide = words.view(np.uint16).astype(np.uint32) << 16
    return wide.view(np.float32).reshape(*words.shape, 2)


def _tf32(words: Array) -> Array:
    return (words & np.uint32(0xFFFFE000)).view(np.float32).reshape(*words.shape, 1)


#: The elements of a register, by what is multiplied.
_ELEMENTS = {"float16": _float16_pairs, "bfloat16": _bfloat16_pairs, "float32": _tf32}


def _tiles(words: Array, dtype: str) -> Array:
    """Rows of 8 and their reduction from registers by lane: lane l has of each 8 x 16 bytes the
    4 bytes ``l mod 4`` of row ``l div 4``. ``[lane][register] -> [register][8 rows][elements]``."""
    elements = _ELEMENTS[dtype](np.ascontiguousarray(words))
    by_register = elements.reshape(8, 4, words.shape[1], -1).transpose(2, 0, 1, 3)
    return by_register.reshape(words.shape[1], 8, -1)


@cache
def multiply(dtype: str, rows: int, columns: int) -> Callable[..., Any]:
    """Sums + a b. Of a row of tiles: registers 0, 2 are the upper 8 rows, 1, 3 the lower; the later
    two, and register 1 of a column, are the later 16 bytes of the reduction."""

    def add(sums: Any, a: Any, b: Any) -> Any:
        lane, given = _of_warp(("multiply", dtype, rows, columns), (a, b))
        of_a = _tiles(np.array([each[0] for each in given], np.uint32), dtype)
        of_b = _tiles(np.array([each[1] for each in given], np.uint32), dtype)
        upper, lower = (
            np.concatenate([of_a[0::4], of_a[2::4]], 2),
            np.concatenate([of_a[1::4], of_a[3::4]], 2),
        )
        left = np.stack([upper, lower], 1)
        right = np.concatenate([of_b[0::2], of_b[1::2]], 2)
        with np.errstate(invalid="ignore", over="ignore"):
            products = np.einsum("ihmk,jnk->ijhmn", left, right)
        row, column = lane // 4, lane % 4 * 2
        mine = products[:, :, :, row, column : column + 2].reshape(-1)
        return tuple(np.asarray(sums, np.float32) + mine)

    return add


@cache
def step(dtype: str, rows: int, columns: int, chunks: int) -> Callable[..., Any]:
    """Sums + a b over ``chunks`` chunks of 16 bytes."""
    load_a, load_b = matrices(rows, 16 * chunks), matrices(columns // 2, 16 * chunks)
    add = multiply(dtype, rows, columns)

    def run(array: Any, row_a: Any, chunk_a: Any, row_b: Any, chunk_b: Any, sums: Any) -> Any:
        for at in range(chunks // 2):
            a = load_a(array, row_a + (chunk_a ^ 2 * at))
            b = load_b(array, row_b + (chunk_b ^ 2 * at))
            sums = add(sums, a, b)
        return sums

    return run


@cache
def turned_step(
    dtype: str, rows: int, columns: int, chunks: tuple[int, int], depth: int
) -> Callable[..., Any]:
    """Sums + a b over ``depth`` rows of both."""
    load, add = matrices(1, 0, transposed=True), multiply(dtype, rows, columns)

    def run(array: Any, row_a: Any, chunk_a: Any, row_b: Any, chunk_b: Any, sums: Any) -> Any:
        for at in range(0, depth, 16):
            first_a, first_b = row_a + at * chunks[0], row_b + at * chunks[1]
            a = [load(array, first_a + (chunk_a ^ 2 * i)) for i in range(rows)]
            b = [load(array, first_b + (chunk_b ^ 2 * i)) for i in range(columns // 2)]
            sums = add(sums, sum(a, ()), sum(b, ()))
        return sums

    return run


@cache
def keep(rows: int, columns: int, pitch: int, turned: bool = False) -> Callable[..., None]:
    """Sums to a shared float32 array."""

    def store(array: Array, i: Any, sums: Any) -> None:
        tiles = np.asarray(sums, np.float32).reshape(rows, columns, 2, 2)
        for row, column, half in np.ndindex(rows, columns, 2):
            across, down = 16 * row + 8 * half, 8 * column
            values = tiles[row, column, half]
            if turned:
                for further, value in enumerate(values):
                    at = i + (down + further) * pitch + across
                    _shared(array, at, 4).view(np.float32)[:] = value
            else:
                _shared(array, i + across * pitch + down, 8).view(np.float32)[:] = values

    return store
