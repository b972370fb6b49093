"""The benchmark harness: workloads, correctness before timing, bars, what pytest collects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnfast import cli
from cnnfast.benchmarks import (
    bars,
    checking,
    cold_start,
    contenders,
    contest,
    memory,
    report,
    timing,
    versus,
    workloads,
)
from cnnfast.benchmarks.contender import Contender, Prepared
from cnnfast.benchmarks.timing import Timing
from cnnfast.benchmarks.workloads import Workload

ROOT = Path(__file__).resolve().parent.parent


def test_every_layer_is_a_valid_problem() -> None:
    layers = workloads.select()
    assert len({layer.name for layer in layers}) == len(layers) > 100
    for layer in layers:
        assert layer.flops > 0
        assert layer.bytes_moved > 0
        assert layer.reduction_length > 0
        assert layer.title


def test_every_bar_has_workloads() -> None:
    for tag, _, _ in bars.BARS:
        assert workloads.select([tag]), tag


def test_layers_come_in_the_dtypes_asked_for() -> None:
    own = workloads.select(["tiny-8", "resnet-64-56", "resnet-64-56-float64"])
    assert [layer.dtype for layer in own] == ["float32", "float64", "float32"]
    both = workloads.select(["resnet-64-56", "resnet-64-56-float64"], ["float32", "float64"])
    assert [layer.name for layer in both] == ["resnet-64-56", "resnet-64-56-float64"]
    assert [layer.tags for layer in both] == [("dense",), ("float64",)]
    assert not any("long" in layer.tags for layer in workloads.select(long=False))


def test_the_data_says_what_is_timed_again() -> None:
    layer = {"name": "a", "input": [1, 4, 8], "out_channels": 4, "kernel": 3, "tags": ["x"]}
    data = {"layers": {"conv": [layer], "pool": []}, "again": {"wgrad": ["x"], "nhwc": ["a"]}}
    assert [w.name for w in workloads.parse(data)] == ["a", "a-wgrad", "a-nhwc"]
    with pytest.raises(ValueError, match="got backwards"):
        workloads.parse({**data, "again": {"backwards": ["x"]}})


NUMPY = {
    "fprop": "im2col/numpy", "dgrad": "im2col/numpy", "wgrad": "im2col/numpy",
    "pool": "direct/numpy", "pool_grad": "direct/numpy",
}  # fmt: skip


def tiny(name: str, **changes: Any) -> Workload:
    return replace(workloads.select([name])[0], **changes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "layer",
    [
        tiny("tiny-8"),
        tiny("tiny-lenet-c3"),
        tiny("tiny-lenet-c3", family="dgrad"),
        tiny("tiny-lenet-c3", family="wgrad"),
        tiny("tiny-8", input=(1, 6, 20), groups=2, out_channels=4),
        tiny("tiny-8", input=(1, 2, 5, 6, 7), out_channels=3),
        tiny("max-tiny-lenet"),
        tiny("max-tiny-lenet", reduction="mean", family="pool_grad", kernel=3, stride=2),
        tiny("max-tiny-lenet", family="pool_grad", kernel=3, stride=1),
        tiny("max-tiny-lenet", input=(1, 2, 6, 6, 6)),
    ],
    ids=lambda layer: f"{layer.name}-{layer.rank}d",
)
def test_our_contenders_get_every_family_right(layer: Workload, dtype: str) -> None:
    chosen = [contenders.DEFAULT, *contenders.select([NUMPY[layer.family]], layer.family)]
    # Gradients are timed channels first alone.
    for channels_last in (False, True)[: 1 if layer.family in workloads.ADJOINTS else 2]:
        workload = replace(layer, dtype=dtype, channels_last=channels_last)
        for own in chosen:
            ready = own.prepare(workload, workload.arrays(), 1)
            assert "/" in ready.runs
            assert checking.check(own.as_array(ready.call(), workload), workload) < 1e-5


def test_a_wrong_result_is_refused_before_timing() -> None:
    layer = workloads.select(["tiny-8"])[0]
    own = contenders.select(["im2col/numpy"], "fprop")[0]
    result = own.as_array(own.prepare(layer, layer.arrays(), 1).call(), layer).copy()
    assert checking.check(result, layer) < 1e-5
    result.flat[-1] += 1e-2
    with pytest.raises(checking.WrongResultError, match="tiny-8: 1 of 64 values are wrong"):
        checking.check(result, layer)


def test_large_windows_are_checked_by_transforms() -> None:
    layer = tiny("tiny-8", input=(1, 1, 20, 20), kernel=9, padding=4)
    own = contenders.select(["im2col/numpy"], "fprop")[0]
    assert layer.is_plane
    assert layer.kernel**2 >= checking.TRANSFORMED_TAPS
    result = own.prepare(layer, layer.arrays(), 1).call()
    assert checking.check(result, layer) < 1e-5


def test_contenders_take_turns() -> None:
    turns: list[str] = []
    calls = {name: (lambda name=name: turns.append(name)) for name in "ab"}
    timings = timing.measure(calls, 0.01)
    assert {name: timings[name].median >= timings[name].minimum for name in "ab"} == dict.fromkeys(
        "ab", True
    )
    assert "ab" in "".join(turns)
    assert "ba" in "".join(turns)


@dataclass(frozen=True)
class Fake(Contender):
    """A library that is NumPy's row in disguise, or fails."""

    weight_prepared: bool = False
    fails: str = ""

    def version(self) -> str:
        return "fake 1.0"

    def refuses(self, workload: Workload) -> str | None:
        return "takes tiny layers" if workload.flops > 1e5 else None

    def prepares(self, workload: Workload) -> bool:
        return self.weight_prepared

    def prepare(self, workload: Workload, arrays: tuple[Any, ...], threads: int) -> Prepared:
        if self.fails:
            raise RuntimeError(self.fails)
        return Prepared(workload.bound(*arrays, backend=NUMPY[workload.family]))


