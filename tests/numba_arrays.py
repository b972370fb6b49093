"""What the tests of the functions for users' compiled code share."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np

import cnnfast

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(7)


def whole(shape: tuple[int, ...], dtype: str = "float32") -> Array:
    """Small integers: sums are exact in any order."""
    return RANDOM.integers(-4, 5, shape).astype(dtype)


def reference_conv(x: Array, w: Array, bias: Array | None = None, **options: Any) -> Array:
    return np.asarray(cnnfast.functional.__dict__[f"conv{x.ndim - 2}d"](
        x, w, bias, backend="reference", **options
    ))  # fmt: skip


def assert_same_bits(one: Array, two: Array) -> None:
    assert (one.dtype, one.shape) == (two.dtype, two.shape)
    bits = [np.ascontiguousarray(array).view(np.uint8) for array in (one, two)]
    np.testing.assert_array_equal(*bits)


X, W = np.ones((1, 4, 8, 8), np.float32), np.ones((6, 2, 3, 3), np.float32)


def run_python(program: str, variables: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, text=True,
        check=False, env={**os.environ, **variables}, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
