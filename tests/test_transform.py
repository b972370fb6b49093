"""Dense layers as convolutions, and convolutions as dense layers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import transform

import conformance as suite
from networks import integers

Array = np.ndarray[Any, Any]

MAPS = [(3, 4, 4), (2, 5), (2, 2, 3, 4), (1, 1, 7)]


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_dense_layer_is_a_convolution_as_large_as_the_map(
    shape: tuple[int, ...], dtype: str
) -> None:
    features = int(np.prod(shape))
    x, weight = integers((2, *shape), 1, dtype), integers((10, features), 2, dtype)
    bias = integers((10,), 3, dtype)
    kernel, offsets = transform.linear_to_conv(weight, bias, shape)
    convolve = getattr(cnnfast, f"conv{len(shape) - 1}d")
    result = convolve(x, kernel, offsets)
    assert result.shape == (2, 10, *(1 for _ in shape[1:]))
    np.testing.assert_array_equal(result.reshape(2, 10), x.reshape(2, -1) @ weight.T + bias)
    assert kernel.size == weight.size
    assert transform.linear_to_conv(weight, None, shape)[1] is None


def test_480_weights_both_ways() -> None:
    weight = integers((10, 48))
    kernel, _ = transform.linear_to_conv(weight, None, (3, 4, 4))
    assert (kernel.shape, kernel.size) == ((10, 3, 4, 4), 480)
    back, _ = transform.conv_to_linear(kernel, None, (3, 4, 4))
    np.testing.assert_array_equal(back, weight)
    assert back.size == 480


#: Weight, input without batch, arguments.
CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "2x2 over 3x3": ((1, 1, 2, 2), (1, 3, 3), {}),
    "padded": ((3, 2, 3, 3), (2, 5, 4), {"padding": 1}),
    "stride": ((3, 2, 2, 3), (2, 7, 8), {"stride": (2, 3), "padding": (0, 1)}),
    "dilation": ((2, 1, 3, 2), (1, 8, 7), {"dilation": (2, 3), "padding": 2}),
    "uneven": ((2, 2, 3, 3), (2, 4, 5), {"padding": [(0, 2), (1, 0)], "stride": 2}),
    "same": ((2, 2, 4, 3), (2, 5, 6), {"padding": "same"}),
    "same_upper": ((2, 1, 3, 3), (1, 6, 5), {"padding": "same_upper", "stride": 2}),
    "groups": ((4, 2, 3, 3), (4, 5, 5), {"groups": 2}),
    "depthwise": ((6, 1, 2, 2), (3, 4, 4), {"groups": 3, "stride": 2}),
    "pointwise": ((5, 3, 1, 1), (3, 4, 2), {}),
    "stride over kernel": ((2, 1, 1, 1), (1, 7, 7), {"stride": 3}),
    "more padding than kernel": ((1, 1, 2, 2), (1, 2, 2), {"padding": 3, "stride": 2}),
    "1d": ((3, 2, 3), (2, 8), {"padding": 1, "stride": 2}),
    "3d": ((2, 2, 2, 1, 3), (2, 4, 3, 5), {"padding": (1, 0, 1), "dilation": (1, 1, 2)}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_a_convolution_is_a_toeplitz_matrix(name: str, dtype: str) -> None:
    extents, shape, arguments = CONVOLUTIONS[name]
    x, weight = integers((2, *shape), 1, dtype), integers(extents, 2, dtype)
    bias = integers(extents[:1], 3, dtype)
    matrix, offsets = transform.conv_to_linear(weight, bias, shape, **arguments)
    expected = getattr(cnnfast, f"conv{len(shape) - 1}d")(x, weight, bias, **arguments)
    assert matrix.dtype == weight.dtype
    assert offsets is not None
    result = x.reshape(2, -1) @ matrix.T + offsets
    np.testing.assert_array_equal(result.reshape(expected.shape), expected)
    # Nothing but the kernel's weights over and over, and zeros.
    assert set(np.unique(matrix)) <= {0, *np.unique(weight)}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_matrix_is_sparse(name: str) -> None:
    pytest.importorskip("scipy.sparse", reason="SciPy isn't installed")
    extents, shape, arguments = CONVOLUTIONS[name]
    weight = np.abs(integers(extents, 2)) + 1
    dense, _ = transform.conv_to_linear(weight, None, shape, **arguments)
    sparse, offsets = transform.conv_to_linear(weight, None, shape, **arguments, sparse=True)
    assert offsets is None
    assert sparse.nnz == np.count_nonzero(dense)
    assert sparse.shape == dense.shape
    np.testing.assert_array_equal(sparse.toarray(), dense)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'cnnfast\[sparse\]'"):
        transform.conv_to_linear(np.ones((1, 1, 2)), None, (1, 3), sparse=True)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_matrix_agrees_within_the_bound_for_random_data(name: str) -> None:
    extents, shape, arguments = CONVOLUTIONS[name]
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, *shape)), rng.standard_normal(extents)
    matrix, _ = transform.conv_to_linear(weight, None, shape, **arguments)
    result = getattr(cnnfast, f"conv{len(shape) - 1}d")(x, weight, **arguments).reshape(2, -1)
    flat = x.reshape(2, -1)
    length = int(np.prod(extents[1:]))
    # Both sums are rounded.
    bound = 2 * suite.error_bound(result, abs(flat) @ abs(matrix).T, length, result.dtype)
    suite.assert_within(result, flat @ matrix.T, bound)


def test_the_transpose_is_the_transposed_convolution() -> None:
    weight, y = integers((3, 2, 3, 3), 1), integers((2, 3, 3, 2), 2)
    arguments: dict[str, Any] = {"stride": 2, "padding": 1}
    matrix, _ = transform.conv_to_linear(weight, None, (2, 5, 4), **arguments)
    expected = cnnfast.conv_transpose2d(y, weight, **arguments, output_padding=(0, 1))
    result = y.reshape(2, -1) @ matrix
    np.testing.assert_array_equal(result.reshape(expected.shape), expected)


def test_a_convolution_comes_back_as_one_kernel_per_position() -> None:
    x, weight = integers((2, 2, 6, 5), 1), integers((3, 2, 2, 3), 2)
    bias = integers((3,), 3)
    matrix, offsets = transform.conv_to_linear(weight, bias, (2, 6, 5), 2)
    kernel, offsets = transform.linear_to_conv(matrix, offsets, (2, 6, 5))
    expected = cnnfast.conv2d(x, weight, bias, stride=2)
    result = cnnfast.conv2d(x, kernel, offsets)
    np.testing.assert_array_equal(result.reshape(expected.shape), expected)


def test_a_1x1_convolution_is_a_dense_layer_at_every_pixel() -> None:
    x, weight = integers((2, 3, 4, 5), 1), integers((6, 3), 2)
    kernel, _ = transform.linear_to_conv(weight, None, (3, 1, 1))
    by_pixel = cnnfast.linear(np.moveaxis(x, 1, -1), weight)
    np.testing.assert_array_equal(cnnfast.conv2d(x, kernel), np.moveaxis(by_pixel, -1, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transform.linear_to_conv(np.ones((2, 9)), None, (1, 3, 4)), r"\(out_features, 12"),
        (lambda: transform.linear_to_conv(np.ones(9), None, (1, 3, 3)), r"got shape \(9,\)"),
        (lambda: transform.linear_to_conv(np.ones((2, 9)), np.ones(3), (1, 3, 3)), r"\(2,\)"),
        (lambda: transform.linear_to_conv(np.ones((2, 9)), None, 9), "must be .C, H, W."),
        (lambda: transform.linear_to_conv(np.ones((2, 9)), None, (9, 0)), "must be positive"),
        (lambda: transform.conv_to_linear(np.ones((1, 1, 3, 3)), None, (1, 2, 2)), "must fit"),
        (lambda: transform.conv_to_linear(np.ones((1, 2, 3, 3)), None, (1, 4, 4)), "channels"),
        (lambda: transform.conv_to_linear(np.ones((1, 1, 3)), None, (1, 4, 4)), "4 axes"),
        (
            lambda: transform.conv_to_linear(np.ones((2, 1, 3, 3)), np.ones(1), (1, 4, 4)),
            "bias must have shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
