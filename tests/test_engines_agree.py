"""Rows of both compiled engines give the same bits: they add in the same order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels.registry import engine_missing

pytestmark = pytest.mark.skipif(
    any(engine_missing(engine) for engine in ("cython_cpu", "numba_cpu")),
    reason="both compiled engines are needed",
)

Array = np.ndarray[Any, Any]

#: (N, C, H, W) of planes: wide, narrow, channels that fill no vector, few windows a row.
PLANES = ((2, 3, 9, 37), (1, 40, 14, 14), (20, 3, 7, 7), (1, 2, 20, 300))
#: Kernel, stride, padding, dilation.
WINDOWS = (
    (2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1), (2, 1, 0, 1), (3, 2, 0, 1), (2, 2, 1, 2),
    (3, 3, 1, 2), (5, 4, 2, 1), (7, 7, 0, 1), (7, 3, 3, 1), (3, 5, 1, 1),
)  # fmt: skip


def images(shape: tuple[int, ...], dtype: str, layout: str) -> list[Array]:
    """Random images with NaN, infinities and -0, as they are, reversed and in steps."""
    random = np.random.default_rng(0)
    x = random.standard_normal(shape).astype(dtype)
    for value in (np.nan, -np.inf, -0.0):
        x.flat[random.integers(0, x.size, 9)] = value
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return [x, x[:, :, ::-1], np.repeat(x, 2, axis=2)[:, :, ::2]]


def assert_same_bits(one: Array, two: Array) -> None:
    """NaN with its bits, and the sign of zero."""
    bits = [np.ascontiguousarray(array).view(np.uint8) for array in (one, two)]
    np.testing.assert_array_equal(*bits)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_pooling(window: tuple[int, ...], layout: str, dtype: str) -> None:
    size, stride, padding, dilation = window
    for shape in PLANES:
        for x in images(shape, dtype, layout):
            maxima = [
                cnnfast.max_pool2d(
                    x, size, stride, padding, dilation=dilation, layout=layout, backend=engine,
                    return_indices=with_indices,
                )
                for with_indices in (False, True)
                for engine in ("cython", "numba")
            ]  # fmt: skip
            assert_same_bits(*maxima[:2])
            for one, two in zip(*maxima[2:], strict=True):
                assert_same_bits(one, two)
            if dilation > 1:
                continue
            for counting in (True, False):
                means = [
                    cnnfast.avg_pool2d(
                        x, size, stride, padding, layout=layout, backend=engine,
                        count_include_pad=counting, ceil_mode=not counting,
                    )
                    for engine in ("cython", "numba")
                ]  # fmt: skip
                assert_same_bits(*means)


#: Input, weight and options: planes in place, rows that share their input, several channels,
#: depthwise, two rows of all lanes; rows 4 KiB apart, sums past the caches, columns far apart.
LAYERS = (
    ((2, 3, 20, 33), (5, 3, 3, 3), {"padding": 1}),
    ((1, 1, 50, 130), (1, 1, 7, 7), {"padding": 3}),
    ((1, 1, 40, 45), (2, 1, 11, 11), {"padding": 5}),
    ((1, 16, 12, 30), (16, 4, 3, 3), {"padding": 1, "stride": 2, "groups": 4}),
    ((1, 40, 15, 15), (40, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 40}),
    ((2, 35, 12, 11), (35, 1, 4, 4), {"padding": 1, "stride": 3, "dilation": 2, "groups": 35}),
    ((1, 6, 30, 30), (12, 1, 3, 3), {"padding": 2, "dilation": 2, "groups": 6}),
    ((2, 32, 14, 14), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    ((1, 64, 15, 17), (64, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 64}),
    ((1, 1, 13, 1024), (3, 1, 3, 3), {"padding": 1}),
    ((1, 1, 2048, 2048), (1, 1, 3, 3), {"padding": 1}),
    ((1, 2, 9, 300), (5, 2, 1, 40), {"stride": (1, 16), "padding": (0, 7)}),
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("shape", "kernel", "options"), LAYERS)
def test_direct(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    options: dict[str, Any],
    layout: str,
    dtype: str,
) -> None:
    random = np.random.default_rng(1)
    x, weight, bias = (
        random.standard_normal(size).astype(dtype) for size in (shape, kernel, kernel[:1])
    )
    if layout == "NHWC":
        x, weight = x.transpose(0, 2, 3, 1).copy(), weight.transpose(2, 3, 1, 0).copy()
    results = [
        cnnfast.conv2d(
            x, weight, bias, layout=layout, activation="relu", backend=f"direct/{engine}", **options
        )
        for engine in ("cython", "numba")
    ]
    assert_same_bits(*results)
