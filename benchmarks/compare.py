"""``cnnfast bench``: every backend and every library on a layer, a table per layer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import cnnfast
from cnnfast.benchmarks import contenders, machine, workloads
from cnnfast.benchmarks.contender import Contender
from cnnfast.benchmarks.contest import Contest, Entry, contest, text
from cnnfast.benchmarks.tables import print_table, write_json

COLUMNS = (
    "backend", "ms", "min", "GFLOP/s", "% peak", "GB/s", "max error", "vs best peer", "by minima",
)  # fmt: skip
SECONDS = 0.3


def compare(
    layers: Sequence[str] = (),
    threads: Sequence[int] = (),
    dtypes: Sequence[str] = (),
    backends: Sequence[str] = (),
    seconds: float = SECONDS,
) -> Iterator[Contest]:
    """Compare contenders layer by layer.

    Parameters
    ----------
    layers : names or tags of ``workloads.toml``; by default all but those tagged "long"
    threads : numbers of threads; by default what cnnfast uses
    dtypes : "float32", "float64"; by default each workload's own
    backends : parts of contenders' names ("tiled", "cython", "torch"); all by default
    seconds : time per contender and layer, about

    Raises
    ------
    ValueError
        For an unknown layer or backend, and for less than one thread, before anything runs.
    """
    chosen = workloads.select(layers, dtypes, long=False)
    counts = thread_counts(threads)
    entrants = {family: here(family, backends) for family in contenders.FAMILIES}
    return (
        contest(workload, count, entrants[workload.family], seconds)
        for workload in chosen
        for count in counts
        if entrants[workload.family]
    )


def thread_counts(threads: Sequence[int]) -> tuple[int, ...]:
    """The numbers of threads that were asked for; ValueError for less than one."""
    counts = tuple(threads) or (cnnfast.get_num_threads(),)
    if min(counts) < 1:
        raise ValueError(f"threads must be at least 1, got {min(counts)}")
    return counts


def here(family: str, backends: Sequence[str] = ()) -> list[Contender]:
    """The contenders of a family that can run on this machine."""
    return [c for c in contenders.select(backends, family) if c.missing() is None]


def run(args: argparse.Namespace) -> int:
    """Print a table per layer; the exit status is 1 if a backend failed.

    ValueError for an unknown layer or backend.
    """
    seconds = args.seconds or SECONDS
    contests = compare(args.layers, args.threads, args.dtype, args.backends, seconds)
    entrants = [c for f in contenders.FAMILIES for c in contenders.select(args.backends, f)]
    print_machine(args.dtype or ["float32"], entrants)
    done = []
    try:
        for one in contests:
            _print_contest(one)
            done.append(one)
    finally:
        cnnfast.set_num_threads(None)
    if args.json:
        write_json(args.json, {"machine": machine.describe(), "contests": done})
    return 1 if any(one.failed for one in done) else 0


def print_machine(dtypes: Sequence[str], entrants: Sequence[Contender]) -> None:
    """What runs where, whether the machine is quiet enough, and what isn't installed."""
    about = machine.describe()
    print(f"{about['cpu']}, {about['cores']} cores, {about['system']}, Python {about['python']}")
    peaks = {dtype: machine.fma_peak(dtype) for dtype in dtypes}
    shown = [
        f"{text(peak and peak / 1e9, '.1f') or '?'} ({dtype})" for dtype, peak in peaks.items()
    ]
    print(
        f"FMA peak per core, GFLOP/s: {', '.join(shown)}; "
        f"copy {about['copy_bandwidth'] / 1e9:.1f} GB/s"
    )
    if about["busy_cores"] > 0.1:
        print(f"other processes keep {about['busy_cores']} cores busy: the times mislead")
    if not machine.pin_blas(cnnfast.get_num_threads()):
        print("threadpoolctl isn't installed: NumPy's BLAS runs on as many threads as it likes")
    print("; ".join(dict.fromkeys(c.version() for c in entrants if c.missing() is None)))
    missing = {c.name: c.missing() for c in entrants if c.missing() is not None}
    for name, reason in missing.items():
        print(f"skipped {name}: {reason}")


def _print_contest(one: Contest) -> None:
    threads = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    title = f"{one.workload.name}: {one.workload.title}, {threads}"
    rows = sorted(one.entries, key=lambda entry: entry.timing.median)
    print()
    print_table(title, COLUMNS, [_cells(one, entry) for entry in rows])
    reasons: dict[str, list[str]] = {}
    for name, reason in one.refused.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        print(f"  without {', '.join(names)}: {reason}")
    for name, message in one.failed.items():
        print(f"  FAILED {name}: {message}")


def _cells(one: Contest, entry: Entry) -> list[str]:
    """What the table shows, in the order of ``COLUMNS``."""
    by_median, by_minimum = one.peer(), one.peer(statistic="minimum")
    timing = entry.timing
    name = f"{entry.name} ({entry.runs})" if entry.name == contenders.DEFAULT.name else entry.name
    return [
        name,
        f"{timing.median * 1e3:.4g}",
        f"{timing.minimum * 1e3:.4g}",
        f"{one.flops_rate(entry) / 1e9:.3g}",
        text(one.peak_share(entry), ".0%"),
        f"{one.bytes_rate(entry) / 1e9:.3g}",
        f"{entry.max_error:.1e}",
        f"{by_median.timing.median / timing.median:.2f}" if by_median else "",
        f"{by_minimum.timing.minimum / timing.minimum:.2f}" if by_minimum else "",
    ]
