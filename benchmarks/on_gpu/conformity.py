"""Every row of the table on the tests' cases, in device memory, poisoned and guarded."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnfast.benchmarks.on_gpu import buffers
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal, Skip
from cnnfast.benchmarks.on_gpu.layers import MODES, dtype_of
from cnnfast.benchmarks.workloads import Array
from cnnfast.kernels.registry import KERNELS, Kernel, load_row

CONVS = ("fprop", "dgrad", "wgrad")
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64")
HALVES = {mode.dtype: mode.eps for mode in MODES.values() if mode.itemsize == 2}
TF32_BOUND = 2.0**-9
#: What a sanitizer, which slows kernels down a hundredfold, is given: names of the tests' cases.
SWEEP = (
    "padded", "groups", "depthwise", "primes", "1x1", "7x7/2", "dilation", "stride > kernel",
    "many of both", "3d, everything", "3x3/2, padded", "overlapping", "global", "adaptive",
)  # fmt: skip
#: Cases of a dry run, which the tests' machine takes seconds for.
DRY = ("plain", "depthwise", "2x2")


def suite() -> tuple[Any, Any]:
    """The tests' modules."""
    try:
        return importlib.import_module("conformance"), importlib.import_module("cases")
    except ImportError as error:
        raise Skip(f"the tests' cases aren't here: {error}") from None


def rows() -> list[Kernel]:
    """The table's rows on a GPU."""
    return [row for row in KERNELS if row.engine == "numba_cuda"]


def cases_of(row: Kernel, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, str]]:
    """The cases of a row: a name, the case, and a pooling's reduction."""
    _, cases = suite()
    if row.family in CONVS:
        found = [(case.name, case, "") for case in cases.CONV_CASES]
    else:
        found = [
            (f"{reduction} {case.name}", case, reduction)
            for reduction, special in (("max", cases.MAX_CASES), ("mean", cases.MEAN_CASES))
            for case in (*cases.POOL_CASES, *special)
        ]
    yield from (entry for entry in found if not names or entry[1].name in names)


def dtypes_of(row: Kernel) -> list[str]:
    """The dtypes that a row takes, those of most interest first."""
    taken = (*row.dtypes, *row.stored)
    integers = row.family != "pool_grad"
    return [dtype for dtype in DTYPES if dtype in taken and (integers or dtype != "int64")]


def run(journal: Journal, dry: bool) -> None:
    """All cases of all rows, a dtype after the other."""
    every(journal, DRY if dry else (), DTYPES)


def sweep(journal: Journal, dry: bool) -> None:
    """The few that a sanitizer looks at."""
    every(journal, DRY[:1] if dry else SWEEP, ("float32", "float16"))


def every(journal: Journal, names: tuple[str, ...], dtypes: tuple[str, ...]) -> None:
    """The cases of these names, or all, in these dtypes."""
    for dtype in dtypes:
        for row in rows():
            if dtype not in dtypes_of(row):
                continue
            for name, case, reduction in cases_of(row, names):
                item = f"{row.family} {row.name} {dtype}: {name}"
                journal.run(item, lambda r=row, c=case, m=reduction, d=dtype: check(r, c, m, d))


def check(row: Kernel, case: Any, reduction: str, dtype: str) -> Facts:
    """Assert that a row computes a case, in both layouts and in the tiers that its dtype has."""
    tiers = ("exact",) if dtype == "int64" or dtype in HALVES else ("exact", "bound")
    runs = 0
    for last in (False, True):
        for tier in tiers:
            if row.family in CONVS:
                runs += _conv(row, case, dtype, tier, last)
            else:
                runs += _pool(row, case, reduction, dtype, tier, last)
    return {"runs": runs}


def _conv(row: Kernel, case: Any, dtype: str, tier: str, last: bool) -> int:
    from cnnfast.kernels.numba_cuda import device

    tests, _ = suite()
    base = "float32" if dtype in HALVES else dtype
    data = tests.conv_data(row.family, case, base, tier, last)
    if 0 in data.shape:
        return 0
    stored, geometry = dtype_of(dtype), data.geometry
    first, second, bias = (a.astype(stored) for a in (data.first, data.second, data.bias))
    views = geometry.canonical(first, second, np.empty(data.shape, stored), row.family)
    problem, function = geometry.problem, load_row(row)
    program = device.conv_program(function, problem, views, bool(bias.size), data.activation)
    operands = dict(zip(("first", "second", "out"), views, strict=True))
    if bias.size:
        operands["bias"] = bias
    result = buffers.run(program, operands, ("out",))["out"]
    result_of = geometry.operands(row.family)[2].canonical
    tolerance = data.tolerance
    if tier == "bound" and row.rounded:
        eps, length = np.finfo(base).eps, tests.length(row.family, geometry)
        absolute = (tolerance / eps - abs(data.expected)) / (length + 2)
        tolerance = tolerance + TF32_BOUND * absolute
    # Integers held in 16 bits are exact, and so is their sum before it is rounded once.
    expected = data.expected.astype(stored) if dtype in HALVES else data.expected
    _compare(result, result_of(expected), result_of(tolerance))
    return 1


def _pool(row: Kernel, case: Any, reduction: str, dtype: str, tier: str, last: bool) -> int:
    tests, _ = suite()
    base = "float32" if dtype in HALVES else dtype
    data = tests.pool_data(case, reduction, base, tier, last)
    if data.x.size == 0:
        return 0
    of_input = row.family == "pool"
    expected = data.expected if of_input else data.adjoint
    tolerance = data.tolerance if of_input else data.adjoint_tolerance
    if reduction == "mean":
        tolerance = tolerance + HALVES.get(dtype, 0.0) * abs(expected)
    canonical = data.geometry.canonical
    first = canonical((data.x if of_input else data.grad).astype(dtype_of(dtype)))
    choices = (False, True) if of_input and reduction == "max" else (reduction == "max",)
    for with_indices in choices:
        indices = canonical(np.array(data.indices)) if with_indices else None
        found = _pooled(row, data.geometry, first, np.empty(expected.shape, first.dtype), indices)
        _compare(found["out"], canonical(expected), canonical(tolerance))
        if of_input and indices is not None:
            np.testing.assert_array_equal(found["indices"], indices)
    return len(choices)


def _pooled(
    row: Kernel, geometry: Any, first: Array, out: Array, indices: Array | None
) -> dict[str, Array]:
    from cnnfast.kernels.numba_cuda import device

    operands = {"first": first, "out": geometry.canonical(out)}
    if indices is not None:
        operands["indices"] = indices
    program = device.pool_program(load_row(row), geometry, list(operands.values()))
    written = ("out", "indices") if row.family == "pool" else ("out",)
    return buffers.run(program, operands, tuple(name for name in written if name in operands))


def _compare(result: Array, expected: Array, tolerance: Array) -> None:
    """The tests' assertion, for dtypes that NumPy doesn't know as well."""
    if result.dtype.kind not in "if":
        result, expected = result.astype(np.float32), expected.astype(np.float32)
    suite()[0].assert_within(result, expected, tolerance)
