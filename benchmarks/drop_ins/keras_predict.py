"""``predict`` of a small CNN by Keras' NumPy backend: on cnnfast, without JAX, and on JAX.

Each is a process of its own, from its start to the first prediction, and for a while after that.
Both run in the same interpreter, which needs Keras, JAX and cnnfast: this one, or that which
``CNNFAST_JAX_PYTHON`` names. Where cnnfast serves, JAX is hidden from the process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import Timing

ROUNDS = 5
OWN, JAX = "cnnfast", "Keras on JAX"
#: What hides JAX from a process and installs cnnfast in its place.
INSTALL = "import sys; sys.modules['jax'] = None; import cnnfast.keras; cnnfast.keras.install()"
PROGRAM = """
import json, os, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{threads}])
{install}
import keras, numpy as np
from keras import layers
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((28, 28, 1)),
    layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2, 2),
    layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2, 2),
    layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax"),
])
images = np.random.default_rng(0).random((256, 28, 28, 1), np.float32)
first = model.predict(images, verbose=0)
print("ready", flush=True)
assert ("jax" in sys.modules and sys.modules["jax"] is not None) == {jax}
np.save("{name}.npy", first)
samples, stop = [], time.perf_counter() + {seconds}
while len(samples) < 3 or time.perf_counter() < stop:
    start = time.perf_counter()
    model.predict(images, verbose=0)
    samples.append(time.perf_counter() - start)
print(json.dumps(samples))
"""
#: Why an interpreter can't run both.
CHECK = "import jax, cnnfast, keras"


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """The first prediction, process and all, and those after it; none, and a line that says why,
    where there is no JAX to stand beside.

    Both predict the same before anything counts. Processes are pinned to ``threads`` cores, and
    take turns.
    """
    python = os.environ.get("CNNFAST_JAX_PYTHON", sys.executable)
    checked = subprocess.run(
        [python, "-c", CHECK],
        env=_environment(threads), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if checked.returncode:
        reason = checked.stderr.strip().splitlines()[-1]
        print(
            f"keras_predict: {python} has no Keras, JAX and cnnfast (CNNFAST_JAX_PYTHON): {reason}"
        )
        return []
    starts: dict[str, list[float]] = {OWN: [], JAX: []}
    steady: dict[str, list[float]] = {OWN: [], JAX: []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS + 1):
            for name in starts:
                start, samples = _predict(python, name, Path(folder), seconds / ROUNDS, threads)
                if turn:  # the first brings files into the system's cache
                    starts[name].append(start)
                    steady[name] += samples
            if not turn:
                own, jax = (np.load(Path(folder) / f"{name}.npy") for name in (OWN, JAX))
                np.testing.assert_allclose(own, jax, rtol=1e-4, atol=1e-6)
    return [
        DropInRow(f"{case}, 256 images", JAX, _timing(times[OWN]), _timing(times[JAX]), asked=1.0)
        for case, times in (("import, build, first predict", starts), ("predict", steady))
    ]


def _predict(
    python: str, name: str, folder: Path, seconds: float, threads: int
) -> tuple[float, list[float]]:
    """Seconds of a fresh process until its first prediction, and of each one after it."""
    own = name == OWN
    program = PROGRAM.format(
        threads=threads, install=INSTALL if own else "", jax=not own, name=name, seconds=seconds
    )
    start = time.perf_counter()
    with subprocess.Popen(
        [python, "-c", program],
        cwd=folder, env=_environment(threads), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = time.perf_counter() - start
        rest = process.stdout.read()
    if line != "ready\n" or process.returncode:
        raise RuntimeError(f"{name}: predict failed in {python}")
    samples: list[float] = json.loads(rest)
    return ready, samples


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "KERAS_BACKEND": "numpy", "CNNFAST_NUM_THREADS": str(threads)}


def _timing(samples: list[float]) -> Timing:
    return Timing(statistics.median(samples), min(samples), len(samples))
