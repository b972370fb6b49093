"""``cnnfast bench --drop-ins``: every drop-in beside what it replaces, in one process."""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import cnnfast
from cnnfast._core.extras import EXTRAS
from cnnfast.benchmarks import machine, report
from cnnfast.benchmarks.compare import thread_counts
from cnnfast.benchmarks.drop_ins.row import COLUMNS, DropInRow
from cnnfast.benchmarks.tables import print_table, write_json

#: Module with a function ``rows(seconds, threads)`` -> packages that it needs.
SUITES: dict[str, tuple[str, ...]] = {
    "onnx_ops": ("onnx", "onnxruntime"),
    "onnx_models": ("onnx", "onnxruntime"),
    "keras_predict": ("keras",),
    "torch_layers": ("torch",),
    "scipy_style": ("scipy",),
    "dask_image": ("dask", "scipy"),
    "numba_functions": ("numba",),
    "cython_functions": ("numba",),
}
SECONDS = 0.5
MARK = "drop-ins"


def measure(
    suites: Sequence[str], threads: Sequence[int], seconds: float
) -> Iterator[tuple[str, int, list[DropInRow]]]:
    """Time suite after suite; ValueError for an unknown one and for less than one thread, before
    anything runs."""
    for name in suites:
        if name not in SUITES:
            raise ValueError(f"no drop-in {name!r}: there are {', '.join(SUITES)}")
    counts = thread_counts(threads)
    return (
        (name, count, _rows(name, count, seconds)) for name in suites or SUITES for count in counts
    )


def _rows(name: str, threads: int, seconds: float) -> list[DropInRow]:
    """A suite's rows; none, and a line that says why, without what it needs."""
    for package in SUITES[name]:
        if importlib.util.find_spec(package) is None:
            extra = EXTRAS.get(package, "bench")
            print(f"{name}: {package} isn't installed: pip install 'cnnfast[{extra}]'")
            return []
    suite = importlib.import_module(f"{__package__}.{name}")
    cnnfast.set_num_threads(threads)
    found: list[DropInRow] = suite.rows(seconds, threads)
    return found


def run(args: argparse.Namespace) -> int:
    """Print a table per suite and number of threads; write what was asked for."""
    if args.dtype:
        raise ValueError("--dtype doesn't go with --drop-ins")
    mark = report.mark(MARK)
    if args.readme:
        report.around_markers(args.readme, mark)
    results = measure(args.layers, args.threads, args.seconds or SECONDS)
    found = []
    try:
        for name, count, rows in results:
            found += [(name, count, row) for row in rows]
            if rows:
                print_table(f"Drop-ins: {name}", COLUMNS, [row.cells(count) for row in rows])
    finally:
        cnnfast.set_num_threads(None)
    if args.json:
        kept = [{"suite": name, "threads": count, **asdict(row)} for name, count, row in found]
        write_json(args.json, {"drop-ins": kept})
    if args.readme:
        about = machine.describe()
        day = datetime.date.today().isoformat()
        line = f"{about['cpu']}, {about['cores']} cores; medians, {day}."
        asked = [row.cells(count) for _, count, row in found if row.asked is not None]
        table = report.table(COLUMNS, asked)
        report.write_readme(args.readme, f"{line}\n\n{table}", mark)
    return 0
