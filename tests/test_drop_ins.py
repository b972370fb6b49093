"""What all drop-ins promise: each loads alone, and says what it lacks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import cnnfast

#: A use of each, the package it needs, and the extra that brings it.
USES = {
    "onnx operators": ("cnnfast.onnx.ops", "onnx", "onnx"),
    "onnx run": ("cnnfast.onnx.run(b'', {})", "onnx", "onnx"),
    "keras": ("cnnfast.keras.install()", "keras", "keras"),
    "torch function": ("cnnfast.torch.conv2d(1, 2)", "torch", "torch"),
    "torch use": ("cnnfast.torch.use().__enter__()", "torch", "torch"),
    "dask": ("cnnfast.dask.conv2d(1, 2)", "dask", "dask"),
}
#: Packages of which a drop-in may bring in its own alone.
PACKAGES = ("dask", "distributed", "jax", "keras", "numba", "onnx", "scipy", "torch")
DROP_INS = {
    "signal": None, "ndimage": None, "onnx": "onnx", "keras": "keras", "torch": "torch",
    "dask": "dask",
}  # fmt: skip


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")


@pytest.mark.parametrize("use", USES)
def test_without_its_package_a_drop_in_says_what_installs_it(use: str) -> None:
    statement, package, extra = USES[use]
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed: this runs on a plain install")
    done = python(f"import cnnfast\n{statement}")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: cnnfast.")
    assert last.endswith(f" needs {package}: pip install 'cnnfast[{extra}]'")


@pytest.mark.parametrize("name", DROP_INS)
def test_each_loads_without_the_packages_of_the_others(name: str) -> None:
    own = DROP_INS[name]
    if own and importlib.util.find_spec(own) is None:
        pytest.skip(f"{own} isn't installed")
    others = [package for package in PACKAGES if package != own and package != "numba"]
    code = (
        "import sys, importlib\n"
        f"for name in {others}: sys.modules[name] = None\n"
        "import cnnfast\n"
        f"module = importlib.import_module('cnnfast.{name}')\n"
        f"assert module is cnnfast.{name}\n"
        f"assert '{name}' in dir(cnnfast)\n"
        "[getattr(module, name) for name in module.__all__]\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def brought_by(*modules: str) -> set[str]:
    code = "".join(f"import {name}\n" for name in modules)
    done = python(f"import sys\n{code}print(*sorted({set(PACKAGES)} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", DROP_INS)
def test_importing_one_brings_in_no_package_but_its_own(name: str) -> None:
    """And what that package brings in itself: dask imports SciPy where it is installed."""
    own = DROP_INS[name]
    if own and importlib.util.find_spec(own) is None:
        pytest.skip(f"{own} isn't installed")
    itself = {"dask": ["dask.array"], "torch": ["torch"]}.get(name, [])
    assert brought_by(f"cnnfast.{name}") <= {own} | brought_by(*itself)


def test_a_star_import_leaves_drop_ins_out() -> None:
    assert not set(DROP_INS) & set(cnnfast.__all__)
