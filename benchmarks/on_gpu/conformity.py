"""Every row of the table on the tests' cases, in device memory, poisoned and guarded."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from cnnfast.benchmarks.on_gpu import buffers
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal, Skip
from cnnfast.benchmarks.workloads import Array
from cnnfast.kernels.registry import KERNELS, Kernel, load_row, row_missing

CONVS = ("fprop", "dgrad", "wgrad")
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64")
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
    """The table's rows on a GPU that this one can run."""
    return [row for row in KERNELS if row.engine == "numba_cuda" and row_missing(row) is None]


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
    return [dtype for dtype in DTYPES if dtype in (*row.dtypes, *row.stored)]


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
                work = partial(check, row, case, reduction, dtype)
                journal.run(item, work, f"{row.family} {row.name} {dtype}")


def check(row: Kernel, case: Any, reduction: str, dtype: str) -> Facts:
    """Assert that a row computes a case, in both layouts and in the tiers that its dtype has."""
    # 16 bits don't hold the sums of the exact tier.
    tiers = {"int64": ("exact",), "float16": ("bound",), "bfloat16": ("bound",)}
    runs = 0
    for last in (False, True):
        for tier in tiers.get(dtype, ("exact", "bound")):
            if row.family in CONVS:
                runs += _conv(row, case, dtype, tier, last)
            else:
                runs += _pool(row, case, reduction, dtype, tier, last)
    return {"runs": runs}


def _conv(row: Kernel, case: Any, dtype: str, tier: str, last: bool) -> int:
    from cnnfast.kernels.numba_cuda import device

    tests, _ = suite()
    data = tests.conv_data(row.family, case, dtype, tier, last)
    if 0 in data.shape:
        return 0
    geometry, bias = data.geometry, data.bias
    out = np.empty(data.shape, data.first.dtype)
    views = geometry.canonical(data.first, data.second, out, row.family)
    problem, function = geometry.problem, load_row(row)
    program = device.conv_program(function, problem, views, bool(bias.size), data.activation)
    operands = dict(zip(("first", "second", "out"), views, strict=True))
    if bias.size:
        operands["bias"] = bias
    result = buffers.run(program, operands, ("out",))["out"]
    rounding = tests.TF32_ERROR * data.absolute if dtype in row.rounded else 0.0
    canonical = geometry.operands(row.family)[2].canonical
    tests.assert_within(result, canonical(data.expected), canonical(data.tolerance + rounding))
    return 1


def _pool(row: Kernel, case: Any, reduction: str, dtype: str, tier: str, last: bool) -> int:
    tests, _ = suite()
    data = tests.pool_data(case, reduction, dtype, tier, last)
    if data.x.size == 0:
        return 0
    forward, canonical = row.family == "pool", data.geometry.canonical
    expected = data.expected if forward else data.adjoint
    tolerance = data.tolerance if forward else data.adjoint_tolerance
    first = canonical(data.x if forward else data.grad)
    choices = (False, True) if forward and reduction == "max" else (reduction == "max",)
    for with_indices in choices:
        indices = canonical(np.array(data.indices)) if with_indices else None
        found = _pooled(row, data.geometry, first, np.empty(expected.shape, first.dtype), indices)
        tests.assert_within(found["out"], canonical(expected), canonical(tolerance))
        if forward and indices is not None:
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
