"""Batch normalisation folded into the layers before it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast import layers as L
from cnnfast import transform

import conformance as suite
from networks import by_crops, error_bound, integers, made_of_integers, random_statistics

Array = np.ndarray[Any, Any]


def normed(layer: L.Layer, norm: L.Layer) -> L.Sequential:
    return L.Sequential(layer, norm, L.ReLU())


#: Network, shape of an input; all normalisation goes.
FOLDED: dict[str, tuple[Callable[[], L.Layer], tuple[int, ...]]] = {
    "conv": (lambda: normed(L.Conv2d(2, 3, 3), L.BatchNorm2d(3, eps=0)), (2, 2, 5, 5)),
    "conv without bias": (
        lambda: normed(L.Conv2d(2, 4, 3, groups=2, bias=False), L.BatchNorm2d(4, eps=0)),
        (2, 2, 5, 5),
    ),
    "not affine": (
        lambda: normed(L.Conv2d(2, 3, 3), L.BatchNorm2d(3, eps=0, affine=False)),
        (2, 2, 5, 5),
    ),
    "padding and stride": (
        lambda: normed(L.Conv2d(2, 3, 3, 2, 1, padding_value=2), L.BatchNorm2d(3, eps=0)),
        (2, 2, 5, 5),
    ),
    "channels last": (
        lambda: normed(L.Conv2d(2, 3, 3, layout="NHWC"), L.BatchNorm2d(3, eps=0, layout="NHWC")),
        (2, 5, 5, 2),
    ),
    "another weight layout": (
        lambda: normed(L.Conv2d(2, 3, 3, weight_layout="HIOW"), L.BatchNorm2d(3, eps=0)),
        (2, 2, 5, 5),
    ),
    "conv1d": (lambda: normed(L.Conv1d(2, 3, 3), L.BatchNorm1d(3, eps=0)), (2, 2, 5)),
    "conv3d": (lambda: normed(L.Conv3d(1, 3, 2), L.BatchNorm3d(3, eps=0)), (2, 1, 3, 3, 3)),
    "transposed": (
        lambda: normed(L.ConvTranspose2d(2, 3, 2, 2), L.BatchNorm2d(3, eps=0)),
        (2, 2, 3, 3),
    ),
    "transposed, groups": (
        lambda: normed(L.ConvTranspose2d(6, 4, 3, groups=2, bias=False), L.BatchNorm2d(4, eps=0)),
        (2, 6, 3, 3),
    ),
    "transposed, groups, OIHW": (
        lambda: normed(
            L.ConvTranspose2d(6, 4, 3, groups=2, weight_layout="OIHW"), L.BatchNorm2d(4, eps=0)
        ),
        (2, 6, 3, 3),
    ),
    "transposed, channels last": (
        lambda: normed(
            L.ConvTranspose2d(4, 6, 3, groups=2, layout="NHWC"),
            L.BatchNorm2d(6, eps=0, layout="NHWC"),
        ),
        (2, 3, 3, 4),
    ),
    "dense": (lambda: normed(L.Linear(5, 3), L.BatchNorm1d(3, eps=0)), (4, 5)),
    "twice": (
        lambda: normed(
            L.Conv2d(2, 3, 1), L.Sequential(L.BatchNorm2d(3, eps=0), L.BatchNorm2d(3, eps=0))
        ),
        (2, 2, 3, 3),
    ),
    "separable": (
        lambda: normed(L.SeparableConv2d(2, 3, 3), L.BatchNorm2d(3, eps=0)),
        (2, 2, 5, 5),
    ),
    "residual": (
        lambda: L.Residual(
            L.Sequential(
                normed(L.Conv2d(2, 3, 3, padding=1, bias=False), L.BatchNorm2d(3, eps=0)),
                L.Conv2d(3, 4, 1, bias=False),
                L.BatchNorm2d(4, eps=0),
            ),
            L.Sequential(L.Conv2d(2, 4, 1), L.BatchNorm2d(4, eps=0)),
            L.ReLU(),
        ),
        (2, 2, 4, 4),
    ),
}


def normalisations(net: L.Layer) -> list[str]:
    return [path for path, layer in net.walk() if "BatchNorm" in type(layer).__name__]


@pytest.mark.parametrize("name", FOLDED)
def test_folded_models_give_the_same(name: str) -> None:
    make, shape = FOLDED[name]
    net = made_of_integers(make())
    before = copy.deepcopy(net.state_dict())
    folded = transform.fold_batch_norm(net)
    assert normalisations(net)
    assert not normalisations(folded)
    assert not folded.buffers
    x = integers(shape, 5)
    np.testing.assert_array_equal(folded(x), net.eval()(x))
    for key, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert not any(
        np.shares_memory(a, b) for a in folded.params.values() for b in net.params.values()
    )


@pytest.mark.parametrize("name", FOLDED)
def test_folded_models_agree_for_random_statistics(name: str) -> None:
    make, shape = FOLDED[name]
    net = random_statistics(make()).eval()
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    suite.assert_within(transform.fold_batch_norm(net)(x), net(x), error_bound(net, x))


def shared() -> L.Layer:
    conv = L.Conv2d(2, 2, 1)
    return L.Sequential(conv, L.BatchNorm2d(2), conv, L.BatchNorm2d(2))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: L.Sequential(L.BatchNorm2d(2), L.ReLU(), L.Conv2d(2, 3, 3)), (2, 2, 5, 5)),
        (lambda: L.Sequential(L.Conv2d(2, 2, 3), L.ReLU(), L.BatchNorm2d(2)), (2, 2, 5, 5)),
        (lambda: L.Sequential(L.Conv2d(2, 2, 3), L.MaxPool2d(3), L.BatchNorm2d(2)), (2, 2, 5, 5)),
        (lambda: L.Sequential(L.Conv2d(2, 2, 1), L.Residual(L.BatchNorm2d(2))), (2, 2, 5, 5)),
        (lambda: L.Sequential(L.Residual(L.Conv2d(2, 2, 1)), L.BatchNorm2d(2)), (2, 2, 5, 5)),
        (
            lambda: L.Residual(L.Conv2d(2, 2, 1), L.Sequential(L.BatchNorm2d(2))),
            (2, 2, 5, 5),
        ),
        (lambda: L.Residual(L.Conv2d(2, 2, 1), None, L.BatchNorm2d(2)), (2, 2, 5, 5)),
        (
            lambda: L.Sequential(L.LocallyConnected2d(1, 2, 2, 3), L.BatchNorm2d(2)),
            (2, 1, 3, 3),
        ),
        (lambda: L.Sequential(L.GroupedLinear(3, 4, 2), L.BatchNorm1d(4)), (2, 3)),
        (lambda: L.Sequential(L.Conv2d(2, 2, 1), L.BatchNorm2d(2, layout="NHWC")), (2, 2, 3, 2)),
        (lambda: L.BatchNorm2d(2), (2, 2, 3, 3)),
    ],
)
def test_what_cannot_be_folded_stays(make: Callable[[], L.Layer], shape: tuple[int, ...]) -> None:
    net = random_statistics(make())
    folded = transform.fold_batch_norm(net)
    assert normalisations(folded) == normalisations(net) != []
    x = integers(shape, 5)
    np.testing.assert_array_equal(folded(x), net.eval()(x))


def test_layers_used_twice_are_not_folded() -> None:
    net = random_statistics(shared())
    folded = transform.fold_batch_norm(net)
    assert len(normalisations(folded)) == 2
    x = integers((2, 2, 3, 3), 5)
    np.testing.assert_array_equal(folded(x), net.eval()(x))
    assert folded.children()["0"] is folded.children()["2"]


def test_folding_is_for_evaluation() -> None:
    net = normed(L.Conv2d(1, 2, 3), L.BatchNorm2d(2))
    folded = transform.fold_batch_norm(net)
    assert net.training
    assert not any(layer.training for _, layer in folded.walk())
    assert list(folded.children()) == ["0", "2"]


def test_folded_classifiers_slide() -> None:
    net = made_of_integers(
        L.Sequential(
            L.Conv2d(1, 2, 2, 2, bias=False), L.BatchNorm2d(2, eps=0), L.ReLU(), L.Flatten(),
            L.Linear(32, 4), L.BatchNorm1d(4, eps=0),
        )
    )  # fmt: skip
    sliding = transform.to_fully_convolutional(transform.fold_batch_norm(net), (1, 1, 8, 8))
    image = integers((1, 1, 12, 10), 3)
    np.testing.assert_array_equal(sliding(image), by_crops(net.eval(), image, 8, 2))
    first = transform.to_fully_convolutional(net, (1, 1, 8, 8))
    np.testing.assert_array_equal(transform.fold_batch_norm(first)(image), sliding(image))
