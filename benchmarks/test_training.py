"""LeNet-5's training step, ours and torch's, a group per batch."""

from __future__ import annotations

from typing import Any

import pytest

import cnnfast
from cnnfast.benchmarks import training
from cnnfast.benchmarks.timing import pace, seconds_of, settle

BUDGET = 0.3


@pytest.mark.parametrize("contender", ["cnnfast", "torch"])
@pytest.mark.parametrize("batch", training.BATCHES)
def test_training(benchmark: Any, batch: int, contender: str) -> None:
    """The same weights as the other after some steps, then timed."""
    threads = cnnfast.get_num_threads()
    step, net = training.own_step(batch)
    if contender == "torch":
        pytest.importorskip("torch", reason="torch isn't installed")
        own, own_net = step, net
        step, other = training.torch_step(batch, threads)
        for call in (own, step) * training.STEPS:
            call()
        training.check(own_net, other)
    benchmark.group = f"LeNet-5 step, batch {batch}"
    benchmark.extra_info.update(threads=threads, batch=batch)
    settle()
    step()
    plan = pace(seconds_of(step), BUDGET)
    benchmark.pedantic(step, rounds=plan.rounds, iterations=plan.iterations)
