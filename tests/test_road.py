"""From the dense layer to convolution, step by step: weights counted, equivalences proved.

Each equivalence holds exactly for small integers, and within rounding for random numbers.
"""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import layers as L
from cnnfast.analysis import count_parameters

from road import KINDS, Array, Data


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def data(request: pytest.FixtureRequest) -> Data:
    return Data(*request.param)


# The fully connected layer.


@pytest.mark.parametrize(
    ("net", "weights"),
    [
        (L.Linear(3 * 3, 16, bias=False), 144),
        (L.Sequential(L.Linear(9, 90, bias=False), L.ReLU(), L.Linear(90, 50, bias=False)), 5_310),
        (L.Sequential(L.Flatten(), L.Linear(32 * 32, 500, bias=False)), 512_000),
        (L.Sequential(L.Flatten(), L.Linear(1000 * 1000, 100)), 100_000_100),
    ],
    ids=["3x3 into 16", "9-90-50", "32x32 into 500", "1000x1000 into 100"],
)
def test_fully_connected_weights(net: L.Layer, weights: int) -> None:
    tracemalloc.start()
    try:
        assert count_parameters(net) == weights
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_every_neuron_reads_every_pixel(data: Data) -> None:
    dense = data.made(L.Linear, 9, 16)
    x, (weight, bias) = data.draw(5, 3, 3), dense.params.values()
    expected = np.zeros((5, 16))
    for n, k in np.ndindex(5, 16):
        expected[n, k] = bias[k] + sum(
            weight[k, 3 * h + w] * x[n, h, w] for h, w in np.ndindex(3, 3)
        )
    data.same(L.Sequential(L.Flatten(), dense)(x), expected, 10, weight, x)


# Groups that share weights.


@pytest.mark.parametrize("bias", [False, True])
def test_groups_are_the_dense_layer_with_tied_weights(data: Data, bias: bool) -> None:
    groups = data.made(L.GroupedLinear, 9, 16, 4, bias=bias)
    assert count_parameters(groups) == 36 + 4 * bias
    tied = {name: np.repeat(array, 4, axis=0) for name, array in groups.params.items()}
    dense = data.like(L.Linear, 9, 16, **tied)
    assert count_parameters(dense) == 144 + 16 * bias
    x, grad = data.draw(5, 9), data.draw(5, 16)
    data.same(groups(x), dense(x), 10, groups.params["weight"], x)
    data.same(groups.backward(grad), dense.backward(grad), 16, grad, groups.params["weight"])
    for name, found in groups.grads.items():
        # What moves tied weights is the sum over the neurons that share them.
        shared = dense.grads[name].reshape(4, 4, *found.shape[1:]).sum(1)
        data.same(found, shared, 20, grad, x if name == "weight" else grad)


# Local fields: unshared, then shared.


def masked(kernels: Array) -> Array:
    """The dense weight of neurons (k, p, q) with kernels (P * Q, K, 2, 2) on a 3x3 image."""
    weight = np.zeros((4, 2, 2, 3, 3), kernels.dtype)
    for k, p, q in np.ndindex(4, 2, 2):
        weight[k, p, q, p : p + 2, q : q + 2] = kernels[2 * p + q, k]
    return weight.reshape(16, 9)


def windows(grad: Array) -> Array:
    """From a dense weight's gradient what belongs to kernels (P * Q, K, 1, 2, 2)."""
    by_neuron = grad.reshape(4, 2, 2, 3, 3)
    parts = [by_neuron[:, p, q, p : p + 2, q : q + 2] for p, q in np.ndindex(2, 2)]
    return np.stack(parts)[:, :, None]


def test_local_fields_are_a_masked_dense_layer(data: Data) -> None:
    local = data.made(L.LocallyConnected2d, 1, 4, 2, input_size=3, bias=False)
    assert count_parameters(local) == 64
    weight = masked(local.params["weight"][:, :, 0])
    assert np.count_nonzero(masked(np.ones((4, 4, 2, 2)))) == 64
    dense = data.like(L.Linear, 9, 16, weight=weight)
    x, grad = data.draw(5, 1, 3, 3), data.draw(5, 4, 2, 2)
    data.same(local(x).reshape(5, 16), dense(x.reshape(5, 9)), 9, weight, x)
    back = local.backward(grad)
    expected = dense.backward(grad.reshape(5, 16))
    data.same(back.reshape(5, 9), expected, 16, grad, weight)
    data.same(local.grads["weight"], windows(dense.grads["weight"]), 5, grad, x)