def entry(name: str, seconds: float, role: str = "peer", prepared: bool = False) -> contest.Entry:
    return contest.Entry(name, role, "x 1", prepared, "", Timing(seconds, seconds / 2, 9), 0.0)


def hand_made(layer: Workload, own: float, *peers: contest.Entry, threads: int = 1) -> Any:
    entries = (entry("cnnfast default", own, "own"), *peers)
    return contest.Contest(layer, threads, entries, {}, {})


def test_a_contest_checks_refuses_and_times() -> None:
    layer = workloads.select(["tiny-8"])[0]
    fakes = [Fake("good"), Fake("bad", fails="out of order"), Fake("ready", weight_prepared=True)]
    one = contest.contest(layer, 1, [contenders.DEFAULT, *fakes], 0.001)
    assert [e.name for e in one.entries] == ["cnnfast default", "good", "ready"]
    assert one.failed == {"bad": "RuntimeError: out of order"}
    assert all(e.timing.calls > 1 and e.max_error < 1e-5 for e in one.entries)
    known = [replace(e, timing=Timing(5.0, 5.0, 1)) for e in one.entries if e.name == "good"]
    again = contest.contest(layer, 2, [contenders.DEFAULT, *fakes], 0.001, known)
    assert next(e for e in again.entries if e.name == "good").timing.median == 5.0
    large = workloads.select(["tiny-lenet-c3"])[0]
    assert contest.contest(large, 1, fakes, 0.001).refused["good"] == "takes tiny layers"


def test_ratios_are_to_the_best_peer_prepared_or_not() -> None:
    peers = [entry("slow", 4.0), entry("packed", 1.0, prepared=True), entry("cv2 filter2D", 6.0)]
    one = hand_made(tiny("tiny-8"), 2.0, *peers)
    assert one.ratio() == 0.5
    assert one.ratio(prepared=False) == 2.0
    assert one.ratio("cv2") == 3.0
    assert one.ratio("torch") is None
    assert one.peer().name == "packed"
    prepared = replace(one, entries=(*one.entries, entry("cnnfast prepared", 1.0, "own", True)))
    assert prepared.ratio() == 1.0
    assert prepared.ratio(prepared=False) == 2.0


