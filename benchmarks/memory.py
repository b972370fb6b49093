"""``cnnfast bench --memory``: scratch of the default backend beside what the layer itself takes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import cnnfast
from cnnfast.benchmarks import contenders, workloads
from cnnfast.benchmarks.bars import LARGE_FLOPS, Bar, Figure, Verdict, judge
from cnnfast.benchmarks.compare import thread_counts
from cnnfast.benchmarks.contenders import Own
from cnnfast.benchmarks.tables import print_table, write_json
from cnnfast.benchmarks.workloads import Workload

COLUMNS = (
    "layer", "threads", "input + output", "scratch", "of it", "with packed weight", "of it", "runs",
)  # fmt: skip
BARS = {
    "forward": Bar("scratch of input + output, above 200 MFLOP", worst=0.25, most=True, form=".0%"),
    # Their weights are packed in the call, and count.
    "gradient": Bar("the same of gradients", most=True, form=".0%"),
}


class MemoryRow(NamedTuple):
    """Bytes, as ``explain`` states them."""

    layer: str
    threads: int
    data: int
    scratch: int
    #: With a weight from ``pack_weight``, which is counted apart; None of gradients.
    packed_scratch: int | None
    runs: str

    @property
    def share(self) -> float:
        """Scratch over input and output, prepared weights counted apart."""
        scratch = self.scratch if self.packed_scratch is None else self.packed_scratch
        return scratch / self.data

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        packed = self.packed_scratch
        return [
            self.layer,
            str(self.threads),
            f"{self.data:,}",
            f"{self.scratch:,}",
            f"{self.scratch / self.data:.0%}",
            "" if packed is None else f"{packed:,}",
            "" if packed is None else f"{packed / self.data:.0%}",
            self.runs,
        ]


def memory(
    layers: Sequence[str] = (), threads: Sequence[int] = (), dtypes: Sequence[str] = ()
) -> list[MemoryRow]:
    """The scratch of the large ones of these layers; ValueError for an unknown layer."""
    chosen = [w for w in workloads.select(layers, dtypes) if w.flops > LARGE_FLOPS]
    try:
        return [_row(workload, count) for workload in chosen for count in thread_counts(threads)]
    finally:
        cnnfast.set_num_threads(None)


def _row(workload: Workload, threads: int) -> MemoryRow:
    cnnfast.set_num_threads(threads)
    itemsize = workload.geometry.dtype.itemsize
    data = math.prod(workload.input) + math.prod(workload.geometry.out_shape)
    scratch, runs = _scratch(contenders.DEFAULT, workload)
    packed = None
    if workload.family == "fprop":
        packed, _ = _scratch(contenders.PACKED, workload)
    return MemoryRow(workload.name, threads, data * itemsize, scratch, packed, runs)


def _scratch(contender: Own, workload: Workload) -> tuple[int, str]:
    arrays = tuple(np.zeros(shape, workload.dtype) for shape in workload.shapes)
    call = contender.bound(workload, arrays)
    plan = cnnfast.explain(call.func, *call.args, **call.keywords)
    scratch = max(part.scratch_bytes for part in (plan, *plan.besides))
    return scratch, f"{plan.algorithm}/{plan.engine}"


def verdicts(rows: Sequence[MemoryRow]) -> list[Verdict]:
    """Forward passes' and gradients', per number of threads."""
    groups: dict[tuple[str, int], list[Figure]] = {}
    for row in sorted(rows, key=lambda row: row.packed_scratch is None):
        group = "gradient" if row.packed_scratch is None else "forward"
        figure = Figure(row.layer, row.share, row.share)
        groups.setdefault((group, row.threads), []).append(figure)
    found = [judge(BARS[group], figures, str(n)) for (group, n), figures in groups.items()]
    return [verdict for verdict in found if verdict is not None]


def run(args: argparse.Namespace) -> int:
    """Print the table; ValueError for an unknown layer."""
    rows = memory(args.layers, args.threads, args.dtype)
    print_table("Extra memory of the default backend, bytes", COLUMNS, [r.cells() for r in rows])
    if args.json:
        write_json(args.json, {"memory": [row._asdict() for row in rows]})
    return 0
