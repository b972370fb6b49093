"""``cnnfast bench``: contenders side by side, in turn, in one process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cnnfast
from cnnfast.benchmarks import contenders, gradients, machine, timing, workloads
from cnnfast.benchmarks.checking import check
from cnnfast.benchmarks.contender import Contender, Prepared
from cnnfast.benchmarks.tables import print_table
from cnnfast.benchmarks.workloads import Workload

COLUMNS = (
    "backend", "ms", "min", "GFLOP/s", "% peak", "GB/s", "max error", "vs best peer", "by minima",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One contender on one layer; times in seconds per call."""

    layer: str
    backend: str
    runs: str
    role: str
    version: str
    threads: int
    dtype: str
    median: float
    minimum: float
    calls: int
    flops: int
    bytes: int
    max_error: float
    #: FLOP/s over the measured peak of that many cores; None for pooling, or without a probe.
    peak_fraction: float | None
    #: Median of the fastest other library over this one, and the same of the minima: above 1 is
    #: faster than it.
    versus_peer: float | None
    versus_peer_minimum: float | None

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        name = f"{self.backend} ({self.runs})" if "default" in self.backend else self.backend
        return [
            name,
            f"{self.median * 1e3:.4g}",
            f"{self.minimum * 1e3:.4g}",
            f"{self.flops / self.median / 1e9:.3g}",
            _text(self.peak_fraction, ".0%"),
            f"{self.bytes / self.median / 1e9:.3g}",
            f"{self.max_error:.1e}",
            _text(self.versus_peer, ".2f"),
            _text(self.versus_peer_minimum, ".2f"),
        ]


@dataclass(frozen=True)
class Comparison:
    """One layer on one number of threads: rows from fast to slow, and who isn't among them."""

    workload: Workload
    threads: int
    rows: tuple[Row, ...]
    #: Name -> reason, of contenders that don't take the layer, and that raised or got it wrong.
    refused: dict[str, str]
    failed: dict[str, str]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def compare(
    layers: Sequence[str] = (),
    threads: Sequence[int] = (),
    dtype: str = "float32",
    backends: Sequence[str] = (),
    seconds: float = 0.3,
) -> Iterator[Comparison]:
    """Compare contenders layer by layer.

    Parameters
    ----------
    layers : names or tags of ``workloads.toml``; all by default
    threads : numbers of threads; by default what cnnfast uses
    dtype : "float32" or "float64"
    backends : parts of contenders' names ("tiled", "cython", "torch"); all by default
    seconds : time per contender and layer, about

    Raises
    ------
    ValueError
        For an unknown layer or backend, and for less than one thread, before anything runs.
    """
    chosen = workloads.select(layers)
    counts = tuple(threads) or (cnnfast.get_num_threads(),)
    if min(counts) < 1:
        raise ValueError(f"threads must be at least 1, got {min(counts)}")
    entrants = {family: _here(family, backends) for family in contenders.FAMILIES}
    return (
        _compare_layer(workload, count, dtype, entrants[workload.family], seconds)
        for workload in chosen
        for count in counts
        if entrants[workload.family]
    )


def _here(family: str, backends: Sequence[str]) -> list[Contender]:
    return [c for c in contenders.select(backends, family) if c.missing() is None]


def _compare_layer(
    workload: Workload, threads: int, dtype: str, entrants: Sequence[Contender], seconds: float
) -> Comparison:
    arrays = workload.arrays(dtype)
    prepared: dict[Contender, Prepared] = {}
    errors: dict[Contender, float] = {}
    refused: dict[str, str] = {}
    failed: dict[str, str] = {}
    for contender in entrants:
        reason = contender.refuses(workload, dtype)
        if reason is not None:
            refused[contender.name] = reason
            continue
        try:
            ready = contender.prepare(workload, arrays, threads)
            errors[contender] = check(contender.as_array(ready.call()), workload, dtype)
        except Exception as error:
            failed[contender.name] = f"{type(error).__name__}: {error}"
        else:
            prepared[contender] = ready
    timings = timing.measure({c.name: ready.call for c, ready in prepared.items()}, seconds)
    rows = _rows(workload, threads, dtype, prepared, errors, timings)
    return Comparison(workload, threads, rows, refused, failed)


