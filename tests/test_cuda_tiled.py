"""Tiled convolution on CUDA cores, run without a GPU (``gpu_rows``) on the named cases."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numba_cuda")

from cnnfast.kernels.numba_cuda import tiled

from cases import CONV_CASES, ConvCase
from conformance import TIERS, assert_guarded, assert_within, conv_data, guarded
from gpu_rows import conv_call, run


def check(
    row: Any, family: str, case: ConvCase, dtype: str, tier: str, last: bool
) -> list[Any] | None:
    """Assert that a row computes the case; the machine's counters."""
    data = conv_data(family, case, dtype, tier, last)
    out, buffer = guarded(data.shape, data.geometry.dtype)
    views = data.geometry.canonical(data.first, data.second, out, family)
    call = conv_call(data.geometry.problem, *views, bias=case.bias, activation=case.activation)
    counts = run(row(call), first=views[0], second=views[1], bias=data.bias, out=views[2])
    assert_guarded(buffer)
    assert_within(out, data.expected, data.tolerance)
    return counts


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("family", ["fprop", "dgrad"])
@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.name)
def test_cases(case: ConvCase, family: str, tier: str, last: bool) -> None:
    check(getattr(tiled, family), family, case, "float32", tier, last)
