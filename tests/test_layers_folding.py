"""In evaluation a batch normalisation behind a convolution is part of its prepared weight."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from cnnfast import layers as L

F64: dict[str, Any] = {"dtype": np.float64, "rng": 1}


def norm(channels: int, kind: Any = L.BatchNorm2d, **arguments: Any) -> L.Layer:
    """One that has seen other statistics than 0 and 1."""
    layer: L.Layer = kind(channels, **{"dtype": np.float64, **arguments})
    rng = np.random.default_rng(2)
    for name, array in layer.state_dict().items():
        if "num_batches" not in name:
            array += rng.uniform(0.2, 2, array.shape)
    return layer


#: A convolution and its norm, and the shape of an input.
PAIRS: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "conv1d": (L.Conv1d(2, 3, 3, **F64), norm(3, L.BatchNorm1d), (2, 2, 7)),
    "conv2d": (L.Conv2d(2, 4, 3, groups=2, **F64), norm(4), (2, 2, 7, 6)),
    "no bias": (L.Conv2d(2, 4, 3, 2, 1, bias=False, **F64), norm(4), (2, 2, 7, 6)),
    "not affine": (L.Conv2d(2, 4, 3, **F64), norm(4, affine=False), (2, 2, 7, 6)),
    "reflect": (
        L.Conv2d(2, 4, 3, padding=1, padding_mode="reflect", **F64),
        norm(4),
        (2, 2, 7, 6),
    ),
    "NHWC": (
        L.Conv2d(2, 4, 3, layout="NHWC", **F64),
        norm(4, layout="NHWC"),
        (2, 7, 6, 2),
    ),
    "HOWI": (
        L.Conv2d(3, 4, 3, weight_layout="HOWI", **F64),
        norm(4),
        (2, 3, 7, 6),
    ),
    "conv3d": (L.Conv3d(1, 2, 2, **F64), norm(2, L.BatchNorm3d), (2, 1, 4, 3, 4)),
    "depthwise": (L.DepthwiseConv2d(3, 3, 2, **F64), norm(6), (2, 3, 5, 5)),
    "separable": (L.SeparableConv2d(3, 4, 3, **F64), norm(4), (2, 3, 5, 5)),
    "table": (L.TableConv2d(3, [[0], [1, 2]], 3, **F64), norm(2), (2, 3, 5, 5)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("activation", [None, L.ReLU, L.GELU])
def test_it_gives_what_the_layers_do_one_by_one(
    name: str, activation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, after, shape = copy.deepcopy(PAIRS[name])
    x = np.random.default_rng(3).standard_normal(shape)
    last = [activation()] if activation else []
    net = L.Sequential(conv, after, *last).eval()
    expected = after(conv(x))
    expected = last[0](expected) if last else expected

    def never(*_: Any) -> None:
        raise AssertionError("the norm ran")

    monkeypatch.setattr(after, "_forward", never)
    np.testing.assert_allclose(net(x), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name", ["axes", "channels", "layout", "float16", "training", "transposed"]
)
def test_where_it_cannot_be_the_norm_runs(name: str) -> None:
    conv, after, x = L.Conv2d(2, 3, 3, **F64), norm(3), np.ones((2, 2, 5, 5))
    if name == "axes":
        conv, after, x = L.Conv1d(2, 3, 3, **F64), norm(4, L.BatchNorm1d), np.ones((2, 6))
    elif name == "channels":
        after = norm(4)
    elif name == "layout":
        after = norm(3, layout="NHWC")
    elif name == "float16":
        conv, after = L.Conv2d(2, 3, 3, dtype=np.float16), norm(3, dtype=np.float16)
        x = x.astype(np.float16)
    elif name == "transposed":
        conv = L.ConvTranspose2d(2, 3, 3, **F64)
    net = L.Sequential(conv, after)
    if name != "training":
        net.eval()
    if name == "channels":
        with pytest.raises(ValueError, match=r"BatchNorm2d '1': the input must have 4 axes"):
            net(x)
    else:
        np.testing.assert_array_equal(net(x), copy.deepcopy(after)(conv(x)))


def test_it_follows_every_change() -> None:
    conv, after, shape = copy.deepcopy(PAIRS["conv2d"])
    x = np.random.default_rng(3).standard_normal(shape)
    net = L.Sequential(conv, after, L.ReLU()).eval()
    seen = [net(x)]
    for name, array in net.state_dict().items():
        with pytest.raises(ValueError, match="read-only"):
            array += 1
        state = {key: value.copy() for key, value in net.state_dict().items()}
        state[name] = state[name] + 1
        layer = net[int(name[0])]
        layer.load_state_dict({key[2:]: state[key] for key in state if key[0] == name[0]})
        seen.append(net(x))
        expected = np.maximum(after(conv(x)), 0)
        np.testing.assert_allclose(seen[-1], expected, rtol=0, atol=1e-13 * expected.max())
        changes = np.abs(seen[-1] - seen[-2]).max()
        assert (changes == 0) == ("num_batches" in name)
        net(x)
    net.train()
    for array in net.state_dict().values():
        array += 0
    assert net(x).shape == seen[0].shape


def test_copies_have_their_own() -> None:
    conv, after, shape = copy.deepcopy(PAIRS["conv2d"])
    x = np.random.default_rng(3).standard_normal(shape)
    net = L.Sequential(conv, after).eval()
    before = net(x)
    other = copy.deepcopy(net)
    other.load_state_dict({key: value + 1 for key, value in net.state_dict().items()})
    assert np.abs(other(x) - before).max() > 0.1
    np.testing.assert_array_equal(net(x), before)


@pytest.mark.parametrize("body", [L.Flatten(), L.Sequential(), L.Sequential(L.Flatten())])
def test_a_residual_sum_leaves_its_input_alone(body: L.Layer) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    before = x.copy()
    block = L.Residual(body, activation=L.ReLU()).eval()
    np.testing.assert_array_equal(block(x), np.maximum(2 * before, 0))
    np.testing.assert_array_equal(x, before)


def test_a_residual_sum_is_of_the_wider_dtype() -> None:
    x = np.ones((1, 4), np.float32)

    class Widened(L.Layer):
        def _forward(self, input: Any) -> Any:
            return input.astype(np.float64) / 3

    block = L.Residual(L.Linear(4, 4), Widened(np.float64)).eval()
    block.children()["shortcut"]._checked = np.asarray  # type: ignore[method-assign]
    assert block(x).dtype == np.float64
