"""Transposed convolutions that repeat: launchers of their phases give what the row gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast._core import recall
from cnnfast._core.prepared import PreparedConv
from cnnfast.kernels.registry import engine_missing

pytestmark = pytest.mark.skipif(
    engine_missing("cython_cpu") is not None, reason="no compiled engine"
)
Array = np.ndarray[Any, Any]

RANDOM = np.random.default_rng(3)
#: Weight's extents and arguments; whether the phases are fprops of views.
CASES: dict[str, tuple[tuple[int, ...], dict[str, Any], bool]] = {
    "one phase": ((24, 20, 3, 3), {}, True),
    "one phase, padded": ((24, 20, 3, 3), {"padding": 1}, True),
    "four phases": ((24, 20, 4, 4), {"stride": 2, "padding": 1}, True),
    "dilated": ((24, 20, 3, 3), {"dilation": 2, "padding": 2}, True),
    "places that nothing reads": ((24, 20, 1, 1), {"stride": 2}, False),
    "phases together": ((24, 20, 2, 2), {"stride": 2}, False),
    "groups": ((24, 4, 3, 3), {"groups": 4}, False),
}


@pytest.mark.parametrize("infinite", [False, True])
@pytest.mark.parametrize("backend", ["tiled/cython", "im2col/cython", "direct/cython"])
@pytest.mark.parametrize("case", CASES)
def test_same_as_the_row(
    case: str, backend: str, infinite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "_calls", {})
    shape, arguments, on_views = CASES[case]
    x = RANDOM.standard_normal((2, 24, 6, 5)).astype(np.float32)
    weight = RANDOM.standard_normal(shape).astype(np.float32)
    bias = np.arange(shape[1] * arguments.get("groups", 1), dtype=np.float32)
    results = [
        cnnfast.conv_transpose2d(x, weight, bias, **arguments, backend=backend) for _ in range(3)
    ]
    (call,) = recall._calls.values()
    if backend != "direct/cython":
        assert isinstance(call, PreparedConv) != on_views
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    if infinite:
        weight[3, 2, 0, 0] = np.inf
    expected = cnnfast.conv_transpose2d(x, weight, bias, **arguments, backend="reference")
    out = np.empty_like(expected)
    with np.errstate(invalid="ignore"):
        for target in (None, out, out):
            found = cnnfast.conv_transpose2d(
                x, weight, bias, **arguments, backend=backend, out=target
            )
            assert target is None or found is target
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
