"""The roofline: each layer's arithmetic intensity and rate under what the machine allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnfast.benchmarks import machine
from cnnfast.benchmarks.contest import Contest

#: Groups that have points, each in a colour of its own; a layer belongs to the first that it has.
GROUPS = ("grouped", "few-channel", "dense", "image", "pool", "1d", "3d", "tiny")
DTYPE = "float32"


def points(contests: Sequence[Contest], threads: int) -> dict[str, list[Contest]]:
    """Group -> forward passes in float32 on that many threads."""
    groups: dict[str, list[Contest]] = {}
    for one in contests:
        workload = one.workload
        group = next((group for group in GROUPS if group in workload.tags), None)
        if group and one.own() and (one.threads, workload.dtype) == (threads, DTYPE):
            groups.setdefault(group, []).append(one)
    return groups


def write(path: Path, contests: Sequence[Contest], threads: int | None = None) -> None:
    """Write a PNG: own points filled, the best peer's hollow above or below them.

    ``threads`` is the first number of threads there is by default.
    """
    from matplotlib.figure import Figure

    count = contests[0].threads if threads is None else threads
    groups = points(contests, count)
    shown = [one for group in groups.values() for one in group]
    numbers = {one.workload.name: i for i, one in enumerate(shown, 1)}
    figure = Figure(figsize=(13, max(7.0, 1.5 + 0.19 * len(shown))), layout="constrained")
    axes, names = figure.subplots(1, 2, width_ratios=(4, 1))
    _draw_roofs(axes, shown, count)
    lines = []
    for i, (group, members) in enumerate(groups.items()):
        _draw_group(axes, members, numbers, f"C{i}", group)
        lines += [(f"{numbers[one.workload.name]} {one.workload.name}", f"C{i}") for one in members]
    names.axis("off")
    for row, (name, colour) in enumerate(lines):
        height = 1 - (row + 0.5) / max(len(lines), 1)
        names.text(0, height, name, color=colour, fontsize=8, va="center")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("FLOP per byte moved (operands and result once each)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(
        f"{DTYPE}, {count} thread{'s' if count > 1 else ''}: "
        "filled cnnfast, hollow the best other library"
    )
    axes.grid(True, which="major", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


def _draw_roofs(axes: Any, shown: Sequence[Contest], threads: int) -> None:
    peak = machine.fma_peak(DTYPE)
    bandwidth = machine.copy_bandwidth(threads)
    intensities = [_intensity(one) for one in shown] or [1.0]
    low, high = min(intensities) / 2, max(intensities) * 2
    if peak is None:
        axes.plot([low, high], [bandwidth * low / 1e9, bandwidth * high / 1e9], "k-")
        return
    top = peak * threads
    ridge = top / bandwidth
    corners = np.array(sorted({low, min(max(ridge, low), high), high}))
    axes.plot(corners, np.minimum(top, bandwidth * corners) / 1e9, "k-", linewidth=1)
    axes.text(high, top / 1e9 * 1.03, f"FMA peak {top / 1e9:.0f} GFLOP/s", ha="right", va="bottom")
    label = f"copy {bandwidth / 1e9:.0f} GB/s"
    axes.text(low * 1.4, bandwidth * low / 1e9, label, ha="left", va="top")


def _draw_group(
    axes: Any, members: Sequence[Contest], numbers: dict[str, int], colour: str, group: str
) -> None:
    for i, one in enumerate(members):
        own, peer = one.own(), one.peer()
        if own is None:
            continue
        x, y = _intensity(one), one.flops_rate(own) / 1e9
        if peer is not None:
            best = one.flops_rate(peer) / 1e9
            axes.plot([x, x], [y, best], "-", color=colour, linewidth=0.6, alpha=0.6)
            axes.plot(x, best, "o", markerfacecolor="none", markeredgecolor=colour, markersize=5)
        axes.plot(x, y, "o", color=colour, markersize=5, label=None if i else group)
        place = {"xytext": (4, 2), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(str(numbers[one.workload.name]), (x, y), color=colour, **place)


def _intensity(one: Contest) -> float:
    return one.workload.flops / one.workload.bytes_moved
