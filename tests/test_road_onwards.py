"""From convolution onwards: matrices, 1x1, separable, pooling, layouts, volumes.

Each equivalence holds exactly for small integers, and within rounding for random numbers.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import layers as L
from cnnfast import transform
from cnnfast.analysis import count_parameters, receptive_field

from road import KINDS, Array, Data


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def data(request: pytest.FixtureRequest) -> Data:
    return Data(*request.param)


# A convolution is a dense layer, and a dense layer a convolution.


def test_a_convolution_is_a_dense_layer_with_zeros_and_repeats(data: Data) -> None:
    """Its weight's columns are the responses to images of a single pixel."""
    conv = data.made(L.Conv2d, 2, 3, (2, 3), 2, 1, bias=False)
    pixels: Array = np.eye(2 * 5 * 6, dtype=data.dtype).reshape(60, 2, 5, 6)
    weight = np.ascontiguousarray(conv(pixels).reshape(60, -1).T)
    positions = math.prod(conv.output_shape((1, 2, 5, 6))[2:])
    assert weight.shape == (3 * positions, 60)
    toeplitz, _ = transform.conv_to_linear(conv.params["weight"], None, (2, 5, 6), 2, 1)
    np.testing.assert_array_equal(weight, toeplitz)
    assert set(np.unique(weight)) <= {0, *conv.params["weight"].flat}
    assert np.count_nonzero(weight) < 0.15 * weight.size
    dense = data.like(L.Linear, 60, len(weight), weight=weight)
    x, grad = data.draw(4, 2, 5, 6), data.draw(4, *conv.output_shape((4, 2, 5, 6))[1:])
    data.same(conv(x).reshape(4, -1), dense(x.reshape(4, 60)), 12, weight, x)
    back = dense.backward(grad.reshape(4, -1))
    data.same(conv.backward(grad), back.reshape(x.shape), 18, weight, grad)


def test_a_dense_layer_is_a_convolution_as_large_as_its_input(data: Data) -> None:
    """4x4x3 into 10: 480 weights both ways."""
    conv = data.made(L.Conv2d, 3, 10, 4, bias=False)
    dense = data.made(L.Linear, 4 * 4 * 3, 10, bias=False)
    assert count_parameters(conv) == count_parameters(dense) == 480
    x, grad = data.draw(5, 3, 4, 4), data.draw(5, 10)
    for weight in (conv.params["weight"].copy(), dense.params["weight"].copy()):
        conv.load_state_dict({"weight": weight.reshape(10, 3, 4, 4)})
        dense.load_state_dict({"weight": weight.reshape(10, 48)})
        kernels, _ = transform.linear_to_conv(dense.params["weight"], None, (3, 4, 4))
        np.testing.assert_array_equal(conv.params["weight"], kernels)
        data.same(conv(x).reshape(5, 10), dense(x.reshape(5, 48)), 48, weight, x)
        assert conv(x).shape == (5, 10, 1, 1)
        back = dense.backward(grad)
        found = conv.backward(grad[:, :, None, None])
        data.same(found, back.reshape(x.shape), 10, weight, grad)
        found = conv.grads["weight"].reshape(10, 48)
        data.same(found, dense.grads["weight"], 5, x, grad)


# 1x1, depthwise, separable.


def test_1x1_convolution_is_a_dense_layer_at_every_pixel(data: Data) -> None:
    pointwise = data.made(L.PointwiseConv2d, 3, 4)
    weight, bias = pointwise.params.values()
    dense = data.like(L.Linear, 3, 4, weight=weight[:, :, 0, 0], bias=bias)
    assert count_parameters(pointwise) == count_parameters(dense) == 16
    x, grad = data.draw(2, 3, 5, 6), data.draw(2, 4, 5, 6)
    data.same(last(pointwise(x)), dense(last(x)), 4, weight, x)
    back = pointwise.backward(grad)
    data.same(last(back), dense.backward(last(grad)), 4, weight, grad)
    found = pointwise.grads["weight"][:, :, 0, 0]
    data.same(found, dense.grads["weight"], 60, x, grad)
    data.same(pointwise.grads["bias"], dense.grads["bias"], 60, grad)


