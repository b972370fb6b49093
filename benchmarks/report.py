"""README's tables, from what ``cnnfast bench --peers`` measured."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cnnfast.benchmarks import bars, machine
from cnnfast.benchmarks.bars import Verdict
from cnnfast.benchmarks.contest import Contest, text


def mark(name: str) -> tuple[str, str]:
    """What README's tables of that name stand between."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


PEERS = mark("benchmark")


def markdown(contests: Sequence[Contest], verdicts: Sequence[Verdict]) -> str:
    """The bars, then a line per workload with every number of threads side by side."""
    return "\n\n".join([summary(contests), _bars(verdicts), _layers(contests)])


def summary(contests: Sequence[Contest]) -> str:
    """Where, when and with what."""
    about = machine.describe()
    dtypes = dict.fromkeys(one.workload.dtype for one in contests)
    peaks = {dtype: machine.fma_peak(dtype) for dtype in dtypes}
    shown = [f"{peak / 1e9:.0f} GFLOP/s in {dtype}" for dtype, peak in peaks.items() if peak]
    versions = dict.fromkeys(
        part for one in contests for e in one.entries for part in e.version.split(", ")
    )
    busy = about["busy_cores"]
    return (
        f"{about['cpu']}, {about['cores']} cores; "
        f"FMA peak of one {' and '.join(shown) or 'unknown'}, "
        f"copy {about['copy_bandwidth'] / 1e9:.0f} GB/s; {', '.join(versions)}; "
        f"medians, {datetime.date.today().isoformat()}."
        + (f" Other processes kept {busy} cores busy." if busy > 0.1 else "")
    )


def _bars(verdicts: Sequence[Verdict]) -> str:
    return table(bars.COLUMNS, [verdict.cells() for verdict in verdicts])


def _layers(contests: Sequence[Contest]) -> str:
    counts = tuple(dict.fromkeys(one.threads for one in contests))
    columns = ["layer"]
    for count in counts:
        threads = f"{count} thread{'s' if count > 1 else ''}"
        columns += [f"{threads}: ms", "GFLOP/s", "% peak", "/ best peer", "unprepared", "peer"]
    lines: dict[str, list[str]] = {}
    for one in contests:
        name = f"{one.workload.name}<br>{one.workload.title}"
        lines.setdefault(name, []).extend(_cells(one))
    return table(columns, [[name, *found] for name, found in lines.items()])


def _cells(one: Contest) -> list[str]:
    own, peer = one.own(), one.peer()
    if own is None:
        return ["failed", *[""] * 5]
    return [
        f"{own.timing.median * 1e3:.3g}",
        number(one.flops_rate(own) / 1e9),
        text(one.peak_share(own), ".0%"),
        text(one.ratio(), ".2f"),
        text(one.ratio(prepared=False), ".2f"),
        peer.name if peer else "",
    ]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Two digits at least, no more decimals than that takes.

    >>> number(123.4), number(1.234), number(0.1234)
    ('123', '1.2', '0.12')
    """
    decimals = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{decimals}f}"


def write_readme(path: Path, content: str, marks: tuple[str, str] = PEERS) -> None:
    """Put the content between the markers; ValueError if they aren't there."""
    before, after = around_markers(path, marks)
    opening, closing = marks
    path.write_text(f"{before}{opening}\n{content}\n{closing}{after}", encoding="utf-8")


def around_markers(path: Path, marks: tuple[str, str] = PEERS) -> tuple[str, str]:
    """What stands before and after the tables; ValueError without markers, or without a file."""
    try:
        whole = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from None
    opening, closing = marks
    before, opened, rest = whole.partition(opening)
    _, closed, after = rest.partition(closing)
    if not (opened and closed):
        raise ValueError(f"{path}: no {opening} ... {closing} to write between")
    return before, after
