"""``cnnfast bench --training``: LeNet-5's training step, ours and torch's."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import cnnfast
from cnnfast import models
from cnnfast.benchmarks import bars, timing
from cnnfast.benchmarks.bars import Bar, Figure, Verdict, judge
from cnnfast.benchmarks.compare import thread_counts
from cnnfast.benchmarks.tables import print_table, write_json
from cnnfast.benchmarks.timing import Call, Timing
from cnnfast.layers import SGD, CrossEntropyLoss
from cnnfast.layers.layer import Layer

COLUMNS = ("batch", "threads", "ms", "min", "images/s", "torch ms", "min", "images/s", "/ torch",
           "by minima")  # fmt: skip
BATCHES = (32, 64, 256)
SECONDS = 1.0
LR, MOMENTUM = 0.02, 0.9
#: Steps that both take before they are timed, and how far apart weights may lie then, in units of
#: float32's epsilon: sums of 200,000 products come in another order.
STEPS, APART = 3, 500
BAR = Bar("LeNet-5 training step / torch", worst=1.0)


@dataclass(frozen=True)
class TrainingRow:
    """Seconds per step."""

    batch: int
    threads: int
    own: Timing
    torch: Timing | None

    def ratio(self, statistic: str) -> float | None:
        """Torch's time in units of ours."""
        if self.torch is None:
            return None
        return float(getattr(self.torch, statistic) / getattr(self.own, statistic))

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        ratios = (self.ratio("median"), self.ratio("minimum"))
        return [
            str(self.batch),
            str(self.threads),
            *self._of(self.own),
            *(self._of(self.torch) if self.torch else ("", "", "")),
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        ]

    def _of(self, found: Timing) -> tuple[str, str, str]:
        return (
            f"{found.median * 1e3:.3f}",
            f"{found.minimum * 1e3:.3f}",
            f"{self.batch / found.median:,.0f}",
        )


def images(batch: int) -> tuple[Any, Any]:
    """A batch of noise and its labels."""
    rng = np.random.default_rng(0)
    return rng.random((batch, 1, 28, 28), np.float32), rng.integers(0, 10, batch)


def own_step(batch: int) -> tuple[Call, Layer]:
    """Forward, loss, backward and SGD with momentum on one batch; and the model."""
    net, loss = models.lenet5(rng=0), CrossEntropyLoss()
    optimiser = SGD(net, LR, MOMENTUM)
    x, y = images(batch)

    def step() -> None:
        loss(net(x), y)
        net.backward(loss.backward(), to_input=False)
        optimiser.step()

    return step, net


def torch_step(batch: int, threads: int) -> tuple[Call, Any]:
    """The same in torch, from the same weights."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    start = models.lenet5(rng=0).params.values()
    with torch.no_grad():
        for parameter, values in zip(net.parameters(), start, strict=True):
            parameter.copy_(torch.from_numpy(values))
    optimiser, loss = torch.optim.SGD(net.parameters(), LR, MOMENTUM), nn.CrossEntropyLoss()
    x, y = (torch.from_numpy(array) for array in images(batch))

    def step() -> None:
        optimiser.zero_grad()
        loss(net(x), y).backward()
        optimiser.step()

    return step, net


def check(own: Layer, other: Any) -> None:
    """AssertionError if the weights of both aren't the same but for rounding."""
    pairs = zip(own.params.items(), other.parameters(), strict=True)
    for (name, values), parameter in pairs:
        theirs = parameter.detach().numpy()
        bound = APART * np.finfo(np.float32).eps * np.abs(theirs).max()
        apart = np.abs(values - theirs).max()
        assert apart <= bound, f"{name} is {apart} from torch's, more than {bound}"


def training(
    threads: Sequence[int] = (), seconds: float = SECONDS, batches: Sequence[int] = BATCHES
) -> list[TrainingRow]:
    """Time both in turn, for about ``seconds`` each; their weights are compared first.

    ValueError for less than one thread.
    """
    here = importlib.util.find_spec("torch") is not None
    rows = []
    for count in thread_counts(threads):
        for batch in batches:
            cnnfast.set_num_threads(count)
            own, net = own_step(batch)
            calls: dict[str, Callable[[], Any]] = {"own": own}
            if here:
                calls["torch"], other = torch_step(batch, count)
                for _ in range(STEPS):
                    for call in calls.values():
                        call()
                check(net, other)
            timings = timing.measure(calls, seconds)
            rows.append(TrainingRow(batch, count, timings["own"], timings.get("torch")))
    return rows


def verdicts(rows: Sequence[TrainingRow]) -> list[Verdict]:
    """One per number of threads."""
    groups: dict[int, list[Figure]] = {}
    for row in rows:
        median, minimum = row.ratio("median"), row.ratio("minimum")
        if median is not None and minimum is not None:
            figure = Figure(f"batch {row.batch}", median, minimum)
            groups.setdefault(row.threads, []).append(figure)
    found = [judge(BAR, figures, str(count)) for count, figures in groups.items()]
    return [verdict for verdict in found if verdict is not None]


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if args.layers or args.dtype:
        raise ValueError("--layers and --dtype don't go with --training")
    try:
        rows = training(args.threads, args.seconds or SECONDS)
    finally:
        cnnfast.set_num_threads(None)
    cells = [row.cells() for row in rows]
    print_table("LeNet-5, a training step: SGD with momentum, float32", COLUMNS, cells)
    if not any(row.torch for row in rows):
        print("torch is not installed: pip install torch")
    found = verdicts(rows)
    if found:
        print_table("Bars", bars.COLUMNS, [verdict.cells() for verdict in found])
    if args.json:
        write_json(args.json, {"training": [asdict(row) for row in rows]})
    return 0
