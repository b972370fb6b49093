"""VGG-11 and VGG-16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnfast.layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from cnnfast.layers.layer import Layer
from cnnfast.layers.parameters import Seed

#: Out-channels of the 3x3 convolutions, stage by stage; a stage ends in a pooling.
CONFIGURATION_A = ((64,), (128,), (256, 256), (512, 512), (512, 512))
CONFIGURATION_D = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)


def vgg11(classes: int = 1000, *, dtype: Any = np.float32, rng: Seed = None) -> Sequential:
    """VGG-11 for (N, 3, 224, 224) images: 132,863,336 parameters, 7.61 G multiply-adds
    (15.2 GFLOP).

    Names and shapes of ``state_dict()`` are those of ``torchvision.models.vgg11``.

    Parameters
    ----------
    classes : int
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) logits.

    Source: Simonyan and Zisserman 2015, configuration A.

    Examples
    --------
    >>> vgg11().output_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _vgg(CONFIGURATION_A, classes, dtype, rng)


def vgg16(classes: int = 1000, *, dtype: Any = np.float32, rng: Seed = None) -> Sequential:
    """VGG-16 for (N, 3, 224, 224) images: 138,357,544 parameters, 15.47 G multiply-adds
    (31.0 GFLOP).

    Names and shapes of ``state_dict()`` are those of ``torchvision.models.vgg16``.

    Parameters
    ----------
    classes : int
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) logits.

    Source: Simonyan and Zisserman 2015, configuration D.

    Examples
    --------
    >>> vgg16().output_shape((1, 3, 224, 224))
    (1, 1000)
    """
    return _vgg(CONFIGURATION_D, classes, dtype, rng)


def _vgg(stages: Sequence[Sequence[int]], classes: int, dtype: Any, rng: Seed) -> Sequential:
    made: dict[str, Any] = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    features: list[Layer] = []
    channels = 3
    for stage in stages:
        for kernels in stage:
            features += [Conv2d(channels, kernels, 3, padding=1, **made), ReLU()]
            channels = kernels
        features.append(MaxPool2d(2))
    classifier = Sequential(
        Linear(channels * 7 * 7, 4096, **made),
        ReLU(),
        Dropout(rng=made["rng"], dtype=dtype),
        Linear(4096, 4096, **made),
        ReLU(),
        Dropout(rng=made["rng"], dtype=dtype),
        Linear(4096, classes, **made),
    )
    return Sequential(
        {
            "features": Sequential(*features),
            "avgpool": AdaptiveAvgPool2d(7),
            "flatten": Flatten(),
            "classifier": classifier,
        }
    )
