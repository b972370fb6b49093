"""What every row of the table must do: data in two tiers, and one check for each kind of family.

Tier 1 ("exact"): small integers held in floats; the result must equal the reference's, so that no
indexing error hides behind a tolerance; int64 gets large integers, beyond what a float holds.
Tier 2 ("bound"): random data within ``eps_out |ref| + (L + 2) eps_acc ref(|x|, |w|)``, L the
reduction length; never a flat tolerance.
``out`` is poisoned with NaN, surrounded by canaries, and scratch begins as NaN too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from cnnfast import ConvGeometry, PoolGeometry
from cnnfast.kernels import KERNELS, Kernel, reference
from cnnfast.kernels.problem import ACTIVATION_CODES
from cnnfast.kernels.registry import row_missing

from cases import ConvCase, PoolCase

Array = np.ndarray[Any, Any]

#: In every dtype exactly that.
CANARY = -12288.0
#: Distance from 1 to the next number.
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
#: What rounding both factors to tf32 may change of a product.
TF32_ERROR = 2.0**-9
TIERS = ("exact", "bound")
#: Whether every row of GPUs takes every case, which a machine without one needs an hour for.
GPU_TOO = os.environ.get("CNNFAST_GPU_CASES") == "all"
CONV_FAMILIES = ("fprop", "dgrad", "wgrad")


def rows_of(*families: str) -> list[Kernel]:
    """The table's rows of some families, the reference (its own specification) left out, and those
    of GPUs where there is none: ``test_cuda_rows`` has these."""
    return [
        row
        for row in KERNELS
        if row.family in families
        and row.algorithm != "reference"
        and (row.engine != "numba_cuda" or GPU_TOO)
    ]


def row_name(row: Kernel) -> str:
    """Family, algorithm and engine."""
    return f"{row.family} {row.name}"


def skip_if_missing(row: Kernel) -> pytest.MarkDecorator:
    """A mark that skips a row whose engine isn't here, with the reason."""
    reason = row_missing(row)
    return pytest.mark.skipif(reason is not None, reason=f"{row.name}: {reason}")


def parameters(rows: list[Kernel], *marks: pytest.MarkDecorator) -> list[Any]:
    """A test parameter per row."""
    return [
        pytest.param(row, id=row_name(row), marks=(skip_if_missing(row), *marks)) for row in rows
    ]


def numeric_parameters(rows: list[Kernel]) -> list[Any]:
    """A test parameter per row, dtype that it takes, and tier that the dtype has."""
    return [
        pytest.param(
            row, dtype, tier, id=f"{row_name(row)}-{dtype}-{tier}", marks=skip_if_missing(row)
        )
        for row in rows
        for dtype in row.dtypes
        for tier in TIERS
        if dtype != "int64" or tier == "exact"
    ]


def _values(shape: tuple[int, ...], dtype: str, tier: str, seed: int) -> Array:
    generator = np.random.default_rng([seed, *shape])
    if dtype == "int64":
        return generator.integers(-(2**40), 2**40, shape)
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
    """What a family reads for a case, its geometry, and the result that the reference gives."""

    family: str
    first: Array
    second: Array
    bias: Array
    geometry: ConvGeometry
    activation: int
    expected: Array
    absolute: Array
    tolerance: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape in the user's layout."""
        return self.geometry.operands(self.family)[2].shape


@cache
def conv_data(family: str, case: ConvCase, dtype: str, tier: str, last: bool) -> ConvData:
    """Make a case's arrays and compute what is expected of them."""
    x, weight = _values(case.input, dtype, tier, 1), _values(case.weight, dtype, tier, 2)
    if last:
        x, weight = channels_last(x), _weights_last(weight)
    layout = layout_names(len(case.weight) - 2, last)
    geometry = ConvGeometry.of(x, weight, layout=layout, **case.arguments)
    grad = _values(geometry.out_shape, dtype, tier, 6)
    first, second = {"fprop": (x, weight), "dgrad": (grad, weight), "wgrad": (x, grad)}[family]
    channels = geometry.in_channels if family == "dgrad" else geometry.out_channels
    biased = case.bias and family != "wgrad"
    bias = _values((channels,) if biased else (0,), dtype, tier, 3)
    code = ACTIVATION_CODES[case.activation if family != "wgrad" else None]
    expected = reference_conv(family, first, second, bias, geometry, code)
    absolute = tolerance = np.zeros(expected.shape)
    if tier == "bound":
        absolute = reference_conv(family, abs(first), abs(second), abs(bias), geometry, 0)
        tolerance = error_bound(expected, absolute, length(family, geometry), first.dtype)
    return ConvData(family, first, second, bias, geometry, code, expected, absolute, tolerance)


