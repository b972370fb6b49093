"""LeNet-5 learns to read digits, in seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cnnfast import models, training

#: Enough to be well over nine of ten; ``cnnfast train lenet5`` takes more.
SETTINGS = training.Settings(epochs=10)
#: Less than that means that gradients are wrong.
ENOUGH = 0.9


@dataclass(frozen=True)
class Learnt:
    """What training reached, in how many seconds, and where its curves are."""

    accuracy: float
    seconds: float
    images: int
    held_out: int
    path: Path

    def text(self) -> str:
        """A line of it."""
        return (
            f"LeNet-5 learnt {self.images:,} handwritten digits (scikit-learn) in "
            f"{self.seconds:.1f} s, {SETTINGS.epochs} epochs: of {self.held_out} others it reads "
            f"{self.accuracy:.1%}; cnnfast train lenet5 goes further"
        )


def learn(path: Path) -> Learnt:
    """Train, and draw the curves."""
    data = training.digits()
    start = time.perf_counter()
    history = training.fit(models.lenet5(rng=0), data, SETTINGS)
    seconds = time.perf_counter() - start
    training.draw(history, path, f"LeNet-5 on {data.name}")
    counts = len(data.train_labels), len(data.test_labels)
    return Learnt(history.test_accuracy[-1], seconds, *counts, path)
