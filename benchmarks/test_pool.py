"""Pooling layers and their gradients on every contender, a group per layer."""

from __future__ import annotations

from typing import Any

import pytest

from cnnfast.benchmarks.cases import cases, run_case
from cnnfast.benchmarks.contender import Contender
from cnnfast.benchmarks.workloads import Workload


@pytest.mark.parametrize(("workload", "contender"), cases("pool", "pool_grad"))
def test_pool(benchmark: Any, workload: Workload, contender: Contender) -> None:
    """Right, then timed."""
    run_case(benchmark, workload, contender)
