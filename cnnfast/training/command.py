"""``cnnfast train lenet5``: options, the progress bar, and what is written."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cnnfast
from cnnfast import models
from cnnfast.layers import Layer

from .checkpoint import Checkpoint
from .curves import draw
from .data import Data, digits, mnist
from .history import History
from .loop import Diverged, Interrupted, Progress, fit
from .settings import OPTIMIZERS, Settings

MODELS = {"lenet5": models.lenet5}
#: Options that are settings of the run.
CHOSEN = ("epochs", "batch", "optimizer", "lr", "seed")
#: What a shell says of a process that Ctrl-C ended.
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cnnfast train``."""
    usual = Settings()
    rates = ", ".join(f"{rate} for {name}" for name, rate in OPTIMIZERS.items())
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--epochs", type=int, metavar="N", help=f"(default {usual.epochs})")
    parser.add_argument(
        "--batch", type=int, metavar="N", help=f"images per step (default {usual.batch})"
    )
    parser.add_argument(
        "--optimizer", choices=list(OPTIMIZERS), help=f"(default {usual.optimizer})"
    )
    parser.add_argument(
        "--lr", type=float, help=f"learning rate at the start (default {rates}); it falls to 0"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N",
        help="of weights, order, shifts, and of the fifth that is held out (default 0)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="threads (default: the cores of this process)")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER",
        help="MNIST in IDX files, gzipped or not (default: scikit-learn's digits)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="FOLDER",
        help="folder of weights, checkpoint and curves (out)",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint, with its settings"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train; 1 if it diverges or a file can't be written, 130 if Ctrl-C stops it. ValueError for
    bad values."""
    for module in ("rich.progress", "matplotlib.figure"):
        importlib.import_module(module)  # what is missing is told of before the work is done
    cnnfast.set_num_threads(arguments.threads)
    checkpoint = arguments.out / f"{arguments.model}.checkpoint.npz"
    settings = _settings(arguments, checkpoint)
    data = mnist(arguments.data, settings.seed) if arguments.data else digits(settings.seed)
    model = MODELS[arguments.model](rng=settings.seed)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"can't make the folder {arguments.out}: {error.strerror}") from None
    print(_heading(arguments.model, model, data, settings), flush=True)
    start = time.perf_counter()
    try:
        with _bar() as watch:
            history = fit(
                model, data, settings, checkpoint=checkpoint, resume=arguments.resume, watch=watch
            )
        seconds = time.perf_counter() - start
        _finish(model, history, arguments.out / arguments.model, data.name)
    except (Diverged, OSError) as error:
        print(f"cnnfast: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        print(f"stopped; this goes on: {_again(arguments)}", file=sys.stderr)
        return INTERRUPTED
    print(_result(history, data, seconds))
    return 0


def _settings(arguments: argparse.Namespace, checkpoint: Path) -> Settings:
    """The options' settings; what wasn't given is the checkpoint's if that is gone on from."""
    given = {name: getattr(arguments, name) for name in CHOSEN}
    given = {name: value for name, value in given.items() if value is not None}
    if not arguments.resume:
        return Settings(**given)
    found = Checkpoint.load(checkpoint).settings
    other = replace(found, **given).differences(found)
    if other:
        raise ValueError(f"{checkpoint} is of a run with other settings: {', '.join(other)}")
    return found


def _heading(name: str, model: Layer, data: Data, settings: Settings) -> str:
    weights = sum(array.size for array in model.params.values())
    threads = cnnfast.get_num_threads()
    return (
        f"{name}, {weights:,} parameters, on {data.name}: {len(data.train_labels):,} images, "
        f"{len(data.test_labels):,} held out; {settings.optimizer}, "
        f"{threads} thread{'' if threads == 1 else 's'}"
    )


@contextmanager
def _bar() -> Iterator[Any]:
    """A progress bar on the standard error, as ``watch`` of ``fit``."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    told = TextColumn("{task.fields[told]}")
    columns = TextColumn("training"), BarColumn(), TimeRemainingColumn(), told
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", told="")

        def watch(progress: Progress) -> None:
            accuracy = progress.history.test_accuracy
            held = f", held out {accuracy[-1]:.2%}" if accuracy else ""
            told = f"loss {progress.loss:.4f}{held}"
            bar.update(task, completed=progress.batches, total=progress.of, told=told)

        yield watch


def _finish(model: Layer, history: History, stem: Path, data: str) -> None:
    """Weights and curves beside the checkpoint."""
    weights, curves = stem.with_suffix(".npz"), stem.with_suffix(".png")
    model.save(weights)
    draw(history, curves, f"{stem.name} on {data}")
    print(f"wrote {weights} and {curves}")


def _result(history: History, data: Data, seconds: float) -> str:
    right = round(history.test_accuracy[-1] * len(data.test_labels))
    return (
        f"{right} of {len(data.test_labels)} images held out are right, "
        f"{history.test_accuracy[-1]:.2%}, after {len(history)} epochs and {seconds:.1f} s"
    )


def _again(arguments: argparse.Namespace) -> str:
    """The command that goes on."""
    words = ["cnnfast", "train", arguments.model, "--resume", "--out", str(arguments.out)]
    words += ["--data", str(arguments.data)] if arguments.data else []
    words += ["--threads", str(arguments.threads)] if arguments.threads else []
    return shlex.join(words)
