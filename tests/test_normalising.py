"""Softmax, its logarithm and loss: values, identities, dtypes, errors."""

# ruff: noqa: E501 (tables: a case is a line)
from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast.functional.normalising import batch_norm, cross_entropy, log_softmax, softmax

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
needs_bfloat16 = pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes isn't installed")
HALVES = [
    pytest.param(np.float16, id="float16"),
    pytest.param(bfloat16, id="bfloat16", marks=needs_bfloat16),
]
INF, NAN = math.inf, math.nan


def close(result: Array, expected: Any, terms: int, size: Any = None) -> None:
    """DESIGN.md's bound: a rounding of the result and ``terms + 2`` of the accumulator, of the sum
    of magnitudes ``size`` (the result's own where all terms have one sign)."""
    expected = np.asarray(expected, np.float64)
    size = np.abs(expected) if size is None else size
    eps = np.finfo(result.dtype).eps
    assert (np.abs(result - expected) <= eps * np.abs(expected) + (terms + 2) * eps * size).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "dim"), [((4, 7), -1), ((4, 7), 0), ((3, 5, 6), 1), ((9,), 0)])
def test_softmax(dtype: Any, shape: tuple[int, ...], dim: int) -> None:
    x = RANDOM.normal(size=shape).astype(dtype)
    powers = np.vectorize(math.exp)(x.astype(np.float64))
    sums = np.apply_along_axis(math.fsum, dim, powers)
    expected = powers / np.expand_dims(sums, dim)
    result = softmax(x, dim)
    assert (result.shape, result.dtype) == (shape, dtype)
    # The rounding of what is subtracted from an exponent e moves the power by a share |e|.
    spread = expected * (1 + np.abs(x - x.max(dim, keepdims=True)))
    close(result, expected, shape[dim], spread)
    logs = log_softmax(x, dim)
    close(logs, np.log(expected), shape[dim], np.abs(x) + np.abs(np.log(expected)) + 1)


