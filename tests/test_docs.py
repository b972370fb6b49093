"""The programs on the pages of the drop-ins, and in README's section on them, run as written."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Page -> packages that its program needs.
PAGES: dict[str, tuple[str, ...]] = {
    "dask.md": ("dask",),
    "keras.md": ("keras",),
    "numba.md": ("numba",),
    "onnx.md": ("onnx",),
    "scipy.md": (),
    "torch.md": ("torch",),
}

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").exists(), reason="the pages aren't here: the tests run elsewhere"
)


def programs(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def imported(program: str) -> set[str]:
    """The packages that a program names in its import statements."""
    found = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_blocks_are_one_program_that_prints_what_the_page_shows(
    page: str, tmp_path: Path
) -> None:
    """A ``text`` block holds what its program prints; ``...`` stands for what varies."""
    for package in PAGES[page]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} isn't installed")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    printed = run("\n".join(programs(text)), tmp_path)
    shown = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    pattern = re.escape("".join(shown)).replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, printed), printed


def section() -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.partition("## Drop-ins\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("program", programs(section()), ids=lambda text: text.splitlines()[0])
def test_readmes_examples_of_drop_ins_run_as_written(program: str, tmp_path: Path) -> None:
    """Each alone, in an empty folder but for the files that they name."""
    for package in imported(program):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} isn't installed")
    run(program, tmp_path)
