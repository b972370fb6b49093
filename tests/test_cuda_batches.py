"""Calls whose operands span more than kernels index: several programs of fewer images each."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'cnnfast[cuda]'")

from cnnfast import ConvGeometry, PoolGeometry
from cnnfast.kernels import reference
from cnnfast.kernels.numba_cuda import direct, direct_wgrad, pooling
from cnnfast.kernels.numba_cuda.moving import at_once, in_batches

import gpu_rows

X = np.arange(5 * 3 * 6 * 7, dtype=np.float32).reshape(5, 3, 6, 7) % 11 - 5
W = np.arange(4 * 3 * 9, dtype=np.float32).reshape(4, 3, 3, 3) % 5 - 2
#: Elements of two images of ten channels.
TWO_IMAGES = 2 * 3 * 42


@pytest.mark.parametrize("backwards", [False, True])
def test_images_that_fit_run_one_after_the_other(backwards: bool) -> None:
    x = X[::-1] if backwards else X
    geometry = ConvGeometry.of(x, W, padding=1)
    out, expected = (np.full(geometry.out_shape, np.nan, np.float32) for _ in range(2))
    views = geometry.canonical(x, W, out)
    call = gpu_rows.conv_call(geometry.problem, *views)
    program = in_batches(direct.fprop, ("input", "output"), most=TWO_IMAGES * 4 // 3)(call)
    assert len(program.launches) == 3 * len(direct.fprop(call).launches)
    gpu_rows.run(program, first=views[0], second=views[1], out=views[2])
    wanted = geometry.canonical(x, W, expected)
    reference.fprop(*wanted[:2], np.empty(0), wanted[2], geometry.problem, np.empty(0), 0, 1)
    np.testing.assert_array_equal(out, expected)


def test_indices_of_pools_go_along() -> None:
    geometry = PoolGeometry.of(X, "max", 2, rank=2)
    out, wanted = (np.full(geometry.out_shape, np.nan, np.float32) for _ in range(2))
    indices, places = (np.full(geometry.out_shape, -1, np.int64) for _ in range(2))
    views = [geometry.canonical(array) for array in (X, out, indices)]
    strides = [gpu_rows.strides_of(view) for view in views]
    call = pooling.call_of(geometry, "float32", *strides)
    program = in_batches(pooling.pool, ("input", "output"), most=TWO_IMAGES)(call)
    assert len(program.launches) == 3
    gpu_rows.run(program, first=views[0], out=views[1], indices=views[2])
    flat = geometry.canonical(places)
    reference.pool(geometry.canonical(X), geometry.canonical(wanted), flat, geometry, 1)
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(indices, places)


def test_what_one_image_spans_must_fit() -> None:
    x = np.lib.stride_tricks.as_strided(X, (1, 3, 6, 7), (0, 4, 2**33, 4))
    geometry = ConvGeometry.of(x, W, padding=1)
    call = gpu_rows.conv_call(
        geometry.problem, *geometry.canonical(x, W, np.empty(geometry.out_shape, np.float32))
    )
    with pytest.raises(ValueError, match="images that span fewer than 2147483648 elements"):
        in_batches(direct.fprop, ("input", "output"))(call)
    with pytest.raises(ValueError, match="weight gradients on a GPU take inputs and gradients"):
        at_once(direct_wgrad.wgrad)(call)


def test_what_weights_and_indices_span_must_fit() -> None:
    weight = np.lib.stride_tricks.as_strided(W, W.shape, (0, 4, 2**33, 4))
    geometry = ConvGeometry.of(X, W, padding=1)
    out = np.empty(geometry.out_shape, np.float32)
    call = gpu_rows.conv_call(geometry.problem, *geometry.canonical(X, weight, out))
    with pytest.raises(ValueError, match="weights that span fewer than 2147483648 elements"):
        in_batches(direct.fprop, ("input", "output"))(call)
    call = call._replace(second=call.out, out=call.second)
    with pytest.raises(ValueError, match="weights that span fewer than 2147483648 elements"):
        at_once(direct_wgrad.wgrad)(call)
    pool = PoolGeometry.of(X, "max", 2, rank=2)
    strides = [gpu_rows.strides_of(pool.canonical(array)) for array in (X, out[..., ::2, ::2])]
    far = pooling.call_of(pool, "float32", *strides, (0, 0, 0, 2**31, 1))
    with pytest.raises(ValueError, match="images that span fewer than 2147483648 elements"):
        in_batches(pooling.pool, ("input", "output"))(far)
