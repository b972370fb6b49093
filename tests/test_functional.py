"""The functions as users call them: layouts, dtypes, views, out, padding modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnfast

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
X = RANDOM.integers(-4, 5, (2, 4, 9, 10)).astype(np.float32)
W = RANDOM.integers(-4, 5, (6, 2, 3, 2)).astype(np.float32)
B = RANDOM.integers(-4, 5, 6).astype(np.float32)
ARGUMENTS: dict[str, Any] = {"stride": (2, 1), "padding": [(1, 2), (0, 1)], "groups": 2}
EXPECTED = cnnfast.conv2d(X, W, B, **ARGUMENTS, backend="reference")


@pytest.fixture(autouse=True, params=["default", "numpy"])
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds for the default backend and for an install without any extra."""
    if request.param == "numpy":
        monkeypatch.setenv("CNNFAST_BACKEND", "numpy")


def same(result: Any, expected: Array) -> None:
    assert isinstance(result, np.ndarray)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert result.flags.c_contiguous
    assert result.flags.writeable
    np.testing.assert_array_equal(result, expected)


def test_conv2d() -> None:
    same(cnnfast.conv2d(X, W, B, **ARGUMENTS), EXPECTED)
    same(cnnfast.conv2d(X, W, B, (2, 1), [(1, 2), (0, 1)], 1, 2), EXPECTED)


def test_without_the_batch_axis() -> None:
    same(cnnfast.conv2d(X[0], W, B, **ARGUMENTS), EXPECTED[0])
    last = np.moveaxis(X[0], 0, -1)
    result = cnnfast.conv2d(last, W, B, **ARGUMENTS, layout="NHWC", weight_layout="OIHW")
    same(result, np.ascontiguousarray(np.moveaxis(EXPECTED[0], 0, -1)))


@pytest.mark.parametrize("letters", ["OIHW", "HWIO", "IOHW", "OHWI", "WHOI"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layouts(layout: str, letters: str) -> None:
    order = ["NCHW".index(letter) for letter in layout]
    x = np.ascontiguousarray(X.transpose(order))
    w = np.ascontiguousarray(W.transpose(["OIHW".index(letter) for letter in letters]))
    result = cnnfast.conv2d(x, w, B, **ARGUMENTS, layout=layout, weight_layout=letters)
    same(result, np.ascontiguousarray(EXPECTED.transpose(order)))


def test_default_weight_layout_follows_the_layout() -> None:
    x, w = X.transpose(0, 2, 3, 1), W.transpose(2, 3, 1, 0)
    result = cnnfast.conv2d(x, w, B, **ARGUMENTS, layout="NHWC")
    same(result, np.ascontiguousarray(EXPECTED.transpose(0, 2, 3, 1)))


@pytest.mark.parametrize("sizes", [[2, 1], np.array([2, 1]), (np.int8(2), np.uint64(1))])
def test_sizes_may_be_lists_and_numpy_integers(sizes: Any) -> None:
    same(cnnfast.conv2d(X, W, B, sizes, [(1, 2), (0, 1)], groups=np.int64(2)), EXPECTED)


def _unaligned(array: Array) -> Array:
    raw = np.empty(array.nbytes + 1, np.uint8)[1:]
    view = raw.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _field(array: Array) -> Array:
    record = np.zeros(array.shape, [("value", array.dtype), ("odd", "u1")])
    record["value"] = array
    return record["value"]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(">f4"),
        lambda a: a.tolist(),
        lambda a: a[::-1].copy()[::-1],
        lambda a: np.asfortranarray(a),
        _unaligned,
        _field,
    ],
    ids=["big-endian", "list", "negative strides", "Fortran order", "unaligned", "record field"],
)
def test_any_array_gives_the_same_numbers(change: Any) -> None:
    result = cnnfast.conv2d(change(X), change(W), change(B), **ARGUMENTS)
    np.testing.assert_array_equal(result, EXPECTED)


def test_objects_with_the_array_protocols() -> None:
    class WithArray:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            return X

    class WithDlpack:
        def __dlpack__(self, **_: Any) -> Any:
            return X.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    same(cnnfast.conv2d(WithArray(), W, B, **ARGUMENTS), EXPECTED)
    same(cnnfast.conv2d(WithDlpack(), W, B, **ARGUMENTS), EXPECTED)


def test_inputs_are_never_modified() -> None:
    copies = X.copy(), W.copy(), B.copy()
    for array in copies:
        array.flags.writeable = False
    same(cnnfast.conv2d(*copies, **ARGUMENTS, activation="tanh"), np.tanh(EXPECTED))
    for array, original in zip(copies, (X, W, B), strict=True):
        np.testing.assert_array_equal(array, original)


