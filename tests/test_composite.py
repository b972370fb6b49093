"""Layers made of layers: their names, and layers that are used twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast import layers as L


def linear() -> L.Linear:
    return L.Linear(4, 4, rng=0)


def twice() -> dict[str, L.Layer]:
    dense, act = linear(), L.Tanh()
    return {
        "dense": L.Sequential(dense, L.Tanh(), dense),
        "activation": L.Sequential(linear(), act, linear(), act),
        "nested": L.Sequential(L.Sequential(dense), L.Residual(L.Sequential(act, dense))),
        "branches": L.Residual(dense, dense),
    }


@pytest.mark.parametrize("name", twice())
def test_what_is_used_twice_has_a_result_and_no_gradients(name: str) -> None:
    """A layer keeps its last batch alone: its gradients of the one before would be wrong."""
    net, x = twice()[name], np.ones((2, 4), np.float32)
    result = net(x)
    with pytest.raises(RuntimeError, match="a layer that is used twice has no gradients"):
        net.backward(result)
    np.testing.assert_allclose(net.eval()(x), result, rtol=1e-6)


def test_copies_of_a_layer_have_gradients() -> None:
    net = L.Sequential(linear(), L.Tanh(), linear())
    net.backward(net(np.ones((2, 4), np.float32)))
    assert set(net.grads) == set(net.params)


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.Sequential({"a.b": linear(), "a": L.Sequential({"b": linear()})}),
        lambda: L.Sequential({"": L.Sequential({"a": linear()}), "a": linear()}),
        lambda: L.Residual(linear(), activation=L.ReLU(), names={"body": "x", "activation": "x"}),
    ],
)
def test_names_keep_parameters_apart(make: Callable[[], L.Layer]) -> None:
    with pytest.raises(ValueError, match="names must keep layers and parameters apart"):
        make()


def test_names_are_known_strings() -> None:
    numbered: Any = {1: linear()}
    with pytest.raises(TypeError, match="Sequential: names must be strings, got 1"):
        L.Sequential(numbered)
    with pytest.raises(ValueError, match=r"Residual: names are of body, .*, got \['boddy'\]"):
        L.Residual(linear(), names={"boddy": "x"})


def test_a_residual_has_a_body() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="Residual: body must be a layer, got None"):
        L.Residual(nothing)


def test_a_state_with_other_keys_than_strings_is_refused() -> None:
    state: Any = {1: np.ones(4)}
    with pytest.raises(ValueError, match="got none of bias, weight and not known 1"):
        linear().load_state_dict(state)