def test_shared_fields_are_a_masked_dense_layer_with_repeats(data: Data) -> None:
    conv = data.made(L.Conv2d, 1, 4, 2, bias=False)
    assert count_parameters(conv) == 16
    repeated = np.stack([conv.params["weight"]] * 4)
    local = data.like(L.LocallyConnected2d, 1, 4, 2, input_size=3, weight=repeated)
    dense = data.like(L.Linear, 9, 16, weight=masked(repeated[:, :, 0]))
    x, grad = data.draw(5, 1, 3, 3), data.draw(5, 4, 2, 2)
    data.same(conv(x), local(x), 4, repeated, x)
    data.same(conv(x).reshape(5, 16), dense(x.reshape(5, 9)), 9, repeated, x)
    back, flat = conv.backward(grad), dense.backward(grad.reshape(5, 16))
    data.same(back, local.backward(grad), 16, grad, repeated)
    data.same(back, flat.reshape(x.shape), 16, grad, repeated)
    unshared = local.grads["weight"].sum(0)
    data.same(conv.grads["weight"], unshared, 20, grad, x)
    data.same(conv.grads["weight"], windows(dense.grads["weight"]).sum(0), 20, grad, x)


# One group: a convolution.


def test_one_group_is_the_convolution_of_the_image(data: Data) -> None:
    one = data.made(L.Conv2d, 1, 1, 2, bias=False)
    assert count_parameters(one) == 4
    x, kernel = data.draw(1, 1, 3, 3), one.params["weight"]
    y = one(x)
    assert y.shape == (1, 1, 2, 2)
    np.testing.assert_array_equal(y, cnnfast.conv2d(x, kernel, stride=1))
    neurons = np.zeros((1, 1, 2, 2))
    for p, q in np.ndindex(2, 2):
        neurons[0, 0, p, q] = (kernel * x[:, :, p : p + 2, q : q + 2]).sum()
    data.same(y, neurons, 4, kernel, x)
    four = data.like(L.Conv2d, 1, 4, 2, weight=np.concatenate([kernel] * 4))
    data.same(four(x)[:, 2:3], y, 4, kernel, x)


def test_feature_maps_and_their_biases(data: Data) -> None:
    conv = data.made(L.Conv2d, 1, 3, 2)
    assert count_parameters(conv) == 3 * (4 + 1)
    x = data.draw(2, 1, 5, 6)
    y, (weight, bias) = conv(x), conv.params.values()
    for k in range(3):
        alone = data.like(L.Conv2d, 1, 1, 2, weight=weight[k : k + 1])
        data.same(y[:, k : k + 1], alone(x) + bias[k], 5, weight, x)
    assert conv.output_shape((1, 1, 1000, 1000)) == (1, 3, 999, 999)


@pytest.mark.parametrize("value", [0, 2])
def test_a_padding_ring_is_part_of_the_image(data: Data, value: int) -> None:
    ringed = data.made(L.Conv2d, 2, 3, 3, padding=1, padding_value=value, bias=False)
    weight = ringed.params["weight"]
    plain = data.like(L.Conv2d, 2, 3, 3, weight=weight)
    x, grad = data.draw(2, 2, 4, 5), data.draw(2, 3, 4, 5)
    larger = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=value)
    assert ringed(x).shape[2:] == x.shape[2:]
    data.same(ringed(x), plain(larger), 18, weight, larger)
    back = plain.backward(grad)
    data.same(ringed.backward(grad), back[:, :, 1:-1, 1:-1], 27, grad, weight)
    data.same(ringed.grads["weight"], plain.grads["weight"], 40, grad, larger)


