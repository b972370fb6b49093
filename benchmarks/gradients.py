"""``cnnfast bench --gradients``: what a layer's two gradients cost beside its forward pass."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import cnnfast
from cnnfast.benchmarks import compare, timing, workloads
from cnnfast.benchmarks.checking import check
from cnnfast.benchmarks.contenders import DEFAULT
from cnnfast.benchmarks.tables import print_table, write_json
from cnnfast.benchmarks.workloads import ConvWorkload

COLUMNS = (
    "layer", "forward ms", "input ms", "weight ms", "input / forward", "weight / forward", "both",
    "runs",
)  # fmt: skip
FAMILIES = ("fprop", "dgrad", "wgrad")


@dataclass(frozen=True)
class GradientRow:
    """A layer's times, seconds per call (medians), and what ran."""

    layer: str
    threads: int
    forward: float
    input_gradient: float
    weight_gradient: float
    runs: tuple[str, ...]

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        times = (self.forward, self.input_gradient, self.weight_gradient)
        both = self.input_gradient + self.weight_gradient
        return [
            self.layer,
            *(f"{seconds * 1e3:.4g}" for seconds in times),
            *(f"{seconds / self.forward:.2f}" for seconds in (*times[1:], both)),
            ", ".join(self.runs),
        ]


def gradients(
    layers: Sequence[str] = (),
    threads: Sequence[int] = (),
    dtypes: Sequence[str] = (),
    seconds: float = compare.SECONDS,
) -> list[GradientRow]:
    """Time forward and gradients in turn, layer by layer; checked first.

    Parameters as ``compare.compare``; of the layers the convolutions' forward passes in NCHW.
    ValueError for an unknown layer, and for less than one thread.
    """
    counts = compare.thread_counts(threads)
    return [
        _row(layer, count, seconds)
        for layer in workloads.select(layers, dtypes, long=False)
        if isinstance(layer, ConvWorkload) and layer.family == "fprop" and not layer.channels_last
        for count in counts
    ]


def _row(layer: ConvWorkload, threads: int, seconds: float) -> GradientRow:
    calls, runs = {}, []
    for family in FAMILIES:
        workload = replace(layer, family=family)
        ready = DEFAULT.prepare(workload, workload.arrays(), threads)
        check(DEFAULT.as_array(ready.call(), workload), workload)
        calls[family] = ready.call
        runs.append(ready.runs)
    timings = timing.measure(calls, seconds)
    forward, grad_input, grad_weight = (timings[family].median for family in FAMILIES)
    return GradientRow(layer.name, threads, forward, grad_input, grad_weight, tuple(runs))


def run(args: argparse.Namespace) -> int:
    """Print the table; ValueError for an unknown layer."""
    try:
        seconds = args.seconds or compare.SECONDS
        rows = gradients(args.layers, args.threads, args.dtype, seconds)
    finally:
        cnnfast.set_num_threads(None)
    for count in dict.fromkeys(row.threads for row in rows):
        shown = [row.cells() for row in rows if row.threads == count]
        print_table(f"Gradients, {count} thread(s), medians", COLUMNS, shown)
    if args.json:
        write_json(args.json, {"rows": [asdict(row) for row in rows]})
    return 0
