"""What the demo computes: named filters over a photograph, and a conv-relu-pool stack.

Every stage also knows how far two right answers may lie apart. The bound is a running error
analysis: with inputs at most ``before`` apart, a convolution's results are at most
``conv(before, |w|)`` apart, plus ``(L + 2) eps conv(|x| + before, |w|)`` for its own additions
(L of them), plus ``eps |y|`` for the last rounding. ReLU and maxima never widen a difference. So a
backend runs the whole stack on its own numbers, and each of its stages is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

import cnnfast

Array = np.ndarray[Any, Any]
EPS = float(np.finfo(np.float32).eps)


class Operation(Protocol):
    """One layer: callable, countable, and bounded."""

    def __call__(self, x: Array) -> Array:
        """The result for an NCHW array."""

    def flops(self, shape: tuple[int, ...]) -> int:
        """Operations for an input of that shape."""

    def error_bound(self, x: Array, y: Array, before: Array) -> Array:
        """How far a right result may be from ``y`` if the input is within ``before`` of ``x``."""


@dataclass(frozen=True)
class Conv:
    """A convolution with its weights."""

    weight: Array
    bias: Array | None = None
    padding: int = 0
    padding_mode: str = "constant"
    groups: int = 1
    activation: str | None = None

    def __call__(self, x: Array) -> Array:
        """The result for an NCHW array."""
        return self._apply(x, self.weight, self.bias, activation=self.activation)

    def _apply(self, x: Array, weight: Array, bias: Array | None, **options: Any) -> Array:
        return cnnfast.conv2d(
            x,
            weight,
            bias,
            padding=self.padding,
            padding_mode=self.padding_mode,
            groups=self.groups,
            **options,
        )

    def flops(self, shape: tuple[int, ...]) -> int:
        """Two per multiply-add."""
        return cnnfast.ConvGeometry.of(
            shape, self.weight.shape, padding=self.padding, groups=self.groups
        ).flops

    def error_bound(self, x: Array, y: Array, before: Array) -> Array:
        """As in the module's text; the bias is one more term of the sum."""
        relative = (math.prod(self.weight.shape[1:]) + 2) * EPS
        bias = None if self.bias is None else relative * np.abs(self.bias, dtype=np.float64)
        weight = np.abs(self.weight, dtype=np.float64)
        return self._apply(_widened(x, before, relative), weight, bias) + EPS * np.abs(y)


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows."""

    window: int
    stride: int
    padding: int = 0

    def __call__(self, x: Array) -> Array:
        """The result for an NCHW array."""
        y = cnnfast.max_pool2d(x, self.window, self.stride, self.padding)
        assert isinstance(y, np.ndarray)
        return y

    def flops(self, shape: tuple[int, ...]) -> int:
        """One comparison per tap."""
        return cnnfast.PoolGeometry.of(shape, "max", self.window, self.stride, self.padding).flops

    def error_bound(self, x: Array, y: Array, before: Array) -> Array:
        """The window's largest: a maximum moves no more than its inputs, and isn't rounded."""
        return self(before)


@dataclass(frozen=True)
class AvgPool:
    """Mean over windows that don't overlap."""

    window: int

    def __call__(self, x: Array) -> Array:
        """The result for an NCHW array."""
        return cnnfast.avg_pool2d(x, self.window)

    def flops(self, shape: tuple[int, ...]) -> int:
        """One addition per tap."""
        return cnnfast.PoolGeometry.of(shape, "mean", self.window).flops

    def error_bound(self, x: Array, y: Array, before: Array) -> Array:
        """As a convolution whose weights are one over the window's size."""
        relative = (self.window**2 + 2) * EPS
        return self(_widened(x, before, relative)) + EPS * np.abs(y)


def _widened(x: Array, before: Array, relative: float) -> Array:
    return before + relative * (np.abs(x, dtype=np.float64) + before)


class Stage(NamedTuple):
    """An operation by name, and the name of the stage that it reads."""

    name: str
    source: str
    operation: Operation


