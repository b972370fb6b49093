"""What was found, as Markdown: failures, bars, and a line for each layer and family."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from cnnfast.benchmarks import bars
from cnnfast.benchmarks.bars import Bar, Figure, Verdict
from cnnfast.benchmarks.on_gpu import ceilings
from cnnfast.benchmarks.on_gpu.contests import OURS, PEER
from cnnfast.benchmarks.report import number, table

Item = dict[str, Any]
#: Operations from which a layer counts as large: those of ``bars`` at batch 32.
LARGE_FLOPS = 32 * bars.LARGE_FLOPS
#: Failures that are printed.
SHOWN = 30
CALL = "conv2d, torch tensors"


class Asked(NamedTuple):
    """A bar, the items that count, and their figure: "torch", "peak" or "copy"."""

    bar: Bar
    counts: Callable[[Item], bool]
    figure: str


def _of(mode: str, *families: str) -> Callable[[Item], bool]:
    return lambda item: (
        item["mode"] == mode and item["family"] in families and item["group"] != "depthwise"
    )


def _depthwise(item: Item) -> bool:
    return (item["group"], item["family"], item["mode"]) == ("depthwise", "fprop", "fp32")


def _pools(item: Item) -> bool:
    return (item["family"], item["mode"]) == ("pool", "fp32")


def _large(item: Item) -> bool:
    return _of("fp32", "fprop")(item) and item["flops"] > LARGE_FLOPS


BARS: tuple[Asked, ...] = (
    Asked(Bar("fp32 / torch", 0.8), _of("fp32", "fprop"), "torch"),
    Asked(Bar("fp32, large layers, of peak", worst=0.6, form=".0%"), _large, "peak"),
    Asked(Bar("tf32 / torch", 0.6), _of("tf32", "fprop"), "torch"),
    Asked(Bar("fp16 / torch", 0.6), _of("fp16", "fprop"), "torch"),
    Asked(Bar("depthwise / torch", 1.0), _depthwise, "torch"),
    Asked(Bar("depthwise, of copy", worst=0.7, form=".0%"), _depthwise, "copy"),
    Asked(Bar("pooling / torch", 1.0), _pools, "torch"),
    Asked(Bar("pooling, of copy", worst=0.7, form=".0%"), _pools, "copy"),
    *(
        Asked(Bar(f"{family} {mode} / torch"), _of(mode, family), "torch")
        for family in ("dgrad", "wgrad")
        for mode in ("fp32", "tf32", "fp16")
    ),
    Asked(Bar("pooling's gradients / torch"), _of("fp32", "pool_grad"), "torch"),
)


def markdown(found: dict[str, Any]) -> str:
    """Everything but the failures."""
    limits = ceilings.measured(_items(found, "ceilings"))
    times = [item for item in _items(found, "times") if item["status"] == "ok"]
    parts = [
        headline(found, limits),
        table(bars.COLUMNS, [verdict.cells() for verdict in verdicts(found, times, limits)]),
        table(("host time of a call", "us, median", "us, least"), _overheads(found)),
        layers(times, limits),
    ]
    return "\n\n".join(parts)


def headline(found: dict[str, Any], limits: dict[str, float]) -> str:
    """The card, when, with what, and what it reaches."""
    about: Item = next((item for item in _items(found, "machine") if item["item"] == "machine"), {})
    packages = about.get("packages", {})
    versions = [
        f"{name} {packages[name]}" for name in ("torch", "numba-cuda") if packages.get(name)
    ]
    cuda = about.get("driver", {})
    reached = [
        f"{name} {rate / 1e12:.1f} {'TB/s' if name == 'copy' else 'TFLOP/s'}"
        for name, rate in limits.items()
    ]
    words = [
        about.get("card", "unknown card"), f"driver {cuda.get('nvidia-smi', '')}".strip(),
        *versions, f"measured here: {', '.join(reached) or 'nothing'}",
        f"medians, {datetime.date.today().isoformat()}",
    ]  # fmt: skip
    return "; ".join(words) + "."


def failures(found: dict[str, Any]) -> list[str]:
    """A line for each failure, of the first of them."""
    lines = []
    for name, result in found.items():
        for item in result["items"]:
            if item["status"] in ("failed", "hung", "crashed"):
                said = str(item.get("error", "")).strip().splitlines() or [""]
                lines.append(f"{name}: {item['item']} {item['status']}: {said[-1][:300]}")
            lines += [f"{name}: {item['item']}, {row}: {why[:300]}"
                      for row, why in item.get("failed", {}).items()]  # fmt: skip
        if result["broken"]:
            lines.append(f"{name}: {result['broken'][-300:]}")
    more = [f"... and {len(lines) - SHOWN} more, in the JSON"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more


def spills(found: dict[str, Any]) -> list[str]:
    """Entries that have local memory, and how much."""
    return [
        f"{item['item']}: {item['local']} bytes of local memory, {item['registers']} registers"
        for item in _items(found, "machine")
        if item.get("local")
    ]


def verdicts(
    found: dict[str, Any], times: Sequence[Item], limits: dict[str, float]
) -> list[Verdict]:
    """The bars that have figures."""
    judged = [bars.judge(asked.bar, _figures(asked, times, limits)) for asked in BARS]
    calls = [
        Figure(item["item"], 1e6 * item["median"], 1e6 * item["minimum"])
        for item in _items(found, "overhead")
        if item["item"] == CALL and item["status"] == "ok"
    ]
    judged.append(bars.judge(Bar("microseconds of a call", worst=10.0, most=True), calls))
    return [verdict for verdict in judged if verdict is not None]


def _figures(asked: Asked, times: Iterable[Item], limits: dict[str, float]) -> list[Figure]:
    figures = []
    for item in filter(asked.counts, times):
        values = [figure(item, asked.figure, limits, which) for which in ("median", "minimum")]
        if values[0] is not None and values[1] is not None:
            figures.append(Figure(item["item"], values[0], values[1]))
    return figures


def figure(item: Item, what: str, limits: dict[str, float], which: str = "median") -> float | None:
    """Time of torch over ours ("torch"), our share of the arithmetic's ("peak") or the copy's
    ceiling; None where something is missing."""
    ours = item["times"].get(OURS)
    if ours is None or not ours[which]:
        return None
    seconds = float(ours[which])
    if what == "torch":
        peer = item["times"].get(PEER)
        return float(peer[which]) / seconds if peer else None
    limit = limits.get("copy" if what == "copy" else item["mode"])
    amount = item["bytes"] if what == "copy" else item["flops"]
    if limit is None or (what == "peak" and item["pool"]):
        return None
    return float(amount / seconds / limit)


COLUMNS = (
    "layer", "", "row", "ms", "TFLOP/s", "% peak", "GB/s", "% copy", "/ torch",
    "tf32: ms", "% peak", "/ torch", "fp16: ms", "% peak", "/ torch",
)  # fmt: skip


def layers(times: Sequence[Item], limits: dict[str, float]) -> str:
    """A line for each layer and family, in fp32, tf32 and fp16."""
    lines: dict[tuple[str, str], dict[str, Item]] = {}
    for item in times:
        lines.setdefault((item["layer"], item["family"]), {})[item["mode"]] = item
    rows = []
    for (layer, family), by_mode in lines.items():
        cells = [layer, family, *_cells(by_mode.get("fp32"), limits)]
        for mode in ("tf32", "fp16"):
            short = _cells(by_mode.get(mode), limits)
            cells += [short[1], short[3], short[6]]
        rows.append(cells)
    return table(COLUMNS, rows)


def _cells(item: Item | None, limits: dict[str, float]) -> list[str]:
    """Row, ms, TFLOP/s, % of peak, GB/s, % of copy, ratio to torch."""
    if item is None or OURS not in item["times"]:
        return [""] * 7
    seconds = item["times"][OURS]["median"]
    shares = [figure(item, what, limits) for what in ("peak", "copy", "torch")]
    peak, copy = ("" if share is None else f"{share:.0%}" for share in shares[:2])
    return [
        item["runs"], f"{1e3 * seconds:.3g}",
        "" if item["pool"] else number(item["flops"] / seconds / 1e12), peak,
        number(item["bytes"] / seconds / 1e9), copy,
        "" if shares[2] is None else f"{shares[2]:.2f}",
    ]  # fmt: skip


def _overheads(found: dict[str, Any]) -> list[list[str]]:
    return [
        [item["item"], f"{1e6 * item['median']:.1f}", f"{1e6 * item['minimum']:.1f}"]
        for item in _items(found, "overhead")
        if item["status"] == "ok" and "median" in item
    ]


def _items(found: dict[str, Any], section: str) -> list[Item]:
    return list(found.get(section, {}).get("items", []))
