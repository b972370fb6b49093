"""Batch normalisation: values, running statistics, dtypes, errors."""

# ruff: noqa: E501 (tables: a case is a line)
from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast.functional.normalising import batch_norm

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
INF, NAN = math.inf, math.nan


def close(result: Array, expected: Any, terms: int, size: Any = None) -> None:
    """DESIGN.md's bound: a rounding of the result and ``terms + 2`` of the accumulator, of the sum
    of magnitudes ``size`` (the result's own where all terms have one sign)."""
    expected = np.asarray(expected, np.float64)
    size = np.abs(expected) if size is None else size
    eps = np.finfo(result.dtype).eps
    assert (np.abs(result - expected) <= eps * np.abs(expected) + (terms + 2) * eps * size).all()


def channel_moments(x: Array, axis: int) -> tuple[Array, Array]:
    rows = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).astype(np.float64)
    means = np.array([math.fsum(row) / len(row) for row in rows])
    pairs = zip(rows, means, strict=True)
    return means, np.array([math.fsum((row - mean) ** 2) / len(row) for row, mean in pairs])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [((4, 3), None), ((4, 3, 5), None), ((2, 3, 4, 5), "NCHW"), ((2, 4, 5, 3), "NHWC"),
     ((4, 5, 3), "NWC"), ((2, 2, 2, 5, 3), "NDHWC"), ((2, 3, 1, 2, 1, 2), None)],
)  # fmt: skip
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm(
    training: bool, shape: tuple[int, ...], layout: str | None, affine: bool, dtype: Any
) -> None:
    random = np.random.default_rng(3)
    x = random.normal(2, 3, shape).astype(dtype)
    axis = x.ndim - 1 if layout and layout.endswith("C") else 1
    mean, var = random.normal(size=3).astype(dtype), (random.random(3) + 0.5).astype(dtype)
    weight, bias = (random.normal(size=(2, 3)).astype(dtype)) if affine else (None, None)
    used = channel_moments(x, axis) if training else (mean.copy(), var.copy())
    before = mean.astype(np.float64), var.astype(np.float64)
    result = batch_norm(x, mean, var, weight, bias, training, 0.3, 1e-3, layout=layout)
    assert (result.shape, result.dtype) == (shape, dtype)
    assert result.flags.c_contiguous
    across = [1] * x.ndim
    across[axis] = 3
    scale = (1 if weight is None else weight.astype(np.float64)) / np.sqrt(used[1] + 1e-3)
    scale, middle = scale.reshape(across), used[0].astype(np.float64).reshape(across)
    added = np.zeros(across) if bias is None else bias.astype(np.float64).reshape(across)
    expected = (x - middle) * scale + added
    size = (np.abs(x) + np.abs(middle)) * np.abs(scale) + np.abs(added)
    close(result, expected, 1, size)
    if training:
        count = x.size // 3
        close(mean, 0.7 * before[0] + 0.3 * used[0], 1, np.abs(before[0]) + np.abs(used[0]))
        close(var, 0.7 * before[1] + 0.3 * used[1] * count / (count - 1), 1)
    else:
        np.testing.assert_array_equal(mean, before[0])
        np.testing.assert_array_equal(var, before[1])


def test_statistics_far_from_zero() -> None:
    """In float32 the squares' sum would lose everything, and the mean its last digits."""
    offsets = RANDOM.permutation(np.tile([0.0, 1.0], 50_000))
    x = np.float32(10_000_000 + offsets).reshape(-1, 1)
    mean, var = np.zeros(1), np.zeros(1)
    result = batch_norm(x, mean, var, training=True, momentum=1.0, eps=1e-12)
    np.testing.assert_array_equal(result[:, 0], 2 * offsets - 1)
    assert mean[0] == 10_000_000.5
    assert var[0] == pytest.approx(0.25 * 100_000 / 99_999, rel=1e-15)


def test_training_without_running_statistics() -> None:
    x = RANDOM.normal(size=(4, 3, 5))
    mean, var = np.zeros(3), np.ones(3)
    expected = batch_norm(x, mean, var, training=True)
    np.testing.assert_array_equal(batch_norm(x, None, None, training=True), expected)
    np.testing.assert_allclose(expected.mean((0, 2)), 0, atol=1e-15)


def test_running_statistics_keep_their_dtype() -> None:
    x = RANDOM.normal(size=(4, 3)).astype(np.float32)
    mean, var = np.zeros((3, 2))[:, 0], np.ones(3, np.float16)
    assert batch_norm(x, mean, var, training=True).dtype == np.float32
    close(mean, 0.1 * channel_moments(x, 1)[0], 1)
    assert var.dtype == np.float16
    assert batch_norm(x, mean, var).dtype == np.float32


