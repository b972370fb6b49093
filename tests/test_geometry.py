"""Shapes, tables and views against a brute-force model of a sliding window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnfast import ConvGeometry, PoolGeometry
from cnnfast.kernels import blocking, blocking_rows, shapes
from cnnfast.kernels.problem import taps_of
from cnnfast.kernels.registry import KERNELS

small = st.integers(1, 5)
axis = st.tuples(st.integers(1, 20), small, small, small, st.integers(0, 6), st.integers(0, 6))


def positions(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> list[list[int]]:
    """Input positions (padding included) of every window that fits, by sliding it along."""
    windows = []
    start = -before
    while start + dilation * (kernel - 1) < size + after:
        windows.append([start + tap * dilation for tap in range(kernel)])
        start += stride
    return windows


@given(axis)
def test_output_size(one: tuple[int, ...]) -> None:
    assert max(shapes.output_size(*one), 0) == len(positions(*one))


@given(axis)
def test_tap_ranges(one: tuple[int, ...]) -> None:
    size, kernel, stride, dilation, before, _ = one
    windows = positions(*one)
    for tap in range(kernel):
        low = shapes.tap_low(tap, stride, dilation, before, len(windows))
        high = shapes.tap_high(tap, size, stride, dilation, before, len(windows))
        inside = [i for i, window in enumerate(windows) if 0 <= window[tap] < size]
        assert inside == list(range(low, high))


@given(axis, axis, axis, st.integers(1, 3), st.integers(1, 3), small, small)
def test_conv_geometry(d: Any, h: Any, w: Any, groups: int, batch: int, c: int, k: int) -> None:
    sizes, kernels, strides, dilations, befores, afters = zip(d, h, w, strict=True)
    counts = [len(positions(*one)) for one in (d, h, w)]
    arguments: dict[str, Any] = {
        "stride": strides,
        "padding": list(zip(befores, afters, strict=True)),
        "dilation": dilations,
        "groups": groups,
    }
    x, weight = (batch, c * groups, *sizes), (k * groups, c, *kernels)
    if 0 in counts:
        with pytest.raises(ValueError, match="must fit the padded input"):
            ConvGeometry.of(x, weight, **arguments)
        return
    geometry = ConvGeometry.of(x, weight, **arguments)
    assert geometry.out_shape == (batch, k * groups, *counts)
    products = math.prod(counts) * batch * k * groups * c * math.prod(kernels)
    assert geometry.flops == 2 * products
    elements = math.prod(x) + math.prod(weight) + math.prod(geometry.out_shape)
    assert geometry.bytes_moved == 4 * elements
    problem = geometry.problem
    assert (problem.n, problem.g, problem.c, problem.k) == (batch, groups, c, k)
    assert taps_of(geometry.problem).shape == (sum(kernels), 2)


pool_axis = st.tuples(st.integers(1, 20), small, small, small).flatmap(
    lambda one: st.tuples(*map(st.just, one), st.integers(0, one[1] // 2))
)


@given(pool_axis, st.booleans(), st.booleans())
def test_pool_windows(one: tuple[int, ...], ceil: bool, counts_pad: bool) -> None:
    size, kernel, stride, dilation, pad = one
    if dilation * (kernel - 1) + 1 > size + 2 * pad:
        return
    geometry = PoolGeometry.of(
        (1, 1, size), "max", kernel, stride, pad, dilation, ceil, counts_pad, rank=1
    )
    reach = size + 2 * pad + (stride - 1 if ceil else 0)
    expected = [
        window
        for window in positions(size, kernel, stride, dilation, pad, reach - size - pad)
        if window[0] < size or not ceil
    ]
    table = geometry.windows[2:]
    assert [list(range(a, b, dilation)) for a, b, _ in table] == [
        [place for place in window if 0 <= place < size] for window in expected
    ]
    for (*_, counted), window in zip(table, expected, strict=True):
        padded = sum(place < size + pad for place in window)
        inside = sum(0 <= place < size for place in window)
        assert counted == (padded if counts_pad else inside)


def test_lenient_pools_have_wide_padding_and_a_single_partial_window() -> None:
    x = (1, 1, 4)
    with pytest.raises(ValueError, match="at most half the window, got padding"):
        PoolGeometry.of(x, "max", 3, 1, 2, rank=1)
    wide = PoolGeometry.of(x, "max", 3, 1, [(2, 1)], rank=1, lenient=True)
    assert wide.windows[2:, :2].tolist() == [[0, 1], [0, 2], [0, 3], [1, 4], [2, 4]]
    PoolGeometry.of(x, "max", 3, 1, 4, 2, rank=1, lenient=True)
    with pytest.raises(ValueError, match="less than the window spans, got .* with dilation 2"):
        PoolGeometry.of(x, "max", 3, 1, 5, 2, rank=1, lenient=True)
    for lenient, ceil in ((False, True), (True, False)):
        with pytest.raises(ValueError, match="must fit the padded input"):
            PoolGeometry.of(x, "max", 6, 3, ceil_mode=ceil, rank=1, lenient=lenient)
    partial = PoolGeometry.of(x, "max", 6, 3, ceil_mode=True, rank=1, lenient=True)
    assert partial.windows[2:].tolist() == [[0, 4, 4]]
    with pytest.raises(ValueError, match="must fit the padded input"):
        PoolGeometry.of(x, "max", 6, 1, ceil_mode=True, rank=1, lenient=True)


@pytest.mark.parametrize(
    ("padding", "stride", "pairs"),
    [
        ("valid", 1, [(0, 0), (0, 0)]),
        ("same", 1, [(1, 1), (1, 2)]),
        ("same_upper", 1, [(1, 1), (1, 2)]),
        ("same_lower", 1, [(1, 1), (2, 1)]),
        ("same_upper", 2, [(1, 1), (1, 1)]),
        ("same_lower", 3, [(1, 1), (1, 1)]),
        (2, 1, [(2, 2), (2, 2)]),
        ([1], 1, [(1, 1), (1, 1)]),
        (np.array([1, 2]), 1, [(1, 1), (2, 2)]),
        (((0, 1), [2, 3]), 1, [(0, 1), (2, 3)]),
    ],
)
def test_paddings(padding: Any, stride: int, pairs: list[tuple[int, int]]) -> None:
    geometry = ConvGeometry.of((1, 1, 7, 8), (1, 1, 3, 4), padding=padding, stride=stride)
    assert list(geometry.padding[1:]) == pairs
    if isinstance(padding, str) and padding != "valid":
        assert geometry.out_shape[2:] == (-(-7 // stride), -(-8 // stride))


def test_operands_remember_strides_and_give_views() -> None:
    x = np.zeros((2, 9, 10, 3), np.float32)[:, ::2, ::-1]
    weight = np.zeros((3, 3, 3, 5), np.float32)
    geometry = ConvGeometry.of(x, weight, layout="NHWC")
    assert geometry.input.strides == (270, 60, -3, 1)
    assert (geometry.weight.layout, geometry.out_shape) == ("HWIO", (2, 3, 8, 5))
    out = np.zeros(geometry.out_shape, np.float32)
    x5, weight5, out5 = geometry.canonical(x, weight, out)
    assert (x5.shape, weight5.shape, out5.shape) == (
        (2, 3, 1, 5, 10),
        (5, 3, 1, 3, 3),
        (2, 5, 1, 3, 8),
    )
    assert np.shares_memory(out5, out)


def test_geometries_are_hashable_and_equal_by_value() -> None:
    first, second = (ConvGeometry.of((1, 2, 5, 5), (3, 2, 3, 3), padding=1) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


@given(
    axis, axis, st.integers(1, 3), st.integers(1, 70), st.integers(1, 200), st.sampled_from([4, 8])
)
def test_cuts_cover_the_problem(h: Any, w: Any, groups: int, c: int, k: int, itemsize: int) -> None:
    """The blocks of every algorithm cover each output once and no block is empty."""
    if not positions(*h) or not positions(*w):
        return
    sizes, kernels, strides, dilations, befores, afters = zip(h, w, strict=True)
    geometry = ConvGeometry.of(
        (2, c * groups, *sizes), (k * groups, c, *kernels), strides,
        list(zip(befores, afters, strict=True)), dilations, groups,
    )  # fmt: skip
    problem = geometry.problem
    tiled, im2col = blocking.tiled_cut(problem, itemsize), blocking.gemm_cut(problem, itemsize)
    direct = blocking_rows.rows_cut(problem, itemsize)
    covers = [
        (tiled.rows, tiled.row_blocks, problem.p),
        (tiled.columns, tiled.column_blocks, problem.q),
        (tiled.panels * tiled.width, tiled.k_blocks, problem.k),
        (im2col.panels * im2col.width, im2col.k_blocks, problem.k),
        (direct.channels, direct.k_blocks, problem.k),
        (direct.rows, direct.row_blocks, problem.p),
        (direct.columns, direct.column_blocks, problem.q),
    ]
    for block, blocks, total in covers:
        assert block * (blocks - 1) < total <= block * blocks
    assert tiled.columns <= blocking.TILED_COLUMNS
    plane = problem.o * problem.p * problem.q
    last = plane - im2col.pixels * (im2col.pixel_blocks - 1)
    assert 0 < last < im2col.pixels + im2col.width
    assert im2col.pixels * itemsize % blocking.GEMM_STRIP_BYTES == 0
    for row in KERNELS:
        if row.family == "fprop":
            assert row.scratch_bytes(geometry, 1) <= row.scratch_bytes(geometry, 2)
