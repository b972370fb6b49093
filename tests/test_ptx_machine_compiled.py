"""Kernels compiled by numba-cuda, run by the PTX machine."""

import math
import os
import re
import types

import numpy as np
import pytest

from ptx_machine import Machine, MachineError

numba_cuda = pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")
if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

from numba import cuda  # noqa: E402
from numba.cuda import compiler, dispatcher  # noqa: E402
from numba.cuda import types as kinds  # noqa: E402

f32, i32, f16 = kinds.float32, kinds.int32, kinds.float16
pointer = kinds.CPointer


@pytest.fixture
def compiled(monkeypatch):
    """A function of a kernel and its signature that gives (ptx, entry), without a GPU."""
    device = types.SimpleNamespace(compute_capability=(9, 0))
    for module in (compiler, dispatcher):
        monkeypatch.setattr(module, "get_current_device", lambda: device)

    def compile_(kernel, signature, threads=256):
        try:
            ptx, _ = cuda.compile(
                kernel, signature, device=False, abi="numba", cc=(9, 0, "a"),
                launch_bounds=threads,
            )  # fmt: skip
        except Exception as error:
            if "libnvvm" in str(error).lower() or "libnvrtc" in str(error).lower():
                pytest.skip(f"no compiler: {error}")
            raise
        return ptx, re.search(r"\.entry\s+([\w$]+)", ptx)[1]

    return compile_


def launch(code, grid, block, arguments, machine=None):
    """Run a kernel on arrays (copied there and back) and numbers, packed as it wants them."""
    machine = machine or Machine(8 << 20)
    ptx, entry = code
    values, arrays = [], []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            where = machine.allocate(argument.nbytes)
            machine.write(where, argument)
            arrays.append((argument, where))
            values.append(np.uint64(where))
        else:
            values += argument if isinstance(argument, tuple) else [argument]
    packed = b""
    for value in values:
        value = np.int32(value) if isinstance(value, int) else value
        packed += bytes(-len(packed) % value.itemsize) + value.tobytes()
    machine.launch(ptx, entry, grid, block, 0, packed)
    for array, where in arrays:
        array[...] = np.frombuffer(machine.read(where, array.nbytes), array.dtype).reshape(
            array.shape
        )
        machine.free(where)


def activation(x, y, n, scale):
    i = cuda.grid(1)
    if i < n:
        y[i] = math.tanh(x[i]) * scale[1] + math.exp(-abs(x[i]))


def test_elementwise(compiled):
    code = compiled(activation, (pointer(f32), pointer(f32), i32, kinds.UniTuple(i32, 2)))
    x, y = np.linspace(-5, 5, 1000, dtype="f4"), np.zeros(1000, "f4")
    launch(code, 4, 256, (x, y, 1000, (7, 3)))
    exact = np.tanh(x.astype("f8")) * 3 + np.exp(-np.abs(x.astype("f8")))
    np.testing.assert_allclose(y, exact, atol=1e-6)


def transpose(x, y, barrier):
    tile = cuda.shared.array((16, 17), f32)
    i, j = cuda.threadIdx.x, cuda.threadIdx.y
    n = cuda.gridDim.x * 16
    tile[j, i] = x[(cuda.blockIdx.y * 16 + j) * n + cuda.blockIdx.x * 16 + i]
    if barrier:
        cuda.syncthreads()
    y[(cuda.blockIdx.x * 16 + j) * n + cuda.blockIdx.y * 16 + i] = tile[i, j]


def test_barrier(compiled):
    code = compiled(transpose, (pointer(f32), pointer(f32), i32))
    x, y = np.arange(48 * 48, dtype="f4").reshape(48, 48), np.zeros((48, 48), "f4")
    launch(code, (3, 3), (16, 16), (x, y, 1))
    np.testing.assert_array_equal(y, x.T)
    with pytest.raises(MachineError, match=r"never written|race in shared memory"):
        launch(code, (3, 3), (16, 16), (x, y, 0))


def whole(x, y, n, m):
    i = cuda.grid(1)
    if i < n:
        y[i] = x[i] // m * 1000 + x[i] % m


def test_integer_division(compiled):
    code = compiled(whole, (pointer(i32), pointer(i32), i32, i32))
    x, y = np.arange(-100, 100, dtype="i4"), np.zeros(200, "i4")
    for divisor in (7, -7, 1):
        launch(code, 1, 256, (x, y, 200, divisor))
        np.testing.assert_array_equal(y, x // divisor * 1000 + x % divisor)


def window(x, y, size):
    stack = cuda.local.array(8, f32)
    i = cuda.threadIdx.x
    for k in range(8):
        stack[k] = x[i + k]
    best = stack[0]
    for k in range(1, size):
        best = max(best, stack[k])
    y[i] = best + stack[size % 5]


def test_local_memory(compiled):
    code = compiled(window, (pointer(f32), pointer(f32), i32))
    x, y = np.random.default_rng(0).standard_normal(263).astype("f4"), np.zeros(256, "f4")
    launch(code, 1, 256, (x, y, 6))
    windows = np.lib.stride_tricks.sliding_window_view(x, 8)
    np.testing.assert_array_equal(y, windows[:, :6].max(axis=1) + windows[:, 1])
    with pytest.raises(MachineError, match="outside what is allocated in global"):
        launch(code, 1, 256, (x[:-1].copy(), y, 6))


def half(x, y):
    i = cuda.threadIdx.x
    y[i] = f16(f32(x[i]) * f32(3) + f32(1))


def test_half_precision(compiled):
    code = compiled(half, (pointer(f16), pointer(f16)))
    x, y = np.linspace(-9, 9, 256).astype("f2"), np.zeros(256, "f2")
    launch(code, 1, 256, (x, y))
    np.testing.assert_array_equal(y, (x.astype("f4") * 3 + 1).astype("f2"))


def total(x, y, n):
    i = cuda.threadIdx.x
    value = f32(0)
    for k in range(i, n, 32):
        value += x[k]
    for distance in (16, 8, 4, 2, 1):
        value += cuda.shfl_xor_sync(0xFFFFFFFF, value, distance)
    if i == 0:
        y[0] = value


def test_shuffles(compiled):
    code = compiled(total, (pointer(f32), pointer(f32), i32))
    x, y = np.arange(1000, dtype="f4"), np.zeros(1, "f4")
    launch(code, 1, 32, (x, y, 1000))
    assert y[0] == x.sum()


def powers(x, y):
    i = cuda.threadIdx.x
    y[i] = x[i] ** 3 + 2.5 ** x[i] + math.sin(x[i] * 1e6)


def test_called_functions(compiled):
    """Double precision powers and sines of large numbers are calls."""
    code = compiled(powers, (pointer(kinds.float64), pointer(kinds.float64)))
    x, y = np.linspace(0.5, 8, 256), np.zeros(256)
    launch(code, 1, 256, (x, y))
    np.testing.assert_allclose(y, x**3 + 2.5**x + np.sin(x * 1e6), rtol=1e-12)
