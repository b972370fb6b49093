"""What every row of the table must do: named cases, two tiers of data, one check for each family.

Tier 1 ("exact"): small integers held in floats; the result must equal the reference's, so that no
indexing error hides behind a tolerance. Tier 2 ("bound"): random data within
``eps_out |ref| + (L + 2) eps_acc ref(|x|, |w|)``, L the reduction length; never a flat tolerance.
``out`` is poisoned with NaN, surrounded by canaries, and scratch begins as NaN too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from cnnfast import ConvGeometry, PoolGeometry
from cnnfast.kernels import KERNELS, Kernel, reference
from cnnfast.kernels.problem import ACTIVATION_CODES
from cnnfast.kernels.registry import engine_missing

Array = np.ndarray[Any, Any]

CANARY = -12345.0
TIERS = ("exact", "bound")
DTYPES = ("float32", "float64")


def rows_of(family: str) -> list[Kernel]:
    """The table's rows of a family, the reference (its own specification) left out."""
    return [row for row in KERNELS if row.family == family and row.algorithm != "reference"]


def skip_if_missing(row: Kernel) -> pytest.MarkDecorator:
    """A mark that skips a row whose engine isn't here, with the reason."""
    reason = engine_missing(row.engine)
    return pytest.mark.skipif(reason is not None, reason=f"{row.name}: {reason}")


def parameters(rows: list[Kernel], *marks: pytest.MarkDecorator) -> list[Any]:
    """A test parameter per row."""
    return [pytest.param(row, id=row.name, marks=(skip_if_missing(row), *marks)) for row in rows]


@dataclass(frozen=True)
class ConvCase:
    """A convolution by name; shapes in NCHW and OIHW or their 1d and 3d kin."""

    name: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    bias: bool = True
    activation: str | None = None


