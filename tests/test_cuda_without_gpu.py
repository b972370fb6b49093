"""The GPU's rows and public calls on a machine without a GPU, in processes of their own: as
compiled PTX behind the driver's stand-in, and in Numba's simulator. On a machine with a GPU the
same files run by themselves.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'cnnfast[cuda]'")

import fake_cuda

HERE = Path(__file__).resolve().parent
ROWS, ARRAYS = HERE / "test_cuda_rows.py", HERE / "test_cuda_arrays.py"
HOST = HERE / "test_cuda_host.py"
OPTIONS = ["-q", "-p", "no:cacheprovider", "--no-header"]
#: What runs side by side: files and chosen tests of a process, and least tests that must pass.
AS_PTX = {
    "rows of tiles": ([ROWS, "-k", "tiled or im2col or tensor or wgmma"], 400),
    "rows without, and public calls": ([ROWS, ARRAYS, HOST, "-k", "direct or not cuda-"], 250),
}
#: Cases that a warp of Python's threads gets through.
IN_SIMULATOR = ([ROWS, "-k", "plain"], 15)


def passed(output: str) -> int:
    """How many tests pytest's closing line says have passed; 0 if any failed or none ran."""
    found = re.search(r"(\d+) passed", output.splitlines()[-1] if output else "")
    return int(found[1]) if found else 0


def finish(process: subprocess.Popen[str], least: int) -> None:
    """Wait for pytest and assert that it ran and passed what it should have."""
    output, _ = process.communicate()
    print(output[-6000:])
    assert process.returncode == 0
    assert passed(output) >= least


@pytest.mark.skipif(fake_cuda.compiler() is None, reason="no C compiler for the driver's stand-in")
def test_rows_and_calls_as_compiled_ptx() -> None:
    environment = fake_cuda.environment()
    running = [
        subprocess.Popen(
            fake_cuda.command("-m", "pytest", *OPTIONS, *map(str, chosen)),
            env=environment, cwd=HERE.parent, stdout=subprocess.PIPE, text=True,
        )
        for chosen, _ in AS_PTX.values()
    ]  # fmt: skip
    for process, (_, least) in zip(running, AS_PTX.values(), strict=True):
        finish(process, least)


def test_rows_in_the_simulator() -> None:
    chosen, least = IN_SIMULATOR
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "pytest", *OPTIONS, *map(str, chosen)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=HERE.parent, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    finish(process, least)
