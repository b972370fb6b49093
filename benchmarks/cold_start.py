"""From the start of a fresh process to its first conv2d result: ours, and other libraries'."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cnnfast.benchmarks import contenders, peers
from cnnfast.benchmarks.bars import Bar, Figure, Verdict, judge
from cnnfast.benchmarks.contender import Contender
from cnnfast.benchmarks.workloads import ConvWorkload

#: One image of one channel, which all libraries take.
LAYER = ConvWorkload(
    layer="cold-start", input=(1, 1, 256, 256), kernel=5, padding=2, out_channels=1, layer_tags=()
)
ARRAYS = """
import numpy
x = numpy.ones((1, 1, 256, 256), numpy.float32)
w = numpy.ones((1, 1, 5, 5), numpy.float32)
"""
#: Library -> what a user would run; the process says when the result is there.
SCRIPTS = {
    "cnnfast": "import cnnfast; cnnfast.conv2d(x, w, padding=2)",
    "torch": (
        "import torch; x, w = torch.from_numpy(x), torch.from_numpy(w); "
        "torch.nn.functional.conv2d(x, w, padding=2)"
    ),
    "onnxruntime": (
        "import onnxruntime; "
        "session = onnxruntime.InferenceSession('model.onnx', providers=['CPUExecutionProvider']); "
        "session.run(None, {'x': x})"
    ),
    "cv2": "import cv2; cv2.filter2D(x[0, 0], -1, w[0, 0], borderType=cv2.BORDER_CONSTANT)",
    "scipy": ("from scipy import ndimage; ndimage.correlate(x[0, 0], w[0, 0], mode='constant')"),
}
READY = "\nprint('ready', flush=True)"
ROUNDS = 5
BARS = (
    Bar("cold start, seconds", worst=0.25, most=True),
    Bar("cold start / torch", worst=5.0),
)


def measure(
    rounds: int = ROUNDS, scripts: Mapping[str, str] | None = None
) -> Iterator[tuple[str, float]]:
    """Seconds of every library that is here, in turn, round by round.

    A round before the first, not told of, brings files into the system's cache.
    """
    with tempfile.TemporaryDirectory() as folder:
        chosen = {"cnnfast": SCRIPTS["cnnfast"], **_peers()} if scripts is None else dict(scripts)
        if "onnxruntime" in chosen:
            model = peers.one_node_model(LAYER, LAYER.arrays())
            Path(folder, "model.onnx").write_bytes(model)
        for turn in range(rounds + 1):
            for name, script in chosen.items():
                seconds = _seconds(ARRAYS + script + READY, folder)
                if turn:
                    yield name, seconds


def _peers() -> dict[str, str]:
    here: list[Contender] = [c for c in contenders.contenders("fprop") if c.missing() is None]
    libraries = {next(iter(c.requires)) for c in here if c.role == "peer"}
    return {name: script for name, script in SCRIPTS.items() if name in libraries}


def _seconds(script: str, folder: str) -> float:
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if line.strip() != b"ready":
        raise RuntimeError(f"a process failed with status {process.returncode}: {script}")
    return seconds


def verdicts(seconds: Mapping[str, Sequence[float]]) -> list[Verdict]:
    """The bars', by medians and minima."""
    own, torch = seconds.get("cnnfast"), seconds.get("torch")
    found = []
    if own:
        figure = Figure("conv2d", statistics.median(own), min(own))
        found.append(judge(BARS[0], [figure]))
    if own and torch:
        by_median = statistics.median(torch) / statistics.median(own)
        found.append(judge(BARS[1], [Figure("conv2d", by_median, min(torch) / min(own))]))
    return [verdict for verdict in found if verdict is not None]
