"""Every test begins and ends with the default settings; of ``sampled`` tests a part runs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

import cnnfast

#: Parameter sets of a ``sampled`` test that run unless ``CNNFAST_GPU_CASES=all`` asks for all of
#: them, which take an hour where the PTX machine stands for a GPU.
SAMPLE = 2


@pytest.fixture(autouse=True)
def _default_settings() -> Iterator[None]:
    yield
    cnnfast.set_num_threads(None)
    cnnfast.set_workspace_limit(None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"sampled: of the test's parameter sets {SAMPLE} run, evenly spread"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, and so count, the parameter sets of sampled tests that are not among the few."""
    if os.environ.get("CNNFAST_GPU_CASES") == "all":
        return
    sets: dict[Any, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled"):
            sets[item.path, getattr(item, "originalname", item.name)].append(item)
    left_out = set()
    for several in sets.values():
        chosen = {round(i * (len(several) - 1) / max(SAMPLE - 1, 1)) for i in range(SAMPLE)}
        left_out |= {id(item) for i, item in enumerate(several) if i not in chosen}
    config.hook.pytest_deselected(items=[item for item in items if id(item) in left_out])
    items[:] = [item for item in items if id(item) not in left_out]
