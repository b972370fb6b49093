"""GPU operations: what lanes hold, what is copied when, and what numbers become, in Numba's
simulator or as PTX."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from numba import complex128, cuda, float32, int32

from cnnfast.kernels.numba_cuda import ops
from cnnfast.kernels.numba_cuda.program import At, Entry, Launch, Program

import gpu_rows as gpu

Array = np.ndarray[Any, Any]

runs = pytest.mark.skipif(
    not gpu.simulated() and find_spec("ptx_machine") is None,
    reason="neither NUMBA_ENABLE_CUDASIM=1 nor the PTX machine",
)
in_the_simulator = pytest.mark.skipif(not gpu.simulated(), reason="not NUMBA_ENABLE_CUDASIM=1")


def run(entry: Entry, **arrays: Array) -> None:
    """Run a kernel of one block on whole arrays."""
    args = tuple(At(name) for name in arrays)
    gpu.run(Program((Launch(entry, (1, 1, 1), args),)), **arrays)


def build_numbers(name: str, count: int) -> Callable[..., None]:
    change = getattr(ops, name)

    def numbers(first, out):
        for i in range(int32(cuda.threadIdx.x), count, 32):
            out[i] = change(first[i])

    return numbers


def changed(name: str, values: Array, out: Any) -> Array:
    result = np.zeros(values.size, out)
    kinds = f"{values.dtype.name}*", f"{result.dtype.name}*"
    run(Entry(build_numbers, (name, values.size), kinds, 32), first=values, out=result)
    return result


#: Rounding of 16 bits: ties both ways, carries, subnormal and least numbers, overflow.
EDGES = np.array(
    [0.0, -0.0, 1.0, -2.5, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65504.0,
     65519.0, 65520.0, 1e-7, 2.0**-25, 3e-8, 6e-5, 3.39e38, 1e-40, np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip


@runs
def test_float16_is_rounded_once() -> None:
    with np.errstate(over="ignore"):
        expected = EDGES.astype(np.float16)
    bits = changed("narrow_float16", EDGES, np.uint16)
    np.testing.assert_array_equal(bits.view(np.float16), expected)
    np.testing.assert_array_equal(changed("widen_float16", bits, np.float32), expected)


@runs
def test_bfloat16_is_rounded_once() -> None:
    bits = changed("narrow_bfloat16", EDGES, np.uint16)
    wide = changed("widen_bfloat16", bits, np.float32)
    np.testing.assert_array_equal(wide.view(np.uint32) >> 16, bits)
    with np.errstate(over="ignore", invalid="ignore"):
        near = abs(wide - EDGES) <= 2.0**-8 * abs(EDGES)
    special = ~np.isfinite(EDGES) | (abs(EDGES) < 1e-38)
    assert (near | special | np.isinf(wide)).all()
    assert wide[6] == 1.0
    assert wide[7] == 1 + 2.0**-6


@runs
def test_tf32_is_rounded_to_eleven_bits() -> None:
    result = changed("round_tf32", EDGES[:15], np.float32)
    assert not (result.view(np.uint32) & 0x1FFF).any()
    assert (abs(result - EDGES[:15]) <= 2.0**-11 * abs(EDGES[:15])).all()
    assert result[4] == 1 + 2.0**-10, "ties go away from zero"


def build_product(dtype: str, rows: int, columns: int, waits: bool) -> Callable[..., None]:
    """``out = a b^T`` of one warp: ``16 rows`` of a, ``8 columns`` of b, 64 bytes each, copied to
    shared memory with chunks exchanged as ``ops.step`` wants them."""
    a_rows, b_rows, chunks = 16 * rows, 8 * columns, 4
    elements = 4 if dtype == "float32" else 8
    pitch = b_rows + 8
    size = a_rows * pitch
    step, keep = ops.step(dtype, rows, columns, chunks), ops.keep(rows, columns, pitch)
    zeros, wait, commit, copy_async = (
        ops.zeros(4 * rows * columns), ops.wait(0), ops.commit, ops.copy_async,
    )  # fmt: skip
    shared_size = (a_rows + b_rows) * chunks

    def product(a, b, out):
        tile = cuda.shared.array(shared_size, complex128)
        sums = cuda.shared.array(size, float32)
        lane = int32(cuda.threadIdx.x)
        for e in range(lane, a_rows * chunks, 32):
            row, chunk = e // chunks, e % chunks
            to = row * chunks + (chunk ^ (row // 2 % 4))
            copy_async(tile, int32(to), a, int32(e * elements), int32(16))
        for e in range(lane, b_rows * chunks, 32):
            row, chunk = e // chunks, e % chunks
            to = (a_rows + row) * chunks + (chunk ^ (row // 2 % 4))
            copy_async(tile, int32(to), b, int32(e * elements), int32(16))
        commit()
        if waits:
            wait()
        cuda.syncthreads()
        row_a, row_b = lane % 16, lane % 8 + lane // 16 * 8
        chunk_a, chunk_b = (lane // 16) ^ (row_a // 2 % 4), (lane // 8 % 2) ^ (row_b // 2 % 4)
        from_b = int32((a_rows + row_b) * chunks)
        made = step(tile, int32(row_a * chunks), int32(chunk_a), from_b, int32(chunk_b), zeros())
        keep(sums, int32(lane // 4 * pitch + lane % 4 * 2), made)
        cuda.syncthreads()
        for e in range(lane, a_rows * b_rows, 32):
            out[e] = sums[e // b_rows * pitch + e % b_rows]

    return product


def _matrix(rows: int, dtype: str, seed: int) -> tuple[Array, Array]:
    """Small integers, as they are stored and as numbers."""
    columns = 16 if dtype == "float32" else 32
    values = np.random.default_rng(seed).integers(-8, 9, (rows, columns)).astype(np.float32)
    if dtype == "float16":
        return values.astype(np.float16).view(np.uint16), values
    return (values.view(np.uint32) >> 16).astype(
        np.uint16
    ) if dtype == "bfloat16" else values, values


def _product(dtype: str, rows: int, columns: int, waits: bool = True) -> tuple[Array, Array]:
    a, left = _matrix(16 * rows, dtype, 1)
    b, right = _matrix(8 * columns, dtype, 2)
    out = np.full((16 * rows, 8 * columns), np.nan, np.float32)
    pointer = f"{a.dtype.name}*"
    constants = dtype, rows, columns, waits
    entry = Entry(build_product, constants, (pointer, pointer, "float32*"), 32)
    run(entry, first=a, second=b, out=out)
    return out, left @ right.T


@runs
@pytest.mark.parametrize("shape", [(1, 2), (2, 4)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_warp_multiplies_tiles(dtype: str, shape: tuple[int, int]) -> None:
    np.testing.assert_array_equal(*_product(dtype, *shape))


@in_the_simulator
def test_a_copy_that_is_not_waited_for_is_not_there() -> None:
    result, _ = _product("float16", 1, 2, waits=False)
    assert np.isnan(result).all()


def build_part_of_a_warp() -> Callable[..., None]:
    load = ops.matrices(1, 1)

    def part_of_a_warp(out):
        tile = cuda.shared.array(32, complex128)
        lane = int32(cuda.threadIdx.x)
        if lane < 16:
            out[lane] = load(tile, lane)[0]
        cuda.syncthreads()
        cuda.syncthreads()

    return part_of_a_warp


@in_the_simulator
def test_part_of_a_warp_cannot_load_matrices() -> None:
    with pytest.raises(RuntimeError, match="not all lanes"):
        run(Entry(build_part_of_a_warp, (), ("uint32*",), 32), out=np.zeros(32, np.uint32))


def build_transposed() -> Callable[..., None]:
    load = ops.matrices(1, 1, True)

    def transposed(first, out):
        tile = cuda.shared.array(32, complex128)
        lane = int32(cuda.threadIdx.x)
        ops.copy_async(tile, lane, first, int32(8 * lane), int32(16))
        ops.commit()
        wait()
        cuda.syncthreads()
        held = load(tile, lane)
        out[4 * lane], out[4 * lane + 1] = held[0], held[1]
        out[4 * lane + 2], out[4 * lane + 3] = held[2], held[3]

    wait = ops.wait(0)
    return transposed


@runs
def test_matrices_are_loaded_transposed() -> None:
    rows = np.arange(256, dtype=np.uint16)
    out = np.zeros(128, np.uint32)
    run(Entry(build_transposed, (), ("uint16*", "uint32*"), 32), first=rows, out=out)
    turned = rows.reshape(4, 8, 8).swapaxes(1, 2)
    pairs = np.ascontiguousarray(turned).reshape(4, 32, 2)
    expected = pairs[:, :, 0] | pairs[:, :, 1].astype(np.uint32) << 16
    np.testing.assert_array_equal(out.reshape(32, 4), expected.T)
