"""Classifiers that slide over larger images."""

from __future__ import annotations

import copy
import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnfast import analysis, transform
from cnnfast import layers as L

import conformance as suite
from networks import by_crops, crops, error_bound, integers, made_of_integers, random_statistics

Array = np.ndarray[Any, Any]


def stage(channels: int, kernels: int, **arguments: Any) -> L.Sequential:
    return L.Sequential(L.Conv2d(channels, kernels, 2, 2, **arguments, rng=channels), L.ReLU())


def classifier() -> L.Sequential:
    """Three unpadded stages of 2x2 windows and stride 2: 32x32 images to a map of 4x4x3."""
    return L.Sequential(
        {
            "trunk": L.Sequential(stage(3, 6), stage(6, 5), L.Conv2d(5, 3, 1), L.MaxPool2d(2)),
            "flat": L.Flatten(),
            "dense": L.Linear(48, 10),
        }
    )


def test_25_crops_in_one_pass() -> None:
    net = made_of_integers(classifier())
    assert net["trunk"].output_shape((1, 3, 32, 32)) == (1, 3, 4, 4)  # type: ignore[index]
    image = integers((1, 3, 64, 64), 9)
    assert crops(image, 32, 8).shape == (25, 3, 32, 32)
    sliding = transform.to_fully_convolutional(net, (1, 3, 32, 32))
    result = sliding(image)
    assert result.shape == (1, 10, 5, 5)
    np.testing.assert_array_equal(result, by_crops(net, image, 32, 8))
    np.testing.assert_array_equal(
        sliding(image[:, :, :32, :32])[:, :, 0, 0], net(crops(image, 32, 64))
    )
    for axis in analysis.receptive_field(sliding, image.shape)[""]:
        assert (axis.size, axis.stride, axis.offset) == (32, 8, 0)
    assert analysis.count_parameters(sliding) == analysis.count_parameters(net)
    assert sliding.params["dense.weight"].size == 480


def test_one_pass_costs_less() -> None:
    net = classifier()
    sliding = transform.to_fully_convolutional(net, (1, 3, 32, 32))
    one = analysis.flops(sliding, (1, 3, 64, 64))
    assert analysis.flops(net, (25, 3, 32, 32)) > 5 * one


def two_dense_layers() -> L.Sequential:
    made: dict[str, Any] = {"dtype": np.float64, "rng": 3}
    return L.Sequential(
        L.Conv2d(3, 6, 3, 2, **made), L.ReLU(), L.AvgPool2d(2), L.Flatten(),
        L.Dropout(0.5, dtype=np.float64), L.Linear(6 * 7 * 7, 20, **made),
        L.BatchNorm1d(20, dtype=np.float64), L.ReLU(), L.Linear(20, 4, **made),
    )  # fmt: skip


def test_random_weights_agree_within_the_bound() -> None:
    net = random_statistics(two_dense_layers()).eval()
    image = np.random.default_rng(0).standard_normal((1, 3, 51, 39))
    sliding = transform.to_fully_convolutional(net, (1, 3, 32, 32))
    result = sliding(image)
    # Of 32 rows the strides leave 3 unread: there are places where 29 are all that is left.
    assert [axis.size for axis in analysis.receptive_field(sliding, image.shape)[""]] == [29, 29]
    assert result.shape == (1, 4, 6, 3)
    bound = error_bound(sliding, image)
    suite.assert_within(result, by_crops(net, image, 29, 4), bound)
    crops_of_32 = by_crops(net, image, 32, 4)
    assert crops_of_32.shape == (1, 4, 5, 2)
    suite.assert_within(result[:, :, :5, :2], crops_of_32, bound[:, :, :5, :2])


