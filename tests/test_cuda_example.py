"""``examples/gpu_tiles.py``: a user's kernel made of tiles, in the simulator and compiled."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'cnnfast[cuda]'")

PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "gpu_tiles.py"


def test_it_gives_what_numpy_gives_in_the_simulator(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    error = re.search(r"NumPy's differ by (\S+) at most", done.stdout)
    assert error is not None
    assert float(error[1]) < 1e-5


def test_it_compiles_for_the_tiles_of_a_gpu() -> None:
    from numba import cuda
    from numba.cuda import types

    from cnnfast.kernels.numba_cuda import compiler

    kernel = runpy.run_path(str(PROGRAM))["energies"]
    flat, plane = types.float32[::1], types.float32[:, ::1]
    numbers = compiler.parameter_type("problem"), compiler.parameter_type("int32[5]")
    with compiler._as_if_on(compiler.HOPPER):
        text, _ = cuda.compile(
            kernel.py_func,
            (flat, flat, plane, *numbers, types.int64, types.int64),
            device=False,
            abi="numba",
            cc=compiler.HOPPER,
            launch_bounds=(256, 1),
        )
    assert text.count("fma.rn.f32") >= 512
