"""Public functions on arrays of a GPU: a real one, or the tests' (``python tests/fake_cuda -m
pytest tests/test_cuda_arrays.py``), where launches run the compiled PTX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import grad
from cnnfast.kernels.registry import engine_missing

MISSING = engine_missing("numba_cuda")
pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"no GPU: {MISSING}")
if MISSING is None:
    from fake_cuda.arrays import DeviceArray

Array = np.ndarray[Any, Any]
GENERATOR = np.random.default_rng(20261122)


def values(*shape: int, dtype: Any = np.float32) -> Array:
    """Small integers, whose sums are exact in every dtype."""
    return GENERATOR.integers(-3, 4, shape).astype(dtype)


X, W, B = values(2, 4, 9, 10), values(6, 4, 3, 3), values(6)
DEPTHWISE, POINTWISE = values(4, 1, 3, 3), values(5, 4, 1, 1)

#: A function of the arrays that follow it.
CALLS: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "conv1d": (cnnfast.conv1d, (X[:, :, 0], W[:, :, 0])),
    "conv2d": (cnnfast.conv2d, (X, W)),
    "conv2d bias": (cnnfast.conv2d, (X, W, B)),
    "conv2d of one image": (cnnfast.conv2d, (X[0], W, B)),
    "conv2d strided": (
        lambda x, w: cnnfast.conv2d(x, w, stride=2, padding=((1, 0), (2, 1))),
        (X, W),
    ),
    "conv2d relu": (lambda x, w, b: cnnfast.conv2d(x, w, b, activation="relu"), (X, W, B)),
    "conv2d channels last": (
        lambda x, w: cnnfast.conv2d(x, w, padding="same", layout="NHWC", weight_layout="OIHW"),
        (X.transpose(0, 2, 3, 1), W),
    ),
    "conv2d grouped": (lambda x, w: cnnfast.conv2d(x, w, groups=2), (X, W[:, :2])),
    "conv3d": (cnnfast.conv3d, (X[:, :, None], W[:, :, None])),
    "conv_transpose2d": (
        lambda x, w: cnnfast.conv_transpose2d(x, w, stride=2, output_padding=1),
        (X, W.swapaxes(0, 1)),
    ),
    "depthwise_conv2d": (lambda x, w: cnnfast.depthwise_conv2d(x, w, padding=1), (X, DEPTHWISE)),
    "separable_conv2d": (cnnfast.separable_conv2d, (X, DEPTHWISE, POINTWISE)),
    "linear": (
        cnnfast.linear,
        (X[0, 0], W[:, :1, 0, :1].reshape(6, 1) * np.ones((1, 10), "f4"), B),
    ),
    "linear of one neuron": (cnnfast.linear, (X[0, 0], X[1, 1, 0])),
    "max_pool2d": (lambda x: cnnfast.max_pool2d(x, 3, 2, 1), (X,)),
    "max_pool2d indices": (lambda x: cnnfast.max_pool2d(x, 2, return_indices=True), (X,)),
    "avg_pool2d": (lambda x: cnnfast.avg_pool2d(x, 2, ceil_mode=True), (X,)),
    "adaptive_avg_pool2d": (lambda x: cnnfast.adaptive_avg_pool2d(x, 1), (X,)),
    "adaptive_max_pool2d": (lambda x: cnnfast.adaptive_max_pool2d(x, (3, None)), (X,)),
    "conv2d_input": (
        lambda w, g: grad.conv2d_input(X.shape, w, g, stride=2, padding=1),
        (W, values(2, 6, 5, 5)),
    ),
    "conv2d_weight": (
        lambda x, g: grad.conv2d_weight(x, W.shape, g, stride=2, padding=1),
        (X, values(2, 6, 5, 5)),
    ),
    "max_pool2d_backward": (
        lambda g, x: grad.max_pool2d_backward(g, x, 3, 2),
        (values(2, 4, 4, 4), X),
    ),
    "avg_pool2d_backward": (
        lambda g, x: grad.avg_pool2d_backward(g, x, 2),
        (values(2, 4, 4, 5), X),
    ),
}


def on_host(result: Any) -> list[Array]:
    """The arrays of a result, in host memory."""
    results = result if isinstance(result, tuple) else (result,)
    return [array.numpy() if isinstance(array, DeviceArray) else array for array in results]


@pytest.mark.parametrize("name", CALLS)
def test_calls_on_the_gpu_equal_those_of_the_host(name: str) -> None:
    function, arrays = CALLS[name]
    expected = on_host(function(*arrays))
    for _ in range(2):  # prepared, then remembered
        result = function(*map(DeviceArray, arrays))
        assert all(isinstance(a, DeviceArray) for a in np.atleast_1d(np.array(result, object)).flat)
        for got, wanted in zip(on_host(result), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
            assert got.dtype == wanted.dtype


@pytest.mark.parametrize("name", CALLS)
def test_host_arrays_move_to_the_gpu_and_back_if_asked(name: str) -> None:
    function, arrays = CALLS[name]
    expected = on_host(function(*arrays))
    with cnnfast.use_backend("cuda"):
        result = on_host(function(*arrays))
    for got, wanted in zip(result, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_out_is_filled_in_place_and_returned() -> None:
    buffer = DeviceArray(np.full((2, 12, 7, 8), -7, np.float32)[:, ::2])
    result = cnnfast.conv2d(DeviceArray(X), DeviceArray(W), DeviceArray(B), out=buffer)
    assert result is buffer
    np.testing.assert_array_equal(buffer.numpy(), cnnfast.conv2d(X, W, B))
    between = buffer.span().view(np.float32)
    assert (between == -7).sum() >= 2 * 5 * 7 * 8, "what lies between the elements was written"


def test_strides_of_any_kind_are_read_in_place() -> None:
    x, w = X[:, ::-1, :, ::-1], np.broadcast_to(W[:1], W.shape)
    result = cnnfast.conv2d(DeviceArray(x), DeviceArray(w))
    np.testing.assert_array_equal(result.numpy(), cnnfast.conv2d(x, w))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes_stay(dtype: str) -> None:
    pytest.importorskip("ml_dtypes")
    x, w = X.astype(dtype), W.astype(dtype)
    with cnnfast.use_backend("cuda"):
        result = cnnfast.conv2d(x, w)
    assert result.dtype == x.dtype
    np.testing.assert_array_equal(result, cnnfast.conv2d(x, w))
    pooled = cnnfast.max_pool2d(DeviceArray(X.astype("float16")), 2)
    np.testing.assert_array_equal(pooled.numpy(), cnnfast.max_pool2d(X.astype("float16"), 2))


def test_scalar_functions_of_the_users_are_compiled_for_the_gpu() -> None:
    numba = pytest.importorskip("numba")

    @numba.njit
    def shrink(x: float) -> float:
        return x - 1.0 if x > 1.0 else (x + 1.0 if x < -1.0 else 0.0)

    expected = cnnfast.conv2d(X, W, B, activation=shrink)
    result = cnnfast.conv2d(*map(DeviceArray, (X, W, B)), activation=shrink)
    np.testing.assert_array_equal(result.numpy(), expected)
    np.testing.assert_array_equal(
        cnnfast.conv2d(X, W, B, activation=shrink, backend="cuda"), expected
    )


@pytest.mark.parametrize("activation", ["relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu"])
def test_activations_are_fused(activation: str) -> None:
    expected = cnnfast.conv2d(X, W, B, activation=activation)
    result = cnnfast.conv2d(*map(DeviceArray, (X, W, B)), activation=activation)
    np.testing.assert_allclose(result.numpy(), expected, rtol=2e-6, atol=1e-7)


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "one in host memory": (
        lambda: cnnfast.conv2d(DeviceArray(X), W), TypeError, "move them to one place",
    ),
    "another dtype": (
        lambda: cnnfast.conv2d(DeviceArray(X), DeviceArray(W.astype(np.float64))),
        TypeError, "must all be of one dtype",
    ),
    "complex": (
        lambda: cnnfast.conv2d(DeviceArray(X + 0j), DeviceArray(W + 0j)), TypeError, "one dtype",
    ),
    "an engine of the host": (
        lambda: cnnfast.conv2d(DeviceArray(X), DeviceArray(W), backend="cython"),
        cnnfast.BackendUnavailableError, "the arrays are on a GPU",
    ),
    "shapes": (
        lambda: cnnfast.conv2d(DeviceArray(X), DeviceArray(W[:, :3])),
        ValueError, "the weight must have in-channels / groups",
    ),
    "out's shape": (
        lambda: cnnfast.conv2d(DeviceArray(X), DeviceArray(W), out=DeviceArray(X)),
        ValueError, "out must have the result's shape",
    ),
    "padding that isn't zeros": (
        lambda: cnnfast.conv2d(DeviceArray(X), DeviceArray(W), padding=1, padding_mode="reflect"),
        ValueError, "padded with zeros alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_arrays_are_refused(what: str) -> None:
    call, error, message = BAD[what]
    with pytest.raises(error, match=message):
        call()


def test_out_must_be_apart_from_inputs() -> None:
    x = DeviceArray(values(1, 6, 5, 5))
    w = DeviceArray(values(6, 6, 1, 1))
    with pytest.raises(ValueError, match="out must not share memory"):
        cnnfast.conv2d(x, w, out=x)


def test_nothing_is_done_for_no_images() -> None:
    result = cnnfast.conv2d(DeviceArray(X[:0]), DeviceArray(W))
    assert result.shape == (0, 6, 7, 8)
