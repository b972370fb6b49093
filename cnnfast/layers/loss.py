"""The loss of a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arrays import Array, as_array


class CrossEntropyLoss:
    """Softmax and cross-entropy, the mean over a batch, as ``torch.nn.CrossEntropyLoss``.

    Examples
    --------
    >>> loss = CrossEntropyLoss()
    >>> float(loss(np.zeros((2, 10)), np.array([3, 7])).round(4))
    2.3026
    >>> loss.backward().shape
    (2, 10)
    """

    def __init__(self) -> None:
        self._saved: tuple[Array, Array] | None = None

    def __call__(self, logits: Any, target: Any) -> Array:
        return self.forward(logits, target)

    def forward(self, logits: Any, target: Any) -> Array:
        """The loss of (N, classes) logits and (N,) class indices.

        ValueError or TypeError states the rule and the values.
        """
        scores, classes = as_array("logits", logits), as_array("target", target)
        if scores.ndim != 2 or classes.dtype.kind not in "iu":
            raise ValueError(
                f"CrossEntropyLoss: logits must be (N, classes) and target (N,) integers, got "
                f"shapes {scores.shape} and {classes.shape} of {classes.dtype}"
            )
        loss = functional.cross_entropy(scores, classes)
        self._saved = scores, classes
        return loss

    def backward(self) -> Array:
        """The gradient in the logits."""
        if self._saved is None:
            raise RuntimeError("CrossEntropyLoss: backward needs a forward call before it")
        logits, target = self._saved
        back = functional.softmax(logits, 1)
        back[np.arange(len(target)), target] -= 1
        back /= len(target)
        return back