@pytest.mark.parametrize("stride", [2, 3])
def test_a_stride_leaves_out_positions(data: Data, stride: int) -> None:
    strided = data.made(L.Conv2d, 1, 2, 3, stride)
    dense = data.like(L.Conv2d, 1, 2, 3, **strided.params)
    x = data.draw(2, 1, 9, 8)
    data.same(strided(x), dense(x)[:, :, ::stride, ::stride], 10, strided.params["weight"], x)


def test_the_size_of_the_output() -> None:
    """``floor((n + 2 p - k) / s) + 1``, and an error where no window fits."""
    for n, k, s, p in itertools.product(range(1, 10), range(1, 5), range(1, 4), range(3)):
        layer = L.Conv2d(1, 1, k, s, p, bias=False)
        if n + 2 * p < k:
            with pytest.raises(ValueError, match="the kernel must fit"):
                layer.output_shape((1, 1, n, n))
            continue
        size = (n + 2 * p - k) // s + 1
        assert layer.output_shape((1, 1, n, n)) == (1, 1, size, size)
        assert layer(np.zeros((1, 1, n, n), np.float32)).shape == (1, 1, size, size)


def flipped(data: Data) -> tuple[Array, Array, L.Layer]:
    """An image, a kernel, and the layer that convolves them truly: it has the kernel flipped."""
    x, kernel = data.draw(6, 7), data.draw(3, 2)
    return x, kernel, data.like(L.Conv2d, 1, 1, (3, 2), weight=kernel[None, None, ::-1, ::-1])


def test_true_convolution_flips_the_kernel(data: Data) -> None:
    x, kernel, layer = flipped(data)
    correlated = np.zeros((4, 6))
    convolved = np.zeros((4, 6))
    for p, q, r, s in np.ndindex(4, 6, 3, 2):
        correlated[p, q] += kernel[r, s] * x[p + r, q + s]
        convolved[p, q] += kernel[r, s] * x[p + 2 - r, q + 1 - s]
    data.same(cnnfast.conv2d(x[None, None], kernel[None, None])[0, 0], correlated, 6, kernel, x)
    data.same(layer(x[None, None])[0, 0], convolved, 6, kernel, x)
    assert not np.array_equal(correlated, convolved)


def test_scipy_convolves_truly(data: Data) -> None:
    signal = pytest.importorskip("scipy.signal", reason="scipy isn't installed")
    x, kernel, layer = flipped(data)
    data.same(layer(x[None, None])[0, 0], signal.convolve2d(x, kernel, "valid"), 6, kernel, x)
    found = cnnfast.conv2d(x[None, None], kernel[None, None])[0, 0]
    data.same(found, signal.correlate2d(x, kernel, "valid"), 6, kernel, x)


# Training: what a step can express it learns.


@pytest.mark.parametrize(
    ("make", "weights"),
    [
        (lambda: L.Sequential(L.Flatten(), L.Linear(9, 16, bias=False, rng=1)), 144),
        (lambda: L.LocallyConnected2d(1, 4, 2, input_size=3, bias=False, rng=1), 64),
        (lambda: L.Conv2d(1, 4, 2, bias=False, rng=1), 16),
        (lambda: L.Conv2d(1, 1, 2, bias=False, rng=1), 4),
        (lambda: L.Sequential(L.Flatten(), L.GroupedLinear(9, 16, 4, bias=False, rng=1)), 36),
    ],
    ids=["dense", "local", "shared", "one group", "groups"],
)
def test_every_step_trains(make: Any, weights: int) -> None:
    """To the responses of a layer of its own kind; dense and local ones to a convolution's."""
    net, rng = make(), np.random.default_rng(2)
    assert count_parameters(net) == weights
    x = rng.standard_normal((64, 1, 3, 3)).astype(np.float32)
    teacher = make() if weights in (4, 36) else L.Conv2d(1, 4, 2, bias=False)
    for array in teacher.params.values():
        array[...] = rng.standard_normal(array.shape)
    wanted = teacher(x).reshape(net(x).shape)
    optimiser = L.SGD(net, lr=0.1, momentum=0.8)
    losses = []
    for _ in range(150):
        error = net(x) - wanted
        losses.append(float(np.square(error).mean()))
        net.backward(error / np.float32(len(x)))
        optimiser.step()
    assert losses[-1] < 1e-4 * losses[0]
