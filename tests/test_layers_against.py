"""Layers against functions that do the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import layers as L


@pytest.mark.parametrize("size", [2, (2, 3), 3, 5])
@pytest.mark.parametrize("nan", [False, True])
def test_max_pooling_of_short_rows_sends_gradients_where_its_function_does(
    size: Any, nan: bool
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (3, 2, 11, 13)).astype(np.float32)
    if nan:
        x[1, 1, 3:5, 2] = np.nan
    layer = L.MaxPool2d(size)
    grad = rng.standard_normal(layer(x).shape).astype(np.float32)
    for value in (1.0, np.inf):
        grad[0, 0, 0, 0] = value
        back = layer.backward(grad)
        assert np.array_equal(back, cnnfast.grad.max_pool2d_backward(grad, x, size))
    layer(x[0])
    with pytest.raises(ValueError, match="must have 4 axes"):
        layer.backward(grad[0])


@pytest.mark.parametrize("kind", [L.ReLU, L.ReLU6, L.Tanh, L.Sigmoid, L.SiLU, L.LeakyReLU])
@pytest.mark.parametrize("pool", [L.MaxPool2d(2), L.MaxPool2d(3, 2, 1)])
def test_a_maximum_of_an_activation_sends_gradients_through_both(kind: Any, pool: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (2, 3, 9, 8)).astype(np.float64)
    conv, act = L.Conv2d(3, 4, 1, dtype=np.float64, rng=0), kind()
    net = L.Sequential(conv, act, pool)
    grad = rng.standard_normal(net(x).shape)
    back, weight = net.backward(grad), net.grads["0.weight"]
    chained = conv.backward(act.backward(pool.backward(grad)))
    assert back is not None
    assert chained is not None
    assert np.abs(back - chained).max() <= 1e-14 * np.abs(chained).max()
    assert np.abs(weight - conv.grads["weight"]).max() <= 1e-14 * np.abs(weight).max()
    with pytest.raises(ValueError, match="grad_output must be as the result"):
        net.backward(grad[:1])