def test_softmax_of_large_and_special_values() -> None:
    np.testing.assert_array_equal(softmax([0.0, 0.0, 1000.0]), [0, 0, 1])
    np.testing.assert_array_equal(softmax([-INF, 0.0]), [0, 1])
    np.testing.assert_array_equal(softmax([-INF, -INF]), [NAN, NAN])
    np.testing.assert_array_equal(softmax([INF, 0.0]), [NAN, NAN])
    np.testing.assert_array_equal(softmax(5.0), 1)
    np.testing.assert_array_equal(log_softmax([0.0, -1000.0]), [0, -1000])
    np.testing.assert_array_equal(log_softmax([-INF, 0.0]), [-INF, 0])
    np.testing.assert_array_equal(log_softmax([-INF, -INF]), [NAN, NAN])
    np.testing.assert_array_equal(log_softmax(5.0), 0)
    assert softmax(np.ones((0, 3)), 0).shape == log_softmax(np.ones((3, 0)), 1).shape[::-1]


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_without_dim_the_axis_is_torchs(function: Callable[..., Array]) -> None:
    for shape, axis in (((), 0), ((5,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((2, 3, 4, 2), 1)):
        x = np.asarray(RANDOM.normal(size=shape))
        np.testing.assert_array_equal(function(x), function(x, axis))


@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_dtype_is_cast_to_first(function: Callable[..., Array]) -> None:
    x = RANDOM.normal(size=(4, 5))
    for dtype in (np.float16, np.float32, np.float64, ">f4"):
        result = function(x, 1, dtype=dtype)
        cast = x.astype(dtype)
        assert result.dtype == cast.dtype.newbyteorder("=")
        np.testing.assert_array_equal(result, function(cast, 1))
    wide = function(x.astype(np.float16), 0, dtype=np.float64)
    np.testing.assert_array_equal(wide, function(x.astype(np.float16).astype(np.float64), 0))
    whole = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(function(whole, 0, dtype="f4"), function(whole.astype("f4"), 0))
    # 70,000 is infinity as float16.
    np.testing.assert_array_equal(function([7e4, 0.0], dtype=np.float16), [NAN, NAN])


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_rounded_once(dtype: Any) -> None:
    x = RANDOM.normal(size=(5, 6)).astype(dtype)
    wide = x.astype(np.float32)
    target = RANDOM.integers(0, 6, 5)
    weight = RANDOM.random(6).astype(dtype)
    statistics = np.float32([1, 2, 3, 4, 5, 6])
    for function in (
        softmax,
        log_softmax,
        lambda x: cross_entropy(x, target, weight.astype(x.dtype)),
        lambda x: batch_norm(x, statistics, statistics, weight),
        lambda x: batch_norm(x, None, None, weight, training=True),
    ):
        result: Array = function(x)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, function(wide).astype(dtype))


@pytest.mark.parametrize("function", [softmax, log_softmax, lambda x: batch_norm(x, *STATISTICS)])
def test_any_view_gives_a_new_contiguous_array(function: Callable[[Any], Array]) -> None:
    base = RANDOM.normal(size=(6, 3)).astype(np.float32)
    read_only = base.copy()
    read_only.flags.writeable = False
    views = [base[:, ::-1], base[::-2], np.asfortranarray(base), base.astype(">f4"), read_only]
    for view in views:
        before = view.copy()
        result = function(view)
        assert result.dtype == np.dtype(np.float32)
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert not np.shares_memory(result, view)
        np.testing.assert_array_equal(view, before)
        np.testing.assert_array_equal(result, function(np.array(view, np.float32, order="C")))


STATISTICS = np.array([0.5, -1.0, 2.0]), np.array([1.0, 4.0, 0.25])


# Cross-entropy.


def loss_one_by_one(
    x: Array,
    y: Array,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    smoothing: float = 0.0,
    magnitudes: bool = False,
) -> Any:
    """The definition, target by target, in Python's floats; classes are the last axis. Or the sum
    of what is subtracted in each term, in magnitude."""
    classes = x.shape[-1]
    w = [1.0] * classes if weight is None else [float(value) for value in weight]
    probabilities = y.shape == x.shape and y.dtype.kind == "f"
    losses, counts = [], []
    for at in np.ndindex(x.shape[:-1]):
        scores = [float(value) for value in x[at]]
        top = max(scores)
        norm = top + math.log(math.fsum(math.exp(value - top) for value in scores))
        shares = [0.0] * classes
        counts.append(1.0)
        if probabilities:
            shares = [float(value) for value in y[at]]
        elif y[at] == ignore_index:
            counts[-1] = 0.0
        else:
            shares[y[at]] = 1.0
            counts[-1] = w[y[at]]
        kept = 1.0 if probabilities or y[at] != ignore_index else 0.0
        shares = [(1 - smoothing) * share + smoothing / classes for share in shares]
        rows = zip(shares, w, scores, strict=True)
        losses.append(
            kept
            * math.fsum(
                share * v * (abs(norm) + abs(score) + 1 if magnitudes else norm - score)
                for share, v, score in rows
            )
        )
    if reduction == "none":
        return np.reshape(losses, x.shape[:-1])
    total = math.fsum(losses)
    return total if reduction == "sum" else total / math.fsum(counts)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 5, 3), (2, 3, 2, 4)])  # classes last
@pytest.mark.parametrize("target", ["indices", "ignored", "probabilities"])
def test_cross_entropy(
    target: str, shape: tuple[int, ...], reduction: str, weighted: bool, smoothing: float
) -> None:
    random = np.random.default_rng(7)
    x = random.normal(size=shape)
    y: Array = random.integers(0, shape[-1], shape[:-1])
    if target == "ignored" and y.ndim:
        y.flat[::3] = -100
    if target == "probabilities":
        y = random.random(shape)
    weight = random.random(shape[-1]) + 0.5 if weighted else None
    first = np.moveaxis(x, -1, min(1, x.ndim - 1))
    classes = np.moveaxis(y, -1, min(1, x.ndim - 1)) if target == "probabilities" else y
    result = cross_entropy(first, classes, weight, reduction=reduction, label_smoothing=smoothing)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float64
    expected = np.asarray(loss_one_by_one(x, y, weight, -100, reduction, smoothing))
    assert result.shape == expected.shape
    terms = x.size if reduction != "none" else shape[-1]
    sizes = loss_one_by_one(x, y, weight, -100, reduction, smoothing, magnitudes=True)
    close(result, expected, terms, sizes)


