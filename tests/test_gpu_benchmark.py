"""``benchmarks/gpu.py``: a dry run on the driver's stand-in, and what keeps it going on a GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from cnnfast.benchmarks.on_gpu import conductor, journal, summary
from cnnfast.benchmarks.on_gpu.conductor import Section, Start

import fake_cuda

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu.py"

#: Sections that a dry run has something to do in.
SECTIONS = ("machine", "conformance", "libraries", "sizes", "ceilings", "times", "overhead")


@pytest.mark.skipif(fake_cuda.compiler() is None, reason="no C compiler for the fake libcuda")
@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda isn't installed"
)
def test_a_dry_run_finds_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    command = [sys.executable, str(SCRIPT), "--dry", "--seconds", "50", "--json", str(path)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| layer |" in done.stdout
    assert "failures: none" in done.stdout
    found = json.loads(path.read_text())["sections"]
    assert tuple(found) == SECTIONS
    for name, result in found.items():
        assert not result["broken"], name
        assert any(item["status"] == "ok" for item in result["items"]), name


CHILD = """
    import os, sys, time
    from pathlib import Path
    from cnnfast.benchmarks.on_gpu.journal import Journal, Skip

    def fail():
        raise ArithmeticError("no")

    def skip():
        raise Skip("not here")

    def lose():
        global dead
        dead = True
        fail()

    dead = False
    journal = Journal(Path(sys.argv[4]), float(sys.argv[6]), lambda: dead and fail())
    journal.run("good", lambda: {"answer": 42})
    journal.run("bad", fail)
    journal.run("crash", lambda: os._exit(5), "row")
    journal.run("lose", lose, "row")
    journal.run("third of its kind", lambda: os._exit(5), "row")
    journal.run("hang", lambda: time.sleep(100))
    journal.run("skip", skip)
    journal.run("end", lambda: None)
"""


def test_a_section_goes_on_behind_what_ends_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "START_SECONDS", 60.0)
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    start = Start(conductor.python(str(script)), conductor.environment([]), tmp_path)
    sections = [Section("tried", 1.0, "this and that", stall=8.0)]
    ((name, result),) = conductor.conduct(sections, start, 300.0)
    assert name == "tried"
    assert {item["item"]: item["status"] for item in result["items"]} == {
        "good": "ok", "bad": "failed", "crash": "crashed", "lose": "failed",
        "third of its kind": "skipped", "hang": "hung", "skip": "skipped", "end": "ok",
    }  # fmt: skip
    assert result["items"][0]["answer"] == 42
    assert "ArithmeticError: no" in result["items"][1]["error"]
    assert result["starts"] == 4
    assert not result["broken"]
    assert len(summary.failures({name: result})) == 4


def test_a_tool_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    start = Start(conductor.python("-c", "1"), conductor.environment([]), tmp_path)
    section = Section("memcheck", 1.0, "", tool=(str(tmp_path / "no such tool"),))
    ((_, result),) = conductor.conduct([section], start, 10.0)
    assert "no such tool" in result["broken"]


def test_a_process_that_never_begins_is_a_failure(tmp_path: Path) -> None:
    start = Start(conductor.python("-c", "1 / 0"), conductor.environment([]), tmp_path)
    ((_, result),) = conductor.conduct([Section("times", 1.0, "")], start, 10.0)
    assert "ZeroDivisionError" in result["broken"]


def test_no_time_is_left_for_what_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    journal.Journal(path, 0.0, lambda: None).run("late", lambda: None)
    assert [line["status"] for line in journal.items(path)] == ["no time"]


def test_a_checkout_is_enough() -> None:
    code = f"""
        import runpy, sys
        sys.modules["cnnfast"] = None  # as if it weren't installed
        script = runpy.run_path({str(SCRIPT)!r})
        with script["importable"]() as paths:
            import cnnfast, cnnfast.kernels, cnnfast.benchmarks.workloads
            assert cnnfast.__file__.startswith(str(paths[0])), cnnfast.__file__
            print(cnnfast.conv1d([[[1.0, 2.0]]], [[[3.0]]], backend="reference")[0, 0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[3. 6.]"


def timed(layer: str, family: str, mode: str, **more: Any) -> dict[str, Any]:
    """A line of the section "times": 2 ms, torch 3 ms."""
    times = {
        name: {"median": seconds, "minimum": seconds / 2, "calls": 10}
        for name, seconds in (("cnnfast", 2e-3), ("torch", 3e-3))
    }
    return {
        "item": f"{layer} {family} {mode}", "status": "ok", "layer": layer, "family": family,
        "mode": mode, "group": "dense", "flops": 10**10, "bytes": 10**9, "pool": False,
        "runs": "tiled/cuda", "times": times, **more,
    }  # fmt: skip


def test_tables_say_what_was_measured() -> None:
    items = [timed("a", "fprop", mode) for mode in ("fp32", "tf32", "fp16")]
    items.append(timed("b", "pool", "fp32", group="pool", pool=True))
    items.append({"item": "c", "status": "failed", "error": "Traceback\nValueError: x"})
    ceilings = [
        {"item": "copy", "status": "ok", "bytes_per_s": 1e12, "best": 1e12},
        {"item": "fma", "status": "ok", "flops_per_s": 1e13, "best": 1e13},
        {"item": "product fp32", "status": "ok", "flops_per_s": 5e12, "best": 5e12},
    ]
    overhead = [{"item": summary.CALL, "status": "ok", "median": 8e-6, "minimum": 7e-6}]
    found = {
        name: {"items": lines, "broken": ""}
        for name, lines in (("times", items), ("ceilings", ceilings), ("overhead", overhead))
    }
    text = summary.markdown(found)
    assert "| a | fprop | tiled/cuda | 2 | 5.0 | 50% | 500 | 50% | 1.50 | 2 |  | 1.50 |" in text
    assert (
        "| fp32 / torch |  | 1 | 1.50 | 1.50 | 1.50 | a fprop fp32 | mean >= 0.80 | met |" in text
    )
    assert "| pooling, of copy |  | 1 | 50% | 100% | 50% |" in text
    assert "worst >= 70% | MISSED |" in text
    assert "| microseconds of a call |  | 1 | 8.00 | 7.00 |" in text
    assert summary.failures(found) == ["times: c failed: ValueError: x"]
