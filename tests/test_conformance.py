"""Every row of the table on every case, in both tiers, both layouts and all of its dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast.kernels import KERNELS, Kernel, reference
from cnnfast.kernels.registry import load_row

import cases
import conformance as suite

CONV_ROWS = suite.rows_of(*suite.CONV_FAMILIES)
POOL_ROWS = suite.rows_of("pool")


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", cases.CONV_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(("row", "dtype", "tier"), suite.numeric_parameters(CONV_ROWS))
def test_conv(row: Kernel, case: cases.ConvCase, dtype: str, tier: str, last: bool) -> None:
    suite.check_conv(load_row(row), row, case, dtype, tier, last)


#: Each pooling case with the reductions that it is for.
POOLINGS = [
    pytest.param(case, reduction, id=f"{reduction} {case.name}")
    for reduction, special in (("max", cases.MAX_CASES), ("mean", cases.MEAN_CASES))
    for case in (*cases.POOL_CASES, *special)
]


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("case", "reduction"), POOLINGS)
@pytest.mark.parametrize(("row", "dtype", "tier"), suite.numeric_parameters(POOL_ROWS))
def test_pool(
    row: Kernel, case: cases.PoolCase, reduction: str, dtype: str, tier: str, last: bool
) -> None:
    suite.check_pool(load_row(row), case, reduction, dtype, tier, last)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("case", "reduction"), POOLINGS)
@pytest.mark.parametrize(
    ("row", "dtype", "tier"), suite.numeric_parameters(suite.rows_of("pool_grad"))
)
def test_pool_grad(
    row: Kernel, case: cases.PoolCase, reduction: str, dtype: str, tier: str, last: bool
) -> None:
    suite.check_pool_grad(load_row(row), case, reduction, dtype, tier, last)


def _transposed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array.T).T


def _sliced(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = np.zeros(tuple(2 * extent + 1 for extent in array.shape), array.dtype)
    if array.dtype.kind == "f":
        wide[...] = np.nan
    view = wide[tuple(slice(1, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def _negative(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    backwards = (slice(None, None, -1),) * array.ndim
    return array[backwards].copy()[backwards]


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


VIEWS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "transposed": _transposed,
    "sliced": _sliced,
    "negative": _negative,
    "read-only": _read_only,
}


FLOATS = ("float32", "float64")


def case_of(name: str) -> cases.ConvCase:
    return next(case for case in cases.CONV_CASES if case.name == name)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["padded", "groups", "depthwise", "primes", "3d, everything"])
@pytest.mark.parametrize("row", suite.parameters(CONV_ROWS))
def test_conv_takes_any_strides(row: Kernel, name: str, dtype: str, view: str) -> None:
    data = suite.conv_data(row.family, case_of(name), dtype, "exact", False)
    first, second = VIEWS[view](data.first), VIEWS[view](data.second)
    result = suite.run_conv(load_row(row), row, data, first=first, second=second)
    np.testing.assert_array_equal(result, data.expected)


@pytest.mark.parametrize("view", ["backwards", "broadcast"])
@pytest.mark.parametrize("row", suite.parameters(CONV_ROWS))
def test_conv_takes_planes_in_any_order(row: Kernel, view: str) -> None:
    """Pixels side by side, channels before each other, or on top of each other."""
    data = suite.conv_data(row.family, case_of("1x1"), "float32", "exact", False)
    first, expected = np.ascontiguousarray(data.first[:, ::-1])[:, ::-1], data.expected
    if view == "broadcast":
        first = np.broadcast_to(data.first[:, :1], data.first.shape)
        expected = suite.reference_conv(
            row.family, first, data.second, data.bias, data.geometry, data.activation
        )
    result = suite.run_conv(load_row(row), row, data, first=first)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("row", suite.parameters(CONV_ROWS))
def test_conv_takes_broadcast_inputs_and_strided_out(row: Kernel) -> None:
    data = suite.conv_data(row.family, case_of("primes"), "float32", "exact", False)
    first = np.broadcast_to(data.first[:1, :1], data.first.shape)
    second = np.broadcast_to(data.second[:, :1, :1], data.second.shape)
    expected = suite.reference_conv(row.family, first, second, data.bias, data.geometry, 0)
    wide = np.full(tuple(2 * extent for extent in expected.shape), suite.CANARY, np.float32)
    out = wide[::2, 1::2, ::-2, ::2]
    one, two, three = data.geometry.canonical(first, second, out, row.family)
    scratch = np.empty(row.scratch_bytes(data.geometry) + 64, np.uint8)
    scratch = scratch[-scratch.ctypes.data % 64 :]
    load_row(row)(one, two, data.bias, three, data.geometry.problem, scratch, 0, 1)
    np.testing.assert_array_equal(out, expected)
    out[...] = suite.CANARY
    assert (wide == suite.CANARY).all(), "the kernel wrote between the elements of out"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", ["max", "mean"])
@pytest.mark.parametrize("row", suite.parameters(POOL_ROWS))
def test_pool_takes_any_strides(row: Kernel, reduction: str, dtype: str, view: str) -> None:
    data = suite.pool_data(cases.POOL_CASES[1], reduction, dtype, "exact", False)
    out, buffer = suite.guarded(data.geometry.out_shape, dtype)
    x = VIEWS[view](data.x)
    geometry = data.geometry
    load_row(row)(geometry.canonical(x), geometry.canonical(out), None, geometry, 1)
    suite.assert_guarded(buffer)
    suite.assert_within(out, data.expected, data.tolerance)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("reduction", ["max", "mean"])
@pytest.mark.parametrize("row", suite.parameters(suite.rows_of("pool_grad")))
def test_pool_grad_takes_any_strides(row: Kernel, reduction: str, view: str) -> None:
    data = suite.pool_data(cases.POOL_CASES[1], reduction, "float32", "exact", False)
    geometry = data.geometry
    wide = np.full(tuple(2 * extent for extent in geometry.input.shape), suite.CANARY, np.float32)
    out = wide[::2, 1::2, ::-2, ::2]
    flat = None if data.indices is None else geometry.canonical(VIEWS[view](data.indices))
    grad = geometry.canonical(VIEWS[view](data.grad))
    load_row(row)(grad, flat, geometry.canonical(out), geometry, 1)
    suite.assert_within(out, data.adjoint, data.adjoint_tolerance)
    out[...] = suite.CANARY
    assert (wide == suite.CANARY).all(), "the kernel wrote between the elements of out"


@pytest.mark.parametrize("spoilt", ["first", "second"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", ["padding, stride, dilation", "primes", "depthwise", "row kernel"])
@pytest.mark.parametrize("row", suite.parameters(CONV_ROWS))
def test_infinities_and_nan_go_where_the_reference_says(
    row: Kernel, name: str, value: float, spoilt: str
) -> None:
    """Over padding too: zeros are multiplied there, and what dgrad doesn't see isn't."""
    data = suite.conv_data(row.family, case_of(name), "float32", "exact", False)
    arrays = {"first": data.first.copy(), "second": data.second.copy()}
    for place in (0, arrays[spoilt].size // 2):
        arrays[spoilt].reshape(-1)[place] = value
    expected = suite.reference_conv(
        row.family, arrays["first"], arrays["second"], data.bias, data.geometry, data.activation
    )
    result = suite.run_conv(load_row(row), row, data, **arrays)
    np.testing.assert_array_equal(result, expected)


ROWS_WITH_SCRATCH = [row for row in suite.rows_of("dgrad") if row.algorithm != "loop"]
#: Few channels and wide planes: blocks differ between phases by themselves and side by side.
WIDE_CASES = (
    cases.ConvCase("one channel, 7x7", (1, 1, 8, 224), (8, 1, 7, 7), {"padding": 2}),
    cases.ConvCase("three channels, 1x1", (4, 3, 8, 1000), (64, 3, 1, 1)),
    cases.ConvCase(
        "one channel, strided", (1, 1, 57, 129), (64, 1, 7, 7), {"stride": 2, "padding": 3}
    ),
)


@pytest.mark.parametrize("value", [1.0, np.inf, np.nan])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", WIDE_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", suite.parameters(ROWS_WITH_SCRATCH))
def test_gradients_that_are_not_finite_stay_within_their_scratch(
    row: Kernel, case: cases.ConvCase, dtype: str, value: float
) -> None:
    data = suite.conv_data("dgrad", case, dtype, "exact", False)
    grad = data.first.copy()
    grad.reshape(-1)[0] = value
    expected = suite.reference_conv(
        "dgrad", grad, data.second, data.bias, data.geometry, data.activation
    )
    for threads in (1, 2):
        result = suite.run_conv(load_row(row), row, data, threads, first=grad)
        np.testing.assert_array_equal(result, expected)


def _off_by_one_tap(function: Callable[..., None]) -> Callable[..., None]:
    def broken(x: Any, weight: Any, *rest: Any) -> None:
        function(np.roll(x, 1, axis=-1), weight, *rest)

    return broken


def _last_value_wrong(function: Callable[..., None]) -> Callable[..., None]:
    def broken(x: Any, weight: Any, bias: Any, out: Any, *rest: Any) -> None:
        function(x, weight, bias, out, *rest)
        out[-1, -1, -1, -1, -1] *= 1 + 1e-3

    return broken


def _last_value_missing(function: Callable[..., None]) -> Callable[..., None]:
    def broken(x: Any, weight: Any, bias: Any, out: Any, *rest: Any) -> None:
        function(x, weight, bias, out, *rest)
        out[-1, -1, -1, -1, -1] = np.nan

    return broken


def _half_precision(function: Callable[..., None]) -> Callable[..., None]:
    def broken(x: Any, weight: Any, *rest: Any) -> None:
        function(x.astype(np.float16).astype(x.dtype), weight, *rest)

    return broken


BREAKAGES = [
    (_off_by_one_tap, "exact"),
    (_off_by_one_tap, "bound"),
    (_last_value_wrong, "bound"),
    (_last_value_missing, "exact"),
    (_last_value_missing, "bound"),
    (_half_precision, "bound"),
]


def reference_row(family: str) -> Kernel:
    return next(row for row in KERNELS if row.algorithm == "reference" and row.family == family)


@pytest.mark.parametrize("family", suite.CONV_FAMILIES)
@pytest.mark.parametrize(("breakage", "tier"), BREAKAGES)
def test_a_broken_kernel_is_caught(breakage: Any, tier: str, family: str) -> None:
    """The suite has teeth: the reference passes as a row, and no perturbed copy of it does."""
    row, function, case = reference_row(family), getattr(reference, family), case_of("primes")
    suite.check_conv(function, row, case, "float32", tier, False)
    with pytest.raises(AssertionError, match="values are wrong"):
        suite.check_conv(breakage(function), row, case, "float32", tier, False)


def test_a_kernel_that_writes_outside_is_caught() -> None:
    def broken(x: Any, weight: Any, bias: Any, out: Any, *rest: Any) -> None:
        reference.fprop(x, weight, bias, out, *rest)
        beyond = np.lib.stride_tricks.as_strided(out, (out.size + 1,), (out.itemsize,))
        beyond[-1] = 1

    row, case = reference_row("fprop"), cases.CONV_CASES[0]
    with pytest.raises(AssertionError, match="behind out"):
        suite.check_conv(broken, row, case, "float32", "exact", False)


def test_a_broken_pooling_is_caught() -> None:
    def broken(x: Any, out: Any, indices: Any, geometry: Any, threads: int) -> None:
        reference.pool(x, out, indices, geometry, threads)
        if indices is not None:
            indices[0, 0, 0, 0, 0] += 1

    case = cases.POOL_CASES[0]
    suite.check_pool(reference.pool, case, "max", "float32", "bound", False)
    with pytest.raises(AssertionError):
        suite.check_pool(broken, case, "max", "float32", "bound", False)


@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_a_broken_adjoint_of_pooling_is_caught(reduction: str) -> None:
    def broken(grad: Any, indices: Any, out: Any, geometry: Any, threads: int) -> None:
        reference.pool_grad(grad, indices, out, geometry, threads)
        out[...] = np.roll(out, 1, axis=-1)

    case = cases.POOL_CASES[1]
    suite.check_pool_grad(reference.pool_grad, case, reduction, "float32", "bound", False)
    with pytest.raises(AssertionError):
        suite.check_pool_grad(broken, case, reduction, "float32", "bound", False)