@pytest.mark.parametrize("dtype", [*"bhiqBHIQ", ">i4"])
def test_targets_of_any_integer_dtype(dtype: str) -> None:
    x = RANDOM.normal(size=(4, 3))
    target = np.array([0, 1, 2, 1])
    expected = cross_entropy(x, target)
    assert cross_entropy(x, target.astype(dtype)) == expected
    assert cross_entropy(x, np.repeat(target, 2).astype(dtype)[::2], ignore_index=77) == expected


def test_ignored_targets_count_for_nothing() -> None:
    x = np.array([[NAN, INF], [0.0, 0.0], [0.0, 0.0]])
    target = np.array([5, 0, 1])
    half = math.log(2)
    kwargs: dict[str, Any] = {"ignore_index": 5}
    assert cross_entropy(x, target, **kwargs) == pytest.approx(half, rel=1e-15)
    smooth = cross_entropy(x, target, reduction="none", label_smoothing=0.5, **kwargs)
    np.testing.assert_allclose(smooth, [0, half, half], rtol=1e-15)
    # An index of a class may be ignored too.
    assert cross_entropy(x[1:], target[1:], ignore_index=1, reduction="sum") == pytest.approx(half)


def test_empty_and_ignored_batches() -> None:
    x, target = np.ones((0, 3)), np.ones(0, int)
    assert np.isnan(cross_entropy(x, target))
    assert cross_entropy(x, target, reduction="sum") == 0
    assert cross_entropy(x, target, reduction="none").shape == (0,)
    assert np.isnan(cross_entropy(x, x))
    assert np.isnan(cross_entropy(np.ones((2, 3)), np.array([-100, -100])))


def test_infinite_scores() -> None:
    x = np.array([[-INF, 0.0]])
    assert cross_entropy(x, np.array([1])) == 0
    assert cross_entropy(x, np.array([0])) == INF
    assert cross_entropy(x, np.array([1]), label_smoothing=0.1) == INF
    assert np.isnan(cross_entropy(x, np.array([[0.0, 1.0]])))


def test_dtype_of_the_loss() -> None:
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    assert cross_entropy(x, y).dtype == np.float32
    assert cross_entropy(x, y, np.ones(3)).dtype == np.float64
    assert cross_entropy(x, x.astype(np.float64)).dtype == np.float64
    assert cross_entropy(x, x.astype(np.float16)).dtype == np.float32


def test_positional_arguments_of_the_loss() -> None:
    weight = np.array([1.0, 2.0, 4.0])
    result = cross_entropy(X, Y, weight, None, 2, None, "sum", 0.0)
    assert result == cross_entropy(X, Y, weight, ignore_index=2, reduction="sum")
    assert result == pytest.approx(5 * math.log(3), rel=1e-15)


def test_inputs_of_the_loss_are_not_modified() -> None:
    arrays = [RANDOM.normal(size=(4, 3)), RANDOM.random((4, 3)), RANDOM.random(3)]
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    x, shares, weight = arrays
    cross_entropy(x, shares, weight, label_smoothing=0.1)
    cross_entropy(x, np.array([0, 1, 2, -100]), weight, label_smoothing=0.1)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


X = np.ones((4, 3))
Y = np.array([0, 1, 2, 1])


