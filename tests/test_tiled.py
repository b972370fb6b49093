"""The tiled rows where they choose between ways: what is copied, cut and written how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnfast import ConvGeometry, kernels
from cnnfast.kernels import blocking, blocking_gradients
from cnnfast.kernels.registry import engine_missing

import conformance as suite

#: input, out-channels, kernel, arguments, channels last, and what the case is for
CASES = {
    "read in place": ((2, 24, 9, 8), 40, 3, {}, True),
    "read in place, strided": ((1, 24, 9, 11), 33, 3, {"stride": 2, "dilation": 2}, True),
    "some tasks read in place": ((1, 8, 41, 9), 16, (3, 1), {"padding": (1, 0)}, True),
    "pixels a cache apart": ((1, 1024, 5, 6), 17, 1, {}, True),
    "pixels a cache apart, 3x3": ((1, 512, 6, 9), 16, 3, {"stride": 2, "padding": 1}, False),
    "blocks of columns": ((1, 5, 6, 215), 40, 3, {"padding": 1}, False),
    "blocks of panels": ((2, 3, 7, 7), 280, 3, {"padding": 1}, False),
    "blocks of panels in groups": ((1, 8, 7, 9), 560, 3, {"padding": 1, "groups": 2}, True),
    "one vector of a pair": ((1, 6, 10, 7), 36, 3, {}, True),
    "depth": ((1, 17, 5, 6, 7), 20, 3, {"padding": 1, "dilation": 2}, False),
}
ENGINES = [
    pytest.param(
        engine,
        marks=pytest.mark.skipif(
            engine_missing(f"{engine}_cpu") is not None, reason=f"no {engine} engine"
        ),
    )
    for engine in ("cython", "numba")
]


def random(shape: tuple[int, ...], dtype: str) -> Any:
    return np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_exact(name: str, engine: str, dtype: str) -> None:
    shape, filters, kernel, arguments, last = CASES[name]
    axes = len(shape) - 2
    taps = kernel if isinstance(kernel, tuple) else (kernel,) * axes
    x = random(shape, dtype)
    weight = random((filters, shape[1] // arguments.get("groups", 1), *taps), dtype)
    layout = "NHWC" if last else None
    if last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    geometry = ConvGeometry.of(x, weight, layout=layout, **arguments)
    bias = np.arange(filters, dtype=dtype)
    expected = suite.reference_conv("fprop", x, weight, bias, geometry, 1)
    row = kernels.load("fprop", "tiled", engine)
    out = np.full(geometry.out_shape, np.nan, dtype)
    scratch = np.empty(row.scratch_bytes(geometry, 2), np.uint8)
    for threads in (1, 2):
        out[...] = np.nan
        row(x, weight, out, geometry, scratch, bias=bias, activation="relu", threads=threads)
        np.testing.assert_array_equal(out, expected)


def test_the_cases_are_what_they_say() -> None:
    def cut(name: str) -> Any:
        shape, filters, kernel, arguments, _ = CASES[name]
        weight = (filters, shape[1] // arguments.get("groups", 1), kernel, kernel)
        return blocking.tiled_cut(ConvGeometry.of(shape, weight, **arguments).problem, 4)

    assert cut("blocks of columns").column_blocks > 1
    assert cut("blocks of panels").k_blocks > 1
    assert cut("pixels a cache apart").halo_channels > 1024
    assert cut("pixels a cache apart, 3x3").halo_channels > 512


#: The same of wgrad, where kernels of one tap are a product: vectors lie along the in-channels, and
#: sums may be stored in place.
PRODUCTS = {
    "in place": ((1, 64, 9, 8), 30, {}),
    "some panels in place": ((1, 57, 5, 7), 29, {}),
    "less than a panel": ((2, 13, 5, 7), 3, {}),
    "several units in place": ((2, 512, 3, 5), 520, {}),
    "slices": ((3, 33, 16, 20), 26, {}),
    "strided": ((1, 40, 12, 9), 24, {"stride": (3, 2)}),
    "dilated": ((1, 32, 4, 9), 32, {"dilation": 2}),
    "few in-channels": ((1, 3, 9, 8), 40, {}),
    "padded": ((1, 32, 7, 8), 16, {"padding": (1, 0)}),
    "groups": ((1, 64, 7, 8), 32, {"groups": 2}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weights_last", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_exact_products(name: str, last: bool, weights_last: bool, engine: str, dtype: str) -> None:
    shape, filters, arguments = PRODUCTS[name]
    x = random(shape, dtype)
    weight = random((filters, shape[1] // arguments.get("groups", 1), 1, 1), dtype)
    if last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    if weights_last:
        weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    geometry = ConvGeometry.of(
        x, weight, layout="NHWC" if last else None,
        weight_layout="HWIO" if weights_last else "OIHW", **arguments,
    )  # fmt: skip
    grad = random(geometry.out_shape, dtype)[..., ::-1]
    expected = suite.reference_conv("wgrad", x, grad, np.empty(0, dtype), geometry, 0)
    out, buffer = suite.guarded(weight.shape, np.dtype(dtype))
    row = kernels.load("wgrad", "tiled", engine)
    for threads in (1, 2):
        out[...] = np.nan
        scratch = np.full(row.scratch_bytes(geometry, threads), 255, np.uint8)
        row(x, grad, out, geometry, scratch, threads=threads)
        np.testing.assert_array_equal(out, expected)
        suite.assert_guarded(buffer)


def test_the_products_are_what_they_say() -> None:
    def exchanged(name: str) -> Any:
        shape, filters, arguments = PRODUCTS[name]
        weight = (filters, shape[1] // arguments.get("groups", 1), 1, 1)
        problem = ConvGeometry.of(shape, weight, **arguments).problem
        return blocking_gradients.exchanged_product(problem, 4)

    plain = {"few in-channels", "padded", "groups"}
    assert {name for name in PRODUCTS if exchanged(name) is None} == plain
    units = blocking_gradients.wgrad_cut(exchanged("several units in place"), 4)
    assert units.units > 1 == units.slices
    assert blocking_gradients.wgrad_cut(exchanged("slices"), 4).slices > 1
