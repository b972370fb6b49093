"""The layers that every test of layers takes in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast import layers as L

F64: dict[str, Any] = {"dtype": np.float64, "rng": 1}

#: Layer, shape of an input.
CASES: dict[str, tuple[Callable[[], L.Layer], tuple[int, ...]]] = {
    "linear": (lambda: L.Linear(5, 3, **F64), (4, 5)),
    "linear, more axes": (lambda: L.Linear(5, 3, bias=False, **F64), (2, 3, 5)),
    "grouped linear": (lambda: L.GroupedLinear(5, 6, 3, **F64), (4, 5)),
    "conv1d": (lambda: L.Conv1d(2, 3, 3, padding=1, **F64), (2, 2, 7)),
    "conv2d": (lambda: L.Conv2d(2, 4, 3, 2, (1, 0), groups=2, **F64), (2, 2, 7, 6)),
    "conv2d same": (lambda: L.Conv2d(2, 3, 4, padding="same", **F64), (2, 2, 6, 5)),
    "conv2d same_upper": (lambda: L.Conv2d(1, 3, 3, 2, "same_upper", **F64), (2, 1, 6, 5)),
    "conv2d constant 2": (
        lambda: L.Conv2d(2, 3, 3, padding=1, padding_value=2, **F64),
        (2, 2, 4, 5),
    ),
    "conv2d reflect": (
        lambda: L.Conv2d(2, 3, 3, padding=2, padding_mode="reflect", **F64),
        (2, 2, 4, 5),
    ),
    "conv2d replicate": (
        lambda: L.Conv2d(2, 3, 3, padding=2, padding_mode="replicate", **F64),
        (2, 2, 4, 5),
    ),
    "conv2d circular": (
        lambda: L.Conv2d(2, 3, 3, padding="same", padding_mode="circular", **F64),
        (2, 2, 4, 5),
    ),
    "conv2d NHWC": (lambda: L.Conv2d(2, 3, 3, layout="NHWC", **F64), (2, 5, 6, 2)),
    "conv2d NHWC, IOHW": (
        lambda: L.Conv2d(2, 3, 3, layout="NHWC", weight_layout="IOHW", **F64),
        (2, 5, 6, 2),
    ),
    "conv3d": (lambda: L.Conv3d(1, 2, 2, **F64), (2, 1, 4, 3, 4)),
    "depthwise": (lambda: L.DepthwiseConv2d(3, 3, 2, padding=1, **F64), (2, 3, 5, 5)),
    "pointwise": (lambda: L.PointwiseConv2d(3, 4, **F64), (2, 3, 4, 4)),
    "separable": (lambda: L.SeparableConv2d(3, 4, 3, stride=2, **F64), (2, 3, 7, 7)),
    "conv_transpose1d": (lambda: L.ConvTranspose1d(2, 3, 3, 2, 1, 1, **F64), (2, 2, 5)),
    "conv_transpose2d": (lambda: L.ConvTranspose2d(4, 2, 3, 2, groups=2, **F64), (2, 4, 3, 4)),
    "conv_transpose2d NHWC": (
        lambda: L.ConvTranspose2d(4, 2, 3, 2, layout="NHWC", **F64),
        (2, 3, 4, 4),
    ),
    "conv_transpose2d OIHW": (
        lambda: L.ConvTranspose2d(4, 2, 3, 2, weight_layout="OIHW", **F64),
        (2, 4, 3, 4),
    ),
    "conv_transpose3d": (lambda: L.ConvTranspose3d(1, 2, 2, 2, **F64), (1, 1, 2, 3, 2)),
    "local1d": (lambda: L.LocallyConnected1d(2, 3, 3, 7, **F64), (2, 2, 7)),
    "local2d": (lambda: L.LocallyConnected2d(2, 3, 2, (4, 5), 1, 1, **F64), (2, 2, 4, 5)),
    "max_pool1d": (lambda: L.MaxPool1d(3, 2, 1), (2, 2, 7)),
    "max_pool2d": (lambda: L.MaxPool2d(3, 2, 1), (2, 2, 7, 7)),
    "max_pool3d": (lambda: L.MaxPool3d(2), (1, 2, 4, 4, 4)),
    "avg_pool1d": (lambda: L.AvgPool1d(3, 2, 1), (2, 2, 7)),
    "avg_pool2d": (lambda: L.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 2, 6, 7)),
    "avg_pool3d": (lambda: L.AvgPool3d(2), (1, 2, 4, 4, 4)),
    "adaptive_avg": (lambda: L.AdaptiveAvgPool2d((3, 2)), (2, 2, 7, 5)),
    "adaptive_max": (lambda: L.AdaptiveMaxPool2d(2), (2, 2, 7, 5)),
    "batch_norm1d": (lambda: L.BatchNorm1d(3, dtype=np.float64), (6, 3)),
    "batch_norm1d, 3 axes": (lambda: L.BatchNorm1d(3, dtype=np.float64), (6, 3, 4)),
    "batch_norm2d": (lambda: L.BatchNorm2d(3, dtype=np.float64), (3, 3, 2, 4)),
    "batch_norm2d NHWC": (
        lambda: L.BatchNorm2d(3, layout="NHWC", dtype=np.float64),
        (3, 2, 4, 3),
    ),
    "batch_norm2d, not affine": (
        lambda: L.BatchNorm2d(3, affine=False, dtype=np.float64),
        (3, 3, 2, 4),
    ),
    "batch_norm3d": (lambda: L.BatchNorm3d(2, dtype=np.float64), (3, 2, 2, 2, 2)),
    "subsampling": (lambda: L.Subsampling2d(3, **F64), (2, 3, 6, 5)),
    "subsampling (1, 3)": (lambda: L.Subsampling2d(2, (1, 3), **F64), (2, 2, 2, 6)),
    "table": (lambda: L.TableConv2d(3, [[0], [2, 1], [0, 1, 2]], 2, **F64), (2, 3, 4, 5)),
    "table, no bias": (
        lambda: L.TableConv2d(2, [[0], [1]], 3, stride=2, padding=1, bias=False, **F64),
        (2, 2, 5, 5),
    ),
    "radial": (lambda: L.RadialBasis([[1, -1, 1], [0.5, 2, 0]], dtype=np.float64), (4, 3)),
    "relu": (L.ReLU, (3, 4)),
    "relu6": (L.ReLU6, (3, 4)),
    "leaky_relu": (lambda: L.LeakyReLU(0.2), (3, 4)),
    "sigmoid": (L.Sigmoid, (3, 4)),
    "tanh": (L.Tanh, (3, 4)),
    "scaled_tanh": (L.ScaledTanh, (3, 4)),
    "scaled_tanh, other": (lambda: L.ScaledTanh(-2, 0.5), (3, 4)),
    "silu": (L.SiLU, (3, 4)),
    "gelu": (L.GELU, (3, 4)),
    "flatten": (L.Flatten, (2, 3, 4)),
    "sequential": (
        lambda: L.Sequential(
            L.Conv2d(1, 3, 3, **F64), L.Tanh(), L.MaxPool2d(2), L.Flatten(), L.Linear(12, 4, **F64)
        ),
        (2, 1, 6, 6),
    ),
    "residual": (
        lambda: L.Residual(
            L.Sequential(L.Conv2d(2, 3, 3, padding=1, **F64), L.SiLU()),
            L.Conv2d(2, 3, 1, **F64),
            L.Sigmoid(),
        ),
        (2, 2, 4, 4),
    ),
    "residual, names": (
        lambda: L.Residual(
            L.Sequential({"conv": L.Conv2d(2, 2, 3, padding=1, **F64), "act": L.Tanh()}),
            L.Conv2d(2, 2, 1, **F64),
            L.Tanh(),
            {"body": "", "shortcut": "around", "activation": "last"},
        ),
        (2, 2, 4, 4),
    ),
    "residual, no shortcut": (
        lambda: L.Residual(L.Conv2d(2, 2, 3, padding=1, **F64)),
        (2, 2, 4, 4),
    ),
}


def made(name: str) -> tuple[L.Layer, Any]:
    """A case's layer and an input."""
    make, shape = CASES[name]
    return make(), np.random.default_rng(3).standard_normal(shape)
