"""Tags of layers as markers, so that ``-m "dense and not grouped"`` and ``-k tiny`` choose."""

from __future__ import annotations

from typing import Any

import pytest

import cnnfast
from cnnfast.benchmarks import machine, workloads


def pytest_configure(config: pytest.Config) -> None:
    """Make the tags known to ``--strict-markers``."""
    for tag in workloads.tags():
        config.addinivalue_line("markers", f"{tag}: benchmarks of layers tagged {tag!r}")


def pytest_report_header(config: pytest.Config) -> str | None:
    """What every contender is pinned to, and whether the machine is quiet enough to believe it."""
    if not config.getoption("benchmark_only", False):
        return None
    long = sum("long" in workload.layer_tags for workload in workloads.workloads())
    return (
        f"cnnfast {cnnfast.__version__}, {cnnfast.get_num_threads()} threads for each contender; "
        f"other processes keep {machine.busy_cores()} cores busy; "
        f"{long} long workloads are left to `cnnfast bench --peers`"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Put what was measured of the machine into the JSON."""
    machine_info["measured"] = machine.describe()
