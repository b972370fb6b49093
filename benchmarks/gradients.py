"""``cnnfast bench --gradients``: what a layer's two gradients cost beside its forward pass."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cnnfast
from cnnfast.benchmarks import timing, workloads
from cnnfast.benchmarks.checking import WrongResultError
from cnnfast.benchmarks.tables import print_table
from cnnfast.benchmarks.workloads import Array, ConvWorkload

COLUMNS = (
    "layer", "forward ms", "input ms", "weight ms", "input / forward", "weight / forward", "both",
    "runs",
)  # fmt: skip


@dataclass(frozen=True)
class GradientRow:
    """A layer's times, seconds per call (medians), and what ran."""

    layer: str
    threads: int
    dtype: str
    forward: float
    input_gradient: float
    weight_gradient: float
    runs: tuple[str, str, str]

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


def calls(workload: ConvWorkload, dtype: str, backend: str | None = None) -> dict[str, Any]:
    """Forward and gradient functions with a layer's arrays, ready to call or to explain."""
    x, weight = workload.arrays(dtype)
    shape = workload.geometry(dtype).out_shape
    grad = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return _bound(workload, x, weight, grad, backend)


def _bound(
    workload: ConvWorkload, x: Array, weight: Array, grad: Array, backend: str | None
) -> dict[str, Any]:
    keywords: dict[str, Any] = {**workload.arguments, "backend": backend}
    return {
        "forward": partial(cnnfast.conv2d, x, weight, **keywords),
        "input": partial(cnnfast.grad.conv2d_input, x.shape, weight, grad, **keywords),
        "weight": partial(cnnfast.grad.conv2d_weight, x, weight.shape, grad, **keywords),
    }


def runs_of(call: partial[Any]) -> str:
    """The row that a call runs."""
    found = cnnfast.explain(call.func, *call.args, **call.keywords)
    return f"{found.algorithm}/{found.engine}"


def check_adjoint(workload: ConvWorkload, dtype: str, backend: str | None = None) -> None:
    """WrongResultError unless ``<f(x), y> == <x, f_input(y)> == <w, f_weight(y)>``, exactly.

    The arrays are small integers: every sum is exact in float32, and so are the inner products in
    float64.
    """
    random = np.random.default_rng(1)
    shapes = workload.input, workload.weight, workload.geometry(dtype).out_shape
    x, weight, grad = (random.integers(-1, 2, shape).astype(dtype) for shape in shapes)
    ready = _bound(workload, x, weight, grad, backend)
    pairs = (("forward", grad), ("input", x), ("weight", weight))
    products = [float((ready[name]() * other.astype(np.float64)).sum()) for name, other in pairs]
    if not products[0] == products[1] == products[2]:
        raise WrongResultError(f"{workload.name}: the inner products {products} differ")


def compare(
    layers: Sequence[str] = (), threads: Sequence[int] = (), dtype: str = "float32",
    seconds: float = 0.3,
) -> list[GradientRow]:  # fmt: skip
    """Time forward and gradients in turn, layer by layer; checked first.

    Parameters as ``cnnfast.benchmarks.compare.compare``; layers that aren't convolutions are left
    out. ValueError for an unknown layer, and for less than one thread.
    """
    counts = tuple(threads) or (cnnfast.get_num_threads(),)
    if min(counts) < 1:
        raise ValueError(f"threads must be at least 1, got {min(counts)}")
    rows = []
    for workload in workloads.select(layers):
        if not isinstance(workload, ConvWorkload):
            continue
        for count in counts:
            cnnfast.set_num_threads(count)
            ready = calls(workload, dtype)
            check_adjoint(workload, dtype)
            timings = timing.measure(ready, seconds)
            forward, grad_input, grad_weight = (timings[name].median for name in ready)
            first, second, third = (runs_of(call) for call in ready.values())
            rows.append(
                GradientRow(
                    workload.name, count, dtype, forward, grad_input, grad_weight,
                    (first, second, third),
                )
            )  # fmt: skip
    return rows


def run(args: argparse.Namespace) -> int:
    """Print the table; ValueError for an unknown layer."""
    try:
        rows = compare(args.layers, args.threads, args.dtype, args.seconds)
    finally:
        cnnfast.set_num_threads(None)
    for count in dict.fromkeys(row.threads for row in rows):
        shown = [row.cells() for row in rows if row.threads == count]
        print_table(f"Gradients, {args.dtype}, {count} thread(s), medians", COLUMNS, shown)
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0
