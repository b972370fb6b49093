"""LeNet-5, as it is built today."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast.layers import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, Tanh
from cnnfast.layers.layer import Layer
from cnnfast.layers.parameters import Seed


def lenet5(
    classes: int = 10, *, classic: bool = False, dtype: Any = np.float32, rng: Seed = None
) -> Sequential:
    """The common variant of LeNet-5, for (N, 1, 28, 28) images: 61,706 parameters.

    Parameters
    ----------
    classes : int
    classic : bool
        Tanh and means instead of ReLU and maxima.
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) logits.

    Source: LeCun et al. 1998, with every map of C3 connected and a dense layer at the end.

    Examples
    --------
    >>> lenet5().output_shape((1, 1, 28, 28))
    (1, 10)
    """
    made: dict[str, Any] = {"dtype": dtype, "rng": np.random.default_rng(rng)}

    def act() -> Layer:
        return Tanh() if classic else ReLU()

    def pool() -> Layer:
        return AvgPool2d(2) if classic else MaxPool2d(2)

    return Sequential(
        {
            "c1": Conv2d(1, 6, 5, padding=2, **made),
            "act1": act(),
            "s2": pool(),
            "c3": Conv2d(6, 16, 5, **made),
            "act3": act(),
            "s4": pool(),
            "flatten": Flatten(),
            "c5": Linear(400, 120, **made),
            "act5": act(),
            "f6": Linear(120, 84, **made),
            "act6": act(),
            "output": Linear(84, classes, **made),
        }
    )
