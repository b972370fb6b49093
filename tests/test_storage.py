"""Rows that read float16, bfloat16, int8 and uint8 as they are stored: the results of converted
arrays, bit by bit, and no converted arrays."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import ConvGeometry, kernels
from cnnfast.kernels.registry import KERNELS, load_row
from cnnfast.kernels.storage import computing_dtype, in_elements, result_dtype

import conformance as suite
from cases import CONV_CASES, ConvCase
from functions import dtype_of

Array = np.ndarray[Any, Any]

HALVES = ("float16", "bfloat16")
BYTES = ("int8", "uint8")
ROWS = [row for row in KERNELS if row.stored]
STORED = [
    pytest.param(row, dtype, id=f"{row.name}-{dtype}", marks=suite.skip_if_missing(row))
    for row in ROWS
    for dtype in row.stored
]
BACKENDS = suite.parameters(ROWS)
#: The tests of what instructions compute.
WITH_BITS = "same_bits or any_strides or half or sums"


def random(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    generator, kind = np.random.default_rng([seed, *shape]), dtype_of(dtype)
    if dtype in BYTES:
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max + 1, shape).astype(kind)
    return generator.standard_normal(shape).astype(kind)


def expected_of(row: kernels.Kernel, x: Array, weight: Array, **arguments: Any) -> Array:
    """The same row on converted arrays; of integers, sums of 64 bits."""
    wide = np.dtype(np.float32 if x.dtype.name in HALVES else np.int16)
    backend = row.name if x.dtype.name in HALVES else "reference/numpy"
    bias = arguments.pop("bias", None)
    result = cnnfast.conv2d(
        x.astype(wide), weight.astype(wide), None if bias is None else bias.astype(wide),
        backend=backend, **arguments,
    )  # fmt: skip
    with np.errstate(over="ignore"):
        return result.astype(result_dtype(x.dtype))


def assert_same_bits(one: Array, two: Array) -> None:
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(
        np.ascontiguousarray(one).view(np.uint8), np.ascontiguousarray(two).view(np.uint8)
    )


@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(("row", "dtype"), STORED)
def test_rows(row: kernels.Kernel, dtype: str, case: ConvCase, last: bool) -> None:
    """Every case, exactly, with poisoned scratch and nothing written beside ``out``."""
    stored = dtype_of(dtype)
    data = suite.conv_data("fprop", case, "float32", "exact", last)
    first, second = (array.astype(stored) for array in (data.first, data.second))
    expected = data.expected
    if dtype == "uint8":
        first, second = (abs(array).astype(stored) for array in (data.first, data.second))
        expected = suite.reference_conv(
            "fprop", first.astype(float), second.astype(float), data.bias, data.geometry,
            data.activation,
        )  # fmt: skip
    geometry = replace(data.geometry, stored=stored)
    assert row.reads(geometry) == stored
    out, around = suite.guarded(data.shape, result_dtype(stored))
    bytes_needed = row.scratch_bytes(geometry)
    scratch, beside = suite.guarded((bytes_needed // 8 + 8,), np.float64)
    aligned = scratch.view(np.uint8)
    aligned = aligned[-aligned.ctypes.data % 64 :][:bytes_needed]
    one, two, three = geometry.canonical(first, second, out)
    bias = data.bias.astype(computing_dtype(stored))
    load_row(row)(one, two, bias, three, geometry.problem, aligned, data.activation, 1)
    np.testing.assert_array_equal(
        out.astype(float), expected.astype(stored).astype(float) if dtype in HALVES else expected
    )
    for buffer in (around, beside):
        assert (buffer[:64] == buffer[0]).all()
        assert (buffer[-64:] == buffer[0]).all()


#: Input, weight and arguments: whole blocks and rests, groups, steps, tasks that pack their own.
CALLS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 9, 11), (7, 5, 3, 3), {"padding": 1}),
    ((1, 64, 14, 14), (40, 64, 3, 3), {"padding": 1}),
    ((1, 3, 20, 21), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 12, 9, 9), (9, 4, 3, 3), {"groups": 3, "padding": (1, 2), "dilation": 2}),
    ((1, 1, 8, 8), (3, 1, 3, 3), {}),
    ((1, 33, 7, 7), (65, 33, 1, 1), {}),
    ((1, 33, 9, 9), (65, 33, 1, 1), {"stride": 2}),
    ((1, 7, 6, 70), (20, 7, 2, 2), {"stride": (2, 1), "activation": "relu"}),
    ((1, 300, 5, 5), (17, 300, 3, 3), {"padding": 1}),
    ((1, 2, 40, 40), (5, 2, 17, 17), {"padding": 3}),
]


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize(("row", "dtype"), STORED)
def test_same_bits(row: kernels.Kernel, dtype: str, call: Any) -> None:
    """With and without bias, weights packed and in other layouts, repeated, and into ``out``."""
    x_shape, w_shape, arguments = call
    x, weight, bias = random(x_shape, dtype), random(w_shape, dtype), random(w_shape[:1], dtype)
    for added in (None, bias):
        expected = expected_of(row, x, weight, bias=added, **arguments)
        keywords = {**arguments, "bias": added, "backend": row.name}
        packed = cnnfast.pack_weight(weight)
        out = np.empty(expected.shape, expected.dtype)
        for given in (weight, weight, packed, packed):
            assert_same_bits(cnnfast.conv2d(x, given, **keywords), expected)
            assert cnnfast.conv2d(x, given, out=out, **keywords) is out
            assert_same_bits(out, expected)
        channels_last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        for letters in ("HWIO", "OHWI", "OIHW"):
            order = ["OIHW".index(letter) for letter in letters]
            turned = np.ascontiguousarray(weight.transpose(order))
            result = cnnfast.conv2d(
                channels_last, turned, layout="NHWC", weight_layout=letters, **keywords
            )
            assert_same_bits(np.moveaxis(result, -1, 1), expected)


@pytest.mark.parametrize(("row", "dtype"), STORED)
def test_any_strides(row: kernels.Kernel, dtype: str) -> None:
    """Reversed, in steps, repeated and unaligned arrays, inputs and result."""
    x, weight = random((2, 9, 10, 12), dtype), random((18, 9, 3, 3), dtype)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    views = [
        x[:, :, ::-1, ::-1], x[:, ::-1], x[:, ::3], x[..., ::2], x.transpose(0, 1, 3, 2),
        np.broadcast_to(x[:, :1], x.shape), np.broadcast_to(x[..., :1], x.shape), unaligned,
    ]  # fmt: skip
    for view in views:
        for taps in (weight, weight[..., ::-1], np.broadcast_to(weight[:, :1], weight.shape)):
            taps = taps[:, : view.shape[1]]
            expected = expected_of(row, view, taps, padding=1)
            assert_same_bits(cnnfast.conv2d(view, taps, padding=1, backend=row.name), expected)
            wide = np.empty((*expected.shape[:-1], 2 * expected.shape[-1]), expected.dtype)
            for out in (wide[..., ::2], wide[..., : expected.shape[-1]][..., ::-1]):
                cnnfast.conv2d(view, taps, padding=1, backend=row.name, out=out)
                assert_same_bits(out, expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("row", BACKENDS)
def test_every_value_of_a_half(row: kernels.Kernel, dtype: str) -> None:
    """All bit patterns times 1: NaN, infinities and subnormals come through."""
    every = np.arange(2**16, dtype=np.uint16).view(dtype_of(dtype)).reshape(1, 4, 128, 128)
    weight = np.zeros((4, 1, 1, 1), every.dtype) + every.dtype.type(1)
    for x, layout in ((every, "NCHW"), (every.reshape(1, 128, 128, 4), "NHWC")):
        if layout == "NHWC":
            weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
        keywords: dict[str, Any] = {"groups": 4, "layout": layout}
        result = cnnfast.conv2d(x, weight, backend=row.name, **keywords)
        assert_same_bits(result, expected_of(row, x, weight, **keywords))
        numbers = ~np.isnan(x.astype(np.float32))
        np.testing.assert_array_equal(result[numbers], x[numbers])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("row", BACKENDS)
def test_sums_are_rounded_once_to_nearest(row: kernels.Kernel, dtype: str) -> None:
    """Ties, overflow to infinity and subnormals, as ``astype`` has them."""
    generator, kind = np.random.default_rng(0), dtype_of(dtype)
    for scale in (1.0, 2.0**-9, 2.0**-13, 2.0**7, 2.0**8):
        x = (generator.integers(-99, 100, (1, 3, 30, 31)) * scale).astype(kind)
        weight = (generator.integers(-99, 100, (21, 3, 1, 1)) * scale).astype(kind)
        if dtype == "bfloat16":
            x, weight = (a * kind.type(2.0) ** (-120 if scale < 1 else 100) for a in (x, weight))
            weight = weight * kind.type(2.0) ** (110 if scale < 1 else -80)
            x, weight = x.astype(kind), weight.astype(kind)
        expected = expected_of(row, x, weight)
        assert_same_bits(cnnfast.conv2d(x, weight, backend=row.name), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 31, 500])
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("row", BACKENDS)
def test_the_greatest_sums_of_bytes(row: kernels.Kernel, dtype: str, channels: int) -> None:
    for extreme in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        x = np.full((1, channels, 4, 5), extreme, dtype)
        weight = np.full((17, channels, 3, 3), np.iinfo(dtype).min or 255, dtype)
        result = cnnfast.conv2d(x, weight, backend=row.name)
        assert result.dtype == np.int32
        assert (result == 9 * channels * int(extreme) * int(weight[0, 0, 0, 0])).all()


@pytest.mark.parametrize("row", BACKENDS)
def test_sums_that_might_not_fit_are_computed_wider(row: kernels.Kernel) -> None:
    x, weight = np.full((1, 33_100, 2, 2), 255, np.uint8), np.full((2, 33_100, 1, 1), 255, np.uint8)
    exact = np.full((1, 2, 2, 2), 33_100 * 255**2)
    np.testing.assert_array_equal(cnnfast.conv2d(x, weight, out_dtype=np.int64), exact)
    np.testing.assert_array_equal(cnnfast.conv2d(x, weight), exact.astype(np.int32))
    few = x[:, :5], weight[:, :5]
    for dtype in (np.int64, np.float32):
        result = cnnfast.conv2d(*few, out_dtype=dtype)
        assert result.dtype == dtype
        assert (result == 5 * 255**2).all()
    mixed = cnnfast.conv2d(few[0], few[1].view(np.int8))
    assert mixed.dtype == np.int64
    assert (mixed == -5 * 255).all()


@pytest.mark.parametrize("row", BACKENDS)
def test_activations_see_sums_that_are_not_rounded(row: kernels.Kernel) -> None:
    x, weight = random((1, 8, 9, 9), "float16"), random((5, 8, 3, 3), "float16")
    wide = [array.astype(np.float32) for array in (x, weight)]
    for name in ("gelu", "leaky_relu", "relu6"):
        result = cnnfast.conv2d(x, weight, activation=name)
        expected = cnnfast.conv2d(*wide, activation=name, backend=row.name)
        assert_same_bits(result, expected.astype(np.float16))
    numba = pytest.importorskip("numba")

    @numba.njit  # type: ignore[untyped-decorator, unused-ignore]
    def thousandth(value: float) -> float:
        return value * 0.001

    result = cnnfast.conv2d(x, weight, activation=thousandth, backend=row.name)
    expected = cnnfast.conv2d(*wide, activation=thousandth, backend=row.name)
    assert_same_bits(result, expected.astype(np.float16))


@pytest.mark.parametrize(("row", "dtype"), STORED)
def test_nothing_is_converted_as_a_whole(row: kernels.Kernel, dtype: str) -> None:
    """A call takes its result and its scratch, whatever repeats it."""
    x, weight = random((1, 32, 128, 128), dtype), random((32, 32, 3, 3), dtype)
    found = cnnfast.explain("conv2d", x, weight, padding=1, backend=row.name)
    out = np.empty((1, 32, 128, 128), result_dtype(x.dtype))
    assert found.scratch_bytes < (x.nbytes + out.nbytes) / 4
    cnnfast.set_num_threads(1)
    try:
        for bias in (None, random((32,), dtype)):
            for _ in range(3):
                tracemalloc.start()
                cnnfast.conv2d(x, weight, bias, padding=1, backend=row.name, out=out)
                taken = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert taken < found.scratch_bytes + 100_000
    finally:
        cnnfast.set_num_threads(None)


@pytest.mark.parametrize(("row", "dtype"), STORED)
def test_threads(row: kernels.Kernel, dtype: str) -> None:
    x, weight = random((2, 37, 20, 21), dtype), random((70, 37, 3, 3), dtype)
    geometry = replace(ConvGeometry.of(x.shape, weight.shape, padding=1), stored=x.dtype)
    kernel = kernels.load("fprop", *row.name.split("/"))
    results = []
    for threads in (1, 2, 3, 8):
        out = np.full(geometry.out_shape, 7, result_dtype(x.dtype))
        scratch = np.empty(kernel.scratch_bytes(geometry, threads), np.uint8)
        kernel(x, weight, out, geometry, scratch, threads=threads)
        results.append(out.tobytes())
    assert len(set(results)) == 1


def test_others_are_converted_for_at_a_price() -> None:
    geometry = replace(ConvGeometry.of((1, 8, 40, 40), (8, 8, 3, 3)), stored=np.dtype(np.float16))
    for row in KERNELS:
        if row.family == "fprop" and not row.stored:
            assert row.cost(geometry) > row.cost(replace(geometry, stored=None))
            assert row.reads(geometry) == np.float32


def test_an_odd_channel_is_half_a_pair() -> None:
    problem = ConvGeometry.of((1, 6, 5, 5), (4, 3, 1, 1), groups=2).problem
    assert in_elements(problem, np.dtype(np.int8)).c == 2
    assert in_elements(problem, np.dtype(np.float16)).c == 3


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_other_instruction_sets(instruction_set: str) -> None:
    """The same tests where kernels use an older processor's instructions."""
    if "CNNFAST_INSTRUCTION_SET" in os.environ:
        pytest.skip("this is one of those runs")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-k", WITH_BITS, __file__],
        env={**os.environ, "CNNFAST_INSTRUCTION_SET": instruction_set},
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