def last(images: Any) -> Array:
    """(N, C, H, W) to (N, H, W, C)."""
    return np.moveaxis(images, 1, -1)


def test_depthwise_convolution_keeps_channels_apart(data: Data) -> None:
    depthwise = data.made(L.DepthwiseConv2d, 3, 3, bias=False)
    weight, x, grad = depthwise.params["weight"], data.draw(2, 3, 5, 6), data.draw(2, 3, 3, 4)
    assert count_parameters(depthwise) == 27
    y, back = depthwise(x), depthwise.backward(grad)
    for c in range(3):
        one = data.like(L.Conv2d, 1, 1, 3, weight=weight[c : c + 1])
        channel = slice(c, c + 1)
        data.same(y[:, channel], one(x[:, channel]), 9, weight, x)
        data.same(back[:, channel], one.backward(grad[:, channel]), 9, weight, grad)
        data.same(depthwise.grads["weight"][channel], one.grads["weight"], 24, x, grad)


def test_separable_convolution_is_one_with_kernels_of_products(data: Data) -> None:
    """3 to 4 channels at 3x3: 39 weights instead of 108, FLOP in the same ratio."""
    separable = data.made(L.SeparableConv2d, 3, 4, 3, bias=False, padding=1)
    depthwise, pointwise = separable.params.values()
    products = pointwise * depthwise[:, 0]
    conv = data.like(L.Conv2d, 3, 4, 3, padding=1, weight=products)
    assert (count_parameters(conv), count_parameters(separable)) == (108, 39)
    shape = (2, 3, 8, 9)
    ratio = Fraction(separable.flops(shape), conv.flops(shape))
    assert ratio == Fraction(39, 108) == Fraction(1, 4) + Fraction(1, 9)
    x, grad = data.draw(*shape), data.draw(2, 4, 8, 9)
    data.same(separable(x), conv(x), 27, depthwise, pointwise, x)
    data.same(separable.backward(grad), conv.backward(grad), 36, depthwise, pointwise, grad)
    by_product = conv.grads["weight"]
    found = separable.grads["pointwise.weight"][:, :, 0, 0]
    data.same(found, (by_product * depthwise[:, 0]).sum((2, 3)), 1296, depthwise, x, grad)
    found = separable.grads["depthwise.weight"][:, 0]
    data.same(found, (by_product * pointwise).sum(0), 576, pointwise, x, grad)


# Pooling.


@pytest.mark.parametrize("kind", [L.MaxPool2d, L.AvgPool2d])
def test_pooling_has_no_weights_and_keeps_channels(kind: Any) -> None:
    pool = kind(2)
    assert count_parameters(pool) == 0
    assert not pool.state_dict()
    assert pool.output_shape((5, 7, 8, 6)) == (5, 7, 4, 3)


@pytest.mark.parametrize("kind", [L.MaxPool2d, L.AvgPool2d])
def test_pooling_absorbs_small_shifts(kind: Any) -> None:
    """Within its window a bright pixel may lie anywhere, and no further."""
    pool, seen = kind(2), []
    for h, w in np.ndindex(2, 2):
        x = np.zeros((1, 1, 6, 6), np.float32)
        x[0, 0, 2 + h, 2 + w] = 4
        seen.append(pool(x))
    for y in seen:
        np.testing.assert_array_equal(y, seen[0])
        assert np.flatnonzero(y).tolist() == [4]
    x = np.roll(x, 1, axis=3)
    assert not np.array_equal(pool(x), seen[0])


def test_gradients_of_maxima_go_where_they_were(data: Data) -> None:
    pool = L.MaxPool2d(2)
    x, grad = data.draw(2, 3, 4, 6), data.draw(2, 3, 2, 3)
    pool(x)
    back = pool.backward(grad)
    expected = np.zeros_like(x)
    for n, c, p, q in np.ndindex(grad.shape):
        r, s = np.unravel_index(x[n, c, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2].argmax(), (2, 2))
        expected[n, c, 2 * p + r, 2 * q + s] = grad[n, c, p, q]
    np.testing.assert_array_equal(back, expected)


