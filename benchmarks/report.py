"""pytest-benchmark's JSON as README's tables and a chart.

``pytest --benchmark-only --benchmark-json=results.json``, then
``python -m cnnfast.benchmarks.report results.json --readme README.md --png benchmark.png``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPEN, CLOSE = "<!-- benchmark -->", "<!-- /benchmark -->"
#: Families with the unit and the measure of their tables.
MEASURES: dict[str, tuple[str, Callable[[Result], float]]] = {
    "fprop": ("GFLOP/s", lambda result: result.flops / result.seconds / 1e9),
    "pool": ("GB/s", lambda result: result.bytes / result.seconds / 1e9),
}


@dataclass(frozen=True)
class Result:
    """One case: a layer on one backend, in seconds per call."""

    layer: str
    title: str
    family: str
    backend: str
    role: str
    version: str
    threads: int
    flops: int
    bytes: int
    seconds: float

    @property
    def column(self) -> str:
        """Our rows by algorithm, other libraries by name: the fastest engine or variant of each."""
        words = self.backend.split()
        if self.role == "peer":
            return words[0]
        algorithm, _, engine = words[1].partition("/")
        return engine if self.role == "baseline" else algorithm


@dataclass(frozen=True)
class Results:
    """The cases of one run, and what is known of the machine."""

    cases: tuple[Result, ...]
    machine: dict[str, Any]
    date: str
    statistic: str

    @classmethod
    def load(cls, path: Path, statistic: str = "median") -> Results:
        """From pytest-benchmark's JSON; ValueError if no case in it is ours.

        ``statistic`` is what stands for a case: the "median" of its rounds, or the "min".
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        names = set(Result.__dataclass_fields__) - {"seconds"}
        cases = tuple(
            Result(
                **{name: case["extra_info"][name] for name in names},
                seconds=case["stats"][statistic],
            )
            for case in data["benchmarks"]
            if names <= case["extra_info"].keys()
        )
        if not cases:
            raise ValueError(f"{path}: no benchmark of cnnfast in it")
        return cls(cases, data["machine_info"]["measured"], data["datetime"][:10], statistic)

    def layers(self, family: str) -> dict[str, list[Result]]:
        """The cases of a family by layer, in the order they ran."""
        found: dict[str, list[Result]] = {}
        for case in self.cases:
            if case.family == family:
                found.setdefault(case.layer, []).append(case)
        return found

    def columns(self, family: str) -> list[str]:
        """The columns of a family's table: our own, then the others'."""
        cases = [case for case in self.cases if case.family == family]
        ordered = sorted(cases, key=lambda case: case.role == "peer")
        return list(dict.fromkeys(case.column for case in ordered))

    def summary(self) -> str:
        """Where, when and with what."""
        peak = self.machine["fma_peak"]
        fma = f"{peak / 1e9:.0f} GFLOP/s" if peak else "unknown"
        threads = " or ".join(dict.fromkeys(str(case.threads) for case in self.cases))
        parts = {part: None for case in self.cases for part in case.version.split(", ")}
        busy = self.machine["busy_cores"]
        return (
            f"{self.machine['cpu']}, {threads} threads, FMA peak of one core {fma}, "
            f"copy {self.machine['copy_bandwidth'] / 1e9:.0f} GB/s; {', '.join(parts)}; "
            f"float32, {self.statistic} of each case, {self.date}."
            + (f" Other processes kept {busy} cores busy." if busy > 0.1 else "")
        )


def fastest(cases: Iterable[Result]) -> Result | None:
    """The fastest of the cases, None of none."""
    return min(cases, key=lambda case: case.seconds, default=None)


def in_column(cases: Sequence[Result], column: str) -> Result | None:
    """The fastest of the cases in that column."""
    return fastest(case for case in cases if case.column == column)


def versus(cases: Sequence[Result]) -> float | None:
    """Time of the best other library over the best of our own."""
    own = fastest(case for case in cases if case.role == "own")
    peer = fastest(case for case in cases if case.role == "peer")
    return None if own is None or peer is None else peer.seconds / own.seconds


def markdown(results: Results) -> str:
    """Every family's table, the best of each row in bold."""
    blocks = [results.summary()]
    for family, (unit, measure) in MEASURES.items():
        layers, columns = results.layers(family), results.columns(family)
        if not layers:
            continue
        lines = [
            "| " + " | ".join([unit, *columns, "best own / best peer"]) + " |",
            "|---" + "|---:" * (len(columns) + 1) + "|",
        ]
        for layer, cases in layers.items():
            quickest = min(case.seconds for case in cases)
            cells = [f"{layer}<br>{cases[0].title}"]
            for column in columns:
                case = in_column(cases, column)
                text = "" if case is None else number(measure(case))
                cells.append(f"**{text}**" if case and case.seconds == quickest else text)
            ratio = versus(cases)
            cells.append("" if ratio is None else f"{ratio:.2f}")
            lines.append("| " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def number(value: float) -> str:
    """Two digits at least, no more decimals than that takes.

    >>> number(123.4), number(1.234), number(0.1234)
    ('123', '1.2', '0.12')
    """
    decimals = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{decimals}f}"


def write_readme(path: Path, text: str) -> None:
    """Put the text between the markers; ValueError if they aren't there."""
    content = path.read_text(encoding="utf-8")
    before, opening, rest = content.partition(OPEN)
    _, closing, after = rest.partition(CLOSE)
    if not (opening and closing):
        raise ValueError(f"{path}: no {OPEN} ... {CLOSE} to write between")
    path.write_text(f"{before}{OPEN}\n{text}\n{CLOSE}{after}", encoding="utf-8")


def write_chart(path: Path, results: Results) -> None:
    """Bars per convolution layer: the best of our own, and each library that takes most layers."""
    from matplotlib.figure import Figure

    unit, measure = MEASURES["fprop"]
    layers = results.layers("fprop")
    series = {
        "cnnfast, best row": [
            fastest(case for case in cases if case.role == "own") for cases in layers.values()
        ]
    }
    for peer in dict.fromkeys(case.column for case in results.cases if case.role == "peer"):
        bars = [in_column(cases, peer) for cases in layers.values()]
        if 2 * sum(bar is not None for bar in bars) >= len(bars):
            series[peer] = bars
    height = 0.8 / len(series)
    figure = Figure(figsize=(9, 1.5 + 0.35 * len(layers)), layout="constrained")
    axes = figure.subplots()
    for i, (name, bars) in enumerate(series.items()):
        places = [row + (i - (len(series) - 1) / 2) * height for row in range(len(layers))]
        values = [measure(bar) if bar else 0.0 for bar in bars]
        axes.barh(places, values, height, label=name)
    peak, threads = results.machine["fma_peak"], results.cases[0].threads
    if peak:
        axes.axvline(peak * threads / 1e9, color="black", linestyle=":", label="FMA peak")
    axes.set_yticks(range(len(layers)), list(layers))
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit}, {threads} threads")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, or write them and the chart where asked."""
    parser = argparse.ArgumentParser(prog="python -m cnnfast.benchmarks.report")
    parser.add_argument("results", type=Path, help="JSON of pytest --benchmark-json")
    parser.add_argument("--readme", type=Path, metavar="FILE", help=f"replace {OPEN} ... {CLOSE}")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a bar chart")
    parser.add_argument("--statistic", choices=("median", "min"), default="median")
    args = parser.parse_args(argv)
    try:
        results = Results.load(args.results, args.statistic)
        text = markdown(results)
        if args.readme:
            write_readme(args.readme, text)
        else:
            print(text)
        if args.png:
            write_chart(args.png, results)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