def test_bars_are_judged_by_medians() -> None:
    first, second = workloads.select(["mobilenet-dw-32-112", "mobilenet-dw-512-14"])[:2]
    contests = [
        hand_made(tiny("mobilenet-dw-32-112"), 1.0, entry("torch NCHW", 4.0)),
        hand_made(tiny("mobilenet-dw-512-14"), 1.0, entry("torch NCHW", 1.0)),
        hand_made(tiny("mobilenet-dw-512-14"), 1.0, entry("torch NCHW", 0.5), threads=2),
        hand_made(tiny("tiny-8"), 3e-6, entry("torch NCHW", 7e-6)),
    ]
    assert first != second
    found = {(v.bar.title, v.threads): v for v in bars.verdicts(contests)}
    grouped = found["grouped and depthwise / best peer", "1"]
    assert (grouped.layers, grouped.mean, grouped.met) == (2, 2.0, True)
    assert grouped.worst == ("mobilenet-dw-512-14", 1.0, 1.0)
    assert grouped.cells()[-2:] == ["mean >= 1.50, worst >= 1.00", "met"]
    assert not found["grouped and depthwise / best peer", "2"].met
    assert found["tiny calls / torch", "1"].worst.value == pytest.approx(7 / 3)
    numba = hand_made(tiny("tiny-8"), 1.0, entry("cnnfast numba", 1.25, "own"))
    (engine,) = (v for v in bars.verdicts([numba]) if "numba" in v.bar.title)
    assert (engine.mean, engine.met) == (pytest.approx(0.8), False)
    fast = found["1x1x8x8, 3x3, microseconds", "1"]
    assert fast.worst.value == pytest.approx(3.0)
    assert fast.cells()[-2:] == ["worst <= 4.00", "met"]
    assert not any(v.bar.title.startswith("dense") for v in bars.verdicts(contests))


def test_filter2d_is_matched_up_to_where_it_transforms() -> None:
    peer = entry("cv2 filter2D", 1.0)
    layers = workloads.select(["image-2048-21x21", "image-2048-21x21-float64", "image-2048-31x31"])
    found = bars.verdicts([hand_made(layer, 2.0, peer) for layer in layers])
    (verdict,) = (v for v in found if "filter2D" in v.bar.title)
    assert (verdict.layers, verdict.worst.layer, verdict.met) == (1, "image-2048-21x21", False)


@pytest.fixture
def with_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = [Fake("fake plain"), Fake("fake broken", fails="no such kernel")]
    monkeypatch.setattr(versus, "entrants", lambda family: [contenders.DEFAULT, *fakes])
    monkeypatch.setattr(versus, "print_machine", lambda dtypes, entrants: None)


def bench_peers(*arguments: str) -> int:
    words = "bench --peers --layers tiny-8 tiny-lenet-c3 --threads 1 --seconds 0.001"
    return cli.main([*words.split(), *arguments])


@pytest.mark.usefixtures("with_fakes")
def test_peers_prints_lines_refusals_and_bars(capsys: Any, tmp_path: Path) -> None:
    results, readme = tmp_path / "results.json", tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    assert bench_peers("--json", str(results), "--readme", str(readme)) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("tiny-8 ")]
    assert "fake plain" in lines[0]
    assert "    without fake broken: RuntimeError: no such kernel" in printed
    assert "not fake plain, on 1 of 2 lines: takes tiny layers" in printed
    assert "1x1x8x8, 3x3, microseconds" in printed
    document = json.loads(results.read_text())
    assert [one["layer"] for one in document["contests"]] == ["tiny-8", "tiny-lenet-c3"]
    assert document["contests"][0]["entries"][1]["timing"]["median"] > 0
    assert document["bars"][0]["layers"] == "1"
    text = readme.read_text()
    assert "| tiny-8<br>1x1x8x8 -> 1, 3x3 |" in text
    assert "| 1x1x8x8, 3x3, microseconds | 1 | 1 |" in text
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "old" not in text


