"""Every row of the table on every case, in both tiers, both layouts and both dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast.kernels import KERNELS, Kernel, reference
from cnnfast.kernels.registry import load_row

import conformance as suite

FPROP_ROWS = suite.rows_of("fprop")
POOL_ROWS = suite.rows_of("pool")


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("tier", suite.TIERS)
@pytest.mark.parametrize("dtype", suite.DTYPES)
@pytest.mark.parametrize("case", suite.CONV_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", suite.parameters(FPROP_ROWS))
def test_fprop(row: Kernel, case: suite.ConvCase, dtype: str, tier: str, last: bool) -> None:
    suite.check_fprop(load_row(row), row, case, dtype, tier, last)


#: Each pooling case with the reductions that it is for.
POOLINGS = [
    pytest.param(case, reduction, id=f"{reduction} {case.name}")
    for reduction, special in (("max", suite.MAX_CASES), ("mean", suite.MEAN_CASES))
    for case in (*suite.POOL_CASES, *special)
]


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("tier", suite.TIERS)
@pytest.mark.parametrize("dtype", suite.DTYPES)
@pytest.mark.parametrize(("case", "reduction"), POOLINGS)
@pytest.mark.parametrize("row", suite.parameters(POOL_ROWS))
def test_pool(
    row: Kernel, case: suite.PoolCase, reduction: str, dtype: str, tier: str, last: bool
) -> None:
    suite.check_pool(load_row(row), case, reduction, dtype, tier, last)


def _transposed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array.T).T


def _sliced(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = np.full(tuple(2 * extent + 1 for extent in array.shape), np.nan, array.dtype)
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


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", suite.DTYPES)
@pytest.mark.parametrize("name", ["padded", "groups", "depthwise", "primes", "3d, everything"])
@pytest.mark.parametrize("row", suite.parameters(FPROP_ROWS))
def test_fprop_takes_any_strides(row: Kernel, name: str, dtype: str, view: str) -> None:
    case = next(case for case in suite.CONV_CASES if case.name == name)
    data = suite.conv_data(case, dtype, "exact", False)
    x, weight = VIEWS[view](data.x), VIEWS[view](data.weight)
    result = suite.run_fprop(load_row(row), row, data, x=x, weight=weight)
    np.testing.assert_array_equal(result, data.expected)


@pytest.mark.parametrize("row", suite.parameters(FPROP_ROWS))
def test_fprop_takes_broadcast_inputs_and_strided_out(row: Kernel) -> None:
    case = next(case for case in suite.CONV_CASES if case.name == "primes")
    data = suite.conv_data(case, "float32", "exact", False)
    x = np.broadcast_to(data.x[:1, :1], data.x.shape)
    weight = np.broadcast_to(data.weight[:, :1, :1], data.weight.shape)
    expected = suite.reference_fprop(x, weight, data.bias, data.geometry, 0)
    wide = np.full(tuple(2 * extent for extent in expected.shape), suite.CANARY, np.float32)
    out = wide[::2, 1::2, ::-2, ::2]
    views = data.geometry.canonical(x, weight, out)
    scratch = np.empty(row.scratch_bytes(data.geometry) + 64, np.uint8)
    scratch = scratch[-scratch.ctypes.data % 64 :]
    load_row(row)(*views[:2], data.bias, views[2], data.geometry, scratch, 0, 1)
    np.testing.assert_array_equal(out, expected)
    out[...] = suite.CANARY
    assert (wide == suite.CANARY).all(), "the kernel wrote between the elements of out"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", suite.DTYPES)
@pytest.mark.parametrize("reduction", ["max", "mean"])
@pytest.mark.parametrize("row", suite.parameters(POOL_ROWS))
def test_pool_takes_any_strides(row: Kernel, reduction: str, dtype: str, view: str) -> None:
    case = suite.POOL_CASES[1]
    data = suite.pool_data(case, reduction, dtype, "exact", False)
    out, buffer = suite.guarded(data.geometry.out_shape, dtype)
    x = VIEWS[view](data.x)
    geometry = data.geometry
    load_row(row)(geometry.canonical(x), geometry.canonical(out), None, geometry, 1)
    suite.assert_guarded(buffer)
    suite.assert_within(out, data.expected, data.tolerance)


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


@pytest.mark.parametrize(
    ("breakage", "tier"),
    [
        (_off_by_one_tap, "exact"),
        (_off_by_one_tap, "bound"),
        (_last_value_wrong, "bound"),
        (_last_value_missing, "exact"),
        (_last_value_missing, "bound"),
        (_half_precision, "bound"),
    ],
)
def test_a_broken_kernel_is_caught(breakage: Any, tier: str) -> None:
    """The suite has teeth: the reference passes as a row, and no perturbed copy of it does."""
    row = next(row for row in KERNELS if row.algorithm == "reference" and row.family == "fprop")
    case = next(case for case in suite.CONV_CASES if case.name == "primes")
    suite.check_fprop(reference.fprop, row, case, "float32", tier, False)
    with pytest.raises(AssertionError, match="values are wrong"):
        suite.check_fprop(breakage(reference.fprop), row, case, "float32", tier, False)


def test_a_kernel_that_writes_outside_is_caught() -> None:
    row = next(row for row in KERNELS if row.algorithm == "reference" and row.family == "fprop")

    def broken(x: Any, weight: Any, bias: Any, out: Any, *rest: Any) -> None:
        reference.fprop(x, weight, bias, out, *rest)
        beyond = np.lib.stride_tricks.as_strided(out, (out.size + 1,), (out.itemsize,))
        beyond[-1] = 1

    with pytest.raises(AssertionError, match="behind out"):
        suite.check_fprop(broken, row, suite.CONV_CASES[0], "float32", "exact", False)


def test_a_broken_pooling_is_caught() -> None:
    def broken(x: Any, out: Any, indices: Any, geometry: Any, threads: int) -> None:
        reference.pool(x, out, indices, geometry, threads)
        if indices is not None:
            indices[0, 0, 0, 0, 0] += 1

    case = suite.POOL_CASES[0]
    suite.check_pool(reference.pool, case, "max", "float32", "bound", False)
    with pytest.raises(AssertionError):
        suite.check_pool(broken, case, "max", "float32", "bound", False)
