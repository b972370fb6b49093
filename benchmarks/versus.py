"""``cnnfast bench --peers``: the default backend beside the best of all other libraries.

A line per workload and number of threads, then a verdict per bar of ``bars``.
"""

from __future__ import annotations

import argparse
import importlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cnnfast
from cnnfast.benchmarks import bars, cold_start, contenders, machine, memory, report, workloads
from cnnfast.benchmarks.bars import Verdict
from cnnfast.benchmarks.compare import print_machine, thread_counts
from cnnfast.benchmarks.contender import Contender
from cnnfast.benchmarks.contest import Contest, Entry, contest, text
from cnnfast.benchmarks.tables import print_table, write_json
from cnnfast.benchmarks.timing import LONG_SECONDS

COLUMNS = (
    ("layer", 32), ("thr", 3), ("ms", 8), ("min", 8), ("GFLOP/s", 7), ("% peak", 6), ("GB/s", 6),
    ("vs peer", 7), ("by min", 6), ("unprep.", 7), ("best peer", 0),
)  # fmt: skip
SECONDS = 0.06
THREADS = (1, 2)


@dataclass
class Outcome:
    """Everything that a run has measured so far."""

    contests: list[Contest] = field(default_factory=list)
    cold_starts: dict[str, list[float]] = field(default_factory=dict)
    memory: list[memory.MemoryRow] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        """A verdict per bar."""
        return [
            *bars.verdicts(self.contests),
            *cold_start.verdicts(self.cold_starts),
            *memory.verdicts(self.memory),
        ]


def entrants(family: str) -> list[Contender]:
    """Our default backend, plain and prepared, Numba's kernels, and all peers; here or not."""
    own = (contenders.DEFAULT, contenders.PACKED)
    chosen = [c for c in contenders.contenders(family) if c in own or c.role == "peer"]
    return [contenders.NUMBA, *chosen] if family in ("fprop", "pool") else chosen


def versus(
    layers: Sequence[str] = (),
    threads: Sequence[int] = THREADS,
    dtypes: Sequence[str] = (),
    seconds: float = SECONDS,
) -> Iterator[Contest]:
    """Our default backend against all peers; parameters as of ``compare.compare``, but that no
    layer means all of them.

    A long call of a library that runs on one thread anyway is made for the first number of threads
    alone.
    """
    chosen, counts = workloads.select(layers, dtypes), thread_counts(threads)
    taking_part = {
        family: [c for c in entrants(family) if c.missing() is None]
        for family in contenders.FAMILIES
    }
    return (
        one
        for workload in chosen
        for one in _contests(workload, counts, taking_part[workload.family], seconds)
    )


def _contests(
    workload: workloads.Workload,
    counts: Sequence[int],
    taking_part: Sequence[Contender],
    seconds: float,
) -> Iterator[Contest]:
    serial = {contender.name for contender in taking_part if not contender.parallel}
    known: list[Entry] = []
    for count in counts:
        one = contest(workload, count, taking_part, seconds, known)
        known = [e for e in one.entries if e.name in serial and e.timing.median > LONG_SECONDS]
        yield one


def cells(one: Contest) -> list[str]:
    """What a line shows, in the order of ``COLUMNS``."""
    own, peer = one.own(), one.peer()
    shown = [one.workload.name, str(one.threads)]
    if own is None:
        return [*shown, *[""] * 8, "cnnfast failed"]
    return [
        *shown,
        f"{own.timing.median * 1e3:.4g}",
        f"{own.timing.minimum * 1e3:.4g}",
        f"{one.flops_rate(own) / 1e9:.3g}",
        text(one.peak_share(own), ".0%"),
        f"{one.bytes_rate(own) / 1e9:.3g}",
        text(one.ratio(), ".2f"),
        text(one.ratio(statistic="minimum"), ".2f"),
        text(one.ratio(prepared=False), ".2f"),
        f"{peer.name} {peer.timing.median * 1e3:.4g} ms" if peer else "no peer",
    ]


def _line(values: Sequence[str]) -> str:
    (_, first), *others = COLUMNS
    padded = [f"{v:>{width}}" for v, (_, width) in zip(values[1:-1], others, strict=False)]
    return "  ".join([f"{values[0]:<{first}}", *padded, values[-1]])


def run(args: argparse.Namespace) -> int:
    """Print lines as they come, then the verdicts; an interrupt ends the measuring, not the report.

    The exit status is 1 if a call of ours failed. ValueError for an unknown layer, and for a README
    without markers, before anything runs.
    """
    if args.readme:
        report.around_markers(args.readme)
    if args.png:
        importlib.import_module("matplotlib")
    lines = versus(args.layers, args.threads or THREADS, args.dtype, args.seconds or SECONDS)
    everyone = [contender for family in contenders.FAMILIES for contender in entrants(family)]
    print_machine(args.dtype or ["float32", "float64"], everyone)
    outcome = Outcome()
    try:
        _measure(lines, outcome, args)
    except KeyboardInterrupt:
        print("interrupted: this is what was measured until now")
    finally:
        cnnfast.set_num_threads(None)
    _report(outcome, args)
    return (
        1 if any(name.startswith("cnnfast") for c in outcome.contests for name in c.failed) else 0
    )


def _measure(lines: Iterator[Contest], outcome: Outcome, args: argparse.Namespace) -> None:
    print("\nvs peer: time of the best peer over ours, weights prepared where they can be")
    print(_line([name for name, _ in COLUMNS]))
    for one in lines:
        outcome.contests.append(one)
        print(_line(cells(one)), flush=True)
        for name, message in one.failed.items():
            print(f"    without {name}: {message.splitlines()[0]}", flush=True)
    if not args.layers:
        outcome.memory = memory.memory((), args.threads or THREADS, args.dtype)
        print("\ncold start, seconds from process start to the first conv2d result")
        for name, seconds in cold_start.measure():
            outcome.cold_starts.setdefault(name, []).append(seconds)
            print(f"  {name} {seconds:.3f}", flush=True)


def _report(outcome: Outcome, args: argparse.Namespace) -> None:
    _print_refusals(outcome.contests)
    found = outcome.verdicts()
    print()
    print_table("Bars", bars.COLUMNS, [verdict.cells() for verdict in found])
    if args.json:
        document = {
            "machine": machine.describe(),
            "contests": outcome.contests,
            "cold_starts": outcome.cold_starts,
            "memory": [row._asdict() for row in outcome.memory],
            "bars": [dict(zip(bars.COLUMNS, verdict.cells(), strict=True)) for verdict in found],
        }
        write_json(args.json, document)
    if args.readme:
        report.write_readme(args.readme, report.markdown(outcome.contests, found))
    if args.png and outcome.contests:
        from cnnfast.benchmarks import roofline

        roofline.write(args.png, outcome.contests)


def _print_refusals(contests: Sequence[Contest]) -> None:
    refusals = Counter(item for one in contests for item in one.refused.items())
    for (name, reason), count in refusals.items():
        print(f"not {name}, on {count} of {len(contests)} lines: {reason}")
