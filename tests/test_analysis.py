"""Counting: parameters, FLOP, shapes, and receptive fields against what changes an output."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cnnfast import analysis, models
from cnnfast import layers as L

F64: dict[str, Any] = {"dtype": np.float64, "rng": 1}


def stage(channels: int, kernels: int, count: int) -> list[L.Layer]:
    """VGG's: 3x3 convolutions, then a maximum."""
    convolutions = [
        L.Conv2d(channels if i == 0 else kernels, kernels, 3, padding=1, rng=0)
        for i in range(count)
    ]
    return [*convolutions, L.MaxPool2d(2)]


def vgg16_features() -> L.Sequential:
    stages = [stage(3, 64, 2), stage(64, 128, 2), stage(128, 256, 3), stage(256, 512, 3)]
    return L.Sequential(*(layer for part in (*stages, stage(512, 512, 3)) for layer in part))


#: Network, shape of an input. Windows reach over the border by padding alone.
FIELDS: dict[str, tuple[Callable[[], L.Layer], tuple[int, ...]]] = {
    "conv": (lambda: L.Conv2d(1, 2, 3, **F64), (1, 1, 8, 7)),
    "rectangular": (lambda: L.Conv2d(2, 2, (3, 2), (2, 1), (1, 0), (1, 2), **F64), (1, 2, 9, 8)),
    "uneven padding": (lambda: L.Conv2d(1, 1, 3, padding=[(0, 2), (1, 0)], **F64), (1, 1, 8, 7)),
    "same": (lambda: L.Conv2d(1, 1, 4, padding="same", **F64), (1, 1, 8, 7)),
    "same_lower": (lambda: L.Conv2d(1, 1, 4, 3, padding="same_lower", **F64), (1, 1, 8, 9)),
    "channels last": (lambda: L.Conv2d(1, 2, (3, 2), layout="NHWC", **F64), (1, 8, 7, 1)),
    "conv1d": (lambda: L.Conv1d(2, 1, 5, 2, 2, **F64), (1, 2, 13)),
    "conv3d": (lambda: L.Conv3d(1, 1, (1, 2, 3), **F64), (1, 1, 3, 4, 5)),
    "depthwise and grouped": (
        lambda: L.Sequential(
            L.DepthwiseConv2d(4, 3, **F64), L.Conv2d(4, 4, 3, 2, groups=2, **F64)
        ),
        (1, 4, 9, 11),
    ),
    "separable": (lambda: L.SeparableConv2d(2, 3, 3, padding=1, **F64), (1, 2, 6, 6)),
    "local": (lambda: L.LocallyConnected2d(1, 2, 2, (6, 5), 2, **F64), (1, 1, 6, 5)),
    "pools": (
        lambda: L.Sequential(L.MaxPool2d(3, 2, 1), L.AvgPool2d((2, 3))),
        (1, 2, 12, 18),
    ),
    "padded stack": (
        lambda: L.Sequential(
            L.Conv2d(1, 2, 3, padding=1, **F64), L.ReLU(), L.MaxPool2d(2),
            L.Conv2d(2, 2, 3, padding=1, **F64), L.BatchNorm2d(2, dtype=np.float64),
            L.MaxPool2d(2), L.Conv2d(2, 1, 3, padding=1, **F64),
        ),
        (1, 1, 24, 32),
    ),
    "dilations": (
        lambda: L.Sequential(
            L.Conv2d(1, 1, 3, dilation=2, **F64), L.Conv2d(1, 1, 2, 2, dilation=3, **F64)
        ),
        (1, 1, 15, 16),
    ),
    "transposed": (lambda: L.ConvTranspose2d(1, 2, 2, 2, **F64), (1, 1, 4, 5)),
    "transposed, overlapping": (lambda: L.ConvTranspose2d(1, 1, 5, 2, 1, 1, **F64), (1, 1, 6, 5)),
    "transposed, with gaps": (lambda: L.ConvTranspose2d(1, 1, 2, 3, **F64), (1, 1, 3, 4)),
    "transposed, dilated": (
        lambda: L.ConvTranspose2d(1, 1, 3, 3, 1, dilation=2, **F64),
        (1, 1, 5, 6),
    ),
    "there and back": (
        lambda: L.Sequential(
            L.Conv2d(1, 2, 2, 2, **F64), L.Conv2d(2, 2, 3, padding=1, **F64),
            L.ConvTranspose2d(2, 1, 4, 2, 1, **F64), L.Conv2d(1, 1, 3, padding=1, **F64),
        ),
        (1, 1, 16, 12),
    ),
    "adaptive": (
        lambda: L.Sequential(L.Conv2d(1, 1, 3, **F64), L.AdaptiveAvgPool2d((4, 3))),
        (1, 1, 12, 14),
    ),
    "after adaptive": (
        lambda: L.Sequential(L.AdaptiveMaxPool2d((6, 4)), L.Conv2d(1, 1, 2, **F64)),
        (1, 1, 16, 9),
    ),
    "residual": (
        lambda: L.Residual(
            L.Sequential(L.Conv2d(1, 1, 3, padding=1, **F64), L.Conv2d(1, 1, 5, 2, 2, **F64)),
            L.Conv2d(1, 1, 1, 2, **F64),
            L.ReLU(),
        ),
        (1, 1, 9, 12),
    ),
    "residual, uneven branches": (
        lambda: L.Residual(
            L.Conv2d(1, 1, 3, padding=[(2, 0), (0, 2)], **F64),
            L.Conv2d(1, 1, (2, 3), padding=[(0, 1), (1, 1)], **F64),
        ),
        (1, 1, 7, 8),
    ),
    "residual around transposed": (
        lambda: L.Residual(
            L.Sequential(L.Conv2d(1, 1, 2, 2, **F64), L.ConvTranspose2d(1, 1, 2, 2, **F64))
        ),
        (1, 1, 8, 6),
    ),
}  # fmt: skip


