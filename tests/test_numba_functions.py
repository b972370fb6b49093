"""Functions of ``kernels.numba_cpu`` in compiled code: results, activations, threads."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels.registry import engine_missing

if engine_missing("numba_cpu"):
    pytest.skip(f"numba engine: {engine_missing('numba_cpu')}", allow_module_level=True)

import numba

from cnnfast.kernels import numba_cpu

import conformance as suite
from numba_arrays import RANDOM, Array, assert_same_bits, reference_conv, whole


def views(array: Array) -> list[Array]:
    """The same numbers as arrays of other layouts."""
    frozen = array.copy()
    frozen.flags.writeable = False
    wide = np.repeat(array, 2, axis=-1)
    return [
        np.asfortranarray(array), frozen, wide[..., ::2], np.flip(np.flip(array, 2).copy(), 2),
        np.ascontiguousarray(np.moveaxis(array, 1, -1)).transpose(0, -1, *range(1, array.ndim - 1)),
    ]  # fmt: skip


#: Input's and weight's extents, stride, padding, dilation, groups: depthwise, planes in place,
#: several channels, taller kernels than inputs, one tap, and strides greater than kernels.
CONVOLUTIONS: dict[int, list[tuple[Any, ...]]] = {
    1: [
        ((2, 3, 20), (5, 3, 4), 1, 0, 1, 1),
        ((1, 6, 37), (4, 3, 3), 3, 2, 2, 2),
        ((1, 4, 300), (9, 4, 1), 1, 0, 1, 1),
    ],
    2: [
        ((2, 3, 9, 17), (5, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((1, 40, 14, 15), (40, 1, 3, 3), (2, 2), (1, 1), (1, 1), 40),
        ((1, 1, 28, 28), (6, 1, 5, 5), (1, 1), (2, 2), (1, 1), 1),
        ((2, 12, 7, 7), (70, 12, 1, 1), (1, 1), (0, 0), (1, 1), 1),
        ((1, 8, 13, 11), (6, 4, 2, 3), (3, 1), (2, 4), (1, 2), 2),
        ((1, 2, 5, 40), (3, 2, 7, 1), (1, 3), (3, 0), (1, 1), 1),
        ((0, 3, 9, 9), (5, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((1, 64, 30, 31), (33, 64, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ],
    3: [((1, 2, 5, 6, 19), (3, 2, 2, 3, 3), (1, 2, 1), (0, 1, 2), (2, 1, 1), 1)],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_give_the_row_s_bits(rank: int, dtype: str) -> None:
    for shape, kernel, *numbers in CONVOLUTIONS[rank]:
        x, w = (RANDOM.standard_normal(size).astype(dtype) for size in (shape, kernel))
        bias = RANDOM.standard_normal(kernel[0]).astype(dtype)
        stride, padding, dilation, groups = numbers
        got = getattr(numba_cpu, f"conv{rank}d")(x, w, *numbers, bias)
        assert got.flags.c_contiguous
        row = getattr(cnnfast, f"conv{rank}d")(x, w, bias, *numbers, backend="direct/numba")
        assert_same_bits(got, row)
        small, taps = whole(shape, dtype), whole(kernel, dtype)
        got = getattr(numba_cpu, f"conv{rank}d")(small, taps, *numbers)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        np.testing.assert_array_equal(got, reference_conv(small, taps, **options))


def test_convolutions_within_the_bound_of_rounding() -> None:
    x, w = (
        RANDOM.standard_normal(size).astype(np.float32)
        for size in ((1, 64, 20, 20), (32, 64, 3, 3))
    )
    got = numba_cpu.conv2d(x, w, (1, 1), (1, 1), (1, 1), 1, np.zeros(32, np.float32))
    exact = reference_conv(x.astype(float), w.astype(float), padding=1)
    scale = reference_conv(abs(x.astype(float)), abs(w.astype(float)), padding=1)
    eps = suite.EPS["float32"]
    assert (abs(got - exact) <= eps * abs(exact) + (64 * 9 + 2) * eps * scale).all()


#: Input's and weight's extents, stride, padding, output padding, groups, dilation: phases with few
#: taps, places that no output reaches, phases without any, dilations with a common divisor.
TRANSPOSED: list[tuple[Any, ...]] = [
    ((2, 4, 7, 6), (4, 3, 3, 4), (2, 2), (1, 1), (1, 0), 1, (1, 1)),
    ((1, 6, 5, 9), (6, 2, 2, 2), (3, 4), (0, 0), (2, 3), 2, (1, 1)),
    ((1, 4, 4, 4), (4, 1, 3, 3), (4, 2), (2, 0), (0, 1), 4, (2, 2)),
    ((1, 3, 1, 8), (3, 5, 3, 5), (1, 3), (0, 4), (0, 0), 1, (1, 2)),
    ((0, 3, 4, 4), (3, 2, 3, 3), (2, 2), (0, 0), (0, 0), 1, (1, 1)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transposed_convolutions(dtype: str) -> None:
    for shape, kernel, *numbers in TRANSPOSED:
        x, w = whole(shape, dtype), whole(kernel, dtype)
        bias = whole((kernel[1] * numbers[3],), dtype)
        expected = cnnfast.conv_transpose2d(x, w, bias, *numbers, backend="reference")
        got = numba_cpu.conv_transpose2d(x, w, *numbers, bias)
        np.testing.assert_array_equal(got, expected)
        into = np.full_like(expected, np.nan)
        numba_cpu.conv_transpose2d_into(x, w, *numbers, into, bias)
        assert_same_bits(into, got)


def test_transposed_convolutions_of_other_ranks() -> None:
    x, w = whole((1, 4, 5, 3, 6)), whole((4, 2, 2, 3, 3))
    expected = cnnfast.conv_transpose3d(x, w, None, 2, 1, 1, backend="reference")
    np.testing.assert_array_equal(numba_cpu.conv_transpose3d(x, w, 2, 1, 1), expected)
    line, taps = x[:, :, 0, 0], w[:, :, 0, 0]
    got = numba_cpu.conv_transpose1d(line, taps, 3)
    expected = cnnfast.conv_transpose1d(line, taps, stride=3, backend="reference")
    np.testing.assert_array_equal(got, expected)


def test_an_infinite_weight_isn_t_multiplied_by_outputs_that_aren_t_there() -> None:
    x, w = np.ones((1, 2, 4, 4), np.float32), np.ones((2, 3, 3, 3), np.float32)
    w[0, 1, 0, 2], w[1, 2, 1, 1] = np.inf, -np.inf
    for stride, padding in ((1, 1), (2, 0)):
        expected = cnnfast.conv_transpose2d(x, w, None, stride, padding, backend="reference")
        got = numba_cpu.conv_transpose2d(x, w, stride, padding)
        np.testing.assert_array_equal(got, expected)
        assert np.isinf(got).any()
        assert np.isfinite(got).any()


#: Kernel, stride, padding, dilation, ceil_mode.
POOLS: list[tuple[Any, ...]] = [
    ((3, 3), (2, 2), (1, 1), (1, 1), False),
    ((2, 3), (3, 2), (1, 0), (2, 1), True),
    ((5, 2), (1, 4), (2, 1), (1, 3), False),
    ((3, 2), (2, 2), (0, 1), (1, 1), True),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pools(dtype: str) -> None:
    for shape in ((2, 3, 12, 37), (1, 40, 9, 8), (0, 2, 9, 9)):
        x = RANDOM.standard_normal(shape).astype(dtype)
        if x.size:
            x.flat[RANDOM.integers(0, x.size, 5)] = np.nan
        for kernel, stride, padding, dilation, ceil in POOLS:
            got = numba_cpu.max_pool2d(x, kernel, stride, padding, dilation, ceil)
            window = kernel, stride, padding
            row = cnnfast.max_pool2d(x, *window, dilation, ceil, backend="numba")
            assert_same_bits(got, row)
            into = np.zeros_like(got)
            numba_cpu.max_pool2d_into(x, kernel, stride, padding, into, dilation, ceil)
            assert_same_bits(into, row)
            for counted in (True, False):
                got = numba_cpu.avg_pool2d(x, kernel, stride, padding, ceil, counted)
                row = cnnfast.avg_pool2d(x, *window, ceil, counted, backend="numba")
                assert_same_bits(got, row)
                numba_cpu.avg_pool2d_into(x, *window, into := np.zeros_like(got), ceil, counted)
                assert_same_bits(into, row)


def test_pools_of_other_ranks_and_their_defaults() -> None:
    x = whole((2, 3, 9, 8, 7))
    np.testing.assert_array_equal(
        numba_cpu.max_pool3d(x, 2), cnnfast.max_pool3d(x, 2, backend="reference")
    )
    np.testing.assert_array_equal(
        numba_cpu.avg_pool3d(x, (3, 2, 2)), cnnfast.avg_pool3d(x, (3, 2, 2), backend="numba")
    )
    line = whole((2, 3, 21))
    np.testing.assert_array_equal(
        numba_cpu.max_pool1d(line, 3), cnnfast.max_pool1d(line, 3, backend="reference")
    )
    np.testing.assert_array_equal(
        numba_cpu.avg_pool1d(line, 3, 2), cnnfast.avg_pool1d(line, 3, 2, backend="numba")
    )


def test_arrays_of_any_layout() -> None:
    x, w = whole((2, 4, 9, 10)), whole((4, 2, 3, 3))
    expected = reference_conv(x, w, groups=2, padding=1)
    pooled = cnnfast.max_pool2d(x, 3, 2, 1, backend="reference")
    for view, weight in zip(views(x), views(w), strict=True):
        before = view.copy()
        np.testing.assert_array_equal(numba_cpu.conv2d(view, weight, 1, 1, 1, 2), expected)
        np.testing.assert_array_equal(numba_cpu.max_pool2d(view, 3, 2, 1), pooled)
        np.testing.assert_array_equal(view, before)
    wide = whole((8,))
    got = numba_cpu.conv2d(x, w, 1, 1, 1, 2, wide[::-2])
    np.testing.assert_array_equal(got, expected + wide[::-2].reshape(4, 1, 1))
    broadcast = np.broadcast_to(x[:1], x.shape)
    got = numba_cpu.conv2d(broadcast, w, 1, 1, 1, 2)
    np.testing.assert_array_equal(got, np.broadcast_to(expected[:1], expected.shape))


def test_into_views_and_nothing_beside_them() -> None:
    x, w = whole((2, 3, 8, 9)), whole((4, 3, 3, 3))
    room = np.full((2, 9, 12, 9), suite.CANARY, np.float32)
    out = room[:, 1::2, 2:10, ::-1]
    numba_cpu.conv2d_into(x, w, 1, 1, 1, 1, out)
    np.testing.assert_array_equal(out, reference_conv(x, w, padding=1))
    out[...] = suite.CANARY
    assert (room == suite.CANARY).all()


@numba.njit
def swish(y: Any) -> Any:
    return y / (1 + np.exp(-y))


@numba.njit
def clip(y: Any) -> Any:
    return min(max(y, -1), 2)


def test_a_users_activation_is_the_public_one_s() -> None:
    x, w = (
        RANDOM.standard_normal(size).astype(np.float32) for size in ((1, 3, 9, 9), (8, 3, 3, 3))
    )
    bias = RANDOM.standard_normal(8).astype(np.float32)
    for function, public in (
        (swish, swish), (clip, clip), (numba_cpu.relu, "relu"), (numba_cpu.relu6, "relu6")
    ):  # fmt: skip
        got = numba_cpu.conv2d(x, w, 1, 1, 1, 1, bias, function)
        options = {"padding": 1, "activation": public, "backend": "direct/numba"}
        assert_same_bits(got, cnnfast.conv2d(x, w, bias, **options))
    # Places that no output reaches are an activated bias.
    got = numba_cpu.conv_transpose2d(x, w.swapaxes(0, 1)[:, :2], 5, 0, 0, 1, 1, bias[:2], clip)
    row = cnnfast.conv_transpose2d(
        x, w.swapaxes(0, 1)[:, :2], bias[:2], 5, activation=clip, backend="direct/numba"
    )
    assert_same_bits(got, row)


def test_relu_alone() -> None:
    values = np.array([-1, 0, 3, 7, np.nan])
    np.testing.assert_array_equal([numba_cpu.relu(v) for v in values], [0, 0, 3, 7, np.nan])
    np.testing.assert_array_equal([numba_cpu.relu6(v) for v in values], [0, 0, 3, 6, np.nan])


conv2d, max_pool2d = numba_cpu.conv2d, numba_cpu.max_pool2d


@numba.njit(parallel=True)
def pipeline(images: Array, weight: Array, bias: Array) -> Array:
    n, _, h, w = images.shape
    pooled = np.empty((n, weight.shape[0], h // 2, w // 2), images.dtype)
    for i in numba.prange(n):
        y = conv2d(images[i : i + 1], weight, 1, 1, 1, 1, bias, swish)
        pooled[i] = max_pool2d(y, 2)[0]
    return pooled


def test_in_a_users_prange_the_same_bits_as_one_after_the_other() -> None:
    images, w = (
        RANDOM.standard_normal(s).astype(np.float32) for s in ((9, 3, 16, 18), (8, 3, 3, 3))
    )
    bias = RANDOM.standard_normal(8).astype(np.float32)
    expected = numba_cpu.max_pool2d(numba_cpu.conv2d(images, w, 1, 1, 1, 1, bias, swish), 2)
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        assert_same_bits(pipeline(images, w, bias), expected)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


def test_the_gil_is_free_meanwhile() -> None:
    """While another thread convolves, this one runs, for most of the time."""
    x, w = np.ones((8, 64, 64, 64), np.float32), np.ones((64, 64, 3, 3), np.float32)
    numba_cpu.conv2d(x[:1], w, 1, 1)
    worker = threading.Thread(target=numba_cpu.conv2d, args=(x, w, 1, 1))
    worker.start()
    longest = 0.0
    begin = last = time.perf_counter()
    while worker.is_alive():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert longest < (time.perf_counter() - begin) / 2