def reference_conv(
    family: str, first: Array, second: Array, bias: Array, geometry: ConvGeometry, code: int
) -> Array:
    """The specification's result, in float64 or int64, in the user's layout."""
    wide = np.int64 if first.dtype.kind == "i" else np.float64
    out = np.empty(geometry.operands(family)[2].shape, wide)
    one, two, three = geometry.canonical(first, second, out, family)
    function: Any = getattr(reference, family)
    function(one, two, bias, three, geometry.problem, np.empty(0, np.uint8), code, 1)
    return out


def length(family: str, geometry: ConvGeometry) -> int:
    """The most products that are summed for one value."""
    problem = geometry.problem
    taps = problem.t * problem.r * problem.s
    outputs = problem.n * problem.o * problem.p * problem.q
    return {"fprop": problem.c * taps, "dgrad": problem.k * taps, "wgrad": outputs}[family]


def error_bound(expected: Array, absolute: Array, length: int, dtype: np.dtype[Any]) -> Array:
    """``eps_out |ref| + (L + 2) eps_acc ref(|x|, |w|)`` elementwise; 16-bit floats are summed in
    float32."""
    eps = EPS[dtype.name]
    summed = min(eps, EPS["float32"])
    return np.asarray(eps * abs(expected) + (length + 2) * summed * absolute)