def ce(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {"input": X, "target": Y, **changes}
    return lambda: cross_entropy(**arguments)


ERRORS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("dim", lambda: softmax(X, 2), ValueError, "softmax: dim must be below the number of axes 2, got 2"),
    ("negative dim", lambda: softmax(X, -3), ValueError, "softmax: dim must be at least -2, got -3"),
    ("dim of no axes", lambda: softmax(1.0, 1), ValueError, "number of axes 1, got 1"),
    ("float dim", lambda: softmax(X, 1.0), TypeError, "softmax: dim must be an integer, got 1.0"),
    ("bool dim", lambda: log_softmax(X, True), TypeError, "log_softmax: dim must be an integer, got True"),
    ("text dim", lambda: log_softmax(X, "1"), TypeError, "log_softmax: dim must be an integer, got '1'"),
    ("dtype", lambda: softmax(X, 0, dtype="floaty"), TypeError, "softmax: dtype must be a dtype, got 'floaty'"),
    ("integer dtype", lambda: softmax(X, 0, dtype=np.int64), TypeError, "softmax: dtype must be one of float16, bfloat16, float32, float64, got int64"),
    ("complex dtype", lambda: log_softmax(X, 0, dtype=complex), TypeError, "log_softmax: dtype must be one of float16, bfloat16, float32, float64, got complex128"),
    ("complex to a dtype", lambda: softmax(X + 0j, 0, dtype=np.float32), TypeError, "softmax takes int8, uint8, int16, int32, int64, float16, bfloat16, float32, float64, got dtype complex128"),
    ("integers", lambda: softmax(Y), TypeError, "softmax takes float16, bfloat16, float32, float64, got dtype int64"),
    ("complex", lambda: log_softmax(X + 0j), TypeError, "log_softmax takes float16, bfloat16, float32, float64, got dtype complex128"),
    ("integer scores", ce(input=X.astype(int)), TypeError, "cross_entropy takes float16"),
    ("bool targets", ce(target=Y > 0), TypeError, "target must hold integers or floats, got dtype bool"),
    ("complex targets", ce(target=X + 0j), TypeError, "target must hold integers or floats, got dtype complex128"),
    ("no axis of classes", ce(input=X[0, 0], target=Y[0]), ValueError, "input must have an axis of classes, got shape ()"),
    ("no classes", ce(input=X[:, :0]), ValueError, "input must have at least one class, got shape (4, 0)"),
    ("batch", ce(target=Y[:3]), ValueError, "without the classes (4,), got (3,) for an input of shape (4, 3)"),
    ("axes of target", ce(target=Y[:, None]), ValueError, "without the classes (4,), got (4, 1)"),
    ("one-element target", ce(input=X[0], target=Y[:1]), ValueError, "without the classes (), got (1,)"),
    ("index", ce(target=Y + 1), ValueError, "a target must be a class from 0 to 2 or ignore_index -100, got 3"),
    ("negative index", ce(target=Y - 1), ValueError, "a target must be a class from 0 to 2 or ignore_index -100, got -1"),
    ("huge index", ce(target=np.full(4, 2**64 - 1, np.uint64)), ValueError, "got 18446744073709551615"),
    ("shape of probabilities", ce(target=X[:, :2]), ValueError, "a target of probabilities must have the input's shape (4, 3), got (4, 2)"),
    ("float indices", ce(target=Y * 1.0), ValueError, "must have the input's shape (4, 3), got (4,)"),
    ("ignored probabilities", ce(target=X, ignore_index=0), ValueError, "ignore_index must be negative for a target of probabilities, got 0"),
    ("float ignore_index", ce(ignore_index=1.0), TypeError, "ignore_index must be an integer, got 1.0"),
    ("shape of weight", ce(weight=np.ones(2)), ValueError, "weight must have shape (3,), one value per class, got (2,)"),
    ("axes of weight", ce(weight=np.ones((1, 3))), ValueError, "weight must have shape (3,), one value per class, got (1, 3)"),
    ("integer weight", ce(weight=Y[:3]), TypeError, "cross_entropy takes float16, bfloat16, float32, float64, got dtype int64"),
    ("size_average", ce(size_average=True), ValueError, "cross_entropy: size_average must be None, got True: use reduction"),
    ("reduce", ce(reduce=False), ValueError, "cross_entropy: reduce must be None, got False: use reduction"),
    ("reduction", ce(reduction="avg"), ValueError, "reduction must be 'none', 'mean' or 'sum', got 'avg'"),
    ("no reduction", ce(reduction=None), ValueError, "got None"),
    ("smoothing above 1", ce(label_smoothing=1.5), ValueError, "label_smoothing must be from 0 to 1, got 1.5"),
    ("smoothing below 0", ce(label_smoothing=-0.5), ValueError, "label_smoothing must be from 0 to 1, got -0.5"),
    ("NaN smoothing", ce(label_smoothing=NAN), ValueError, "label_smoothing must be from 0 to 1, got nan"),
    ("text smoothing", ce(label_smoothing="a"), TypeError, "label_smoothing must be a real number, got 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS]
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