def test_dtypes_promote_as_numpy_does() -> None:
    double = EXPECTED.astype(np.float64)
    same(cnnfast.conv2d(X.astype(np.float64), W, B, **ARGUMENTS), double)
    same(cnnfast.conv2d(X, W, B.astype(np.float64), **ARGUMENTS), double)
    same(cnnfast.conv2d(X, W, B, **ARGUMENTS, out_dtype=np.float64), double)
    same(cnnfast.conv2d(X.astype(np.float64), W, B, **ARGUMENTS, out_dtype="f4"), EXPECTED)


@pytest.mark.parametrize("kind", ["contiguous", "strided", "unaligned", "channels last"])
def test_out_is_written_in_place(kind: str) -> None:
    out = np.full(EXPECTED.shape, np.nan, np.float32)
    if kind == "strided":
        out = np.full((2, 12, *EXPECTED.shape[2:]), np.nan, np.float32)[:, ::-2]
    elif kind == "unaligned":
        out = _unaligned(out)
    elif kind == "channels last":
        out = np.empty((2, *EXPECTED.shape[2:], 6), np.float32).transpose(0, 3, 1, 2)
    assert cnnfast.conv2d(X, W, B, **ARGUMENTS, out=out) is out
    np.testing.assert_array_equal(out, EXPECTED)


def test_out_beside_an_input_in_the_same_memory() -> None:
    both = np.zeros((2, 4, 9, 10, 2), np.float32)
    both[..., 0] = X
    out = both[..., 1]
    weight = np.ones((4, 4, 1, 1), np.float32)
    cnnfast.conv2d(both[..., 0], weight, out=out)
    np.testing.assert_array_equal(out, np.repeat(X.sum(1, keepdims=True), 4, 1))
    np.testing.assert_array_equal(both[..., 0], X)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu"])
def test_activations(name: str) -> None:
    y = EXPECTED.astype(np.float64) / 8
    gate = 1 / (1 + np.exp(-y))
    expected = {
        "relu": np.maximum(y, 0),
        "relu6": np.clip(y, 0, 6),
        "leaky_relu": np.where(y < 0, 0.01 * y, y),
        "sigmoid": gate,
        "tanh": np.tanh(y),
        "silu": y * gate,
    }[name]
    result = cnnfast.conv2d(X / 8, W, B / 8, **ARGUMENTS, activation=name)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


def test_activations_pass_nan() -> None:
    x = np.array([[[[np.nan, -1.0, 1.0]]]])
    for name in ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu"):
        result = cnnfast.conv2d(x, np.ones((1, 1, 1, 1)), activation=name)
        np.testing.assert_array_equal(np.isnan(result).ravel(), [True, False, False])


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_padding_modes(mode: str, numpy_mode: Any) -> None:
    padded = np.pad(X, ((0, 0), (0, 0), (2, 3), (1, 0)), mode=numpy_mode)
    expected = cnnfast.conv2d(padded, W, B, groups=2)
    result = cnnfast.conv2d(X, W, B, padding=[(2, 3), (1, 0)], groups=2, padding_mode=mode)
    same(result, expected)


def test_padding_value() -> None:
    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (2, 2)), constant_values=3)
    expected = cnnfast.conv2d(padded, W, B, groups=2)
    same(cnnfast.conv2d(X, W, B, padding=(1, 2), groups=2, padding_value=3), expected)


def test_batch_0() -> None:
    assert cnnfast.conv2d(X[:0], W, padding=1, groups=2, padding_mode="reflect").shape == (
        0,
        6,
        9,
        11,
    )
    assert cnnfast.conv2d(X[:0], W, groups=2).shape == (0, 6, 7, 9)
    assert np.shape(cnnfast.max_pool2d(X[:0], 2)) == (0, 4, 4, 5)
    assert cnnfast.linear(np.ones((0, 3)), np.ones((4, 3))).shape == (0, 4)


def test_results_are_new_even_where_nothing_changes() -> None:
    result = cnnfast.max_pool2d(X, 1)
    assert not np.shares_memory(result, X)
    assert not np.shares_memory(cnnfast.relu(X), X)
    same(result, X)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (1, 1, 1, 5)])
