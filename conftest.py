"""``pytest`` runs the tests, ``pytest --benchmark-only`` the benchmarks, a path what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave benchmarks out, or tests with ``--benchmark-only``, unless a path names them."""
    other = ROOT / ("tests" if config.getoption("benchmark_only", False) else "benchmarks")
    if not collection_path.is_relative_to(other):
        return None
    named = config.args_source is pytest.Config.ArgsSource.ARGS and any(
        Path(argument.partition("::")[0]).resolve().is_relative_to(other)
        for argument in config.args
    )
    return None if named else True
