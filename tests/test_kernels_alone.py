"""One row called by itself, as README shows."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cnnfast import ConvGeometry, PoolGeometry, kernels
from cnnfast.kernels.registry import ENGINES

import conformance as suite

X = np.random.default_rng(0).integers(-4, 5, (2, 9, 8, 3)).astype(np.float32)
W = np.random.default_rng(1).integers(-4, 5, (3, 3, 3, 5)).astype(np.float32)
GEOMETRY = ConvGeometry.of(X, W, padding=1, layout="NHWC")
EXPECTED = suite.reference_conv("fprop", X, W, np.empty(0), GEOMETRY, 0)
GRAD = np.random.default_rng(2).integers(-4, 5, GEOMETRY.out_shape).astype(np.float32)


def all_rows(*families: str) -> list[kernels.Kernel]:
    return [row for row in kernels.KERNELS if row.family in families]


@pytest.mark.parametrize("row", suite.parameters(all_rows("dgrad", "wgrad")))
def test_every_gradient_row_loads_and_runs(row: kernels.Kernel) -> None:
    kernel = kernels.load(row.family, row.algorithm, ENGINES[row.engine].name)
    arrays = {"dgrad": (GRAD, W), "wgrad": (X, GRAD)}[row.family]
    out = np.full({"dgrad": X, "wgrad": W}[row.family].shape, np.nan, np.float32)
    scratch = np.empty(kernel.scratch_bytes(GEOMETRY, 2), np.uint8)
    kernel(*arrays, out, GEOMETRY, scratch, threads=2)
    expected = suite.reference_conv(row.family, *arrays, np.empty(0), GEOMETRY, 0)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("row", suite.parameters(all_rows("pool_grad")))
def test_every_pooling_adjoint_loads_and_runs(row: kernels.Kernel) -> None:
    kernel = kernels.load(row.family, row.algorithm, ENGINES[row.engine].name)
    maximum = PoolGeometry.of(X, "max", 2, layout="NHWC")
    grad = np.ones(maximum.out_shape, np.float32)
    indices = np.empty(maximum.out_shape, np.int64)
    pooled, result = np.empty_like(grad), np.full_like(X, np.nan)
    kernels.load("pool", "direct", "numpy")(X, pooled, maximum, indices=indices)
    kernel(grad, result, maximum, indices=indices)
    assert result.sum() == grad.size
    np.testing.assert_array_equal(np.unique(result), [0, 1])
    with pytest.raises(ValueError, match="pool_grad takes indices for a maximum alone"):
        kernel(grad, result, maximum)
    with pytest.raises(TypeError, match="indices must be an int64"):
        kernel(grad, result, maximum, indices=indices.astype(np.int32))


@pytest.mark.parametrize("row", suite.parameters(all_rows("fprop")))
def test_every_convolution_row_loads_and_runs(row: kernels.Kernel) -> None:
    kernel = kernels.load("fprop", row.algorithm, ENGINES[row.engine].name)
    out = np.full(GEOMETRY.out_shape, np.nan, np.float32)
    scratch = np.empty(kernel.scratch_bytes(GEOMETRY), np.uint8)
    kernel(X, W, out, GEOMETRY, scratch)
    np.testing.assert_array_equal(out, EXPECTED)
    bias = np.arange(5, dtype=np.float32)
    kernel(X, W, out, GEOMETRY, scratch, bias=bias, activation="relu")
    np.testing.assert_array_equal(out, np.maximum(EXPECTED + bias, 0))


def test_wrong_arrays_are_refused() -> None:
    kernel = kernels.load("fprop", "im2col", "numpy")
    out = np.empty(GEOMETRY.out_shape, np.float32)
    scratch = np.empty(kernel.scratch_bytes(GEOMETRY), np.uint8)
    with pytest.raises(
        ValueError,
        match=re.escape("x must be the geometry's: float32 of shape (2, 9, 8, 3), got float64"),
    ):
        kernel(X.astype(float), W, out, GEOMETRY, scratch)
    with pytest.raises(ValueError, match=re.escape("out must be the geometry's")):
        kernel(X, W, out[:1], GEOMETRY, scratch)
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"scratch must be {scratch.size} contiguous, writeable bytes (uint8), got 10 of uint8"
        ),
    ):
        kernel(X, W, out, GEOMETRY, scratch[:10])
    record = np.zeros(X.shape, [("odd", "u1"), ("value", "f4")])["value"]
    with pytest.raises(ValueError, match="x must be aligned, its strides whole elements"):
        kernel(record, W, out, GEOMETRY, scratch)
    with pytest.raises(ValueError, match="scratch must be"):
        kernel(X, W, out, GEOMETRY, scratch[::2])
    with pytest.raises(
        ValueError, match=re.escape("bias must be the geometry's: float32 of shape (5,)")
    ):
        kernel(X, W, out, GEOMETRY, scratch, bias=np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="out must be writeable"):
        kernel(X, W, np.broadcast_to(out, out.shape), GEOMETRY, scratch)
    with pytest.raises(ValueError, match="activation must be one of None, relu, relu6, got 'tanh'"):
        kernel(X, W, out, GEOMETRY, scratch, activation="tanh")
    with pytest.raises(TypeError, match="x must be a numpy.ndarray, got list"):
        kernel([1.0], W, out, GEOMETRY, scratch)
    with pytest.raises(TypeError, match="scratch must be a numpy.ndarray, got NoneType"):
        kernel(X, W, out, GEOMETRY, None)
    with pytest.raises(TypeError, match="fprop im2col/numpy takes no PoolGeometry"):
        kernel(X, W, out, PoolGeometry.of(X, "max", 2), scratch)
    swapped = ConvGeometry.of(X.astype(">f4"), W, padding=1, layout="NHWC")
    with pytest.raises(TypeError, match="takes the machine's byte order, not >f4"):
        kernel(X.astype(">f4"), W, out, swapped, scratch)
    with pytest.raises(ValueError, match="threads must be a positive integer, got -3"):
        kernel.scratch_bytes(GEOMETRY, -3)
    with pytest.raises(ValueError, match="activation must be one of"):
        kernel(X, W, out, GEOMETRY, scratch, activation=["relu"])
    with pytest.raises(ValueError, match="threads must be a positive integer, got 0"):
        kernel(X, W, out, GEOMETRY, scratch, threads=0)


def test_a_pooling_row() -> None:
    geometry = PoolGeometry.of(X, "mean", 2, layout="NHWC")
    out = np.empty(geometry.out_shape, np.float32)
    kernels.load("pool", "direct", "numpy")(X, out, geometry)
    np.testing.assert_array_equal(
        out[0, 0, 0], X[0, :2, :2].mean((0, 1), dtype=np.float64).astype(np.float32)
    )