def guarded(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """An array full of NaN (or -7 for integers) and the buffer of canaries around it."""
    buffer = np.full(int(np.prod(shape)) + 128, CANARY, dtype)
    inner = buffer[64:-64].reshape(shape)
    inner[...] = -7 if np.dtype(dtype).kind == "i" else np.nan
    return inner, buffer


def assert_guarded(buffer: Array) -> None:
    """No canary was touched."""
    assert (buffer[:64] == CANARY).all(), "the kernel wrote before out"
    assert (buffer[-64:] == CANARY).all(), "the kernel wrote behind out"


def run_conv(
    function: Callable[..., None],
    row: Kernel,
    data: ConvData,
    threads: int = 1,
    first: Array | None = None,
    second: Array | None = None,
) -> Array:
    """Call a row's function on a case, everything poisoned and guarded."""
    geometry = data.geometry
    out, buffer = guarded(data.shape, geometry.dtype)
    scratch, around = guarded((row.scratch_bytes(geometry, threads) // 8 + 8,), np.float64)
    aligned = scratch.view(np.uint8)
    aligned = aligned[-aligned.ctypes.data % 64 :][: row.scratch_bytes(geometry, threads)]
    one, two, three = geometry.canonical(
        data.first if first is None else first,
        data.second if second is None else second,
        out,
        data.family,
    )
    function(one, two, data.bias, three, geometry.problem, aligned, data.activation, threads)
    assert_guarded(buffer)
    assert_guarded(around)
    return out


def check_conv(
    function: Callable[..., None], row: Kernel, case: ConvCase, dtype: str, tier: str, last: bool
) -> None:
    """Assert that a row's function computes the case."""
    data = conv_data(row.family, case, dtype, tier, last)
    inputs = data.first.copy(), data.second.copy(), data.bias.copy()
    result = run_conv(function, row, data)
    tolerance = data.tolerance
    if dtype in row.rounded:
        tolerance = tolerance + TF32_ERROR * data.absolute
    assert_within(result, data.expected, tolerance)
    for before, after in zip(inputs, (data.first, data.second, data.bias), strict=True):
        np.testing.assert_array_equal(before, after, "the kernel changed an input")


def assert_within(result: Array, expected: Array, tolerance: Array) -> None:
    """Elementwise ``|result - expected| <= tolerance``; NaN only where NaN is expected."""
    wrong = result != expected
    if result.dtype.kind != "i":
        result = result.astype(np.float64)
        error = abs(result.astype(np.float64) - expected)
        wrong &= ~((error <= tolerance) | (np.isnan(result) & np.isnan(expected)))
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {wrong.size} values are wrong, the first at "
        f"{np.argwhere(wrong)[0]}: {result[wrong][0]} instead of {expected[wrong][0]}"
    )


@dataclass(frozen=True)
class PoolData:
    """The array of a case, its geometry, and the results that the reference gives: of the pooling,
    and of its adjoint at ``grad``."""

    x: Array
    grad: Array
    geometry: PoolGeometry
    expected: Array
    indices: Array | None
    tolerance: Array
    adjoint: Array
    adjoint_tolerance: Array


@cache
def pool_data(case: PoolCase, reduction: str, dtype: str, tier: str, last: bool) -> PoolData:
    """Make a case's array (ties and NaN among its values for "max") and what is expected of it."""
    x = _values(case.input, dtype, tier, 4)
    if reduction == "max" and tier == "bound":
        x[np.random.default_rng(5).random(x.shape) < 0.03] = np.nan
    if last:
        x = channels_last(x)
    rank = len(case.input) - 2
    made = PoolGeometry.of if case.kernel else PoolGeometry.of_adaptive
    window = {"kernel_size": case.kernel} if case.kernel else {}
    geometry = made(
        x, reduction, **window, rank=rank, layout=layout_names(rank, last), **case.arguments
    )
    indices = np.empty(geometry.out_shape, np.int64) if reduction == "max" else None
    expected = _reference_pool(x, indices, geometry)
    grad = _values(geometry.out_shape, dtype, tier, 7)
    adjoint = _reference_pool_grad(grad, indices, geometry)
    tolerance, adjoint_tolerance = np.zeros(expected.shape), np.zeros(adjoint.shape)
    taps, real = int(np.prod(geometry.kernel)), dtype != "int64"
    if reduction == "mean" and real:
        tolerance = error_bound(
            expected, abs(_reference_pool(abs(x), None, geometry)), taps, x.dtype
        )
    if real and (reduction == "mean" or tier == "bound"):
        # At most as many windows as taps have a place in common.
        absolute = abs(_reference_pool_grad(abs(grad), indices, geometry))
        adjoint_tolerance = error_bound(adjoint, absolute, taps, x.dtype)
    return PoolData(x, grad, geometry, expected, indices, tolerance, adjoint, adjoint_tolerance)


def _reference_pool(x: Array, indices: Array | None, geometry: PoolGeometry) -> Array:
    out = np.empty(geometry.out_shape, np.int64 if x.dtype.kind == "i" else np.float64)
    flat = None if indices is None else geometry.canonical(indices)
    reference.pool(geometry.canonical(x), geometry.canonical(out), flat, geometry, 1)
    return out


def _reference_pool_grad(grad: Array, indices: Array | None, geometry: PoolGeometry) -> Array:
    out = np.empty(geometry.input.shape)
    flat = None if indices is None else geometry.canonical(indices)
    reference.pool_grad(geometry.canonical(grad), flat, geometry.canonical(out), geometry, 1)
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


def check_pool_grad(
    function: Callable[..., None], case: PoolCase, reduction: str, dtype: str, tier: str, last: bool
) -> None:
    """Assert that a row's function computes the case's adjoint, also from the input if it can."""
    data = pool_data(case, reduction, dtype, tier, last)
    geometry = data.geometry
    calls = [(function, None if data.indices is None else geometry.canonical(data.indices))]
    if reduction == "max" and hasattr(function, "of_input"):
        calls.append((function.of_input, geometry.canonical(data.x)))
    for call, second in calls:
        out, buffer = guarded(geometry.input.shape, geometry.dtype)
        call(geometry.canonical(data.grad), second, geometry.canonical(out), geometry, 1)
        assert_guarded(buffer)
        assert_within(out, data.adjoint, data.adjoint_tolerance)