def test_gradients_of_means_are_spread(data: Data) -> None:
    pool = L.AvgPool2d(2)
    grad = data.draw(2, 3, 2, 3)
    pool(data.draw(2, 3, 4, 6))
    expected = np.repeat(np.repeat(grad / 4, 2, axis=2), 2, axis=3)
    np.testing.assert_array_equal(pool.backward(grad), expected)


# What one output sees.


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (lambda: [L.Conv2d(1, 1, 3)], 3),
        (lambda: [L.Conv2d(1, 1, 3), L.Conv2d(1, 1, 3)], 5),
        (lambda: [L.Conv2d(1, 1, 3), L.AvgPool2d(2), L.Conv2d(1, 1, 3)], 8),
        (lambda: [L.Conv2d(1, 1, 3, 2), L.Conv2d(1, 1, 3, 2), L.Conv2d(1, 1, 3, 2)], 15),
        (lambda: [L.Conv2d(1, 1, 3, dilation=2), L.Conv2d(1, 1, 2)], 6),
    ],
)
def test_the_receptive_field(net: Any, size: int) -> None:
    """Pixels that move an output: those that its gradient reaches. Each layer adds
    ``(k - 1) * dilation`` steps, a step being the product of the strides before it."""
    layers = L.Sequential(*net())
    for array in layers.params.values():
        array[...] = 1
    x = np.zeros((1, 1, 40, 40), np.float32)
    y = layers(x)
    one = np.zeros_like(y)
    one[0, 0, 1, 1] = 1
    back = layers.backward(one)
    rows, columns = np.nonzero(back[0, 0])
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == size
    assert [field.size for field in receptive_field(layers, x.shape)[""]] == [size, size]


# Layouts and volumes.


@pytest.mark.parametrize("weight_layout", ["IOHW", "HWIO", "OHWI"])
def test_channels_last_with_kernels_of_another_order(data: Data, weight_layout: str) -> None:
    """NHWC data with [in, out, h, w] kernels and others: the NCHW layer's numbers."""
    other = data.made(L.Conv2d, 3, 4, 2, layout="NHWC", weight_layout=weight_layout)
    weight, bias = other.params.values()
    assert weight.shape == tuple({"I": 3, "O": 4, "H": 2, "W": 2}[k] for k in weight_layout)
    to_usual = [weight_layout.index(letter) for letter in "OIHW"]
    usual = data.like(L.Conv2d, 3, 4, 2, weight=weight.transpose(to_usual), bias=bias)
    x, grad = data.draw(2, 3, 5, 6), data.draw(2, 4, 4, 5)
    data.same(other(last(x)), last(usual(x)), 13, weight, x)
    back = usual.backward(grad)
    data.same(other.backward(last(grad)), last(back), 16, weight, grad)
    found = other.grads["weight"].transpose(to_usual)
    data.same(found, usual.grads["weight"], 40, x, grad)


def test_convolution_over_volumes_is_a_sum_over_slices(data: Data) -> None:
    volume = data.made(L.Conv3d, 2, 3, 2, bias=False)
    weight, x = volume.params["weight"], data.draw(2, 2, 4, 5, 6)
    assert count_parameters(volume) == 3 * 2 * 2**3
    y = volume(x)
    assert y.shape == (2, 3, 3, 4, 5)
    for o in range(3):
        slices = [cnnfast.conv2d(x[:, :, o + t], weight[:, :, t]) for t in range(2)]
        data.same(y[:, :, o], slices[0] + slices[1], 16, weight, x)
    flat = data.like(L.Conv3d, 2, 3, (1, 2, 2), weight=weight[:, :, :1])
    data.same(flat(x)[:, :, 0], cnnfast.conv2d(x[:, :, 0], weight[:, :, 0]), 8, weight, x)
