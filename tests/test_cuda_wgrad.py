"""The weight gradients of GPUs: in Numba's simulator on a tile of one warp, else as PTX at the tiles
that they run with; and what the compiler makes of them."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import conformance as suite
from cases import CONV_CASES, ConvCase
from functions import dtype_of

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from cnnfast.kernels.numba_cuda import wgrad as rows
from cnnfast.kernels.numba_cuda.program import ConvCall
from cnnfast.kernels.numba_cuda.wgrad_tile import Tile
from cnnfast.kernels.problem import ConvProblem

import gpu_rows as gpu

Array = np.ndarray[Any, Any]

SIMULATED = gpu.simulated()
TINY = Tile(16, 16, 4, 2)
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DTYPES = tuple(EPS)

runs = pytest.mark.skipif(
    not SIMULATED and find_spec("ptx_machine") is None,
    reason="neither NUMBA_ENABLE_CUDASIM=1 nor the PTX machine",
)
compiles = pytest.mark.skipif(
    SIMULATED or shutil.which("ptxas") is None, reason="the simulator compiles nothing, or no ptxas"
)


def problem_of(
    n: int, c: int, k: int, size: int, kernel: int, stride: int = 1, pad: int = 0
) -> ConvProblem:
    out = (size + 2 * pad - kernel) // stride + 1
    return ConvProblem(
        n, 1, c, k, 1, size, size, 1, kernel, kernel, 1, out, out, 1, stride, stride, 1, 1, 1,
        0, pad, pad,
    )  # fmt: skip


def dense_call(problem: ConvProblem, last: bool, dtype: str = "float32") -> ConvCall:
    """The call of C-contiguous arrays of a layout."""
    shapes = (
        (problem.n, problem.g * problem.c, *problem.size),
        (problem.n, problem.g * problem.k, *problem.output),
        (problem.g * problem.k, problem.c, *problem.kernel),
    )
    strides = []
    for shape, order in zip(shapes, ((0, 2, 3, 4, 1),) * 2 + ((2, 3, 4, 1, 0),), strict=True):
        step, found = 1, [0] * 5
        for axis in reversed(order if last else range(5)):
            found[axis] = step
            step *= shape[axis]
        strides.append(tuple(found))
    return ConvCall(problem, dtype, *strides)  # type: ignore[arg-type]


def cut_of(problem: ConvProblem, slices: int) -> rows.Cut | None:
    """One warp's tile for the simulator, and as many slices as are asked for (0: the row's own)."""
    if not slices and not SIMULATED:
        return None
    tile = TINY if SIMULATED else rows.cut(problem, "float32").tile
    return rows._sliced(problem, tile, max(slices, 1))


def check(
    case: ConvCase, dtype: str, tier: str, last: bool, slices: int = 0, cut: Any = None
) -> None:
    """A case's weight gradient, exactly or within the bound, nothing written beside it."""
    stored, real = dtype_of(dtype), "float64" if dtype == "float64" else "float32"
    data = suite.conv_data("wgrad", case, real, tier, last)
    x, grad = (array.astype(stored) for array in (data.first, data.second))
    wide = [array.astype(np.float64) for array in (x, grad)]
    expected = suite.reference_conv("wgrad", *wide, data.bias, data.geometry, 0)
    tolerance = EPS[dtype] * abs(expected) if dtype in ("float16", "bfloat16") else 0.0
    if tier == "bound":
        absolute = suite.reference_conv("wgrad", *map(abs, wide), data.bias, data.geometry, 0)
        length = suite.length("wgrad", data.geometry)
        tolerance = EPS[dtype] * abs(expected) + (length + 2) * EPS[real] * absolute
    out, buffer = suite.guarded(data.shape, stored)
    one, two, three = data.geometry.canonical(x, grad, out, "wgrad")
    problem = data.geometry.problem
    program = rows.wgrad(gpu.conv_call(problem, one, two, three), cut or cut_of(problem, slices))
    gpu.run(program, first=one, second=two, out=three)
    suite.assert_guarded(buffer)
    if tier == "exact":
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out, expected.astype(stored))
    else:
        error = abs(out.astype(np.float64) - expected)
        assert (error <= tolerance).all()


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("tier", suite.TIERS)
def test_cases(case: ConvCase, last: bool, tier: str) -> None:
    check(case, "float32", tier, last)
