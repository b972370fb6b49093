"""Loss and accuracy as a picture."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path

from cnnfast.layers.files import write_whole

from .history import History


def draw(history: History, path: str | PathLike[str], title: str = "") -> None:
    """Write a PNG of both curves.

    Parameters
    ----------
    history : History
    path : path
        Written whole or not at all.
    title : str

    Raises
    ------
    OSError
        If it can't be written.
    ModuleNotFoundError
        Without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(history) + 1)
    for axes, name, train, test in (
        (left, "loss", history.train_loss, history.test_loss),
        (right, "accuracy", history.train_accuracy, history.test_accuracy),
    ):
        axes.plot(epochs, train, marker=".", label="as training saw them")
        axes.plot(epochs, test, marker=".", label="held out")
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    left.set_yscale("log")
    right.set_ylim(top=1.002, bottom=min(0.9, *history.train_accuracy, *history.test_accuracy))
    if history.test_accuracy:
        right.set_title(f"held out: {history.test_accuracy[-1]:.2%}")
    figure.suptitle(title)
    # Drawn in memory first: a full disk is told of once, by the write.
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_whole(Path(path), lambda file: file.write(picture.getvalue()))
