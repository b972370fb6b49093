"""ResNet-18."""

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
    ReLU,
    Residual,
    Sequential,
)
from cnnfast.layers.layer import Layer
from cnnfast.layers.parameters import Seed

#: Channels of the four stages; all but the first halve the image.
STAGES = (64, 128, 256, 512)
#: torch's names: convolutions and their norms are the block's own, as is "downsample".
NAMES = {"body": "", "shortcut": "downsample", "activation": "relu"}


def resnet18(classes: int = 1000, *, dtype: Any = np.float32, rng: Seed = None) -> Sequential:
    """ResNet-18 for (N, 3, 224, 224) images, or others from 32x32 up: 11,689,512 parameters,
    1.81 G multiply-adds (3.63 GFLOP).

    Names and shapes of ``state_dict()`` are those of ``torchvision.models.resnet18``.

    Parameters
    ----------
    classes : int
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) logits.

    Source: He et al. 2016.

    Examples
    --------
    >>> resnet18().output_shape((1, 3, 224, 224))
    (1, 1000)
    """
    made: dict[str, Any] = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    layers: dict[str, Layer] = {
        "conv1": Conv2d(3, STAGES[0], 7, stride=2, padding=3, bias=False, **made),
        "bn1": BatchNorm2d(STAGES[0], dtype=dtype),
        "relu": ReLU(),
        "maxpool": MaxPool2d(3, stride=2, padding=1),
    }
    channels = STAGES[0]
    for i, features in enumerate(STAGES, 1):
        first = _block(channels, features, 1 if i == 1 else 2, made)
        layers[f"layer{i}"] = Sequential(first, _block(features, features, 1, made))
        channels = features
    layers["avgpool"] = AdaptiveAvgPool2d(1)
    layers["flatten"] = Flatten()
    layers["fc"] = Linear(channels, classes, **made)
    return Sequential(layers)


def _block(channels: int, features: int, stride: int, made: dict[str, Any]) -> Residual:
    """Two 3x3 convolutions around which the input passes, by a 1x1 one if shapes differ."""

    def norm() -> BatchNorm2d:
        return BatchNorm2d(features, dtype=made["dtype"])

    body = Sequential(
        {
            "conv1": Conv2d(channels, features, 3, stride, padding=1, bias=False, **made),
            "bn1": norm(),
            "relu1": ReLU(),
            "conv2": Conv2d(features, features, 3, padding=1, bias=False, **made),
            "bn2": norm(),
        }
    )
    shortcut = None
    if stride > 1:
        shortcut = Sequential(Conv2d(channels, features, 1, stride, bias=False, **made), norm())
    return Residual(body, shortcut, ReLU(), NAMES)
