"""Optimisers: their states and arguments; steps stand beside torch's elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast import layers as L

from layer_cases import F64


@pytest.mark.parametrize("kind", [L.SGD, L.Adam])
def test_an_optimiser_goes_on_from_its_state(kind: Any) -> None:
    def run(steps: int, net: L.Layer, optimiser: Any) -> None:
        for i in range(steps):
            x = np.random.default_rng([optimiser.steps, i]).standard_normal((3, 5))
            net.backward(net(x))
            optimiser.step()

    keywords = {"lr": 0.1, **({"momentum": 0.9} if kind is L.SGD else {})}
    first = L.Linear(5, 3, **F64)
    whole = kind(first, **keywords)
    for _ in range(4):
        run(1, first, whole)
    second = L.Linear(5, 3, **F64)
    before = kind(second, **keywords)
    for _ in range(2):
        run(1, second, before)
    third = L.Linear(5, 3, dtype=np.float64, rng=9)
    third.load_state_dict(second.state_dict())
    after = kind(third, **keywords)
    after.load_state_dict({key: value.copy() for key, value in before.state_dict().items()})
    for _ in range(2):
        run(1, third, after)
    np.testing.assert_array_equal(third.params["weight"], first.params["weight"])


def test_no_step_in_evaluation() -> None:
    layer = L.Linear(2, 2)
    with pytest.raises(RuntimeError, match="training mode"):
        L.SGD(layer.eval(), lr=0.1).step()


def stepped() -> tuple[L.Sequential, L.SGD]:
    net = L.Sequential(L.Linear(3, 3, rng=0), L.Linear(3, 2, rng=1))
    optimiser = L.SGD(net, lr=0.1, momentum=0.9)
    net.backward(net(np.ones((4, 3), np.float32)))
    optimiser.step()
    return net, optimiser


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nonsense", np.ones(1), "not known nonsense"),
        ("steps", np.array(-1), "steps must be non-negative"),
        ("steps", np.array(1.5), "steps must be an integer"),
        ("steps", np.arange(3), "steps must be an integer"),
        (
            "momentum/0.bias",
            np.ones(2, np.float32),
            r"must be float32 of shape \(3,\), got float32",
        ),
        ("momentum/0.bias", np.ones(3), r"must be float32 of shape \(3,\), got float64"),
        ("momentum/0.bias", ["a", "b", "c"], r"must be float32 of shape \(3,\), got <U1"),
    ],
)
def test_a_wrong_state_is_refused_first(name: str, value: Any, message: str) -> None:
    _, optimiser = stepped()
    before = {key: array.copy() for key, array in optimiser.state_dict().items()}
    with pytest.raises((ValueError, TypeError), match=message):
        optimiser.load_state_dict({**before, name: value})
    without = {key: array for key, array in before.items() if key != "steps"}
    with pytest.raises(ValueError, match="got none of steps"):
        optimiser.load_state_dict(without)
    for key, array in optimiser.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_a_state_is_of_what_had_gradients() -> None:
    """The head of a network alone may be trained."""
    net = L.Sequential(L.Linear(3, 3), L.Linear(3, 2))
    optimiser = L.Adam(net)
    net[1].backward(net(np.ones((4, 3), np.float32)))
    optimiser.step()
    other = L.Adam(net)
    other.load_state_dict(optimiser.state_dict())
    assert set(other.state_dict()) == {
        "steps", "mean/1.weight", "mean/1.bias", "square/1.weight", "square/1.bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: L.SGD(net, lr=-1), "lr and weight_decay must be non-negative"),
        (lambda net: L.SGD(net, lr="a"), "lr must be a real number"),
        (lambda net: L.SGD(net.params, lr=1), "model must be a layer"),
        (lambda net: L.SGD(net, lr=1, momentum=-1), "momentum must be non-negative"),
        (lambda net: L.SGD(net, lr=1, nesterov=True), "with nesterov positive"),
        (lambda net: L.Adam(net, betas=(0.9, 1)), "betas must be at least 0 and below 1"),
        (lambda net: L.Adam(net, betas=0.9), "betas must be two numbers"),
        (lambda net: L.Adam(net, eps=-1), "eps non-negative"),
    ],
)
def test_bad_arguments(make: Callable[[L.Layer], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make(L.Linear(1, 1))
