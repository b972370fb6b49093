"""Epochs of batches: forward, loss, backward, step."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arrays import Array
from cnnfast.layers import CrossEntropyLoss, Layer

from . import batches
from .checkpoint import Checkpoint, Position, check_place
from .data import Data
from .history import History
from .settings import Settings

#: Images that are evaluated at once.
EVALUATED = 256

Path = str | PathLike[str]


class Diverged(ArithmeticError):
    """The loss or a parameter is no finite number any more."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, taken between two batches; the checkpoint, if there is to be one, is written."""


@dataclass(frozen=True)
class Progress:
    """What is told of after each batch: how many batches of how many, the last one's loss, and
    the finished epochs."""

    batches: int
    of: int
    loss: float
    history: History


def fit(
    model: Layer,
    data: Data,
    settings: Settings | None = None,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    watch: Callable[[Progress], Any] | None = None,
) -> History:
    """Train a classifier that gives (N, classes) logits; it is in evaluation mode afterwards.

    The same model, data and settings end in the same bits, whatever the number of threads and
    however often the run was interrupted and resumed.

    Parameters
    ----------
    model : Layer
        Changed in place.
    data : Data
    settings : Settings, optional
    checkpoint : path ending in .npz, optional
        Where the run is kept, after each epoch and when Ctrl-C stops it.
    resume : bool
        Go on from the checkpoint, which must be of this model, data and settings.
    watch : function, optional
        Called with a ``Progress`` after each batch.

    Returns
    -------
    History

    Raises
    ------
    Diverged
        With epoch, batch and learning rate; the last good checkpoint stays.
    Interrupted
        Ctrl-C, once the checkpoint is written.
    OSError
        If the checkpoint can't be written; the one before stays. Before the first batch where
        its folder isn't there.
    ValueError
        If ``checkpoint`` doesn't end in .npz; with ``resume``, if there is none, it is broken, or
        of another run.

    Examples
    --------
    >>> from cnnfast.layers import Flatten, Linear, Sequential
    >>> images = np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2)
    >>> data = Data("corners", images, np.arange(4), images, np.arange(4))
    >>> net = Sequential(Flatten(), Linear(4, 4, rng=0))
    >>> history = fit(net, data, Settings(epochs=20, batch=2, lr=0.5, shift=0))
    >>> history.test_accuracy[-1]
    1.0
    """
    if checkpoint is not None:
        check_place(checkpoint)
    run = _Run(model, data, settings or Settings(), checkpoint)
    if resume:
        if checkpoint is None:
            raise ValueError("resume needs a checkpoint")
        run.restore(Checkpoint.load(checkpoint))
    model.train()
    with _interruptions() as stop, np.errstate(all="ignore"):
        while run.position.epoch < run.settings.epochs:
            run.train_epoch(stop, watch)
    model.eval()
    return run.history


def evaluate(model: Layer, images: Array, labels: Array) -> tuple[float, float]:
    """The mean loss and the accuracy of a model in evaluation mode.

    >>> from cnnfast.layers import Flatten
    >>> images = np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2)
    >>> evaluate(Flatten().eval(), images, np.arange(4))[1]
    1.0
    """
    loss, correct = 0.0, 0
    for first in range(0, len(labels), EVALUATED):
        part = slice(first, first + EVALUATED)
        logits = model(images[part])
        parts = functional.cross_entropy(logits, labels[part], reduction="none")
        loss += math.fsum(parts)
        correct += _correct(logits, labels[part])
    return loss / len(labels), correct / len(labels)


def learning_rate(settings: Settings, done: int, batches: int) -> float:
    """The rate of the batch after ``done`` of so many.

    >>> learning_rate(Settings(lr=0.5), 5, 10)
    0.25
    """
    assert settings.lr is not None
    return settings.lr * (1 + math.cos(math.pi * done / batches)) / 2


class _Run:
    """A run between two batches, and how it goes on."""

    def __init__(
        self, model: Layer, data: Data, settings: Settings, checkpoint: Path | None
    ) -> None:
        self.model, self.data, self.settings = model, data, settings
        self.path, self.kept = checkpoint, False
        self.data_id = ("", "") if checkpoint is None else (data.digest(), data.name)
        self.optimiser = settings.optimiser(model)
        self.loss = CrossEntropyLoss()
        self.position, self.history = Position(), History()
        self.batches = batches.count(len(data.train_labels), settings.batch)

    @property
    def done(self) -> int:
        """Batches so far."""
        return self.position.epoch * self.batches + self.position.batch

    def restore(self, found: Checkpoint) -> None:
        """Go on from there."""
        found.restore(self.model, self.optimiser, self.settings, self.data_id)
        self.position, self.history = found.position, found.history
        self.kept = True

    def save(self) -> None:
        """Write the checkpoint, if there is to be one and all is finite."""
        if self.path is None:
            return
        found = Checkpoint.of(
            self.model, self.optimiser, self.settings, self.data_id, self.position, self.history
        )
        for name, array in found.model.items():
            if not np.isfinite(array).all():
                raise self.diverged(f"{name} isn't finite")
        found.save(self.path)
        self.kept = True

    def train_epoch(self, stop: Stop, watch: Callable[[Progress], Any] | None) -> None:
        """The rest of an epoch, its evaluation and its checkpoint."""
        position, settings, total = self.position, self.settings, self.settings.epochs
        order = batches.order(len(self.data.train_labels), settings.seed, position.epoch)
        while position.batch < self.batches:
            loss = self.train_batch(order)
            if watch is not None:
                watch(Progress(self.done, self.batches * total, loss, self.history))
            if stop():
                self.save()
                raise Interrupted
        self.model.eval()
        test = evaluate(self.model, self.data.test_images, self.data.test_labels)
        self.model.train()
        if not math.isfinite(test[0]):
            raise self.diverged(f"the loss on images held out is {test[0]}")
        self.history.add(position.loss / position.seen, position.correct / position.seen, *test)
        self.position = Position(position.epoch + 1)
        self.save()

    def train_batch(self, order: Array) -> float:
        """A step; returns the batch's loss."""
        position, settings = self.position, self.settings
        chosen = order[position.batch * settings.batch :][: settings.batch]
        images = batches.shifted(
            self.data.train_images[chosen], settings.shift, settings.seed, position.epoch,
            position.batch,
        )  # fmt: skip
        labels = self.data.train_labels[chosen]
        self.optimiser.lr = learning_rate(settings, self.done, settings.epochs * self.batches)
        logits = self.model(images)
        loss = float(self.loss(logits, labels))
        if not math.isfinite(loss):
            raise self.diverged(f"the loss is {loss}")
        self.model.backward(self.loss.backward(), to_input=False)
        self.optimiser.step()
        position.batch += 1
        position.seen += len(labels)
        position.loss += loss * len(labels)
        position.correct += _correct(logits, labels)
        return loss

    def diverged(self, what: str) -> Diverged:
        """The error that says where."""
        kept = f"; the last good checkpoint stays in {self.path}" if self.kept else ""
        return Diverged(
            f"{what} in epoch {self.position.epoch + 1}, batch {self.position.batch + 1} of "
            f"{self.batches}, at learning rate {self.optimiser.lr:.3g}: a lower one may help{kept}"
        )


def _correct(logits: Array, labels: Array) -> int:
    return int((logits.argmax(1) == labels).sum())


Stop = Callable[[], bool]


@contextmanager
def _interruptions() -> Iterator[Stop]:
    """Whether Ctrl-C was pressed, which waits for the next look; pressed again, it is as ever.

    In the main thread alone, which is where signals go, and not where they are ignored.
    """
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