def test_at_the_borders_of_a_padded_trunk_results_differ() -> None:
    """A crop is padded where the image goes on."""
    net = L.Sequential(
        L.Conv2d(1, 4, 3, padding=1), L.ReLU(), L.MaxPool2d(2), L.Flatten(), L.Linear(64, 3)
    )
    made_of_integers(net)
    image = np.abs(integers((1, 1, 12, 12), 5)) + 1
    sliding = transform.to_fully_convolutional(net, (1, 1, 8, 8))
    result, expected = sliding(image), by_crops(net, image, 8, 2)
    assert result.shape == expected.shape == (1, 3, 3, 3)
    assert (result != expected).any(axis=1).all()
    # The map's inner part is the crop's own: there, no window reaches over its border.
    whole, crop = net[0](image), net[0](image[:, :, 2:10, 2:10])
    np.testing.assert_array_equal(whole[:, :, 3:9, 3:9], crop[:, :, 1:-1, 1:-1])
    assert (whole[:, :, 2:10, 2:10] != crop).any(axis=1)[0, [0, -1]].all()
    # With the crop alone there is nothing beyond the border, and both agree.
    corner = image[:, :, :8, :8]
    np.testing.assert_array_equal(sliding(corner)[:, :, 0, 0], net(corner))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["avg", "max"])
def test_adaptive_pooling_slides(layout: str, name: str) -> None:
    kind = {"avg": L.AdaptiveAvgPool2d, "max": L.AdaptiveMaxPool2d}[name]
    net = made_of_integers(
        L.Sequential(
            L.Conv2d(2, 4, 2, 2, layout=layout), L.BatchNorm2d(4, eps=0, layout=layout),
            kind(1, layout=layout), L.Flatten(), L.Linear(4, 3),
        )
    ).eval()  # fmt: skip
    last = layout == "NHWC"
    sliding = transform.to_fully_convolutional(net, (1, 8, 8, 2) if last else (1, 2, 8, 8))
    image = integers((1, 2, 12, 10), 3)
    arranged = np.ascontiguousarray(np.moveaxis(image, 1, -1)) if last else image
    result = sliding(arranged)
    result = np.moveaxis(result, -1, 1) if last else result
    parts = crops(image, 8, 2)
    expected = net(np.ascontiguousarray(np.moveaxis(parts, 1, -1)) if last else parts)
    assert result.shape == (1, 3, 3, 2)
    np.testing.assert_array_equal(result[0].reshape(3, 6).T, expected)


def test_adaptive_pooling_to_more_places_strides() -> None:
    net = made_of_integers(
        L.Sequential(
            L.Conv2d(1, 2, 3), L.AdaptiveMaxPool2d((2, 3)), L.Flatten(), L.GroupedLinear(12, 6, 3)
        )
    )
    sliding = transform.to_fully_convolutional(net, (1, 1, 8, 8))
    image = integers((1, 1, 14, 12), 3)
    expected = by_crops(net, image, 8, 1)[:, :, ::3, ::2]
    np.testing.assert_array_equal(sliding(image), expected)


def test_features_of_a_channels_last_map_are_in_its_order() -> None:
    net = made_of_integers(
        L.Sequential(L.MaxPool2d(2, layout="NHWC"), L.ReLU(), L.Flatten(), L.Linear(36, 5))
    )
    x = integers((2, 6, 8, 3), 1)
    sliding = transform.to_fully_convolutional(net, (2, 6, 8, 3))
    np.testing.assert_array_equal(sliding(x)[:, 0, 0], net(x))
    assert sliding.output_shape((1, 8, 8, 3)) == (1, 2, 1, 5)


def test_a_dense_layer_at_every_pixel_is_channels_last() -> None:
    net = made_of_integers(L.Sequential(L.Linear(3, 2), L.ReLU(), L.Flatten(), L.Linear(24, 5)))
    image = integers((1, 6, 5, 3), 1)
    sliding = transform.to_fully_convolutional(net, (1, 4, 3, 3))
    expected = [[net(image[:, i : i + 4, j : j + 3])[0] for j in range(3)] for i in range(3)]
    np.testing.assert_array_equal(sliding(image)[0], expected)


def test_other_ranks_and_nested_blocks_slide() -> None:
    inside = L.Residual(L.Sequential(L.Linear(6, 6), L.ReLU()))
    net = made_of_integers(
        L.Sequential(
            L.Residual(L.Conv1d(2, 2, 1)),
            L.Sequential(L.AvgPool1d(2), L.Sequential(L.Flatten(), L.Linear(8, 6))),
            inside,
            L.Flatten(),
            L.Linear(6, 3),
        )
    )
    sliding = transform.to_fully_convolutional(net, (2, 8))
    signal = 2 * integers((1, 2, 14), 4)
    expected = np.stack([net(signal[:, :, i : i + 8]) for i in range(0, 7, 2)], axis=-1)
    np.testing.assert_array_equal(sliding(signal), expected)


