"""The examples in the docstrings run, on the package as installed."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import cnnfast
from cnnfast import benchmarks, kernels
from cnnfast._core.extras import EXTRAS

#: What pytest collects, and what needs an engine or runs a command when it is imported.
LEFT_OUT = (
    "conftest",
    "test_conv",
    "test_pool",
    "test_training",
    "torch_models",
    "cases",
    "__main__",
    "numba_cpu",
    "cython_cpu",
)
#: Drop-ins whose examples need the package of the same name.
DROP_INS = {"dask", "keras", "onnx", "torch"}
#: Packages of what runs on GPUs, most of which numba-cuda is imported for.
ON_GPU = {"numba_cuda", "on_gpu"}


def modules() -> list[str]:
    """Every module; kernels and benchmarks lie elsewhere in an editable install."""
    names = {"cnnfast", "cnnfast.kernels", "cnnfast.benchmarks"}
    for package in (cnnfast, kernels, benchmarks):
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names |= {module.name for module in found}
    return sorted(name for name in names if not set(name.split(".")) & set(LEFT_OUT))


def test_every_part_is_there() -> None:
    assert {"cnnfast.functional", "cnnfast.kernels.blocking", "cnnfast._core.geometry"} < set(
        modules()
    )
    assert {"cnnfast.benchmarks.versus", "cnnfast.kernels.numpy_cpu.im2col"} < set(modules())


@pytest.mark.parametrize("name", modules())
def test_examples(name: str) -> None:
    if ON_GPU & set(name.split(".")) and importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda isn't installed")
    for package in DROP_INS & set(name.split(".")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} isn't installed")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        pytest.skip(f"{missing} isn't installed")
    assert doctest.testmod(module).failed == 0
