"""The page on the road from dense layers to convolution says what its program prints."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "derivation.md").read_text(encoding="utf-8")
#: What is learned may hang on the machine's rounding, by so many percent.
LEARNED_WITHIN = 1.5


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def sections(output: str) -> dict[str, str]:
    """What the program prints, by its headings."""
    parts = re.split(r"(?:\A|\n)\n(.+)\n-+\n", output)
    return {title: text.strip("\n") for title, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def printed(pictures: Path) -> dict[str, str]:
    for module in ("sklearn", "matplotlib", "PIL"):
        pytest.importorskip(module, reason=f"{module}, of the demo extra, isn't installed")
    program = ROOT / "examples" / "derivation.py"
    done = subprocess.run(
        [sys.executable, program, pictures / "new"],
        cwd=pictures, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sections(done.stdout)


def test_the_page_shows_what_the_program_prints(printed: dict[str, str]) -> None:
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert titles == [*printed, "Sources"]
    for shown, new in zip(blocks("text"), printed.values(), strict=True):
        percent = r"(\d[\d.]*)%"
        assert re.sub(percent, "%", shown.strip("\n")) == re.sub(percent, "%", new)
        for old, learned in zip(re.findall(percent, shown), re.findall(percent, new), strict=True):
            assert float(learned) == pytest.approx(float(old), abs=LEARNED_WITHIN)


def test_the_program_draws_the_pages_pictures(printed: dict[str, str], pictures: Path) -> None:
    shown = set(re.findall(r"\]\(derivation/(.+?)\)", PAGE))
    assert {path.name for path in (pictures / "new").iterdir()} == shown
    assert {path.name for path in (ROOT / "docs" / "derivation").iterdir()} == shown
    assert all(path.stat().st_size < 100_000 for path in (pictures / "new").iterdir())


def test_the_pages_code_runs() -> None:
    example = doctest.DocTestParser().get_doctest(
        "\n".join(blocks("python")), {}, "derivation.md", None, None
    )
    assert len(example.examples) > 10
    assert doctest.DocTestRunner().run(example).failed == 0


def test_numbers_in_the_pages_text_come_from_the_program() -> None:
    text = PAGE.partition("## Sources")[0]
    shown = "\n".join(blocks("text"))
    for kind in ("text", "python", "console"):
        for block in blocks(kind):
            text = text.replace(block, "")
    numbers = r"\d+(?:[,.]\d+)*"
    assert set(re.findall(numbers, text)) <= set(re.findall(numbers, shown))
