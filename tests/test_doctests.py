"""The examples in the docstrings run, on the package as installed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cnnfast

#: Not run: engines that aren't here can't be imported, and the benchmarks have tests of their own.
SKIPPED = (
    "cnnfast.kernels.numba_cpu",
    "cnnfast.kernels.cython_cpu",
    "cnnfast.benchmarks",
    "cnnfast.__main__",
)

MODULES = [
    found.name
    for found in pkgutil.walk_packages(cnnfast.__path__, "cnnfast.")
    if not found.name.startswith(SKIPPED)
]


@pytest.mark.parametrize(
    "name", ["cnnfast", "cnnfast.kernels.loading", "cnnfast.kernels.shapes", *MODULES]
)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
