"""What a training run has reached, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """A value per finished epoch: means over the images that training saw (as it saw them, each
    before the step that it led to), and over those held out, after the epoch.

    Examples
    --------
    >>> history = History()
    >>> history.add(0.5, 0.9, 0.4, 0.95)
    >>> len(history), history.test_accuracy
    (1, [0.95])
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.train_loss)

    def add(
        self, train_loss: float, train_accuracy: float, test_loss: float, test_accuracy: float
    ) -> None:
        """Note an epoch."""
        self.train_loss.append(train_loss)
        self.train_accuracy.append(train_accuracy)
        self.test_loss.append(test_loss)
        self.test_accuracy.append(test_accuracy)