def dependence(net: L.Layer, shape: tuple[int, ...], axis: int) -> np.ndarray[Any, Any]:
    """Whether each output along an axis (of data) changes with each input along it."""
    net.eval()
    for array in net.params.values():
        array[...] = np.abs(array) + 0.5
    size = shape[axis]
    x = np.ones((1, *shape[1:]))
    moved = np.repeat(x, size, axis=0)
    for i in range(size):
        np.moveaxis(moved[i], axis - 1, 0)[i] = 1000.0
    # A sum may round otherwise in a batch of another size; an input moves it by 100 at least.
    changed = np.abs(net(moved) - net(x)) > 1
    others = tuple(i for i in range(1, changed.ndim) if i != axis)
    return np.asarray(changed.any(others).T)


def within(field: analysis.Field, output: int, size: int) -> tuple[int, int] | None:
    inputs = field.inputs(output)
    first, last = max(inputs.start, 0), min(inputs.stop, size) - 1
    return (first, last) if inputs and first <= last else None


@pytest.mark.parametrize("name", FIELDS)
def test_fields_are_what_changes_an_output(name: str) -> None:
    make, shape = FIELDS[name]
    net = make()
    first = 1 if name == "channels last" else 2
    fields = analysis.receptive_field(net, shape)[""]
    assert len(fields) == len(shape) - 2
    for i, field in enumerate(fields):
        for output, row in enumerate(dependence(net, shape, first + i)):
            inputs = np.flatnonzero(row)
            expected = (inputs[0], inputs[-1]) if inputs.size else None
            assert within(field, output, shape[first + i]) == expected, (i, output)


#: In training, batch normalisation makes everything depend on the whole batch.
WITHOUT_BATCH_NORM = [name for name in FIELDS if name != "padded stack"]


