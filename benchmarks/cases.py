"""The pytest side: a case per layer and contender, checked and then timed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest

import cnnfast
from cnnfast.benchmarks import workloads
from cnnfast.benchmarks.checking import check
from cnnfast.benchmarks.contender import Contender
from cnnfast.benchmarks.contenders import DEFAULT, contenders
from cnnfast.benchmarks.timing import pace, seconds_of, settle
from cnnfast.benchmarks.workloads import Array, Workload

#: Seconds per case, about.
BUDGET = 0.1


def cases(*families: str) -> list[Any]:
    """A parameter set per workload of the families and contender that takes it, in their order.

    Layers tagged "long" are left to ``cnnfast bench``, and so are all rows but the planner's choice
    where a layer is timed again as something else, lest it take hours. A contender that
    isn't here makes one skipped case, with the reason.
    """
    return [case for family in families for case in _cases(family)]


def _cases(family: str) -> list[Any]:
    layers = [layer for layer in workloads.select(long=False) if layer.family == family]
    missing = {contender: contender.missing() for contender in contenders(family)}
    sets = [
        pytest.param(
            layer,
            contender,
            id=f"{layer.name}-{contender.name.replace(' ', '-')}",
            marks=[getattr(pytest.mark, tag) for tag in layer.tags],
        )
        for layer in layers
        for contender, reason in missing.items()
        if reason is None and contender.refuses(layer) is None
        if layer.name == layer.layer or contender == DEFAULT or contender.role == "peer"
    ]
    for contender, reason in missing.items():
        if reason is not None:
            marks = [getattr(pytest.mark, tag) for tag in workloads.tags()]
            marks.append(pytest.mark.skip(reason=f"{contender.name}: {reason}"))
            name = f"missing-{family}-{contender.name.replace(' ', '-')}"
            sets.append(pytest.param(layers[0], contender, id=name, marks=marks))
    return sets


@lru_cache(maxsize=1)
def _arrays(workload: Workload) -> tuple[Array, ...]:
    return workload.arrays()


def run_case(benchmark: Any, workload: Workload, contender: Contender) -> None:
    """Check one contender's result on one layer, then time it within the budget."""
    threads = cnnfast.get_num_threads()
    prepared = contender.prepare(workload, _arrays(workload), threads)
    max_error = check(contender.as_array(prepared.call(), workload), workload)
    benchmark.group = workload.name
    benchmark.extra_info.update(
        title=workload.title,
        family=workload.family,
        dtype=workload.dtype,
        backend=contender.name,
        role=contender.role,
        version=contender.version(),
        runs=prepared.runs,
        threads=threads,
        flops=workload.flops,
        bytes=workload.bytes_moved,
        max_error=max_error,
    )
    settle()
    plan = pace(seconds_of(prepared.call), BUDGET)
    benchmark.pedantic(prepared.call, rounds=plan.rounds, iterations=plan.iterations)
