"""Every test begins and ends with the default settings; of ``sampled`` tests a part runs; the wheel
is built once."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cnnfast

from building import BUILT, ROOT, run

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


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository without anything built."""
    pytest.importorskip("build", reason="build, of the test extra, isn't installed")
    if not (ROOT / "setup.py").exists():
        pytest.skip("the sources aren't here: the tests run elsewhere")
    copy = tmp_path_factory.mktemp("sources") / "cnnfast"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*BUILT))
    return copy


@pytest.fixture(scope="session")
def sdist(sources: Path) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", cwd=sources)
    return next((sources / "dist").glob("*.tar.gz"))


@pytest.fixture(scope="session")
def unpacked(sdist: Path) -> Path:
    folder = sdist.parent.parent.parent / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.iterdir())


@pytest.fixture(scope="session")
def wheel(unpacked: Path) -> Path:
    """The wheel with the Cython rows, built from the sdist as an installer would."""
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", cwd=unpacked)
    return next((unpacked / "dist").glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path) -> Path:
    target = wheel.parent / "installed"
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--target",
        target,
        wheel,
        cwd=target.parent,
    )
    return target
