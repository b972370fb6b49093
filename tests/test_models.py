"""Models: counts of parameters and multiply-adds against the literature's, shapes, seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnfast import analysis, cli, models, transform
from cnnfast import layers as L
from cnnfast.benchmarks import forward

#: Builder, input shape, parameters.
MODELS: dict[str, tuple[Callable[..., L.Sequential], tuple[int, ...], int]] = {
    "lenet5": (models.lenet5, (1, 1, 28, 28), 61_706),
    "lenet5_1998": (models.lenet5_1998, (1, 1, 32, 32), 60_000),
    "alexnet": (models.alexnet, (1, 3, 224, 224), 61_100_840),
    "vgg11": (models.vgg11, (1, 3, 224, 224), 132_863_336),
    "vgg16": (models.vgg16, (1, 3, 224, 224), 138_357_544),
    "mobilenet_v1": (models.mobilenet_v1, (1, 3, 224, 224), 4_231_976),
    "resnet18": (models.resnet18, (1, 3, 224, 224), 11_689_512),
    "xception_small": (models.xception_small, (1, 3, 64, 64), 321_226),
}

#: Small enough to be run here, and on what.
RUN = {
    "lenet5": (2, 1, 28, 28),
    "lenet5_1998": (2, 1, 32, 32),
    "mobilenet_v1": (2, 3, 32, 32),
    "resnet18": (2, 3, 64, 64),
    "xception_small": (2, 3, 32, 32),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    """Counted from shapes: no array is made, not even of 138 million."""
    build, shape, count = MODELS[name]
    net = build()
    assert sum(math.prod(shape) for shape in net.parameter_shapes().values()) == count
    assert not any(layer._arrays for _, layer in net.walk() if not isinstance(layer, L.RadialBasis))
    assert net.output_shape(shape) == (1, 10 if count < 1_000_000 else 1000)


def test_lenet5_of_1998_layer_by_layer() -> None:
    net = models.lenet5_1998()
    counts: dict[str, int] = {}
    for path, shape in net.parameter_shapes().items():
        name = path.partition(".")[0]
        counts[name] = counts.get(name, 0) + math.prod(shape)
    assert counts == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert set(net.buffers) == {"output.centres"}
    shapes, shape = [], (1, 1, 32, 32)
    for name, layer in net.children().items():
        shape = layer.output_shape(shape)
        if name in ("c1", "s2", "c3", "s4", "c5", "f6", "output"):
            shapes.append(shape[1:])
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,)]


def conv(kernels: int, channels: int, size: int, out: int) -> int:
    """Multiply-adds of a convolution with square kernels and a square result."""
    return kernels * channels * size * size * out * out


def vgg(stages: tuple[tuple[int, ...], ...]) -> int:
    total, channels, side = 0, 3, 224
    for stage in stages:
        for kernels in stage:
            total += conv(kernels, channels, 3, side)
            channels = kernels
        side //= 2
    return total + 512 * 49 * 4096 + 4096 * 4096 + 4096 * 1000


def mobilenet() -> int:
    total, channels, side = conv(32, 3, 3, 112), 32, 112
    for kernels in (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024):
        halves = kernels != channels and kernels > 64
        side //= 2 if halves else 1
        total += conv(channels, 1, 3, side) + conv(kernels, channels, 1, side)
        channels = kernels
    return total + 1024 * 1000


#: Multiply-adds by hand, and as published (in millions, to as many digits).
MULTIPLY_ADDS = {
    "lenet5_1998": (
        conv(6, 1, 5, 28) + 60 * 25 * 100 + conv(120, 16, 5, 1) + 120 * 84,
        (0.326, 3),
    ),
    "alexnet": (
        conv(64, 3, 11, 55) + conv(192, 64, 5, 27) + conv(384, 192, 3, 13)
        + conv(256, 384, 3, 13) + conv(256, 256, 3, 13)
        + 9216 * 4096 + 4096 * 4096 + 4096 * 1000,
        (714, 0),
    ),
    "vgg11": (vgg(((64,), (128,), (256, 256), (512, 512), (512, 512))), (7609, 0)),
    "vgg16": (vgg(((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)), (15470, -1)),
    "mobilenet_v1": (mobilenet(), (569, 0)),
    "resnet18": (
        conv(64, 3, 7, 112) + 4 * conv(64, 64, 3, 56)
        + conv(128, 64, 3, 28) + 3 * conv(128, 128, 3, 28) + conv(128, 64, 1, 28)
        + conv(256, 128, 3, 14) + 3 * conv(256, 256, 3, 14) + conv(256, 128, 1, 14)
        + conv(512, 256, 3, 7) + 3 * conv(512, 512, 3, 7) + conv(512, 256, 1, 7)
        + 512 * 1000,
        (1814, 0),
    ),
}  # fmt: skip


def leaves(layer: L.Layer, shape: tuple[int, ...]) -> list[tuple[L.Layer, tuple[int, ...]]]:
    """The layers that have no others in them, with the shapes of their inputs."""
    if isinstance(layer, L.Residual):
        inside = layer._layers
        found = [leaf for role in ("body", "shortcut") if role in inside
                 for leaf in leaves(inside[role], shape)]  # fmt: skip
        return found
    if not layer.children():
        return [(layer, shape)]
    found = []
    for child in layer.children().values():
        found += leaves(child, shape)
        shape = child.output_shape(shape)
    return found


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds_are_as_many_as_published(name: str) -> None:
    build, shape, _ = MODELS[name]
    net, (by_hand, (millions, digits)) = build(), MULTIPLY_ADDS[name]
    assert round(by_hand / 1e6, digits) == millions
    parts = leaves(net, shape)
    dense = sum(layer.flops(at) for layer, at in parts if isinstance(layer, L.Conv2d | L.Linear))
    assert dense == 2 * by_hand
    rest = sum(layer.flops(at) for layer, at in parts if not isinstance(layer, L.Conv2d | L.Linear))
    assert net.flops(shape) == dense + rest
    assert rest < 0.02 * dense or name == "lenet5_1998"
    assert net.flops((8, *shape[1:])) == 8 * net.flops(shape)


@pytest.mark.parametrize("name", RUN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_and_backward_run(name: str, dtype: Any) -> None:
    net = MODELS[name][0](rng=0, dtype=dtype)
    x = np.random.default_rng(1).standard_normal(RUN[name]).astype(dtype)
    y = net(x)
    assert y.shape == net.output_shape(x.shape)
    assert y.dtype == dtype
    assert np.isfinite(y).all()
    back = net.backward(np.ones_like(y), to_input=name.startswith("lenet"))
    assert set(net.grads) == set(net.params)
    assert all(np.isfinite(grad).all() for grad in net.grads.values())
    if back is not None:
        assert back.shape == x.shape


@pytest.mark.parametrize("name", MODELS)
def test_classes_and_seeds(name: str) -> None:
    build, shape, _ = MODELS[name]
    assert build(7).output_shape(shape) == (1, 7)
    first, again, other = build(7, rng=1), build(7, rng=1), build(7, rng=2)
    path = next(iter(first.parameter_shapes()))
    layer, same, different = (
        next(part for where, part in net.walk() if where and path == f"{where}.weight")
        for net in (first, again, other)
    )
    np.testing.assert_array_equal(layer.params["weight"], same.params["weight"])
    assert not np.array_equal(layer.params["weight"], different.params["weight"])


def test_the_table_of_c3_is_the_papers() -> None:
    """Ten of the sixteen maps read each map of S2; rows are of 3, 4 and 6; none is twice there."""
    from cnnfast.models.lenet_1998 import C3_TABLE, digit_codes

    assert [len(row) for row in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert [sum(c in row for row in C3_TABLE) for c in range(6)] == [10] * 6
    assert len({frozenset(row) for row in C3_TABLE}) == 16
    codes = digit_codes()
    assert set(np.unique(codes)) == {-1, 1}
    distances = np.square(codes[:, None] - codes[None]).sum(-1)
    assert distances[~np.eye(10, dtype=bool)].min() >= 4 * 4


#: The last layer before the means or the dense ones, its receptive field and stride: of the first
#: three as Araujo, Norris and Sim (2019) list them.
FIELDS = {
    "alexnet": ("features", 195, 32),
    "vgg16": ("features", 212, 32),
    "mobilenet_v1": ("features", 315, 32),
    "resnet18": ("layer4", 435, 32),
    "lenet5_1998": ("c5", 32, 4),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields(name: str) -> None:
    build, shape, _ = MODELS[name]
    end, size, stride = FIELDS[name]
    for field in analysis.receptive_field(build(), shape)[end]:
        assert (field.size, field.stride) == (size, stride)


@pytest.mark.parametrize("name", MODELS)
def test_summaries_count_the_same(name: str) -> None:
    build, shape, count = MODELS[name]
    net = build()
    found = analysis.summary(net, shape)
    assert (found.parameters, found.flops) == (count, net.flops(shape))
    assert net.summary(shape) == str(found)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "xception_small"])
def test_norms_fold_into_convolutions(name: str) -> None:
    net = forward.network(name)
    x = np.random.default_rng(1).random((1, 3, 32, 32), np.float32)
    folded = transform.fold_batch_norm(net)
    kinds = {type(layer) for _, layer in folded.walk()}
    assert L.BatchNorm2d not in kinds
    expected = net(x)
    np.testing.assert_allclose(folded(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_forward_passes_are_set_beside_torchs(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MODELS", (("mobilenet_v1", (1,), (3, 32, 32)),))
    out = tmp_path / "models.json"
    words = f"bench --models --threads 1 --seconds 0.001 --json {out}"
    assert cli.main(words.split()) == 0
    assert "cnnfast, folded" in capsys.readouterr().out
    rows = json.loads(out.read_text())["models"]
    assert len(rows) in (2, 6)
    assert rows[0]["flops"] == models.mobilenet_v1().flops((1, 3, 32, 32))


def test_a_wrong_result_is_not_timed() -> None:
    right = np.ones(3)
    forward.check({forward.OURS: right, "other": right})
    with pytest.raises(AssertionError, match=r"other is 0\.1"):
        forward.check({forward.OURS: right, "other": right + 0.1})
