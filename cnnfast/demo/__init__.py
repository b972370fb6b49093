"""``cnnfast demo``: a photograph through filters and a small network, on every backend there is;
then a network that learns to read digits.

stack.py    what is computed, and how far two right answers may lie apart
photo.py    where the photograph comes from
trial.py    one backend's run: time, error, bits
picture.py  the PNG
digits.py   LeNet-5 on real digits
slide.py    ``cnnfast slide``: a classifier that looks at every place of a photograph
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import cnnfast
from cnnfast.kernels import KERNELS

from .digits import ENOUGH, learn
from .photo import Photo, load_photo
from .picture import draw
from .trial import Expected, Trial, try_backend

__all__ = ["load_photo", "run"]


def run(photo: Photo, out: Path, threads: int) -> int:
    """Try every row of the table, print the comparison, write ``out/demo.png``; train LeNet-5,
    print what it reached, write ``out/digits.png``.

    Returns 1 if a backend disagrees with the reference, its bits depend on threads, or the network
    doesn't learn, else 0.
    """
    console = Console(width=None if sys.stdout.isatty() else 100)
    height, width = photo.pixels.shape[2:]
    note = f", {photo.note}" if photo.note else ""
    console.print(f"[bold]{photo.name}[/bold] {width} x {height}{note}", highlight=False)
    with console.status("running the reference"):
        expected = Expected.of(photo.pixels)
    trials: list[Trial] = []
    absent: list[tuple[str, str]] = []
    for row in (row for row in KERNELS if row.family == "fprop"):
        with console.status(f"running {row.name}"):
            try:
                trials.append(try_backend(row, photo.pixels, expected, threads))
            except cnnfast.BackendUnavailableError as error:
                absent.append((row.name, str(error)))
    trials.sort(key=lambda trial: trial.seconds)
    console.print(_table(trials, expected.flops, threads))
    for name, why in absent:
        console.print(f"not run: {name}: {why}", highlight=False, markup=False)
    with console.status("drawing"):
        path = draw(photo, trials[0], out / "demo.png")
    console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    cnnfast.set_num_threads(threads)
    with console.status("training LeNet-5"):
        learnt = learn(out / "digits.png")
    console.print(f"\n{learnt.text()}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"wrote {learnt.path}", highlight=False, markup=False, soft_wrap=True)
    agree = all(trial.verdict == "agrees" for trial in trials)
    return 0 if agree and learnt.accuracy >= ENOUGH else 1


def _table(trials: list[Trial], flops: int, threads: int) -> Table:
    plural = "" if threads == 1 else "s"
    table = Table(
        title=f"5 filters and a conv-relu-pool stack, {flops / 1e9:.2f} GFLOP, "
        f"float32, {threads} thread{plural}",
        caption="first: with compiling or loading; error: largest against the reference; of bound: "
        "in units of what rounding may cost; same bits: with 1 and with more threads",
        caption_justify="left",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("backend", no_wrap=True)
    for header in ("ms", "first ms", "GFLOP/s", "error", "of bound"):
        table.add_column(header, justify="right")
    table.add_column("same bits")
    table.add_column("verdict", no_wrap=True)
    for trial in trials:
        table.add_row(
            trial.backend,
            f"{trial.seconds * 1e3:.1f}",
            f"{trial.first_seconds * 1e3:.0f}",
            f"{flops / trial.seconds / 1e9:.1f}",
            f"{trial.max_error:.1e}",
            f"{trial.of_bound:.3f}",
            {True: "yes", False: "no", None: "exempt"}[trial.same_bits],
            trial.verdict,
            style="" if trial.verdict == "agrees" else "bold red",
        )
    return table