def test_batch_of_no_images() -> None:
    mean, var = np.zeros(3), np.ones(3)
    for training in (False, True):
        result = batch_norm(np.ones((0, 3, 4), np.float32), mean, var, training=training)
        assert (result.shape, result.dtype) == ((0, 3, 4), np.float32)
    assert (mean == 0).all()
    assert (var == 1).all()


def test_special_statistics() -> None:
    x = np.array([[1.0], [1.0]])
    np.testing.assert_array_equal(batch_norm(x, [0.0], [0.0], eps=0), [[INF], [INF]])
    np.testing.assert_array_equal(batch_norm(x, [0.0], [-1.0]), [[NAN], [NAN]])
    np.testing.assert_array_equal(batch_norm(x, None, None, training=True), [[0], [0]])
    x[0] = INF
    assert np.isnan(batch_norm(x, None, None, training=True)).all()


X = np.ones((4, 3))


def bn(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {
        "input": X, "running_mean": np.zeros(3), "running_var": np.ones(3), **changes,
    }  # fmt: skip
    return lambda: batch_norm(**arguments)


def train(**changes: Any) -> Callable[[], Any]:
    return bn(training=True, **changes)


def read_only() -> Array:
    array = np.zeros(3)
    array.flags.writeable = False
    return array


SHARED = np.ones(3)
ERRORS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("one axis", bn(input=X[0]), ValueError, "batch_norm: input must have axes N and C at least, got shape (3,)"),
    ("no channels", bn(input=X[:, :0]), ValueError, "no axis but the batch may be empty, got shape (4, 0)"),
    ("empty axis", bn(input=np.ones((4, 3, 0))), ValueError, "no axis but the batch may be empty, got shape (4, 3, 0)"),
    ("integer input", bn(input=X.astype(int)), TypeError, "batch_norm takes float16, bfloat16, float32, float64, got dtype int64"),
    ("integer mean", bn(running_mean=np.zeros(3, int)), TypeError, "batch_norm: running_mean takes float16, bfloat16, float32, float64, got dtype int64"),
    ("shape of mean", bn(running_mean=np.zeros(2)), ValueError, "running_mean must have shape (3,), one value per channel, got (2,)"),
    ("shape of var", bn(running_var=np.ones((1, 3))), ValueError, "running_var must have shape (3,), one value per channel, got (1, 3)"),
    ("shape of bn weight", bn(weight=np.ones(4)), ValueError, "weight must have shape (3,), one value per channel, got (4,)"),
    ("shape of bias", bn(bias=1.0), ValueError, "bias must have shape (3,), one value per channel, got ()"),
    ("no mean", bn(running_mean=None), ValueError, "running_mean and running_var must be given in inference, got None and (3,)"),
    ("no statistics", bn(running_mean=None, running_var=None), ValueError, "must be given in inference, got None and None"),
    ("no var in training", train(running_var=None), ValueError, "must both be given or both be None, got (3,) and None"),
    ("training", bn(training=1), TypeError, "training must be a bool, got 1"),
    ("momentum", bn(momentum=None), TypeError, "momentum must be a real number, got None"),
    ("NaN momentum", bn(momentum=NAN), ValueError, "momentum must be finite, got nan"),
    ("negative eps", bn(eps=-1e-5), ValueError, "eps must be non-negative, got -1e-05"),
    ("infinite eps", bn(eps=INF), ValueError, "eps must be finite, got inf"),
    ("no eps in training", train(eps=0.0), ValueError, "eps must be positive in training, got 0.0"),
    ("one value", train(input=X[:1]), ValueError, "training needs more than one value per channel, got shape (1, 3)"),
    ("list of means", train(running_mean=[0.0] * 3), TypeError, "running_mean must be a numpy.ndarray to be updated in place, got list"),
    ("read-only var", train(running_var=read_only()), ValueError, "running_var must be writeable"),
    ("broadcast mean", train(running_mean=np.broadcast_to(0.0, 3)), ValueError, "running_mean must be writeable and not overlap itself"),
    ("mean is var", train(running_mean=SHARED, running_var=SHARED), ValueError, "running_var must not share memory with another argument"),
    ("var is weight", train(running_var=SHARED, weight=SHARED), ValueError, "running_var must not share memory with another argument"),
    ("mean is input", train(running_mean=X[0]), ValueError, "running_mean must not share memory with another argument"),
    ("layout", bn(input=np.ones((1, 3, 3, 3)), layout="NHCW"), ValueError, "layout must be 'NCHW' or 'NHWC', got 'NHCW'"),
    ("layout's axes", bn(layout="NC"), ValueError, "a layout is for 1 to 3 spatial axes, got layout 'NC' for an input of shape (4, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS]
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_errors_leave_the_statistics_alone() -> None:
    mean, var = np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="bias"):
        train(running_mean=mean, running_var=var, bias=np.ones(2))()
    assert (mean == 0).all()
    assert (var == 1).all()
