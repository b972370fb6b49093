"""What README and CONTRIBUTING show is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cnnfast.kernels import KERNELS, Kernel, registry

import conformance as suite

ROOT = Path(__file__).resolve().parent.parent


def block(file: str, before: str) -> str:
    """The first Python block after a text."""
    text = (ROOT / file).read_text()
    found = re.search(r"```python\n(.*?)```", text[text.index(before) :], re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("tier", suite.TIERS)
@pytest.mark.parametrize("name", ["padded", "3d, everything", "same_upper", "relu6", "batch 0"])
def test_the_kernel_of_contributing_is_one_file_and_one_row(name: str, tier: str) -> None:
    module: dict[str, object] = {}
    exec(block("CONTRIBUTING.md", "<!-- kernel file -->"), module)
    row = eval(block("CONTRIBUTING.md", "<!-- kernel row -->"), vars(registry))
    assert isinstance(row, Kernel)
    case = next(case for case in suite.CONV_CASES if case.name == name)
    suite.check_fprop(module["fprop"], row, case, "float32", tier, False)  # type: ignore[arg-type]


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
        if len(cells) == 5 and cells[0] in {row.algorithm for row in KERNELS} | {"pooling"}:
            engines = zip(("cython", "numba", "numpy"), cells[1:4], strict=True)
            shown |= {(cells[0], engine) for engine, cell in engines if cell.startswith("x")}
    table = {tuple(row.name.split("/")) for row in KERNELS if row.family == "fprop"}
    table |= {("pooling", row.name.split("/")[1]) for row in KERNELS if row.family == "pool"}
    assert shown == table