def _rows(
    workload: Workload,
    threads: int,
    dtype: str,
    prepared: Mapping[Contender, Prepared],
    errors: Mapping[Contender, float],
    timings: Mapping[str, timing.Timing],
) -> tuple[Row, ...]:
    geometry = workload.geometry(dtype)
    peak = machine.fma_peak(dtype) if workload.family == "fprop" else None
    peers = [timings[contender.name] for contender in prepared if contender.role == "peer"]
    best_median = min((peer.median for peer in peers), default=None)
    best_minimum = min((peer.minimum for peer in peers), default=None)
    rows = []
    for contender, ready in prepared.items():
        timed = timings[contender.name]
        row = Row(
            layer=workload.name,
            backend=contender.name,
            runs=ready.runs,
            role=contender.role,
            version=contender.version(),
            threads=threads,
            dtype=dtype,
            median=timed.median,
            minimum=timed.minimum,
            calls=timed.calls,
            flops=geometry.flops,
            bytes=geometry.bytes_moved,
            max_error=errors[contender],
            peak_fraction=peak and geometry.flops / timed.median / (peak * threads),
            versus_peer=best_median and best_median / timed.median,
            versus_peer_minimum=best_minimum and best_minimum / timed.minimum,
        )
        rows.append(row)
    return tuple(sorted(rows, key=lambda row: row.median))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``cnnfast bench``."""
    parser.add_argument(
        "--layers",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"layers by name or tag ({', '.join(workloads.tags())}); all by default",
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[], metavar="N", help="numbers of threads"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--backends",
        nargs="+",
        default=[],
        metavar="NAME",
        help="parts of names, such as tiled, cython, default, torch; all by default",
    )
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="per backend and layer, about (default 0.3)"
    )
    parser.add_argument(
        "--gradients",
        action="store_true",
        help="instead: gradients of the convolution layers, compared with their forward pass",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")


def run(args: argparse.Namespace) -> int:
    """Print a table per layer; the exit status is 1 if a backend failed.

    ValueError for an unknown layer or backend.
    """
    if args.gradients:
        return gradients.run(args)
    comparisons = compare(args.layers, args.threads, args.dtype, args.backends, args.seconds)
    _print_machine(args.dtype, args.backends)
    done = []
    try:
        for comparison in comparisons:
            _print_comparison(comparison)
            done.append(comparison)
    finally:
        cnnfast.set_num_threads(None)
    if args.json:
        args.json.write_text(json.dumps(_document(done, args.dtype), indent=1) + "\n")
    return 1 if any(comparison.failed for comparison in done) else 0


def _print_machine(dtype: str, backends: Sequence[str]) -> None:
    about = machine.describe(dtype)
    peak = about["fma_peak"]
    print(f"{about['cpu']}, {about['cores']} cores, {about['system']}, Python {about['python']}")
    print(
        f"FMA peak {f'{peak / 1e9:.1f} GFLOP/s' if peak else 'unknown'} per core ({dtype}), "
        f"copy {about['copy_bandwidth'] / 1e9:.1f} GB/s"
    )
    if about["busy_cores"] > 0.1:
        print(f"other processes keep {about['busy_cores']} cores busy: the times mislead")
    if not machine.pin_blas(cnnfast.get_num_threads()):
        print("threadpoolctl isn't installed: NumPy's BLAS runs on as many threads as it likes")
    entrants = [c for family in contenders.FAMILIES for c in contenders.select(backends, family)]
    versions = dict.fromkeys(c.version() for c in entrants if c.missing() is None)
    print("; ".join(versions))
    missing = {c.name: c.missing() for c in entrants if c.missing() is not None}
    for name, reason in missing.items():
        print(f"skipped {name}: {reason}")


def _print_comparison(comparison: Comparison) -> None:
    workload = comparison.workload
    threads = f"{comparison.threads} thread{'s' if comparison.threads > 1 else ''}"
    title = f"{workload.name}: {workload.title}, {threads}"
    print()
    print_table(title, COLUMNS, [row.cells() for row in comparison.rows])
    reasons: dict[str, list[str]] = {}
    for name, reason in comparison.refused.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        print(f"  without {', '.join(names)}: {reason}")
    for name, message in comparison.failed.items():
        print(f"  FAILED {name}: {message}")


def _document(comparisons: Sequence[Comparison], dtype: str) -> dict[str, Any]:
    return {
        "machine": machine.describe(dtype),
        "rows": [asdict(row) for comparison in comparisons for row in comparison.rows],
        "failed": [
            {"layer": comparison.workload.name, "backend": name, "message": message}
            for comparison in comparisons
            for name, message in comparison.failed.items()
        ],
    }
