"""What the host side refuses or does with unusual arrays on a GPU: a real one, or the tests'
(``python tests/fake_cuda -m pytest tests/test_cuda_host.py``)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import grad
from cnnfast._core.device_arrays import strides_in
from cnnfast.kernels.registry import engine_missing

MISSING = engine_missing("numba_cuda")
needs_gpu = pytest.mark.skipif(MISSING is not None, reason=f"no GPU: {MISSING}")
if MISSING is None:
    from cnnfast.kernels.numba_cuda import compiler
    from cnnfast.kernels.numba_cuda.program import Entry

    import fake_cuda
    from fake_cuda.arrays import DeviceArray

Array = np.ndarray[Any, Any]
GENERATOR = np.random.default_rng(20261122)


def values(*shape: int, dtype: Any = np.float32) -> Array:
    """Small integers, whose sums are exact in every dtype."""
    return GENERATOR.integers(-3, 4, shape).astype(dtype)


X, W, B = values(2, 4, 5, 6), values(6, 4, 3, 3), values(6)


def build_nothing() -> Any:
    """A kernel that does next to nothing."""

    def nothing(x):  # type: ignore[no-untyped-def]
        x[0] = x[1]

    return nothing


class Foreign:
    """An array of a library that nothing is known of."""

    def __init__(self, array: Array, **interface: Any) -> None:
        self.array = DeviceArray(array)
        self.__cuda_array_interface__ = self.array.__cuda_array_interface__ | interface


def test_strides_of_a_shape_are_those_that_numpy_finds() -> None:
    base = np.zeros((4, 6, 5, 8), np.float32)
    views = base, base[:, ::2], base.transpose(1, 0, 2, 3), base[:1, :, :1], base[:, 1:, ::-1]
    for view in views:
        for shape in ((-1,), (-1, 8), (view.shape[0], -1), (1, -1, 2, 4), (-1, 1)):
            wanted = tuple(np.empty(view.shape).reshape(shape).shape)
            found = strides_in(view.shape, view.strides, wanted, view.itemsize)
            reshaped = view.reshape(wanted)
            if not np.shares_memory(reshaped, view):
                assert found is None
                continue
            assert found is not None
            pairs = zip(wanted, found, reshaped.strides, strict=True)
            assert all(got == step for extent, got, step in pairs if extent > 1)


@needs_gpu
@pytest.mark.parametrize("bias", [values(12)[::2], values(6)[::-1], np.broadcast_to(B[:1], 6)])
def test_a_bias_must_be_contiguous(bias: Array) -> None:
    with pytest.raises(ValueError, match="bias on a GPU must be contiguous"):
        cnnfast.conv2d(DeviceArray(X), DeviceArray(W), DeviceArray(bias))


@needs_gpu
def test_rows_that_do_not_lie_in_order_are_refused() -> None:
    rows, gradient = values(3, 2, 4).transpose(1, 0, 2), values(2, 3, 5)
    with pytest.raises(ValueError, match="make it contiguous first"):
        grad.linear_weight(DeviceArray(rows), (5, 4), DeviceArray(gradient))
    with pytest.raises(ValueError, match="make it contiguous first"):
        cnnfast.linear(DeviceArray(rows), DeviceArray(values(5, 4)))


@needs_gpu
def test_no_rows() -> None:
    none = DeviceArray(values(0, 4))
    assert cnnfast.linear(none, DeviceArray(values(3, 4))).shape == (0, 3)
    with pytest.raises(ValueError, match="a row or more"):
        grad.linear_weight(none, (3, 4), DeviceArray(values(0, 3)))


@needs_gpu
def test_elements_must_lie_at_multiples_of_their_size() -> None:
    memory = np.zeros(2000, np.uint8)
    steps = np.lib.stride_tricks.as_strided(memory.view(np.float32), X.shape, (2, 600, 122, 6))
    with pytest.raises(ValueError, match="must lie at whole elements"):
        cnnfast.conv2d(DeviceArray(steps), DeviceArray(W))
    with pytest.raises(TypeError, match="another byte order"):
        cnnfast.conv2d(DeviceArray(X), DeviceArray(W.astype(">f4")))


@needs_gpu
def test_an_axis_of_one_element_may_have_any_stride() -> None:
    x = Foreign(X[:1], strides=(4 * 2**33, *X.strides[1:]))
    out = DeviceArray(np.empty((1, 6, 3, 4), np.float32))
    cnnfast.conv2d(x, DeviceArray(W), out=out)
    np.testing.assert_array_equal(out.numpy(), cnnfast.conv2d(X[:1], W))


@needs_gpu
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_maxima_of_every_dtype_have_gradients(dtype: str) -> None:
    gradient, x = values(2, 4, 2, 3, dtype=dtype), X.astype(dtype)
    result = grad.max_pool2d_backward(DeviceArray(gradient), DeviceArray(x), 2)
    np.testing.assert_array_equal(result.numpy(), grad.max_pool2d_backward(gradient, x, 2))


@needs_gpu
def test_what_is_allowed_now_decides_in_remembered_calls() -> None:
    for x, w in ((X, W), (DeviceArray(X), DeviceArray(W))):
        with cnnfast.allow_tf32():
            cnnfast.conv2d(x, w, backend="tensor/cuda")
        with pytest.raises(cnnfast.BackendUnavailableError, match="rounds float32 to tf32"):
            cnnfast.conv2d(x, w, backend="tensor/cuda")


@needs_gpu
def test_scratch_over_the_limit_leaves_the_call_to_another_row() -> None:
    x, w = DeviceArray(values(1, 32, 8, 8)), DeviceArray(values(32, 32, 3, 3))
    expected = cnnfast.conv2d(x, w).numpy()
    cnnfast.set_workspace_limit(0)
    try:
        np.testing.assert_array_equal(cnnfast.conv2d(x, w).numpy(), expected)
        with pytest.raises(cnnfast.BackendUnavailableError, match="bytes of scratch, the work"):
            cnnfast.conv2d(x, w, backend="im2col/cuda")
    finally:
        cnnfast.set_workspace_limit(None)


@needs_gpu
def test_arrays_of_several_libraries_and_of_unknown_ones() -> None:
    expected = cnnfast.conv2d(X, W, B)
    mixed = cnnfast.conv2d(DeviceArray(X), Foreign(W), DeviceArray(B))
    np.testing.assert_array_equal(mixed.numpy(), expected)
    with pytest.raises(TypeError, match="give out="):
        cnnfast.conv2d(Foreign(X), Foreign(W))
    out = Foreign(np.empty_like(expected))
    assert cnnfast.conv2d(Foreign(X), Foreign(W), Foreign(B), out=out) is out
    np.testing.assert_array_equal(out.array.numpy(), expected)


@needs_gpu
def test_kernels_are_no_activations() -> None:
    from numba import cuda

    with pytest.raises(TypeError, match="activation must be"):
        cnnfast.conv2d(DeviceArray(X), DeviceArray(W), activation=cuda.jit(lambda x: None))


@needs_gpu
def test_packed_weights_are_the_hosts() -> None:
    with pytest.raises(TypeError, match="a packed weight is the host's"):
        cnnfast.conv2d(DeviceArray(X), cnnfast.pack_weight(W))
    with pytest.raises(TypeError, match="must be in host memory"):
        cnnfast.pack_weight(DeviceArray(W))


@needs_gpu
def test_arrays_of_another_device_are_refused() -> None:
    device = fake_cuda.installed()
    if device is None:
        pytest.skip("needs two devices, which the tests' own has")
    x, w = DeviceArray(X), DeviceArray(W)
    cnnfast.conv2d(DeviceArray(X), w)
    device.devices, before = 2, device.allocations[x.base]
    device.allocations[x.base] = before[0], 1
    try:
        with pytest.raises(ValueError, match="on GPU 0, 1, and the thread's current one is 0"):
            cnnfast.conv2d(x, w)
    finally:
        device.devices, device.allocations[x.base] = 1, before


@needs_gpu
def test_other_threads_are_told_the_real_device_while_kernels_are_compiled() -> None:
    from numba.cuda import dispatcher

    told: list[Any] = []

    def ask() -> None:
        told.append(dispatcher.get_current_device)
        try:
            told.append(dispatcher.get_current_device())
        except Exception as error:
            told.append(error)

    with compiler._as_if_on((8, 0)):
        assert dispatcher.get_current_device().compute_capability == (8, 0)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert getattr(told[1], "compute_capability", None) != (8, 0)


@needs_gpu
def test_users_without_a_home_have_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CNNFAST_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert compiler.cache_folder() is None


@needs_gpu
def test_files_of_the_cache_that_were_changed_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNFAST_CACHE_DIR", str(tmp_path))
    compile_again = compiler.ptx_of.__wrapped__
    entry = Entry(build_nothing, (), ("float32*",), 32)
    compile_again(entry, compiler.AMPERE)
    (file,) = tmp_path.iterdir()
    written = file.read_bytes()
    for damaged in (b"", written[:-1], written.replace(b"ret", b"rte"), b"\xff" + written):
        file.write_bytes(damaged)
        text, _ = compile_again(entry, compiler.AMPERE)
        assert text == compiler._read(file)
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_compile", None)
        assert compile_again(entry, compiler.AMPERE)[0] == text
