"""A small network of separable convolutions and residual blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    PointwiseConv2d,
    ReLU,
    Residual,
    SeparableConv2d,
    Sequential,
)
from cnnfast.layers.layer import Layer
from cnnfast.layers.parameters import Seed

#: Out-channels of the blocks; each halves the image.
BLOCKS = (64, 128, 256)


def xception_small(classes: int = 10, *, dtype: Any = np.float32, rng: Seed = None) -> Sequential:
    """What Xception's entry flow is like, for small images such as (N, 3, 64, 64): a convolution,
    three residual blocks of separable convolutions, a separable convolution; 321,226 parameters,
    24.9 M multiply-adds.

    Parameters
    ----------
    classes : int
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) logits.

    Source: after Chollet 2017.

    Examples
    --------
    >>> xception_small().output_shape((1, 3, 64, 64))
    (1, 10)
    """
    made: dict[str, Any] = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    channels = 32
    layers: dict[str, Layer] = {
        "conv1": Conv2d(3, channels, 3, stride=2, padding=1, bias=False, **made),
        "bn1": BatchNorm2d(channels, dtype=dtype),
        "relu1": ReLU(),
    }
    for i, features in enumerate(BLOCKS, 2):
        layers[f"block{i}"] = _block(channels, features, made)
        channels = features
    layers |= {
        "conv5": SeparableConv2d(channels, 2 * channels, 3, padding=1, bias=False, **made),
        "bn5": BatchNorm2d(2 * channels, dtype=dtype),
        "relu5": ReLU(),
        "avgpool": AdaptiveAvgPool2d(1),
        "flatten": Flatten(),
        "fc": Linear(2 * channels, classes, **made),
    }
    return Sequential(layers)


def _block(channels: int, features: int, made: dict[str, Any]) -> Residual:
    """Two separable convolutions and a pooling, around which a 1x1 convolution leads."""

    def norm() -> BatchNorm2d:
        return BatchNorm2d(features, dtype=made["dtype"])

    body = Sequential(
        {
            "sep1": SeparableConv2d(channels, features, 3, padding=1, bias=False, **made),
            "bn1": norm(),
            "relu1": ReLU(),
            "sep2": SeparableConv2d(features, features, 3, padding=1, bias=False, **made),
            "bn2": norm(),
            "pool": MaxPool2d(3, stride=2, padding=1),
        }
    )
    around = PointwiseConv2d(channels, features, stride=2, bias=False, **made)
    return Residual(body, Sequential(around, norm()), names={"body": "", "shortcut": "skip"})