@pytest.mark.parametrize("name", WITHOUT_BATCH_NORM)
def test_gradients_come_from_the_field_alone(name: str) -> None:
    make, shape = FIELDS[name]
    net = make()
    rng = np.random.default_rng(0)
    fields = analysis.receptive_field(net, shape)[""]
    last = name == "channels last"
    y = net(rng.random(shape))
    places = y.shape[1:-1] if last else y.shape[2:]
    grad = np.zeros_like(y)
    middle = tuple(extent // 2 for extent in places)
    grad[(slice(None), *middle) if last else (..., *middle)] = 1
    back = net.backward(grad)
    for i, field in enumerate(fields):
        axis = i + (1 if last else 2)
        others = tuple(a for a in range(back.ndim) if a != axis)
        allowed = within(field, middle[i], shape[axis])
        found = np.flatnonzero(back.any(others))
        assert not found.size or (allowed and allowed[0] <= found[0] <= found[-1] <= allowed[1])


def test_padding_beyond_a_remainder_counts_as_part_of_a_window() -> None:
    """A stride leaves input 8 unread; the window of the next layer's padding would have it."""
    net = L.Sequential(L.Conv2d(1, 1, 2, 2, **F64), L.Conv2d(1, 1, 3, padding=1, **F64))
    shape = (1, 1, 9, 9)
    field = analysis.receptive_field(net, shape)[""][0]
    rows = dependence(net, shape, 2)
    read = [tuple(np.flatnonzero(row)[[0, -1]]) for row in rows]
    assert read == [(0, 3), (0, 5), (2, 7), (4, 7)]
    assert [within(field, output, 9) for output in range(4)] == [(0, 3), (0, 5), (2, 7), (4, 8)]


def test_known_fields() -> None:
    fields = analysis.receptive_field(vgg16_features(), (1, 3, 224, 224))
    assert [(axis.size, axis.stride) for axis in fields[""]] == [(212, 32)] * 2
    rows, _ = analysis.receptive_field(models.lenet5(rng=0), (1, 1, 28, 28))["c3"]
    assert (rows.size, rows.stride, rows.offset) == (14, 2, -2)
    up = analysis.receptive_field(L.ConvTranspose1d(1, 1, 4, 2), (1, 1, 8))[""][0]
    assert (up.size, up.stride) == (2, Fraction(1, 2))


def test_dense_layers_see_everything_that_is_seen() -> None:
    net = L.Sequential(
        {"conv": L.Conv2d(1, 2, 2, 2), "flat": L.Flatten(), "one": L.Linear(32, 4), "act": L.ReLU()}
    )
    fields = analysis.receptive_field(net, (1, 1, 9, 9))
    for path in ("flat", "one", "act", ""):
        for axis in fields[path]:
            assert (axis.size, axis.stride, axis.offset) == (8, 0, 0)
            assert axis.inputs(0) == range(8)
    first = analysis.receptive_field(L.Sequential(L.Flatten(), L.Linear(9, 4)), (5, 1, 3, 3))[""]
    assert [axis.size for axis in first] == [3, 3]
    assert [axis.size for axis in analysis.receptive_field(L.Linear(9, 4), (5, 9))[""]] == [9]
    rows = analysis.receptive_field(L.Linear(3, 4), (5, 7, 3))[""]
    assert [(axis.size, axis.stride) for axis in rows] == [(1, 1)]


COUNTS: list[tuple[L.Layer, tuple[int, ...], int]] = [
    (L.Linear(9, 16, bias=False), (1, 9), 144),
    (L.Sequential(L.Linear(9, 90, False), L.Linear(90, 50, False)), (1, 9), 5_310),
    (L.Linear(32 * 32, 500, bias=False), (1, 1024), 512_000),
    (L.Linear(1000 * 1000, 100), (1, 1_000_000), 100_000_100),
    (L.GroupedLinear(9, 16, 4, bias=False), (1, 9), 36),
    (L.LocallyConnected2d(1, 4, 2, 3, bias=False), (1, 1, 3, 3), 64),
    (L.Conv2d(1, 4, 2, bias=False), (1, 1, 3, 3), 16),
    (L.Conv2d(1, 1, 2, bias=False), (1, 1, 3, 3), 4),
    (L.Linear(4 * 4 * 3, 10, bias=False), (1, 48), 480),
    (L.Conv2d(3, 10, 4, bias=False), (1, 3, 4, 4), 480),
    (L.Conv2d(3, 4, 3, bias=False), (1, 3, 8, 8), 108),
    (L.SeparableConv2d(3, 4, 3, bias=False), (1, 3, 8, 8), 39),
    (L.MaxPool2d(2), (1, 3, 8, 8), 0),
    (L.BatchNorm2d(3), (1, 3, 8, 8), 6),
    (models.lenet5(), (1, 1, 28, 28), 61_706),
]


@pytest.mark.parametrize(("net", "shape", "count"), COUNTS, ids=[str(c[2]) for c in COUNTS])
def test_counts(net: L.Layer, shape: tuple[int, ...], count: int) -> None:
    assert analysis.count_parameters(net) == count
    table = analysis.summary(net, shape)
    assert table.parameters == count == sum(row.parameters for row in table.rows)
    assert table.flops == analysis.flops(net, shape) == sum(row.flops for row in table.rows)
    assert table.output_shape == analysis.output_shape(net, shape) == table.rows[-1].output_shape
    assert not any(layer._arrays for _, layer in net.walk())


def test_a_dense_layer_costs_two_per_weight() -> None:
    for net, shape, count in COUNTS:
        if isinstance(net, L.Linear):
            assert analysis.flops(net, shape) == 2 * (count - (count == 100_000_100) * 100)
    assert analysis.flops(L.Linear(9, 16), (7, 9)) == 7 * 288


def test_separable_convolutions_cost_as_their_weights_do() -> None:
    whole = analysis.flops(L.Conv2d(3, 4, 3, padding=1), (1, 3, 32, 32))
    parts = analysis.flops(L.SeparableConv2d(3, 4, 3, padding=1), (1, 3, 32, 32))
    assert Fraction(parts, whole) == Fraction(39, 108) == Fraction(1, 4) + Fraction(1, 9)


def test_what_is_used_twice_counts_once() -> None:
    shared = L.Conv2d(4, 4, 3, padding=1)
    net = L.Sequential(shared, L.ReLU(), shared)
    assert analysis.count_parameters(net) == 148
    table = analysis.summary(net, (1, 4, 8, 8))
    assert [row.parameters for row in table.rows] == [148, 0, 0]
    assert table.flops == 2 * shared.flops((1, 4, 8, 8))


def test_a_summary_tells_layers_and_where_branches_meet() -> None:
    block = L.Residual(
        L.Sequential({"conv": L.Conv2d(2, 4, 3, 2, 1), "norm": L.BatchNorm2d(4)}),
        L.Conv2d(2, 4, 1, 2),
        L.ReLU(),
    )
    net = L.Sequential({"block": block, "pool": L.AdaptiveAvgPool2d(1), "flat": L.Flatten()})
    table = analysis.summary(net, (3, 2, 8, 8))
    assert [(row.name, row.kind) for row in table.rows] == [
        ("block.body.conv", "Conv2d"),
        ("block.body.norm", "BatchNorm2d"),
        ("block.shortcut", "Conv2d"),
        ("block.activation", "ReLU"),
        ("block", "Residual"),
        ("pool", "AdaptiveAvgPool2d"),
        ("flat", "Flatten"),
    ]
    assert table.parameters == 76 + 8 + 12
    lines = str(table).splitlines()
    assert len(lines) == len(table.rows) + 4
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1].split() == ["total", "96", f"{table.flops:,}"]
    assert str(table) == net.summary((3, 2, 8, 8))


@pytest.mark.parametrize(
    "function",
    [analysis.flops, analysis.output_shape, analysis.receptive_field, analysis.summary],
)
def test_wrong_shapes_name_the_layer(function: Callable[..., Any]) -> None:
    net = L.Sequential({"conv": L.Conv2d(1, 2, 3), "flat": L.Flatten(), "top": L.Linear(8, 4)})
    with pytest.raises(ValueError, match=r"^Linear 'top': the input must have 8 features"):
        function(net, (1, 1, 9, 9))
    with pytest.raises(ValueError, match=r"^Conv2d 'conv': conv2d: "):
        function(net, (1, 3, 4, 4))
    with pytest.raises(TypeError, match=r"input_shape must be an integer, got 4\.0"):
        function(net, (1, 1, 4.0, 4))
    with pytest.raises(TypeError, match="input_shape must be a sequence of integers"):
        function(net, 28)


def test_a_layer_must_tell_what_it_reads() -> None:
    class Half(L.Layer):
        def _shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
            return (*input_shape[:-1], input_shape[-1] // 2)

    with pytest.raises(TypeError, match="^Half 'half': the layer must tell what its outputs read"):
        analysis.receptive_field(L.Sequential({"half": Half()}), (1, 1, 4, 4))