def test_linear(shape: tuple[int, ...]) -> None:
    x = RANDOM.integers(-4, 5, shape).astype(np.float64)
    w, b = RANDOM.integers(-4, 5, (7, 5)).astype(np.float64), np.arange(7.0)
    expected = np.ascontiguousarray(x @ w.T + b)
    same(cnnfast.linear(x, w, b), expected)
    same(cnnfast.linear(x, w, b, activation="relu"), np.maximum(expected, 0))
    out = np.empty_like(expected)
    assert cnnfast.linear(x, w, b, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_pooling_in_both_layouts_with_indices() -> None:
    values, indices = cnnfast.max_pool2d(X, 3, 2, 1, return_indices=True)
    windows = X.reshape(2, 4, 90)
    np.testing.assert_array_equal(
        np.take_along_axis(windows, indices.reshape(2, 4, -1), 2), values.reshape(2, 4, -1)
    )
    last, last_indices = cnnfast.max_pool2d(
        X.transpose(0, 2, 3, 1), 3, 2, 1, return_indices=True, layout="NHWC"
    )
    same(last, np.ascontiguousarray(values.transpose(0, 2, 3, 1)))
    same(last_indices, np.ascontiguousarray(indices.transpose(0, 2, 3, 1)))


def test_pooling_into_out() -> None:
    expected = cnnfast.avg_pool2d(X, 2)
    out = np.empty((2, 4, 4, 10), np.float32)[..., ::2]
    assert cnnfast.avg_pool2d(X, 2, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_indices_beyond_31_bits() -> None:
    """A plane of 2.5e9 elements, all the same memory: the last row's NaN is found."""
    x = np.broadcast_to(np.array([[[np.nan]]], np.float32), (1, 50_000, 50_000))
    _, indices = cnnfast.max_pool2d(x, (50_000, 1), (1, 25_000), return_indices=True)
    np.testing.assert_array_equal(indices, [[[2_499_950_000, 2_499_975_000]]])


def test_an_empty_stride_means_the_window() -> None:
    same(cnnfast.avg_pool2d(X, (3, 2), ()), cnnfast.avg_pool2d(X, (3, 2), (3, 2)))


def test_pooling_passes_infinities() -> None:
    x = np.array([[[[-np.inf, -np.inf], [np.inf, np.nan]]]])
    np.testing.assert_array_equal(cnnfast.max_pool2d(x, (1, 2)), [[[[-np.inf], [np.nan]]]])
    np.testing.assert_array_equal(cnnfast.avg_pool2d(x, (2, 1)), [[[[np.nan, np.nan]]]])


def test_blas_goes_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnfast.kernels import blocking

    monkeypatch.setattr(blocking, "BLAS_BYTES", 4 * 10 * (12 + 3) * 2)
    same(cnnfast.conv2d(X, W, B, **ARGUMENTS, backend="im2col/numpy"), EXPECTED)


def test_empty_out() -> None:
    out = np.empty((0, 6, 7, 9), np.float32)
    assert cnnfast.conv2d(X[:0], W, groups=2, out=out) is out
    pooled = np.empty((0, 4, 4, 5), np.float32)
    assert cnnfast.max_pool2d(X[:0], 2, out=pooled) is pooled


def test_out_may_be_a_subclass() -> None:
    class Mine(np.ndarray[Any, Any]):
        def transpose(self, *_: Any) -> Any:
            raise AssertionError("called")

    out = np.empty(EXPECTED.shape, np.float32).view(Mine)
    assert cnnfast.conv2d(X, W, B, **ARGUMENTS, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), EXPECTED)


def test_callers_error_state_does_not_matter() -> None:
    with np.errstate(all="raise"):
        cnnfast.softmax(np.array([0.0, -800.0]))
        cnnfast.conv2d(X * 1e3, W, groups=2, activation="silu")
        large = np.full((1, 1, 2, 2), 1e300)
        one = np.ones((1, 1, 1, 1))
        assert np.isinf(cnnfast.conv2d(large, one, out_dtype=np.float32)).all()
        x = np.ones((1, 1, 2, 2), np.float32)
        padded = cnnfast.conv2d(x, one.astype(np.float32), padding=1, padding_value=1e300)
        assert np.isinf(padded[0, 0, 0]).all()


def test_relu_and_softmax_results_are_new_contiguous_arrays() -> None:
    for function in (cnnfast.relu, cnnfast.softmax):
        for x in (np.ones((2, 3)).T, np.float32(3), np.array(np.nan), np.ones((3, 0))):
            result = function(x)
            assert isinstance(result, np.ndarray)
            assert result.shape == x.shape
            assert result.flags.c_contiguous
            assert not np.shares_memory(result, x)
    assert np.isnan(cnnfast.softmax(np.array(np.nan)))
    assert np.signbit(cnnfast.relu(np.array(-0.0)))


def test_relu_and_softmax() -> None:
    x = np.array([[-1.0, np.nan, 2.0], [1e4, -1e4, 1e4]])
    np.testing.assert_array_equal(cnnfast.relu(x), [[0, np.nan, 2], [1e4, 0, 1e4]])
    np.testing.assert_array_equal(cnnfast.softmax(x)[1], [0.5, 0, 0.5])
    np.testing.assert_allclose(cnnfast.softmax(X, 1).sum(1), 1, rtol=1e-6)
    assert cnnfast.softmax(X, dim=0).dtype == np.float32
