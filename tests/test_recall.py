"""Calls that repeat find what earlier ones prepared, and no other's."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast._core import recall

Array = np.ndarray[Any, Any]

RANDOM = np.random.default_rng(5)
X = RANDOM.integers(-4, 5, (2, 3, 9, 8)).astype(np.float32)
W = RANDOM.integers(-4, 5, (4, 3, 3, 3)).astype(np.float32)
B = np.arange(4, dtype=np.float32)


@pytest.fixture(autouse=True, params=["compiled", "plain"])
def _signatures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of making keys, on a table of the test's own."""
    monkeypatch.setattr(recall, "_calls", {})
    if request.param == "plain":
        monkeypatch.setattr(recall, "signature", recall.described)
        monkeypatch.setattr("cnnfast._core.calls.find", recall.look_up)
        for module in ("calls", "gradients", "pools", "pool_gradients"):
            monkeypatch.setattr(f"cnnfast._core.{module}.again", recall.run_again)
    elif recall.signature is recall.described:
        pytest.skip("there are no compiled signatures")


def remembered() -> int:
    return len(recall._calls)


CALLS: dict[str, Callable[[], Any]] = {
    "conv2d": lambda: cnnfast.conv2d(X, W, B, padding=1),
    "reflect": lambda: cnnfast.conv2d(X, W, padding=1, padding_mode="reflect"),
    "gelu": lambda: cnnfast.conv2d(X, W, B, activation="gelu"),
    "complex": lambda: cnnfast.conv2d(X.astype(np.complex64), W),
    "int8": lambda: cnnfast.conv2d(X.astype(np.int8), W.astype(np.int8)),
    "float16": lambda: cnnfast.conv2d(X.astype(np.float16), W.astype(np.float16)),
    "depthwise": lambda: cnnfast.depthwise_conv2d(X, W[:3, :1]),
    "separable": lambda: cnnfast.separable_conv2d(X, W[:3, :1], W[:, :, :1, :1]),
    "transposed": lambda: cnnfast.conv_transpose2d(X, W[:3], stride=2),
    "linear": lambda: cnnfast.linear(X, W[0, 0, :, :1] * np.ones(8, np.float32)),
    "neuron": lambda: cnnfast.linear(X, W[0, 0, 0, :1] * np.ones(8, np.float32), np.float32(3)),
    "max_pool2d": lambda: cnnfast.max_pool2d(X, 2, return_indices=True),
    "avg_pool2d": lambda: cnnfast.avg_pool2d(X, (3, 2), padding=1, ceil_mode=True),
    "lp_pool2d": lambda: cnnfast.lp_pool2d(X, 2.0, 2),
    "adaptive": lambda: cnnfast.adaptive_avg_pool2d(X, (None, 3)),
    "conv2d_input": lambda: cnnfast.grad.conv2d_input(
        X.shape, W, np.ones((2, 4, 7, 6), np.float32)
    ),
    "conv2d_weight": lambda: cnnfast.grad.conv2d_weight(
        X, W.shape, np.ones((2, 4, 7, 6), np.float32)
    ),
    "max_pool2d_backward": lambda: cnnfast.grad.max_pool2d_backward(
        np.ones((2, 3, 4, 4), np.float32), X, 2
    ),
    "lp_pool2d_backward": lambda: cnnfast.grad.lp_pool2d_backward(
        np.ones((2, 3, 4, 4), np.float32), X, 2.0, 2
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_repeated_call_is_remembered_and_gives_the_same(name: str) -> None:
    first, count = CALLS[name](), remembered()
    assert count > 0
    for _ in range(2):
        again = CALLS[name]()
        np.testing.assert_equal(again, first)
    assert remembered() == count


def test_what_compares_equal_but_is_not() -> None:
    """1 == True == 1.0 == np.int64(1), and only one of them is remembered."""
    expected = cnnfast.conv2d(X, W, stride=1, padding=1)
    for wrong in (True, 1.0, np.float64(1), (1.0, 1), (1, True), [True, 1]):
        with pytest.raises(TypeError, match="stride must be an integer"):
            cnnfast.conv2d(X, W, stride=wrong, padding=1)
        with pytest.raises(TypeError, match="padding must be an integer"):
            cnnfast.conv2d(X, W, stride=1, padding=wrong)
    for right in (np.int64(1), (1, 1), [1, 1], (1,), np.array([1, 1])):
        np.testing.assert_array_equal(cnnfast.conv2d(X, W, stride=right, padding=1), expected)
    pooled = cnnfast.max_pool2d(X, 2, ceil_mode=False)
    with pytest.raises(TypeError, match="ceil_mode must be a bool"):
        cnnfast.max_pool2d(X, 2, ceil_mode=0)
    np.testing.assert_array_equal(cnnfast.max_pool2d(X, 2, ceil_mode=np.False_), pooled)
    power = cnnfast.lp_pool2d(abs(X), 0.5, 2)
    assert not np.array_equal(cnnfast.lp_pool2d(abs(X), -0.5, 2), power)


def test_sequences_that_differ_in_form_alone() -> None:
    pairs = cnnfast.conv2d(X, W, padding=((1, 2), (0, 1)))
    assert pairs.shape == (2, 4, 10, 7)
    assert cnnfast.conv2d(X, W, padding=(1, 2)).shape == (2, 4, 9, 10)
    assert cnnfast.conv2d(X, W, padding=((0, 1), (1, 2))).shape == (2, 4, 8, 9)
    with pytest.raises(ValueError, match="padding must be"):
        cnnfast.conv2d(X, W, padding=((1, 2, 0, 1),))
    knot: list[Any] = [1]
    knot.append(knot)
    with pytest.raises(TypeError):
        cnnfast.conv2d(X, W, stride=knot)


def test_arrays_of_another_kind_are_prepared_anew() -> None:
    expected = cnnfast.conv2d(X, W, B)
    big = X.astype(">f4")
    fortran = np.asfortranarray(X)
    reversed_ = X[:, :, ::-1].copy()[:, :, ::-1]
    unaligned = np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
    mine = X.view(type("Mine", (np.ndarray,), {}))
    read_only = X.copy()
    read_only.flags.writeable = False
    for array in (big, fortran, reversed_, unaligned, mine, read_only, X.tolist(), X):
        for weight in (W, W.astype(">f4"), np.asfortranarray(W)):
            result = cnnfast.conv2d(array, weight, B)
            assert type(result) is np.ndarray
            np.testing.assert_array_equal(result, expected)
    doubled = cnnfast.conv2d(X.astype(np.float64), W, B)
    assert doubled.dtype == np.float64
    np.testing.assert_array_equal(cnnfast.conv2d(X, W, B[::-1].copy()[::-1]), expected)
    for masked in (np.ma.masked_array(X), np.ma.masked_array(X, X > 0)):
        with pytest.raises(TypeError, match="masked"):
            cnnfast.conv2d(masked, W, B)


def test_strides_set_on_the_array_itself() -> None:
    x = np.arange(32.0, dtype=np.float32).reshape(1, 1, 8, 4)
    before = cnnfast.max_pool2d(x, 2)
    turned = x.transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(cnnfast.max_pool2d(turned, 2), before.transpose(0, 1, 3, 2))
    x.shape = (1, 1, 4, 8)
    assert cnnfast.max_pool2d(x, 2).shape == (1, 1, 2, 4)


def test_out_is_looked_at_in_every_call() -> None:
    shape = (2, 4, 7, 6)
    expected = cnnfast.conv2d(X, W, B)
    for _ in range(2):
        out = np.full(shape, np.nan, np.float32)
        assert cnnfast.conv2d(X, W, B, out=out) is out
        np.testing.assert_array_equal(out, expected)
        strided = np.full((2, 4, 7, 12), np.nan, np.float32)[..., ::2]
        assert cnnfast.conv2d(X, W, B, out=strided) is strided
        np.testing.assert_array_equal(strided, expected)
        memory = np.zeros(1000, np.float32)
        inside = memory[400 : 400 + X.size].reshape(X.shape)
        inside[...] = X
        cnnfast.conv2d(inside, W, B, out=memory[: out.size].reshape(shape))
        np.testing.assert_array_equal(memory[: out.size].reshape(shape), expected)
        for start in (100, 660):
            with pytest.raises(ValueError, match="out must not share memory"):
                cnnfast.conv2d(inside, W, B, out=memory[start : start + out.size].reshape(shape))
        out.flags.writeable = False
        with pytest.raises(ValueError, match="writeable"):
            cnnfast.conv2d(X, W, B, out=out)
        with pytest.raises(ValueError, match="shape"):
            cnnfast.conv2d(X, W, B, out=np.empty(shape[1:], np.float32))
        with pytest.raises(ValueError, match="dtype"):
            cnnfast.conv2d(X, W, B, out=np.empty(shape))
        wide = np.lib.stride_tricks.as_strided(memory, shape, (24, 24, 24, 4))
        with pytest.raises(ValueError, match="overlap itself"):
            cnnfast.conv2d(X, W, B, out=wide)
        with pytest.raises(ValueError, match="out must not share memory"):
            cnnfast.max_pool2d(inside, 2, out=inside[:, :, :4, :4])


def test_interleaved_but_apart() -> None:
    """The bytes that both span overlap, their elements don't."""
    memory = np.zeros((2, 9, 8, 2), np.float32)
    x, out = memory[:1, ..., 0], memory[:1, :, :, 1]
    x[...] = X[:1, 0]
    for _ in range(2):
        assert cnnfast.conv2d(x, W[:1, :1], padding=1, out=out) is out
        np.testing.assert_array_equal(out, cnnfast.conv2d(X[:1, :1], W[:1, :1], padding=1)[0])


def test_infinite_weights_over_padding_after_finite_ones() -> None:
    """The same call, other values: a row that skips padding must not skip it now."""
    cnnfast.conv2d(X, W, padding=1)
    weight = W.copy()
    weight[0, 0, 0, 0] = np.inf
    results = [
        cnnfast.conv2d(X, weight, padding=1, backend=row)
        for row in (None, None, "reference", "reference")
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(np.isnan(result), np.isnan(results[0]))
    assert np.isnan(results[0][:, 0, 0]).all()


def test_settings_are_part_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with cnnfast.use_backend("reference"):
        expected = cnnfast.conv2d(X, W)
    plain = cnnfast.conv2d(X, W)
    np.testing.assert_array_equal(plain, expected)
    count = remembered()
    with cnnfast.use_backend("im2col/numpy"):
        cnnfast.conv2d(X, W)
        assert remembered() == count + 1
        cnnfast.set_workspace_limit(0)
        with pytest.raises(cnnfast.BackendUnavailableError, match="the workspace limit is 0"):
            cnnfast.conv2d(X, W)
        cnnfast.set_workspace_limit(None)
    with pytest.raises(cnnfast.BackendUnavailableError):
        cnnfast.conv2d(X, W, backend="cuda")
    monkeypatch.setenv("CNNFAST_BACKEND", "fast")
    with pytest.raises(ValueError, match="CNNFAST_BACKEND: backend must be"):
        cnnfast.conv2d(X, W)
    with cnnfast.use_backend(None):
        cnnfast.conv2d(X, W)
    monkeypatch.setenv("CNNFAST_BACKEND", "im2col/numpy")
    cnnfast.conv2d(X, W)
    monkeypatch.delenv("CNNFAST_BACKEND")
    assert remembered() == count + 3


def test_explaining_does_not_remember_and_finds_nothing() -> None:
    cnnfast.explain("conv2d", X, W)
    assert remembered() == 0
    out = np.full((2, 4, 7, 6), 77, np.float32)
    cnnfast.conv2d(X, W, out=np.empty_like(out))
    cnnfast.explain("conv2d", X, W, out=out)
    assert (out == 77).all()


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "KEPT_CALLS", 4)
    for padding in range(10):
        cnnfast.conv2d(X, W, padding=padding)
    assert remembered() == 4
    cnnfast.conv2d(X, W, padding=9)
    assert remembered() == 4


def test_no_array_is_kept_alive() -> None:
    x, w, b = X.copy(), W.copy(), B.copy()
    out = np.empty((2, 4, 7, 6), np.float32)
    result = cnnfast.conv2d(x, w, b)
    cnnfast.conv2d(x, w, b, out=out)
    pooled = cnnfast.max_pool2d(x, 2)
    padded = cnnfast.conv2d(x, w, padding=1, padding_mode="circular")
    grad = cnnfast.grad.conv2d_weight(x, w.shape, result)
    references = [weakref.ref(array) for array in (x, w, b, out, result, pooled, padded, grad)]
    assert remembered() >= 5
    del x, w, b, out, result, pooled, padded, grad
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


def test_large_tables_are_not_kept() -> None:
    x = np.ones((1, 1, 1, 50_000), np.float32)
    cnnfast.max_pool2d(x, (1, 2))
    (call,) = recall._calls.values()
    assert "windows" not in vars(call.geometry)  # type: ignore[attr-defined]


def test_many_threads_on_a_small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "KEPT_CALLS", 3)
    expected = [cnnfast.conv2d(X, W, padding=padding) for padding in range(6)]
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(300):
            padding = (start + i) % 6
            if not np.array_equal(cnnfast.conv2d(X, W, padding=padding), expected[padding]):
                wrong.append(padding)

    workers = [threading.Thread(target=work, args=(start,)) for start in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert wrong == []
    assert remembered() <= 3 + len(workers)
