"""What ``cnnfast bench --drop-ins`` does with its suites and with README."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import pytest

from cnnfast import cli
from cnnfast.benchmarks.drop_ins import command
from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import Timing

SLOW, QUICK = Timing(6e-3, 6e-3, 3), Timing(2e-3, 1e-3, 3)


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """One suite, whose figures are known."""
    module = types.ModuleType("known")

    def rows(seconds: float, threads: int) -> list[DropInRow]:
        return [
            DropInRow("small", "the plain one", QUICK, SLOW, asked=2),
            DropInRow("large", "the plain one", SLOW, SLOW, asked=2),
            DropInRow("free", "another", QUICK, SLOW),
        ]

    module.rows = rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"{command.__package__}.known", module)
    monkeypatch.setattr(command, "SUITES", {"known": (), "lacking": ("no_such_package",)})


def test_every_suite_is_a_module() -> None:
    for name in command.SUITES:
        assert importlib.util.find_spec(f"{command.__package__}.{name}"), name


@pytest.mark.usefixtures("suite")
def test_bars_are_read_from_the_medians(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    readme, file = tmp_path / "README.md", tmp_path / "rows.json"
    readme.write_text("before\n<!-- drop-ins -->\nold\n<!-- /drop-ins -->\nafter\n")
    words = ["bench", "--drop-ins", "--threads", "1", "--json", str(file), "--readme", str(readme)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "lacking: no_such_package isn't installed" in printed
    for line in readme.read_text(), printed:
        assert "old" not in line
    text = readme.read_text()
    assert text.startswith("before\n<!-- drop-ins -->\n")
    assert text.endswith("\n<!-- /drop-ins -->\nafter\n")
    assert "| small | 1 | 2 | the plain one | 6 | 3 | 6 | >= 2 | met |" in text
    assert "| large | 1 | 6 | the plain one | 6 | 1 | 1 | >= 2 | MISSED |" in text
    assert "free" not in text  # nothing is asked of it
    assert re.search(r"free +1 +2 +another +6 +3 +6", printed)
    assert len(json.loads(file.read_text())["drop-ins"]) == 3


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "unknown"], "no drop-in 'unknown': there are known, lacking"),
        (["--threads", "0"], "threads must be at least 1, got 0"),
        (["--dtype", "float64"], "--dtype doesn't go with --drop-ins"),
        (["--png", "a.png"], "--png goes with --peers"),
    ],
)
def test_bad_options_end_before_anything_runs(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--drop-ins", *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.usefixtures("suite")
def test_a_readme_without_marks_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    assert cli.main(["bench", "--drop-ins", "--readme", str(readme)]) == 2
