"""What README and CONTRIBUTING show is true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnfast
from cnnfast import kernels
from cnnfast.kernels import KERNELS, registry

ROOT = Path(__file__).resolve().parent.parent


def block(file: str, before: str) -> str:
    """The first Python block after a text."""
    text = (ROOT / file).read_text()
    found = re.search(r"```python\n(.*?)```", text[text.index(before) :], re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def with_new_kernel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A copy of the package with CONTRIBUTING's file and row added, as an environment."""
    folder = tmp_path_factory.mktemp("package")
    package = Path(cnnfast.__file__).parent
    for source, name in ((package, "cnnfast"), (Path(kernels.__file__).parent, "cnnfast/kernels")):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignored, dirs_exist_ok=True)
    added = folder / "cnnfast/kernels/numpy_cpu/shifted.py"
    added.write_text(block("CONTRIBUTING.md", "<!-- kernel file -->"))
    table = folder / "cnnfast/kernels/registry.py"
    head, begin, tail = table.read_text().partition("KERNELS: tuple[Kernel, ...] = (\n")
    row = block("CONTRIBUTING.md", "<!-- kernel row -->").strip()
    table.write_text(f"{head}{begin}    {row},\n{tail}")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_kernel_is_one_file_and_one_row(with_new_kernel: dict[str, str]) -> None:
    """The planner, the command line and the conformance suite take it up from the table."""
    code = (
        "import numpy as np, cnnfast; x = np.ones((1, 1, 4, 4));"
        "print(cnnfast.conv2d(x, x[:, :, :2, :2], backend='shifted').sum());"
        "import sys; from cnnfast import cli; sys.exit(cli.main(['info']))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=with_new_kernel, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("36.0\n")
    assert "shifted/numpy" in done.stdout
    suite = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "tests/test_conformance.py",
        "-k",
        "shifted",
    ]
    done = subprocess.run(
        suite, env=with_new_kernel, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 300  # type: ignore[index]


def test_the_first_example_of_the_readme() -> None:
    names: dict[str, np.ndarray] = {}
    exec(block("README.md", "# cnnfast"), names)
    assert names["y"].shape == (1, 64, 56, 56)


def test_the_single_row_of_the_readme() -> None:
    if registry.engine_missing("cython_cpu"):
        pytest.skip(f"cython engine: {registry.engine_missing('cython_cpu')}")
    names: dict[str, np.ndarray] = {}
    exec(block("README.md", "## One kernel"), names)
    assert names["out"][0, 0, 8, 8] == 75


def test_the_matrix_of_the_readme() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    shown = set()
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in {row.family for row in KERNELS}:
            engines = "cython", "numba", "numpy", "cuda"
            for engine, cell in zip(engines, cells[1:], strict=True):
                shown |= {(cells[0], f"{algorithm}/{engine}") for algorithm in cell.split()}
    assert shown == {(row.family, row.name) for row in KERNELS}
