"""Every row of GPUs on every case: on a GPU, or as compiled PTX behind the driver's stand-in
(``python tests/fake_cuda -m pytest tests/test_cuda_rows.py``), or in Numba's simulator.

Each case meets each row once, in a dtype, tier and layout that go round from case to case;
``CNNFAST_GPU_CASES=all`` has ``test_conformance`` try all of them.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from cnnfast.kernels import KERNELS, Kernel
from cnnfast.kernels.registry import load_row

import cases
import conformance as suite

pytestmark = [
    # The simulator computes with NumPy's numbers, whose overflows and NaN warn.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def rows_of(*families: str) -> list[Kernel]:
    return [row for row in KERNELS if row.engine == "numba_cuda" and row.family in families]


def rounds(row: Kernel) -> list[tuple[str, str, bool]]:
    """Dtype, tier and layout of case after case."""
    dtypes = [*row.dtypes, *row.stored]
    combined = product(dtypes, suite.TIERS, (False, True))
    exact_alone = {"int64"}
    # 16 bits don't hold the sums of the exact tier.
    bound_alone = set(row.stored)
    return [
        (dtype, tier, last)
        for dtype, tier, last in combined
        if dtype not in (exact_alone if tier == "bound" else bound_alone)
    ]


def parameters(families: tuple[str, ...], every: list[Any]) -> list[Any]:
    """Row, case, dtype, tier, layout; neighbouring cases differ in all three."""
    made = []
    for row in rows_of(*families):
        combined = rounds(row)
        step = 5 if len(combined) % 5 else 7
        for i, case in enumerate(every):
            dtype, tier, last = combined[i * step % len(combined)]
            name = f"{suite.row_name(row)}-{dtype}-{tier}-{'last' if last else 'first'}"
            label = getattr(case, "name", None) or f"{case[1]} {case[0].name}"
            mark = suite.skip_if_missing(row)
            made.append(
                pytest.param(row, case, dtype, tier, last, id=f"{name}-{label}", marks=mark)
            )
    return made


POOLINGS = [
    (case, reduction)
    for reduction, special in (("max", cases.MAX_CASES), ("mean", cases.MEAN_CASES))
    for case in (*cases.POOL_CASES, *special)
]


@pytest.mark.parametrize(
    ("row", "case", "dtype", "tier", "last"),
    parameters(suite.CONV_FAMILIES, list(cases.CONV_CASES)),
)
def test_conv(row: Kernel, case: cases.ConvCase, dtype: str, tier: str, last: bool) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    suite.check_conv(load_row(row), row, case, dtype, tier, last)


@pytest.mark.parametrize(("row", "case", "dtype", "tier", "last"), parameters(("pool",), POOLINGS))
def test_pool(
    row: Kernel, case: tuple[cases.PoolCase, str], dtype: str, tier: str, last: bool
) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    suite.check_pool(load_row(row), *case, dtype, tier, last)


@pytest.mark.parametrize(
    ("row", "case", "dtype", "tier", "last"), parameters(("pool_grad",), POOLINGS)
)
def test_pool_grad(
    row: Kernel, case: tuple[cases.PoolCase, str], dtype: str, tier: str, last: bool
) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    suite.check_pool_grad(load_row(row), *case, dtype, tier, last)
