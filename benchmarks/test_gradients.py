"""Forward pass and gradients of the convolution layers, a group per layer."""

from __future__ import annotations

from typing import Any

import pytest

import cnnfast
from cnnfast.benchmarks import gradients
from cnnfast.benchmarks.cases import BUDGET, DTYPE
from cnnfast.benchmarks.timing import pace, seconds_of, settle
from cnnfast.benchmarks.workloads import ConvWorkload, workloads

LAYERS = [
    pytest.param(layer, id=layer.name, marks=[getattr(pytest.mark, tag) for tag in layer.tags])
    for layer in workloads()
    if isinstance(layer, ConvWorkload)
]


@pytest.mark.parametrize("which", ["forward", "input", "weight"])
@pytest.mark.parametrize("workload", LAYERS)
def test_gradients(benchmark: Any, workload: ConvWorkload, which: str) -> None:
    """Right, then timed: the default backend, NCHW."""
    if which == "forward":
        gradients.check_adjoint(workload, DTYPE)
    call = gradients.calls(workload, DTYPE)[which]
    benchmark.group = f"gradients of {workload.name}"
    benchmark.extra_info.update(
        layer=workload.name,
        title=workload.title,
        family={"forward": "fprop", "input": "dgrad", "weight": "wgrad"}[which],
        runs=gradients.runs_of(call),
        threads=cnnfast.get_num_threads(),
        dtype=DTYPE,
        role="gradient",
    )
    settle()
    plan = pace(seconds_of(call), BUDGET)
    benchmark.pedantic(call, rounds=plan.rounds, iterations=plan.iterations)
