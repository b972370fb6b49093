"""MobileNet of 2017: depthwise and pointwise convolutions in turn."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    DepthwiseConv2d,
    Flatten,
    Linear,
    PointwiseConv2d,
    ReLU,
    Sequential,
)
from cnnfast.layers.layer import Layer
from cnnfast.layers.parameters import Seed

#: Out-channels and stride of each depthwise and pointwise pair, behind 32 channels.
PAIRS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


def mobilenet_v1(classes: int = 1000, *, dtype: Any = np.float32, rng: Seed = None) -> Sequential:
    """MobileNet, for (N, 3, 224, 224) images, or others from 32x32 up: 4,231,976 parameters,
    0.569 G multiply-adds (1.14 GFLOP).

    Parameters
    ----------
    classes : int
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) logits.

    Source: Howard et al. 2017, at its full width.

    Examples
    --------
    >>> mobilenet_v1().output_shape((1, 3, 224, 224))
    (1, 1000)
    """
    made: dict[str, Any] = {"dtype": dtype, "rng": np.random.default_rng(rng)}

    def normed(convolution: Conv2d) -> list[Layer]:
        return [convolution, BatchNorm2d(convolution.out_channels, dtype=dtype), ReLU()]

    channels = 32
    first = Conv2d(3, channels, 3, stride=2, padding=1, bias=False, **made)
    features = [Sequential(*normed(first))]
    for kernels, stride in PAIRS:
        depthwise = DepthwiseConv2d(channels, 3, stride=stride, padding=1, bias=False, **made)
        pointwise = PointwiseConv2d(channels, kernels, bias=False, **made)
        features.append(Sequential(*normed(depthwise), *normed(pointwise)))
        channels = kernels
    return Sequential(
        {
            "features": Sequential(*features),
            "avgpool": AdaptiveAvgPool2d(1),
            "flatten": Flatten(),
            "classifier": Linear(channels, classes, **made),
        }
    )