def run(stages: Sequence[Stage], photo: Array) -> dict[str, Array]:
    """Every stage's result by name, the photograph's own under "photo"."""
    results = {"photo": photo}
    for name, source, operation in stages:
        results[name] = operation(results[source])
    return results


def error_bounds(stages: Sequence[Stage], results: dict[str, Array]) -> dict[str, Array]:
    """Per stage how far a right result may be from ``results``, in float64 on the reference."""
    bounds = {"photo": np.zeros(results["photo"].shape)}
    with cnnfast.use_backend("reference"):
        for name, source, operation in stages:
            bounds[name] = operation.error_bound(results[source], results[name], bounds[source])
    return bounds


def total_flops(stages: Sequence[Stage], results: dict[str, Array]) -> int:
    """Operations of all stages together."""
    return sum(stage.operation.flops(results[stage.source].shape) for stage in stages)


def gaussian(size: int, sigma: float) -> Array:
    """A (size, size) bell that sums to one.

    >>> float(gaussian(5, 1.0).sum().round(6))
    1.0
    """
    offsets = np.arange(size) - size // 2
    bell = np.exp(-(offsets**2) / (2 * sigma**2))
    return np.asarray(np.outer(bell, bell) / bell.sum() ** 2)


def _depthwise(kernel: Any, padding_mode: str) -> Conv:
    """One kernel for each of the three colours."""
    taps = np.asarray(kernel, np.float32)
    weight = np.tile(taps, (3, 1, 1, 1))
    return Conv(weight, padding=len(taps) // 2, padding_mode=padding_mode, groups=3)


def filter_bank() -> Array:
    """Sixteen (3, 5, 5) filters: 8 edges and 4 lines on brightness by angle, 4 colour contrasts."""
    y, x = np.mgrid[-2:3, -2:3]
    bell = gaussian(5, 1.2)

    def oriented(wave: Callable[[Array], Array], degrees: float, length: float) -> Array:
        angle = math.radians(degrees)
        along = x * math.cos(angle) + y * math.sin(angle)
        kernel = bell * wave(2 * math.pi * along / length)
        kernel -= bell * kernel.sum()
        kernel *= 2 / np.abs(kernel).sum()
        return np.asarray(np.multiply.outer(BRIGHTNESS, kernel))

    edges = [oriented(np.sin, 45 * step, 6) for step in range(8)]
    lines = [oriented(np.cos, 45 * step, 4) for step in range(4)]
    colours = [np.multiply.outer(contrast, bell) for contrast in CONTRASTS]
    return np.array([*edges, *lines, *colours], np.float32)


BRIGHTNESS = np.array([0.299, 0.587, 0.114])
#: Red against green, green against red, blue against yellow, yellow against blue.
CONTRASTS = np.array([[1, -1, 0], [-1, 1, 0], [-0.5, -0.5, 1], [0.5, 0.5, -1]])


def _second_layer() -> Conv:
    """Sixteen to 32 channels, 3x3: random mixtures of the first layer's maps, always the same."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 16, 3, 3), np.float32) * np.float32(math.sqrt(2 / 144))
    return Conv(weight, np.zeros(32, np.float32), padding=1, activation="relu")


FILTERS = (
    Stage("blur", "photo", _depthwise(gaussian(5, 1.2), "reflect")),
    Stage("sharpen", "photo", _depthwise([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], "replicate")),
    Stage("sobel_x", "photo", _depthwise([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "replicate")),
    Stage("sobel_y", "photo", _depthwise([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], "replicate")),
    Stage("laplacian", "photo", _depthwise([[0, 1, 0], [1, -4, 1], [0, 1, 0]], "replicate")),
)

#: The first layer's bias is a threshold that keeps noise out of the maps.
FIRST_BIAS = np.array([-0.02] * 12 + [0.0] * 4, np.float32)

LAYERS = (
    Stage("conv1", "photo", Conv(filter_bank(), FIRST_BIAS, padding=2, activation="relu")),
    Stage("pool1", "conv1", MaxPool(3, 2, 1)),
    Stage("conv2", "pool1", _second_layer()),
    Stage("pool2", "conv2", AvgPool(2)),
)

STAGES = FILTERS + LAYERS
