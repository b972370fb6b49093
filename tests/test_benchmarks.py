"""The benchmark harness: workloads, correctness before timing, reports, what pytest collects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnfast.benchmarks import checking, contenders, report, timing, workloads

ROOT = Path(__file__).resolve().parent.parent


def test_every_layer_is_a_valid_problem() -> None:
    layers = workloads.select([])
    assert len({layer.name for layer in layers}) == len(layers) >= 26
    for layer in layers:
        assert layer.geometry("float32").flops > 0
    for tag in ("dense", "grouped", "depthwise", "few-channel", "image", "tiny"):
        assert workloads.select([tag]), tag


def test_a_wrong_result_is_refused_before_timing() -> None:
    layer = workloads.select(["tiny-8"])[0]
    own = next(c for c in contenders.select(["im2col/numpy"], "fprop") if c.missing() is None)
    result = own.as_array(own.prepare(layer, layer.arrays("float32"), 1).call()).copy()
    assert checking.check(result, layer, "float32") < 1e-5
    result.flat[-1] += 1e-2
    with pytest.raises(checking.WrongResultError, match="tiny-8: 1 of 64 values are wrong"):
        checking.check(result, layer, "float32")


def test_contenders_take_turns() -> None:
    turns: list[str] = []
    calls = {name: (lambda name=name: turns.append(name)) for name in "ab"}
    timings = timing.measure(calls, 0.01)
    assert {name: timings[name].median >= timings[name].minimum for name in "ab"} == dict.fromkeys(
        "ab", True
    )
    assert "ab" in "".join(turns)
    assert "ba" in "".join(turns)


def benchmark_case(backend: str, role: str, seconds: float) -> dict[str, Any]:
    about = {
        "layer": "layer-1", "title": "1x1x8x8 -> 1, 3x3", "family": "fprop", "backend": backend,
        "role": role, "version": "x 1", "threads": 2, "flops": 2_000_000_000, "bytes": 1000,
    }  # fmt: skip
    return {"extra_info": about, "stats": {"median": seconds, "min": seconds / 2}}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    machine = {"cpu": "a CPU", "fma_peak": 1e11, "copy_bandwidth": 1e10, "busy_cores": 0.0}
    cases = [
        benchmark_case("cnnfast tiled/cython", "own", 0.01),
        benchmark_case("cnnfast tiled/numba", "own", 0.02),
        benchmark_case("cnnfast im2col/numpy", "baseline", 0.04),
        benchmark_case("torch NHWC", "peer", 0.02),
    ]
    path = tmp_path / "results.json"
    document = {
        "benchmarks": cases,
        "machine_info": {"measured": machine},
        "datetime": "2026-01-02",
    }
    path.write_text(json.dumps(document))
    return path


def test_the_report_fills_the_readme(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    assert report.main([str(results), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert "| GFLOP/s | tiled | numpy | torch | best own / best peer |" in text
    assert "| **200** | 50 | 100 | 2.00 |" in text
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text


def test_the_report_draws(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib isn't installed")
    chart = tmp_path / "chart.png"
    assert report.main([str(results), "--png", str(chart)]) == 0
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_the_report_refuses_what_is_not_ours(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"benchmarks": []}')
    assert report.main([str(path)]) == 1
    assert "no benchmark of cnnfast in it" in capsys.readouterr().err


def collect(*arguments: str) -> str:
    command = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_plain_pytest_collects_the_tests_and_benchmark_only_the_benchmarks() -> None:
    plain, only = collect(), collect("--benchmark-only")
    assert "tests/test_conformance.py::" in plain
    assert "benchmarks/" not in plain
    assert "benchmarks/test_conv.py::" in only
    assert "tests/" not in only


def test_a_benchmark_runs() -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "--benchmark-only",
        "-q",
        "-k",
        "tiny-8 and numpy",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_workloads_are_seeded() -> None:
    first, second = (workloads.select(["tiny-8"])[0].arrays("float32") for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
