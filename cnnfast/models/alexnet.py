"""AlexNet in its one-column form."""

from __future__ import annotations

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
from cnnfast.layers.parameters import Seed


def alexnet(classes: int = 1000, *, dtype: Any = np.float32, rng: Seed = None) -> Sequential:
    """AlexNet in one column, for (N, 3, 224, 224) images: 61,100,840 parameters, 0.714 G
    multiply-adds (1.43 GFLOP).

    Names and shapes of ``state_dict()`` are those of ``torchvision.models.alexnet``.

    Parameters
    ----------
    classes : int
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) logits.

    Source: Krizhevsky 2014, after Krizhevsky, Sutskever and Hinton 2012.

    Examples
    --------
    >>> alexnet().output_shape((1, 3, 224, 224))
    (1, 1000)
    """
    made: dict[str, Any] = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    features = Sequential(
        Conv2d(3, 64, 11, stride=4, padding=2, **made),
        ReLU(),
        MaxPool2d(3, stride=2),
        Conv2d(64, 192, 5, padding=2, **made),
        ReLU(),
        MaxPool2d(3, stride=2),
        Conv2d(192, 384, 3, padding=1, **made),
        ReLU(),
        Conv2d(384, 256, 3, padding=1, **made),
        ReLU(),
        Conv2d(256, 256, 3, padding=1, **made),
        ReLU(),
        MaxPool2d(3, stride=2),
    )
    classifier = Sequential(
        Dropout(rng=made["rng"], dtype=dtype),
        Linear(256 * 6 * 6, 4096, **made),
        ReLU(),
        Dropout(rng=made["rng"], dtype=dtype),
        Linear(4096, 4096, **made),
        ReLU(),
        Linear(4096, classes, **made),
    )
    return Sequential(
        {
            "features": features,
            "avgpool": AdaptiveAvgPool2d(6),
            "flatten": Flatten(),
            "classifier": classifier,
        }
    )
