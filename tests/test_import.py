"""Importing is cheap, and brings in nothing but NumPy."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import cnnfast


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")


def test_import_costs_at_most_50_ms_above_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    """From ``-X importtime``, the least of five: all of cnnfast but what numpy itself takes."""
    costs = []
    for _ in range(5):
        lines = python("-X", "importtime", "-c", "import numpy; import cnnfast").stderr
        found = re.search(r"\|\s*(\d+) \| cnnfast$", lines, re.MULTILINE)
        assert found is not None
        costs.append(int(found[1]) / 1000)
    with capsys.disabled():
        print(f"\nimport cnnfast: {min(costs):.1f} ms above import numpy")
    assert min(costs) <= 50


def test_import_brings_in_neither_numba_nor_scipy() -> None:
    heavy = "{'numba', 'scipy', 'llvmlite', 'torch', 'matplotlib', 'sklearn', 'rich', 'Cython'}"
    code = f"import sys, cnnfast; print(sorted({heavy} & set(sys.modules)))"
    assert python("-c", code).stdout.strip() == "[]"


def test_import_loads_no_kernel_and_starts_no_thread() -> None:
    code = (
        "import sys, threading, cnnfast;"
        "print([m for m in sys.modules if '_cpu.' in m], threading.active_count())"
    )
    assert python("-c", code).stdout.strip() == "[] 1"


def test_a_default_call_on_the_cython_engine_does_not_import_numba() -> None:
    from cnnfast.kernels.registry import engine_missing

    if engine_missing("cython_cpu"):
        pytest.skip(f"cython engine: {engine_missing('cython_cpu')}")
    code = (
        "import sys, numpy as np, cnnfast; x = np.ones((1, 1, 8, 8));"
        "cnnfast.conv2d(x, x[:, :, :3, :3]); print('numba' in sys.modules)"
    )
    assert python("-c", code).stdout.strip() == "False"


def test_every_name_is_there_and_every_function_under_its_own() -> None:
    assert set(cnnfast.functional.__all__) < set(cnnfast.__all__) <= set(dir(cnnfast))
    for name in cnnfast.__all__:
        assert getattr(cnnfast, name) is not None
    for name in cnnfast.functional.__all__:
        assert getattr(cnnfast, name) is getattr(cnnfast.functional, name)
    with pytest.raises(AttributeError, match="module 'cnnfast' has no attribute 'conv9d'"):
        cnnfast.conv9d  # noqa: B018


def test_the_first_result_comes_soon(capsys: pytest.CaptureFixture[str]) -> None:
    """What a first call loads and does above ``import numpy``, the least of five; printed."""
    code = (
        "import time, numpy as np; start = time.perf_counter(); import cnnfast;"
        "x = np.ones((1, 1, 8, 8)); cnnfast.max_pool2d(x, 2, backend='numpy');"
        "print(time.perf_counter() - start)"
    )
    seconds = min(float(python("-c", code).stdout) for _ in range(5))
    with capsys.disabled():
        print(f"\nfirst result of cnnfast: {seconds * 1e3:.1f} ms above import numpy")
    assert seconds < 0.5
