"""Compiled kernels on random problems, every array between two pages that can't be touched.

A read or write outside of any array kills the process, so each engine's run is one of its own:
``python tests/test_memory.py cython_cpu 7`` repeats one seed.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnfast import ConvGeometry, PoolGeometry, kernels
from cnnfast.kernels import reference
from cnnfast.kernels.registry import ENGINES, engine_missing, load_row
from cnnfast.kernels.storage import computing_dtype, result_dtype

Array = np.ndarray[Any, Any]

SEEDS = 40
PAGE = mmap.PAGESIZE
NO_ACCESS = 0


class GuardedMemory:
    """Arrays that begin right after a forbidden page, or end right before one."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end
        self.maps: list[mmap.mmap] = []
        self.protect = ctypes.CDLL(None, use_errno=True).mprotect

    def array(self, values: Array) -> Array:
        """A copy of ``values``, C-contiguous, between guards."""
        size = -(-values.nbytes // PAGE) * PAGE
        memory = mmap.mmap(-1, size + 2 * PAGE)
        self.maps.append(memory)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (base, base + PAGE + size):
            assert self.protect(ctypes.c_void_p(guard), PAGE, NO_ACCESS) == 0
        start = PAGE + (size - values.nbytes if self.at_end else 0)
        inner = np.frombuffer(memory, values.dtype, values.size, start).reshape(values.shape)
        inner[...] = values
        return inner

    def like(self, values: Array, channels_last: bool) -> Array:
        """The same with the channel axis fastest in memory if asked for."""
        if not channels_last:
            return self.array(values)
        return np.moveaxis(self.array(np.moveaxis(values, 1, -1)), -1, 1)


def random_arguments(random: np.random.Generator) -> dict[str, Any]:
    """Shapes and arguments of a 2d or 3d convolution that fits."""
    while True:
        rank = int(random.integers(2, 4))
        groups = int(random.choice([1, 1, 2, 5]))
        c, k = (
            int(random.choice([1, 2, 3, 8, 13, 17])),
            int(random.choice([1, 2, 4, 5, 16, 17, 33])),
        )
        size = [int(v) for v in random.integers(1, 30 if rank == 2 else 9, rank)]
        if random.random() < 0.1:
            size[-1] = int(random.integers(190, 700))
        arguments = {
            "input": (int(random.integers(1, 3)), groups * c, *size),
            "weight": (groups * k, c, *(int(v) for v in random.integers(1, 5, rank))),
            "stride": tuple(int(v) for v in random.integers(1, 4, rank)),
            "padding": [tuple(int(v) for v in random.integers(0, 4, 2)) for _ in range(rank)],
            "dilation": tuple(int(v) for v in random.integers(1, 4, rank)),
            "groups": groups,
        }
        try:
            ConvGeometry.of(**arguments)
        except ValueError:
            continue
        return arguments


def integers(random: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    return random.integers(-4, 5, shape).astype(dtype)


def check(engine: str, seed: int) -> None:
    """One random problem on every row of an engine, at both ends of memory."""
    random = np.random.default_rng(seed)
    arguments = random_arguments(random)
    dtype = np.dtype(["float32", "float64"][seed % 2])
    last = bool(random.random() < 0.4)
    x, weight = (integers(random, arguments.pop(name), dtype) for name in ("input", "weight"))
    geometry = ConvGeometry.of(x, weight, **arguments)
    grad = integers(random, geometry.out_shape, dtype)
    for family, first, second in (
        ("fprop", x, weight), ("dgrad", grad, weight), ("wgrad", x, grad),
    ):  # fmt: skip
        channels = geometry.in_channels if family == "dgrad" else geometry.out_channels
        bias = integers(random, (channels if seed % 3 and family != "wgrad" else 0,), dtype)
        expected = np.empty(geometry.operands(family)[2].shape)
        one, two, three = geometry.canonical(first, second, expected, family)
        function: Any = getattr(reference, family)
        code = int(family != "wgrad")
        function(one, two, bias, three, geometry.problem, np.empty(0, np.uint8), code, 1)
        for at_end in (False, True):
            memory = GuardedMemory(at_end)
            check_conv(engine, memory, family, geometry, (first, second, bias), expected, last)
    for at_end in (False, True):
        check_stored(engine, GuardedMemory(at_end), geometry, abs(x), abs(weight), last)
        check_pooling(engine, GuardedMemory(at_end), x, last)


def check_conv(
    engine: str,
    memory: GuardedMemory,
    family: str,
    geometry: ConvGeometry,
    arrays: tuple[Array, Array, Array],
    expected: Array,
    last: bool,
) -> None:
    """Every row of an engine and a family on one problem; the weight alone keeps its order."""
    first, second, bias = arrays
    code = int(family != "wgrad")
    one = memory.like(first, last)
    two = memory.like(second, last and family == "wgrad")
    added = memory.array(bias)
    for row in kernels.KERNELS:
        if row.engine != engine or row.family != family:
            continue
        poisoned = np.full(expected.shape, np.nan, first.dtype)
        out = memory.like(poisoned, last and family != "wgrad")
        bytes_needed = -(-row.scratch_bytes(geometry) // 64) * 64
        scratch = memory.array(np.full(bytes_needed, 255, np.uint8))
        views = geometry.canonical(one, two, out, family)
        load_row(row)(*views[:2], added, views[2], geometry.problem, scratch, code, 1)
        np.testing.assert_array_equal(out, expected, f"{family} {row.name}")


def check_stored(
    engine: str, memory: GuardedMemory, geometry: ConvGeometry, x: Array, weight: Array, last: bool
) -> None:
    """The rows that read dtypes as they are stored; the weight in two orders."""
    exact, none = np.empty(geometry.out_shape), np.empty(0)
    one, two, three = geometry.canonical(x, weight, exact)
    reference.fprop(one, two, none, three, geometry.problem, np.empty(0, np.uint8), 0, 1)
    rows = [row for row in kernels.KERNELS if row.engine == engine and row.family == "fprop"]
    for row, dtype, turned in (
        (fprop, np.dtype(name), turned)
        for fprop in rows
        for name in fprop.stored
        if name != "bfloat16"
        for turned in (False, True)
    ):
        given = replace(geometry, stored=dtype)
        result = result_dtype(dtype)
        first, second = (
            memory.like(array.astype(dtype), how) for array, how in ((x, last), (weight, turned))
        )
        out = memory.like(np.full(exact.shape, 7, result), last)
        bytes_needed = -(-row.scratch_bytes(given) // 64) * 64
        scratch = memory.array(np.full(bytes_needed, 255, np.uint8))
        views, bias = given.canonical(first, second, out), np.empty(0, computing_dtype(dtype))
        load_row(row)(*views[:2], bias, views[2], given.problem, scratch, 0, 1)
        np.testing.assert_array_equal(out, exact.astype(result), f"{row.name} {dtype}")


def check_pooling(engine: str, memory: GuardedMemory, x: Array, last: bool) -> None:
    """Windows that overlap, and whole planes."""
    source = memory.like(x, last)
    windows = (tuple(min(3, extent) for extent in x.shape[2:]), x.shape[2:])
    for reduction, window in itertools.product(("max", "mean"), windows):
        geometry = PoolGeometry.of(x, reduction, window, 2, rank=x.ndim - 2)
        results = []
        for row in kernels.KERNELS:
            if row.family == "pool" and (row.engine == engine or row.algorithm == "reference"):
                out = memory.like(np.full(geometry.out_shape, np.nan, x.dtype), last)
                indices = memory.like(np.full(geometry.out_shape, -7), last)
                flat = geometry.canonical(indices) if reduction == "max" else None
                x5, out5 = geometry.canonical(source), geometry.canonical(out)
                load_row(row)(x5, out5, flat, geometry, 1)
                results.append((out, indices))
        np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(results[0][1], results[1][1])
        check_pool_grad(engine, memory, geometry, source, results[0][1], last)


def check_pool_grad(
    engine: str, memory: GuardedMemory, geometry: PoolGeometry, x: Array, indices: Array,
    last: bool,
) -> None:  # fmt: skip
    grad = memory.like(np.ones(geometry.out_shape, geometry.dtype), last)
    flat = geometry.canonical(indices) if geometry.reduction == "max" else None
    results = []
    for row in kernels.KERNELS:
        if row.family == "pool_grad" and (row.engine == engine or row.algorithm == "reference"):
            grad5, kernel = geometry.canonical(grad), load_row(row)
            calls = [(kernel, flat)]
            if geometry.reduction == "max" and hasattr(kernel, "of_input"):
                calls.append((kernel.of_input, geometry.canonical(x)))
            for call, second in calls:
                out = memory.like(np.full(geometry.input.shape, np.nan, geometry.dtype), last)
                call(grad5, second, geometry.canonical(out), geometry, 1)
                results.append(out)
    for result in results[1:]:
        np.testing.assert_allclose(results[0], result, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(os.name != "posix", reason="guard pages are made with mprotect")
@pytest.mark.parametrize("instruction_set", ["best", "baseline"])
@pytest.mark.parametrize("engine", ["cython_cpu", "numba_cpu"])
def test_no_kernel_touches_memory_that_is_not_its_own(engine: str, instruction_set: str) -> None:
    if engine_missing(engine):
        pytest.skip(f"{ENGINES[engine].name} engine: {engine_missing(engine)}")
    if engine == "numba_cpu" and instruction_set == "baseline":
        pytest.skip("Numba compiles for the machine it runs on")
    done = subprocess.run(
        [sys.executable, __file__, engine, *map(str, range(SEEDS))],
        env={**os.environ, "CNNFAST_INSTRUCTION_SET": instruction_set},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]


@pytest.mark.parametrize(("count", "survives"), [(24, True), (25, False)])
def test_the_guards_work(count: int, survives: bool) -> None:
    """Three float64 may be read, not a byte more."""
    code = (
        "from test_memory import *; memory = GuardedMemory(True); array = memory.array(np.ones(3));"
        f"ctypes.string_at(array.ctypes.data, {count}); print('alive')"
    )
    command = [sys.executable, "-c", code]
    folder = os.path.dirname(__file__)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.stdout == "alive\n", done.returncode < 0) == (survives, not survives)


if __name__ == "__main__":
    for text in sys.argv[2:]:
        print("seed", text, flush=True)
        check(sys.argv[1], int(text))
