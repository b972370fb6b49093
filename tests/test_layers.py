"""Layers: gradients by finite differences, modes, states, errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import layers as L

from layer_cases import CASES, made


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_slopes(name: str) -> None:
    """By central differences of ``<f(x), r>`` in every element of the input and parameters."""
    layer, x = made(name)
    y = layer(x)
    r = np.random.default_rng(4).standard_normal(y.shape)
    layer(x)
    back = layer.backward(r)
    assert back is not None
    assert back.shape == x.shape
    assert set(layer.grads) == set(layer.params)
    grads = {key: value.copy() for key, value in layer.grads.items()}

    def slope(array: Any, index: Any) -> float:
        step, old = 1e-5, array[index]
        sums = []
        for sign in (1, -1):
            array[index] = old + sign * step
            sums.append(float((layer(x) * r).sum()))
        array[index] = old
        return (sums[0] - sums[1]) / (2 * step)

    for key, array in {"input": x, **layer.params}.items():
        grad = back if key == "input" else grads[key]
        assert grad.shape == array.shape
        for index in np.ndindex(array.shape):
            assert grad[index] == pytest.approx(slope(array, index), rel=1e-5, abs=1e-7), key


@pytest.mark.parametrize("name", CASES)
def test_output_shape_is_the_results(name: str) -> None:
    layer, x = made(name)
    assert layer.output_shape(x.shape) == layer(x).shape
    assert layer.flops(x.shape) >= 0


@pytest.mark.parametrize("name", CASES)
def test_evaluation_gives_the_same_numbers_and_keeps_nothing(name: str) -> None:
    layer, x = made(name)
    if "batch_norm" in name:
        pytest.skip("batch normalisation has other statistics in evaluation")
    expected = layer(x)
    layer.eval()
    # Subsampling is another kernel then: equal but for rounding, in all bits elsewhere.
    np.testing.assert_allclose(layer(x), expected, rtol=2e-14 if "subsampling" in name else 0)
    with pytest.raises(RuntimeError, match="backward needs a forward call in training mode"):
        layer.backward(expected)


@pytest.mark.parametrize("name", CASES)
def test_without_a_gradient_in_the_input(name: str) -> None:
    layer, x = made(name)
    y = layer(x)
    layer.backward(y)
    grads = {key: value.copy() for key, value in layer.grads.items()}
    layer(x)
    layer.backward(y, to_input=False)
    for key, grad in layer.grads.items():
        np.testing.assert_array_equal(grad, grads[key])


def test_names_and_shapes_of_a_state_are_checked_first() -> None:
    layer, _ = made("conv2d")
    state = {key: value.copy() for key, value in layer.state_dict().items()}
    before = {key: value.copy() for key, value in state.items()}
    with pytest.raises(ValueError, match=r"got none of bias and not known biases"):
        layer.load_state_dict({"weight": state["weight"] + 1, "biases": state["bias"]})
    with pytest.raises(ValueError, match=r"Conv2d: bias must have shape \(4,\), got \(3,\)"):
        layer.load_state_dict({"weight": state["weight"] + 1, "bias": np.ones(3)})
    with pytest.raises(TypeError, match=r"Conv2d: bias must hold float64, got complex128"):
        layer.load_state_dict({"weight": state["weight"] + 1, "bias": np.ones(4, complex)})
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_prepared_weights_follow_an_update() -> None:
    layer, x = made("conv2d")
    layer.eval()
    before = layer(x)
    with pytest.raises(ValueError, match="read-only"):
        layer.params["weight"][...] = 0
    layer.load_state_dict({key: value + 1 for key, value in layer.state_dict().items()})
    after = layer(x)
    assert np.abs(after - before).max() > 0.1
    layer.train()
    layer.params["weight"][...] = 0
    layer.params["bias"][...] = 0
    assert not layer.eval()(x).any()


def test_errors_name_the_layer() -> None:
    net = L.Sequential({"features": L.Sequential(L.Conv2d(1, 2, 3), L.ReLU()), "top": L.Flatten()})
    with pytest.raises(ValueError, match=r"^Conv2d 'features.0': conv2d: .*\(1, 3, 5, 5\)"):
        net(np.zeros((1, 3, 5, 5), np.float32))
    with pytest.raises(TypeError, match=r"^Conv2d 'features.0': the input must be float32"):
        net(np.zeros((1, 1, 5, 5)))
    with pytest.raises(ValueError, match=r"^Conv2d 'features.0': conv2d: "):
        net.output_shape((1, 3, 5, 5))
    with pytest.raises(ValueError, match=r"^Linear: the input must have 5 features"):
        L.Linear(5, 3)(np.zeros((2, 4), np.float32))
    net(np.zeros((1, 1, 5, 5), np.float32))
    with pytest.raises(
        ValueError,
        match=r"^Sequential: grad_output must be as the result, float32 of shape \(1, 18\)",
    ):
        net.backward(np.zeros((1, 1), np.float32))


def test_what_a_layer_shows() -> None:
    local = L.LocallyConnected2d(1, 4, 2, input_size=(3, 5))
    net = L.Sequential(L.Flatten(), L.GroupedLinear(9, 16, 4, bias=False))
    assert repr(local) == "LocallyConnected2d(1, 4, kernel_size=(2, 2), input_size=(3, 5))"
    assert repr(net) == "Sequential(0: Flatten(), 1: GroupedLinear(9, 16, bias=False, groups=4))"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.Conv2d(3, 4, 3, groups=2), "groups must divide the channels"),
        (lambda: L.Conv2d(0, 4, 3), "in_channels must be positive"),
        (lambda: L.GroupedLinear(3, 4, 3), "groups must divide out_features"),
        (lambda: L.Dropout(1.0), "p must be at least 0 and below 1"),
        (lambda: L.ConvTranspose2d(1, 1, 3, padding="same"), "padding must be numbers"),
        (lambda: L.TableConv2d(2, [], 3), "table must name for each out-channel"),
        (lambda: L.TableConv2d(2, [[0], [2]], 3), "different in-channels below 2"),
        (lambda: L.TableConv2d(2, [[0, 0]], 3), "different in-channels below 2"),
        (lambda: L.RadialBasis([1, 2]), r"centres must be real numbers of shape \(centres"),
        (lambda: L.ScaledTanh(0), "amplitude must not be 0"),
        (
            lambda: L.Residual(L.Linear(1, 1), L.Linear(1, 1), None, {"body": "", "shortcut": ""}),
            "names must keep layers and parameters apart",
        ),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_initial_values_follow_from_the_seed_alone() -> None:
    def net(seed: int) -> L.Sequential:
        rng = np.random.default_rng(seed)
        return L.Sequential(L.Linear(4, 4, rng=rng), L.Linear(4, 2, rng=rng))

    first, second = net(5), net(5)
    _ = second.params["1.weight"]  # made before the other's
    for key, value in first.params.items():
        np.testing.assert_array_equal(value, second.params[key])
    assert not np.array_equal(net(6).params["0.weight"], first.params["0.weight"])
    assert not np.array_equal(first.params["0.weight"][:2], first.params["1.weight"])
    assert np.abs(first.params["0.weight"]).max() <= 0.5


def test_counting_makes_no_array() -> None:
    layer = L.Linear(1_000_000, 100)
    assert layer.parameter_shapes() == {"weight": (100, 1_000_000), "bias": (100,)}
    assert not layer._arrays


def test_copies_and_pickles() -> None:
    layer, x = made("sequential")
    expected = layer.eval()(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(x), expected)
        other.train().params["0.weight"][...] = 0
    np.testing.assert_array_equal(layer(x), expected)


def test_dropout_scales_what_it_keeps_and_repeats() -> None:
    x = np.ones((100, 100), np.float32)
    layer = L.Dropout(0.25, rng=3)
    y = layer(x)
    assert set(np.unique(y).round(4)) == {0, np.float32(1 / 0.75).round(4)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(layer.backward(x), y)
    again = L.Dropout(0.25, rng=3)
    np.testing.assert_array_equal(again(x), y)
    assert not np.array_equal(again(x), y)
    np.testing.assert_array_equal(layer.eval()(x), x)


def test_running_statistics_serve_in_evaluation() -> None:
    layer = L.BatchNorm2d(3, momentum=1.0)
    x = np.random.default_rng(0).normal(2, 3, (8, 3, 5, 5)).astype(np.float32)
    layer(x)
    assert int(layer.buffers["num_batches_tracked"]) == 1
    y = layer.eval()(x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, atol=1e-2)
    assert set(layer.state_dict()) == {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_the_loss_gradient_is_its_slope() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((4, 5)), np.array([0, 3, 3, 1])
    loss = L.CrossEntropyLoss()
    loss(logits, target)
    back = loss.backward()
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-6
        slope = float(loss(logits + step, target) - loss(logits - step, target)) / 2e-6
        assert back[index] == pytest.approx(slope, abs=1e-8)


def test_backends_and_threads_reach_the_kernels() -> None:
    layer, x = made("conv2d")
    expected = layer(x)
    with cnnfast.use_backend("reference"):
        np.testing.assert_allclose(layer(x), expected, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_may_be_empty(name: str) -> None:
    layer, x = made(name)
    shape = layer.output_shape(x.shape)
    none = x[:0]
    result = layer(none)
    assert result.shape == (0, *shape[1:])
    assert layer.backward(result).shape == none.shape
    for key, grad in layer.grads.items():
        assert grad.shape == layer.params[key].shape
        assert not grad.any()
    assert layer.eval()(none).shape == result.shape
    for key, value in layer.buffers.items():
        assert np.isfinite(value).all(), key


@pytest.mark.parametrize("wrong", [None, "text", np.ones(3, complex), np.ones(3, object)])
@pytest.mark.parametrize("kind", [L.ReLU, L.Tanh, L.LeakyReLU])
def test_activations_are_of_numbers(kind: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{kind.__name__}: \w+ takes .*, got dtype"):
        kind()(wrong)


def test_names_are_not_assigned_to() -> None:
    layer, _ = made("linear")
    for arrays in (layer.params, layer.grads, layer.buffers):
        with pytest.raises(TypeError, match="does not support item assignment"):
            arrays["weight"] = np.zeros((3, 5))  # type: ignore[index]


@pytest.mark.parametrize("make", [lambda: L.Conv2d(1, 2, 3), lambda: L.MaxPool2d(2)])
def test_an_image_alone_goes_forward(make: Callable[[], L.Layer]) -> None:
    layer, x = make(), np.random.default_rng(0).standard_normal((1, 5, 5)).astype(np.float32)
    y = layer(x)
    np.testing.assert_array_equal(y, layer(x[None])[0])
    layer(x)
    with pytest.raises(ValueError, match=r"must have 4 axes"):
        layer.backward(y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "Conv2d: stride must be positive"),
        ({"dilation": 0}, "Conv2d: dilation must be positive"),
        ({"padding": -1}, "Conv2d: padding must be non-negative"),
        ({"padding": "same", "stride": 2}, "Conv2d: .*stride"),
        ({"padding": "full"}, "Conv2d: padding"),
        ({"padding_mode": "mirror"}, "Conv2d: padding_mode must be 'constant'"),
    ],
)
def test_constructors_check_what_they_are_given(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        L.Conv2d(1, 1, 3, **arguments)


@pytest.mark.parametrize("kind", [L.Conv2d, L.ConvTranspose2d, L.Linear])
def test_a_bias_is_asked_for_by_a_bool(kind: Any) -> None:
    size = () if kind is L.Linear else (3,)
    with pytest.raises(TypeError, match=f"{kind.__name__}: bias must be a bool"):
        kind(1, 1, *size, bias=np.ones(3))


def test_reprs_show_what_was_asked_for() -> None:
    conv = L.Conv2d(1, 2, 3, padding=1, padding_mode="reflect", layout="NHWC")
    assert repr(conv) == (
        "Conv2d(1, 2, kernel_size=(3, 3), padding=1, padding_mode='reflect', layout='NHWC')"
    )
    assert repr(L.Conv2d(1, 2, 3, padding_mode="zeros")) == "Conv2d(1, 2, kernel_size=(3, 3))"
    assert repr(L.MaxPool2d(2)) == "MaxPool2d(2)"
    assert repr(L.AvgPool2d(2, count_include_pad=False)) == "AvgPool2d(2, count_include_pad=False)"
    assert repr(L.SGD(L.Linear(1, 1), lr=0.1)) == "SGD(lr=0.1, weight_decay=0.0, momentum=0.0)"


def test_a_shape_that_does_not_fit_names_the_layer() -> None:
    with pytest.raises(ValueError, match=r"^Conv2d: conv2d: the kernel must fit"):
        L.Conv2d(1, 1, 3).output_shape((1, 1, 2, 2))
