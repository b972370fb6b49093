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
        if classes.shape != scores.shape[:1] or not scores.size:
            raise ValueError(
                "CrossEntropyLoss: each row of logits must have a target, got shapes "
                f"{scores.shape} and {classes.shape}"
            )
        if classes.min() < 0 or classes.max() >= scores.shape[1]:
            raise ValueError(
                f"CrossEntropyLoss: a target must be a class from 0 to {scores.shape[1] - 1}, got "
                f"{classes.min()} to {classes.max()}"
            )
        logs = functional.log_softmax(scores, 1)
        self._saved = logs, classes
        return np.asarray(-logs[np.arange(len(classes)), classes].mean())

    def backward(self) -> Array:
        """The gradient in the logits."""
        if self._saved is None:
            raise RuntimeError("CrossEntropyLoss: backward needs a forward call before it")
        logs, target = self._saved
        back: Array = np.exp(logs)
        back[np.arange(len(target)), target] -= 1
        back /= len(target)
        return back
