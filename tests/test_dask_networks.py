"""``cnnfast.dask.slide``: a network over an image, block by block, as over the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dask_cases import chunked, network, same, whole_numbers

import cnnfast
from cnnfast.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from cnnfast.transform import to_fully_convolutional

da = pytest.importorskip("dask.array", reason="the drop-in for dask needs dask")

pytestmark = pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("layout", [None, "NHWC"])
def test_a_classifier_slid_over_an_image(padding: int, layout: str | None) -> None:
    rng = np.random.default_rng(2)
    shape = (1, 2, 16, 16) if layout is None else (1, 16, 16, 2)
    sliding = to_fully_convolutional(network(padding=padding, layout=layout), shape)
    for _ in range(6):
        extents = tuple(map(int, rng.integers(30, 70, 2)))
        shape = (2, 2, *extents) if layout is None else (2, *extents, 2)
        image = whole_numbers(rng, shape)
        same(sliding(image), cnnfast.dask.slide(sliding, chunked(rng, image)))
        halves = da.from_array(image, chunks=tuple(-(-extent // 2) for extent in shape))
        same(sliding(image), cnnfast.dask.slide(sliding, halves), "threads")


def test_branches_and_normalisations_slide() -> None:
    block = Sequential(Conv2d(3, 3, 3, padding=1, rng=0), BatchNorm2d(3), ReLU())
    net = Sequential(Residual(block), MaxPool2d(3, 2, 1, ceil_mode=True)).eval()
    rng = np.random.default_rng(2)
    for array in net.params.values():
        array[...] = rng.integers(-2, 3, array.shape)
    x = rng.normal(size=(1, 3, 37, 41)).astype(np.float32)
    lazy = cnnfast.dask.slide(net, da.from_array(x, chunks=(1, 3, 10, 13)))
    np.testing.assert_allclose(lazy.compute(), net(x), rtol=1e-5, atol=1e-5)


def test_a_model_is_that_of_the_time_of_the_call() -> None:
    net = Sequential(Conv2d(1, 2, 3), ReLU()).eval()
    x = np.random.default_rng(4).random((1, 1, 20, 20), np.float32)
    lazy, expected = cnnfast.dask.slide(net, da.from_array(x, chunks=9)), net(x)
    net.train().load_state_dict({name: 0 * array for name, array in net.state_dict().items()})
    np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Sequential(Conv2d(1, 2, 3)), "evaluation mode"),
        (network().eval(), "must give a map"),
        (Sequential(Conv2d(2, 2, 3, padding=1, padding_mode="reflect")).eval(), "padding_mode"),
        (Sequential(ConvTranspose2d(2, 2, 2, stride=2)).eval(), "receptive field"),
        (Sequential(AdaptiveAvgPool2d(2)).eval(), "receptive field"),
        (Sequential(Conv2d(2, 2, 3, stride=2, padding="same_upper")).eval(), "must not depend"),
        ("model", "must be a layer"),
    ],
)
def test_models_that_cannot_slide(model: Any, message: str) -> None:
    image = da.zeros((1, 2, 16, 17), chunks=(1, 2, 8, 9), dtype=np.float32)
    with pytest.raises((ValueError, TypeError), match=message):
        cnnfast.dask.slide(model, image)