@pytest.mark.usefixtures("with_fakes")
def test_an_interrupt_prints_what_is_there(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    whole = versus.versus

    def interrupted(*arguments: Any) -> Iterator[contest.Contest]:
        yield next(iter(whole(*arguments)))
        raise KeyboardInterrupt

    monkeypatch.setattr(versus, "versus", interrupted)
    assert bench_peers() == 0
    printed = capsys.readouterr().out
    assert "interrupted" in printed
    assert "1x1x8x8, 3x3, microseconds" in printed
    assert "\ntiny-lenet-c3 " not in printed


@pytest.mark.usefixtures("with_fakes")
def test_a_failure_of_ours_is_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    broken = Fake("cnnfast default", fails="oh")
    monkeypatch.setattr(versus, "entrants", lambda family: [broken])
    assert bench_peers() == 1
    assert "cnnfast failed" in capsys.readouterr().out


@pytest.mark.usefixtures("with_fakes")
def test_peers_draws_a_roofline(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib isn't installed")
    chart = tmp_path / "roofline.png"
    assert bench_peers("--png", str(chart)) == 0
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_the_readme_must_have_markers(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="no <!-- benchmark -->"):
        report.write_readme(path, "tables")


def test_cold_starts_take_turns_and_are_judged() -> None:
    measured = list(cold_start.measure(2, {"cnnfast": "pass", "torch": "pass"}))
    assert [name for name, _ in measured] == ["cnnfast", "torch"] * 2
    assert all(seconds > 0 for _, seconds in measured)
    absolute, versus_torch = cold_start.verdicts({"cnnfast": [0.2, 0.1, 0.3], "torch": [1.1]})
    assert (absolute.worst.value, absolute.met) == (0.2, True)
    assert (versus_torch.worst.value, versus_torch.met) == (pytest.approx(5.5), True)
    assert cold_start.verdicts({}) == []
    with pytest.raises(RuntimeError, match="a process failed"):
        list(cold_start.measure(1, {"broken": "import no_such_module_at_all"}))


def test_memory_is_what_explain_says(capsys: Any) -> None:
    assert (
        cli.main(["bench", "--memory", "--layers", "resnet-64-56", "tiny", "--threads", "1"]) == 0
    )
    printed = capsys.readouterr().out
    assert "resnet-64-56" in printed
    assert "tiny" not in printed
    (row,) = memory.memory(["resnet-64-56"], [1])
    assert row.data == 2 * 64 * 56 * 56 * 4
    rows = [row._replace(scratch=row.data // 2, packed_scratch=row.data // 10)]
    assert [v.met for v in memory.verdicts(rows)] == [True]
    assert [v.met for v in memory.verdicts([rows[0]._replace(packed_scratch=row.data)])] == [False]
    gradient = rows[0]._replace(packed_scratch=None)
    assert [v.cells()[-2] for v in memory.verdicts([gradient])] == ["no bar"]


def test_one_pass_is_set_beside_the_crops(capsys: Any, tmp_path: Path) -> None:
    out = tmp_path / "sliding.json"
    words = f"bench --sliding --threads 1 --seconds 0.001 --json {out}"
    assert cli.main(words.split()) == 0
    assert "256 x 256    841" in capsys.readouterr().out
    first = json.loads(out.read_text())["sliding"][0]
    assert first["crops"] == 25
    assert first["crop_flops"] > 5 * first["once_flops"]


def test_gradients_are_set_beside_the_forward_pass(capsys: Any) -> None:
    words = "bench --gradients --layers tiny-8 --threads 1 --seconds 0.001"
    assert cli.main(words.split()) == 0
    assert "input / forward" in capsys.readouterr().out


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
    first, second = (workloads.select(["tiny-8"])[0].arrays() for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
