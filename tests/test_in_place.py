"""What Cython's rows read where it lies gives the same bits as what they copy first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels.registry import engine_missing

pytestmark = pytest.mark.skipif(engine_missing("cython_cpu") is not None, reason="no cython engine")
#: Input, out-channels, kernel, arguments: whole vectors and a rest, few and many out-channels,
#: windows wider than the input, volumes.
RUNS: dict[str, tuple[tuple[int, ...], int, int, dict[str, Any]]] = {
    "rest": ((2, 3, 15, 13), 8, 3, {"padding": 1}),
    "four channels a group": ((1, 8, 19, 17), 8, 3, {"padding": 1, "groups": 2}),
    "nine channels": ((1, 2, 12, 12), 9, 3, {"padding": 1}),
    "two panels": ((1, 5, 9, 31), 37, 5, {"padding": 2}),
    "dilated": ((1, 3, 16, 16), 12, 3, {"padding": 2, "dilation": 2}),
    "wider than the input": ((1, 2, 3, 27), 16, 7, {"padding": 3}),
    "many taps": ((1, 1, 20, 20), 4, 13, {"padding": 6}),
    "volume": ((1, 2, 5, 6, 7), 16, 3, {"padding": 1}),
}


def random(shape: tuple[int, ...], dtype: str) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RUNS)
def test_columns(name: str, dtype: str) -> None:
    """Nothing around the input counts, and a copy of it isn't missed."""
    shape, filters, taps, arguments = RUNS[name]
    axes = len(shape) - 2
    around = np.full(np.prod(shape) + 2000, np.nan, dtype)
    x = around[1000:-1000].reshape(shape)
    x[...] = random(shape, dtype)
    weight = random((filters, shape[1] // arguments.get("groups", 1), *(taps,) * axes), dtype)
    convolve = {2: cnnfast.conv2d, 3: cnnfast.conv3d}[axes]
    found = convolve(x, weight, backend="im2col/cython", **arguments)
    # Rows that aren't side by side in memory have copied columns.
    apart = np.empty((*shape[:-1], shape[-1] + 1), dtype)[..., :-1]
    apart[...] = x
    np.testing.assert_array_equal(
        found, convolve(apart, weight, backend="im2col/cython", **arguments)
    )
    expected = convolve(x, weight, backend="tiled/cython", **arguments)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 7, 16, 61, 163])
def test_weights(length: int, dtype: str) -> None:
    """Out-channels that fill no panel, and rows of weights that begin anywhere in a line."""
    for pixels in (1, 2, 6, 13, 14, 15):
        for filters, begin in ((1, 0), (16, 3), (43, 5)):
            x = random((1, length, 1, pixels), dtype)
            weight = random((filters * length + begin,), dtype)[begin:]
            weight = weight.reshape(filters, length, 1, 1)
            bias = random((filters,), dtype)
            panels = cnnfast.pack_weight(weight, x.shape, backend="tiled/cython")
            expected = cnnfast.conv2d(x, panels, bias, activation="relu", backend="tiled/cython")
            found = cnnfast.conv2d(x, weight, bias, activation="relu", backend="tiled/cython")
            np.testing.assert_array_equal(found, expected)