CONV_CASES = (
    ConvCase("plain", (1, 3, 8, 9), (4, 3, 3, 3)),
    ConvCase("padded", (2, 3, 8, 9), (5, 3, 3, 3), {"padding": 1}),
    ConvCase("no bias", (1, 2, 6, 6), (3, 2, 2, 2), bias=False),
    ConvCase("relu", (1, 3, 8, 8), (4, 3, 3, 3), {"padding": 1}, activation="relu"),
    ConvCase("relu6", (1, 3, 8, 8), (4, 3, 3, 3), {"padding": 1}, activation="relu6"),
    ConvCase("relu, no bias", (1, 3, 8, 8), (4, 3, 3, 3), bias=False, activation="relu"),
    ConvCase("stride > kernel", (2, 2, 11, 13), (3, 2, 2, 2), {"stride": 3}),
    ConvCase("stride per axis", (1, 2, 9, 12), (3, 2, 3, 3), {"stride": (1, 3), "padding": 1}),
    ConvCase("asymmetric padding", (1, 2, 7, 8), (3, 2, 3, 3), {"padding": [(1, 2), (0, 3)]}),
    ConvCase("padding > kernel", (1, 2, 3, 4), (3, 2, 2, 2), {"padding": 5}),
    ConvCase("padding, stride, dilation", (1, 2, 9, 8), (3, 2, 3, 3), {"padding": [(4, 1), (2, 5)], "stride": (2, 3), "dilation": (2, 1)}),
    ConvCase("same_upper", (1, 2, 7, 8), (3, 2, 3, 4), {"padding": "same_upper", "stride": 2}),
    ConvCase("same_lower", (1, 2, 7, 8), (3, 2, 3, 4), {"padding": "same_lower", "stride": 2}),
    ConvCase("dilation", (1, 2, 9, 12), (3, 2, 3, 3), {"dilation": (2, 3), "padding": (2, 3)}),
    ConvCase("groups", (2, 6, 7, 7), (9, 2, 3, 3), {"groups": 3, "padding": 1}),
    ConvCase("groups of 1 channel in", (1, 4, 7, 7), (8, 1, 3, 3), {"groups": 4}),
    ConvCase("groups of 1 channel out", (1, 8, 7, 7), (4, 2, 3, 3), {"groups": 4}),
    ConvCase("depthwise", (2, 5, 9, 10), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    ConvCase("depthwise, stride 2", (1, 5, 9, 10), (5, 1, 3, 3), {"groups": 5, "padding": 1, "stride": 2}),
    ConvCase("depthwise, multiplier 2", (1, 3, 6, 6), (6, 1, 3, 3), {"groups": 3}),
    ConvCase("batch 0", (0, 3, 5, 5), (4, 3, 3, 3)),
    ConvCase("size 1", (1, 1, 1, 1), (1, 1, 1, 1)),
    ConvCase("kernel = input", (2, 3, 5, 4), (7, 3, 5, 4)),
    ConvCase("primes", (2, 7, 13, 11), (17, 7, 3, 5), {"padding": (1, 2)}),
    ConvCase("1x1", (1, 19, 6, 7), (18, 19, 1, 1)),
    ConvCase("1x1, stride 2", (1, 5, 7, 8), (4, 5, 1, 1), {"stride": 2}),
    ConvCase("7x7/2", (1, 3, 23, 25), (20, 3, 7, 7), {"stride": 2, "padding": 3}),
    ConvCase("column kernel", (1, 2, 9, 5), (3, 2, 5, 1), {"padding": (2, 0)}),
    ConvCase("row kernel", (1, 2, 5, 9), (3, 2, 1, 5), {"padding": (0, 2)}),
    ConvCase("one column", (1, 2, 30, 1), (3, 2, 3, 1)),
    ConvCase("wide", (1, 2, 3, 531), (5, 2, 3, 3), {"padding": 1}),
    ConvCase("wide and strided", (1, 2, 3, 1201), (5, 2, 2, 3), {"padding": 1, "stride": (1, 2)}),
    ConvCase("long reduction", (1, 67, 6, 7), (5, 67, 3, 3), {"padding": 1}),
    ConvCase("many channels out", (1, 3, 4, 5), (163, 3, 3, 3), {"padding": 1}),
    ConvCase("many of both", (1, 40, 3, 3), (131, 40, 3, 3), {"padding": 1}),
    ConvCase("tall", (1, 2, 101, 6), (18, 2, 3, 3), {"padding": 1}),
    ConvCase("1d", (2, 3, 17), (4, 3, 5), {"padding": 2}),
    ConvCase("1d, strided and dilated", (1, 3, 29), (4, 3, 3), {"padding": [(0, 3)], "stride": 2, "dilation": 3}),
    ConvCase("3d", (1, 2, 5, 6, 7), (3, 2, 3, 2, 3), {"padding": (1, 0, 1)}),
    ConvCase("3d, everything", (2, 4, 7, 6, 8), (6, 2, 2, 3, 3), {"padding": [(2, 1), (0, 3), (1, 1)], "stride": (2, 1, 3), "dilation": (3, 1, 2), "groups": 2}),
)  # fmt: skip


def _values(shape: tuple[int, ...], dtype: str, tier: str, seed: int) -> Array:
    generator = np.random.default_rng([seed, *shape])
    if tier == "exact":
        return generator.integers(-4, 5, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


def channels_last(array: Array) -> Array:
    """A C-contiguous copy with the channel axis moved to the end."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def _weights_last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, (0, 1), (-1, -2)))


def layout_names(rank: int, last: bool) -> str:
    """The channels-first or channels-last layout for a rank."""
    spatial = "DHW"[3 - rank :]
    return f"N{spatial}C" if last else f"NC{spatial}"


@dataclass(frozen=True)
class ConvData:
    """Arrays of a case, its geometry, and the result that the reference gives."""

    x: Array
    weight: Array
    bias: Array
    geometry: ConvGeometry
    activation: int
    expected: Array
    tolerance: Array


@cache
def conv_data(case: ConvCase, dtype: str, tier: str, last: bool) -> ConvData:
    """Make a case's arrays and compute what is expected of them."""
    x, weight = _values(case.input, dtype, tier, 1), _values(case.weight, dtype, tier, 2)
    bias = _values((case.weight[0],) if case.bias else (0,), dtype, tier, 3)
    if last:
        x, weight = channels_last(x), _weights_last(weight)
    layout = layout_names(len(case.weight) - 2, last)
    geometry = ConvGeometry.of(x, weight, layout=layout, **case.arguments)
    code = ACTIVATION_CODES[case.activation]
    expected = reference_fprop(x, weight, bias, geometry, code)
    absolute = reference_fprop(abs(x), abs(weight), abs(bias), geometry, 0)
    tolerance = error_bound(expected, absolute, geometry, np.finfo(dtype).eps)
    return ConvData(x, weight, bias, geometry, code, expected, tolerance * (tier == "bound"))


def reference_fprop(
    x: Array, weight: Array, bias: Array, geometry: ConvGeometry, code: int
) -> Array:
    """The specification's result, in float64, in the user's layout."""
    out = np.empty(geometry.out_shape)
    views = geometry.canonical(x, weight, out)
    reference.fprop(*views[:2], bias, views[2], geometry, np.empty(0, np.uint8), code, 1)
    return out


def error_bound(expected: Array, absolute: Array, geometry: ConvGeometry, eps: float) -> Array:
    """``eps |ref| + (L + 2) eps ref(|x|, |w|)`` elementwise."""
    problem = geometry.problem
    length = problem.c * problem.t * problem.r * problem.s
    return np.asarray(eps * abs(expected) + (length + 2) * eps * absolute)


def guarded(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """An array full of NaN (or -7 for integers) and the buffer of canaries around it."""
    buffer = np.full(int(np.prod(shape)) + 128, CANARY, dtype)
    inner = buffer[64:-64].reshape(shape)
    inner[...] = np.nan if np.dtype(dtype).kind == "f" else -7
    return inner, buffer


def assert_guarded(buffer: Array) -> None:
    """No canary was touched."""
    assert (buffer[:64] == CANARY).all(), "the kernel wrote before out"
    assert (buffer[-64:] == CANARY).all(), "the kernel wrote behind out"


def run_fprop(
    function: Callable[..., None],
    row: Kernel,
    data: ConvData,
    threads: int = 1,
    x: Array | None = None,
    weight: Array | None = None,
) -> Array:
    """Call a row's function on a case, everything poisoned and guarded."""
    geometry = data.geometry
    out, buffer = guarded(geometry.out_shape, geometry.dtype)
    scratch, around = guarded((row.scratch_bytes(geometry, threads) // 8 + 8,), np.float64)
    aligned = scratch.view(np.uint8)
    aligned = aligned[-aligned.ctypes.data % 64 :][: row.scratch_bytes(geometry, threads)]
    views = geometry.canonical(
        data.x if x is None else x, data.weight if weight is None else weight, out
    )
    function(*views[:2], data.bias, views[2], geometry, aligned, data.activation, threads)
    assert_guarded(buffer)
    assert_guarded(around)
    return out


def check_fprop(
    function: Callable[..., None], row: Kernel, case: ConvCase, dtype: str, tier: str, last: bool
) -> None:
    """Assert that a row's function computes the case."""
    data = conv_data(case, dtype, tier, last)
    inputs = data.x.copy(), data.weight.copy(), data.bias.copy()
    result = run_fprop(function, row, data)
    assert_within(result, data.expected, data.tolerance)
    for before, after in zip(inputs, (data.x, data.weight, data.bias), strict=True):
        np.testing.assert_array_equal(before, after, "the kernel changed an input")


def assert_within(result: Array, expected: Array, tolerance: Array) -> None:
    """Elementwise ``|result - expected| <= tolerance``; NaN only where NaN is expected."""
    error = abs(result.astype(np.float64) - expected)
    wrong = ~((error <= tolerance) | (np.isnan(result) & np.isnan(expected)) | (result == expected))
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {wrong.size} values are wrong, the first at {np.argwhere(wrong)[0]}: "
        f"{result[wrong][0]} instead of {expected[wrong][0]}"
    )


@dataclass(frozen=True)
class PoolCase:
    """A pooling by name."""

    name: str
    input: tuple[int, ...]
    kernel: int | tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)


POOL_CASES = (
    PoolCase("2x2", (2, 3, 8, 10), 2),
    PoolCase("3x3/2, padded", (1, 3, 9, 11), 3, {"stride": 2, "padding": 1}),
    PoolCase("overlapping", (1, 2, 7, 6), 3, {"stride": 1, "padding": 1}),
    PoolCase("stride > window", (1, 2, 11, 13), 2, {"stride": 4}),
    PoolCase("ceil_mode", (1, 2, 8, 9), 3, {"stride": 2, "ceil_mode": True}),
    PoolCase("ceil_mode, padded", (1, 2, 7, 10), (3, 2), {"stride": (2, 3), "padding": 1, "ceil_mode": True}),
    PoolCase("asymmetric padding", (1, 2, 7, 8), (4, 5), {"padding": [(0, 2), (2, 1)], "stride": 2}),
    PoolCase("global", (2, 5, 7, 7), 7),
    PoolCase("size 1", (1, 1, 1, 1), 1),
    PoolCase("batch 0", (0, 2, 4, 4), 2),
    PoolCase("window 1", (1, 2, 5, 5), 1, {"stride": 2}),
    PoolCase("one row", (1, 2, 1, 40), (1, 3)),
    PoolCase("wide", (1, 1, 3, 1301), (2, 3), {"stride": (1, 2)}),
    PoolCase("1d", (2, 3, 17), 3, {"stride": 2, "padding": 1}),
    PoolCase("3d", (1, 2, 5, 6, 7), (2, 3, 2), {"padding": (1, 1, 0), "stride": (1, 2, 2)}),
)  # fmt: skip

MAX_CASES = (
    PoolCase("dilation", (1, 2, 9, 12), 3, {"dilation": (2, 3), "stride": 1, "padding": 1}),
    PoolCase("3d, dilation", (1, 2, 7, 6, 9), 2, {"dilation": (3, 1, 2), "padding": 1}),
    PoolCase("windows in the padding", (1, 1, 3, 3), 2, {"dilation": 3, "padding": 1, "stride": 1}),
)
MEAN_CASES = (
    PoolCase("count_include_pad=False", (1, 2, 9, 11), 3, {"stride": 2, "padding": 1, "count_include_pad": False}),
    PoolCase("divisor_override", (1, 2, 9, 11), 3, {"stride": 2, "padding": 1, "divisor_override": 5}),
    PoolCase("divisor_override < 0", (1, 2, 6, 6), 2, {"divisor_override": -3}),
    PoolCase("ceil_mode, not counting padding", (1, 2, 8, 8), 3, {"stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
)  # fmt: skip


@dataclass(frozen=True)
class PoolData:
    """The array of a case, its geometry, and the results that the reference gives."""

    x: Array
    geometry: PoolGeometry
    expected: Array
    indices: Array | None
    tolerance: Array


@cache
def pool_data(case: PoolCase, reduction: str, dtype: str, tier: str, last: bool) -> PoolData:
    """Make a case's array (ties and NaN among its values for "max") and what is expected of it."""
    x = _values(case.input, dtype, tier, 4)
    if reduction == "max" and tier == "bound":
        x[np.random.default_rng(5).random(x.shape) < 0.03] = np.nan
    if last:
        x = channels_last(x)
    rank = len(case.input) - 2
    geometry = PoolGeometry.of(
        x, reduction, case.kernel, rank=rank, layout=layout_names(rank, last), **case.arguments
    )
    indices = np.empty(geometry.out_shape, np.int64) if reduction == "max" else None
    expected = _reference_pool(x, indices, geometry)
    tolerance = np.zeros(expected.shape)
    if reduction == "mean":
        taps = int(np.prod(geometry.kernel))
        absolute = abs(_reference_pool(abs(x), None, geometry))
        tolerance = np.finfo(dtype).eps * (abs(expected) + (taps + 2) * absolute)
    return PoolData(x, geometry, expected, indices, tolerance)


def _reference_pool(x: Array, indices: Array | None, geometry: PoolGeometry) -> Array:
    out = np.empty(geometry.out_shape)
    flat = None if indices is None else geometry.canonical(indices)
    reference.pool(geometry.canonical(x), geometry.canonical(out), flat, geometry, 1)
    return out


def check_pool(
    function: Callable[..., None], case: PoolCase, reduction: str, dtype: str, tier: str, last: bool
) -> None:
    """Assert that a row's function computes the case, with and without indices."""
    data = pool_data(case, reduction, dtype, tier, last)
    geometry = data.geometry
    for with_indices in (False, True)[: 1 + (reduction == "max")]:
        out, buffer = guarded(geometry.out_shape, geometry.dtype)
        flat, around = guarded(geometry.out_shape, np.int64)
        indices = geometry.canonical(flat) if with_indices else None
        function(geometry.canonical(data.x), geometry.canonical(out), indices, geometry, 1)
        assert_guarded(buffer)
        assert_guarded(around)
        assert_within(out, data.expected, data.tolerance)
        if with_indices:
            np.testing.assert_array_equal(flat, data.indices)