def test_a_volume_slides() -> None:
    net = made_of_integers(L.Sequential(L.Conv3d(1, 2, 2), L.Flatten(), L.Linear(16, 2)))
    sliding = transform.to_fully_convolutional(net, (1, 3, 3, 3))
    x = integers((1, 1, 4, 3, 3), 1)
    expected = np.stack([net(x[:, :, :3]), net(x[:, :, 1:])], axis=-1)
    np.testing.assert_array_equal(sliding(x)[..., 0, 0], expected)


def test_the_new_model_has_weights_and_a_mode_of_its_own() -> None:
    net = two_dense_layers()
    sliding = transform.to_fully_convolutional(net, (1, 3, 32, 32))
    assert sliding.training
    assert all(layer.training for _, layer in sliding.walk())
    assert [type(layer).__name__ for layer in sliding.children().values()] == [
        "Conv2d", "ReLU", "AvgPool2d", "Dropout", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d",
    ]  # fmt: skip
    assert list(sliding.children()) == ["0", "1", "2", "4", "5", "6", "7", "8"]
    assert set(sliding.state_dict()) == set(net.state_dict())
    before = copy.deepcopy(net.state_dict())
    for array in sliding.state_dict().values():
        array[...] = 7
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    evaluating = transform.to_fully_convolutional(net.eval(), (1, 3, 32, 32))
    assert not any(layer.training for _, layer in evaluating.walk())
    # It trains.
    sliding = transform.to_fully_convolutional(two_dense_layers(), (1, 3, 32, 32))
    y = sliding(np.ones((2, 3, 40, 40)))
    assert sliding.backward(y).shape == (2, 3, 40, 40)
    assert set(sliding.grads) == set(sliding.params)


def test_what_slides_already_stays() -> None:
    net = L.Sequential(L.Conv2d(1, 2, 3), L.ReLU())
    sliding = transform.to_fully_convolutional(net, (1, 1, 8, 8))
    x = integers((1, 1, 9, 9)).astype(np.float32)
    np.testing.assert_array_equal(sliding(x), net(x))


def test_a_branch_may_be_flatten_alone() -> None:
    net = L.Sequential(L.Residual(L.Flatten(), L.Flatten(), L.ReLU()), L.Linear(48, 5))
    made_of_integers(net)
    image = integers((1, 3, 6, 7))
    result = transform.to_fully_convolutional(net, (1, 3, 4, 4))(image)
    np.testing.assert_array_equal(result, by_crops(net, image, 4, 1))


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (
            L.Sequential({"local": L.LocallyConnected2d(1, 2, 2, 3), "flat": L.Flatten()}),
            (1, 1, 3, 3),
            "LocallyConnected2d 'local' can't be turned: its weights belong to the places",
        ),
        (
            L.Sequential({"pool": L.AdaptiveAvgPool2d(2), "flat": L.Flatten()}),
            (1, 1, 5, 5),
            "AdaptiveAvgPool2d 'pool' can't be turned: its windows differ in size",
        ),
        (
            L.Sequential({"flat": L.Flatten(), "norm": L.BatchNorm1d(9)}),
            (1, 1, 3, 3),
            "BatchNorm1d 'norm' can't be turned",
        ),
        (L.Sequential(L.Conv2d(1, 1, 2), L.Flatten()), (1, 1, 3, 3), "no dense layer behind it"),
        (L.Linear(9, 4), (1, 9), "must be that of a map"),
        (
            L.Sequential(L.Conv2d(1, 1, 2), L.Flatten(), L.Linear(5, 2)),
            (1, 1, 3, 3),
            "^Linear '2': the input must have 5 features",
        ),
    ],
)
def test_what_cannot_slide_is_named(net: L.Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform.to_fully_convolutional(net, shape)


def test_the_page_on_sliding_is_true() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "sliding.md"
    if not page.exists():
        pytest.skip("docs/sliding.md isn't here: the tests run elsewhere")
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 15
    assert not result.failed
