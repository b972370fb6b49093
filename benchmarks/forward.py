"""``cnnfast bench --models``: forward passes of whole models in evaluation, ours and torch's."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

import cnnfast
from cnnfast import models, transform
from cnnfast.benchmarks import bars, timing
from cnnfast.benchmarks.bars import Bar, Figure, Verdict, judge
from cnnfast.benchmarks.compare import thread_counts
from cnnfast.benchmarks.tables import print_table, write_json
from cnnfast.benchmarks.timing import Timing
from cnnfast.layers.layer import Layer

COLUMNS = ("model", "batch", "threads", "contender", "ms", "min", "GFLOP/s", "ours is", "by minima")
#: Model, batches, image.
MODELS: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
    ("resnet18", (1, 8), (3, 224, 224)),
    ("mobilenet_v1", (1, 8), (3, 224, 224)),
)
SECONDS = 1.0
#: How far apart results may lie, in units of the largest.
APART = 1e-3
OURS, FOLDED = "cnnfast", "cnnfast, folded"
BAR = Bar("forward pass of a model / torch", worst=1.0)


@dataclass(frozen=True)
class ForwardRow:
    """Seconds per forward pass, and those of ours."""

    model: str
    batch: int
    threads: int
    contender: str
    flops: int
    timing: Timing
    own: Timing

    def ratio(self, statistic: str) -> float:
        """Its time in units of ours."""
        return float(getattr(self.timing, statistic) / getattr(self.own, statistic))

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        ratios = (self.ratio("median"), self.ratio("minimum"))
        return [
            self.model,
            str(self.batch),
            str(self.threads),
            self.contender,
            f"{self.timing.median * 1e3:.2f}",
            f"{self.timing.minimum * 1e3:.2f}",
            f"{self.flops / self.timing.median / 1e9:.0f}",
            *(("", "") if self.contender == OURS else (f"{ratio:.2f} x" for ratio in ratios)),
        ]


def network(model: str) -> Layer:
    """In evaluation, with other norms than those of a new network."""
    net: Layer = getattr(models, model)(rng=0)
    rng = np.random.default_rng(1)
    for name, array in net.state_dict().items():
        if array.ndim == 1 and "num_batches" not in name:
            array += rng.uniform(0, 0.3, len(array)).astype(array.dtype)
    return net.eval()


def torch_calls(model: str, net: Layer, x: Any, threads: int) -> dict[str, Callable[[], Any]]:
    """Passes of the same network in torch: in both layouts, and with norms folded."""
    import copy

    import torch

    from cnnfast.benchmarks import torch_models

    torch.set_num_threads(threads)
    module = getattr(torch_models, model)()
    module.load_state_dict({key: torch.tensor(a) for key, a in net.state_dict().items()})
    module.eval()
    folded = torch_models.folded(module)
    last = torch.channels_last
    image = torch.tensor(x)
    contenders = {
        "torch": (module, image),
        "torch, channels last": (
            copy.deepcopy(module).to(memory_format=last),
            image.contiguous(memory_format=last),
        ),
        "torch, folded": (folded, image),
        "torch, folded, channels last": (
            copy.deepcopy(folded).to(memory_format=last),
            image.contiguous(memory_format=last),
        ),
    }

    def call(which: Any, given: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return which(given)

        return run

    return {name: call(*pair) for name, pair in contenders.items()}


def forward(threads: Sequence[int] = (), seconds: float = SECONDS) -> list[ForwardRow]:
    """Time all in turn, for about ``seconds`` each; their results are compared first.

    ValueError for less than one thread.
    """
    here = importlib.util.find_spec("torch") is not None
    rows = []
    for model, batches, image in MODELS:
        net = network(model)
        folded = transform.fold_batch_norm(net)
        for batch in batches:
            shape = (batch, *image)
            x = np.random.default_rng(0).random(shape, np.float32)
            for count in thread_counts(threads):
                cnnfast.set_num_threads(count)
                calls: dict[str, Callable[[], Any]] = {
                    OURS: partial(net, x),
                    FOLDED: partial(folded, x),
                }
                calls |= torch_calls(model, net, x, count) if here else {}
                check({name: np.asarray(call()) for name, call in calls.items()})
                timings = timing.measure(calls, seconds)
                flops = net.flops(shape)
                rows += [
                    ForwardRow(model, batch, count, name, flops, found, timings[OURS])
                    for name, found in timings.items()
                ]
    return rows


def check(results: dict[str, Any]) -> None:
    """AssertionError if a result is another than ours."""
    own = results[OURS]
    for name, result in results.items():
        apart = np.abs(result - own).max() / np.abs(own).max()
        assert apart <= APART, f"{name} is {apart} from ours, more than {APART}"


def verdicts(rows: Sequence[ForwardRow]) -> list[Verdict]:
    """One per number of threads, against the best of torch's that weren't folded by hand."""
    best: dict[tuple[str, int, int], ForwardRow] = {}
    for row in rows:
        if row.contender.startswith("torch") and "folded" not in row.contender:
            key = row.model, row.batch, row.threads
            if key not in best or row.timing.median < best[key].timing.median:
                best[key] = row
    groups: dict[int, list[Figure]] = {}
    for (model, batch, count), row in best.items():
        figure = Figure(f"{model}, batch {batch}", row.ratio("median"), row.ratio("minimum"))
        groups.setdefault(count, []).append(figure)
    found = [judge(BAR, figures, str(count)) for count, figures in groups.items()]
    return [verdict for verdict in found if verdict is not None]


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if args.layers or args.dtype:
        raise ValueError("--layers and --dtype don't go with --models")
    try:
        rows = forward(args.threads, args.seconds or SECONDS)
    finally:
        cnnfast.set_num_threads(None)
    print_table("Forward passes, float32", COLUMNS, [row.cells() for row in rows])
    if not any(row.contender.startswith("torch") for row in rows):
        print("torch is not installed: pip install torch")
    found = verdicts(rows)
    if found:
        print_table("Bars", bars.COLUMNS, [verdict.cells() for verdict in found])
    if args.json:
        write_json(args.json, {"models": [asdict(row) for row in rows]})
    return 0
