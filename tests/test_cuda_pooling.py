"""Poolings of GPUs and their adjoints: in Numba's simulator, else as PTX in the PTX machine; and
what the compiler makes of them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from cnnfast import PoolGeometry

import conformance as suite
from cases import MAX_CASES, MEAN_CASES, POOL_CASES, PoolCase
from functions import dtype_of

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from cnnfast.kernels import reference
from cnnfast.kernels.numba_cuda import _pool_windows as windows
from cnnfast.kernels.numba_cuda import pooling as rows
from cnnfast.kernels.numba_cuda.pool_grad import pool_grad
from cnnfast.kernels.numba_cuda.program import PoolCall, Program

import gpu_rows as gpu

Array = np.ndarray[Any, Any]

#: What a window without places gives in the simulator, as on a GPU.
pytestmark = [
    pytest.mark.sampled,
    pytest.mark.filterwarnings("ignore:.*(divide by zero|invalid value):RuntimeWarning"),
]

SIMULATED = gpu.simulated()
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DTYPES = (*EPS, "int64")
#: What a kernel may rely on for threads: few, so that small shapes get the strips of large ones.
FEW = 0

runs = pytest.mark.skipif(
    not SIMULATED and find_spec("ptx_machine") is None,
    reason="neither NUMBA_ENABLE_CUDASIM=1 nor the PTX machine",
)
compiles = pytest.mark.skipif(
    SIMULATED or gpu.tool("ptxas") is None, reason="the simulator compiles nothing, or no ptxas"
)
layouts = pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])

#: Shapes that vectors fit, so that all of the paths of small and of whole windows are taken.
STRIPS = (
    PoolCase("3x3/2, padded, strips", (2, 8, 7, 16), 3, {"stride": 2, "padding": 1}),
    PoolCase("3x3/2, strips", (1, 8, 9, 16), 3, {"stride": 2}),
    PoolCase("3x3/1, strips", (2, 8, 7, 8), 3, {"stride": 1, "padding": 1}),
    PoolCase("2x2/2, strips", (2, 8, 6, 16), 2),
    PoolCase("2x2/1, strips", (1, 8, 5, 16), 2, {"stride": 1, "padding": 1}),
    PoolCase("ceil_mode, strips", (1, 8, 6, 24), 3, {"stride": 2, "ceil_mode": True}),
    PoolCase("uneven", (1, 8, 6, 16), (3, 2), {"stride": (1, 2), "padding": [(1, 0), (0, 1)]}),
    PoolCase("3d, strips", (1, 8, 5, 6, 8), 3, {"stride": 2, "padding": 1}),
    PoolCase("odd width", (2, 8, 7, 15), 3, {"stride": 2, "padding": 1}),
    PoolCase("odd width, behind the last", (1, 8, 6, 9), 2, {"stride": 2, "padding": 1}),
    PoolCase("whole, vectors", (3, 8, 8, 8), 8),
    PoolCase("whole, padded", (3, 8, 7, 6), (8, 7), {"padding": 1}),
    PoolCase("whole, large", (1, 3, 24, 27), 0, {"output_size": 1}),
    PoolCase("whole, 3d", (2, 8, 3, 4, 5), 0, {"output_size": 1}),
    PoolCase("whole, 24 channels", (1, 24, 4, 6), 0, {"output_size": 1}),
)  # fmt: skip
NOT_COUNTING = {"count_include_pad": False}
STRIPS_OF_MEANS = (
    PoolCase("strips, not counting", (2, 8, 7, 16), 3, {"stride": 2, "padding": 1, **NOT_COUNTING}),
    PoolCase("strips, ceil_mode", (1, 8, 7, 16), 3, {"stride": 1, "padding": 1, "ceil_mode": True}),
    PoolCase("strips, divisor", (1, 8, 6, 8), 2, {"divisor_override": -3}),
    PoolCase("whole, not counting", (3, 8, 7, 6), (8, 7), {"padding": 1, **NOT_COUNTING}),
)  # fmt: skip


def poolings(cases: Any, of_max: Any, of_means: Any) -> list[Any]:
    pairs = [("max", (*cases, *of_max)), ("mean", (*cases, *of_means))]
    return [
        pytest.param(case, reduction, id=f"{case.name}-{reduction}")
        for reduction, several in pairs
        for case in several
    ]


def geometry_of(case: PoolCase, reduction: str, last: bool) -> PoolGeometry:
    rank = len(case.input) - 2
    shape = (case.input[0], *case.input[2:], case.input[1]) if last else case.input
    made = PoolGeometry.of if case.kernel else PoolGeometry.of_adaptive
    window = {"kernel_size": case.kernel} if case.kernel else {}
    layout = suite.layout_names(rank, last)
    return made(shape, reduction, **window, rank=rank, layout=layout, **case.arguments)


def call_of(
    geometry: PoolGeometry, first: Array, out: Array, indices: Array | None = None
) -> PoolCall:
    """The call of five-axis views."""
    views = (first, out) if indices is None else (first, out, indices)
    aligned = tuple(view.ctypes.data % 16 == 0 for view in (*views, out)[:3])
    strides: Any = [gpu.strides_of(view) for view in views]
    return rows.call_of(geometry, first.dtype.name, *strides, aligned=aligned)  # type: ignore[arg-type]


def run(program: Program, first: Array, out: Array, indices: Array | None) -> None:
    if out.size:
        given = {} if indices is None else {"indices": indices}
        gpu.run(program, first=first, out=out, **given)


def values(case: PoolCase, shape: Any, reduction: str, dtype: str, tier: str) -> Array:
    """Ties and, among others, NaN for maxima."""
    real = dtype if dtype in ("float64", "int64") else "float32"
    x = suite._values(tuple(shape), real, tier, 4)
    if reduction == "max" and tier == "bound":
        x[np.random.default_rng(5).random(x.shape) < 0.03] = np.nan
    return x.astype(dtype_of(dtype))


def assert_guarded(buffer: Array) -> None:
    """No canary was touched; bfloat16 has its own."""
    canary = buffer.dtype.type(suite.CANARY)
    assert (buffer[:64] == canary).all()
    assert (buffer[-64:] == canary).all()


def check(
    case: PoolCase, reduction: str, dtype: str, tier: str, last: bool, enough: int = rows.ENOUGH
) -> None:
    """A pooling with and without indices, and its adjoint, and nothing written beside them."""
    geometry = geometry_of(case, reduction, last)
    x = values(case, geometry.input.shape, reduction, dtype, tier)
    wide = np.int64 if dtype == "int64" else np.float64
    expected, found = np.empty(geometry.out_shape, wide), np.empty(geometry.out_shape, np.int64)
    flat = geometry.canonical(found) if reduction == "max" else None
    canonical = geometry.canonical
    reference.pool(canonical(x.astype(wide)), canonical(expected), flat, geometry, 1)
    bound = np.zeros(expected.shape)
    taps = int(np.prod(geometry.kernel))
    accumulated = EPS["float64" if dtype == "float64" else "float32"]
    if reduction == "mean" and dtype != "int64":
        absolute = np.empty(geometry.out_shape)
        reference.pool(canonical(abs(x.astype(wide))), canonical(absolute), None, geometry, 1)
        bound = EPS[dtype] * abs(expected) + (taps + 2) * accumulated * abs(absolute)
    for with_indices in (False, True)[: 1 + (reduction == "max")]:
        out, buffer = suite.guarded(geometry.out_shape, x.dtype)
        places, around = suite.guarded(geometry.out_shape, np.int64)
        views = canonical(x), canonical(out), canonical(places) if with_indices else None
        run(rows.pool(call_of(geometry, *views), enough), *views)
        assert_guarded(buffer)
        assert_guarded(around)
        suite.assert_within(out.astype(wide), expected, bound)
        if with_indices:
            np.testing.assert_array_equal(places, found)
    if dtype != "int64":
        check_grad(case, geometry, dtype, tier, found, enough)


def check_grad(
    case: PoolCase, geometry: PoolGeometry, dtype: str, tier: str, found: Array, enough: int
) -> None:
    canonical, mean = geometry.canonical, geometry.reduction == "mean"
    grad = values(case, geometry.out_shape, "mean", dtype, tier)
    places = None if mean else canonical(found)
    expected, absolute = np.empty(geometry.input.shape), np.empty(geometry.input.shape)
    wide = grad.astype(np.float64)
    reference.pool_grad(canonical(wide), places, canonical(expected), geometry, 1)
    reference.pool_grad(canonical(abs(wide)), places, canonical(absolute), geometry, 1)
    accumulated = EPS["float64" if dtype == "float64" else "float32"]
    bound = np.zeros(expected.shape)
    if mean or tier == "bound" or EPS[dtype] > accumulated:
        bound = EPS[dtype] * abs(expected)
        bound += (int(np.prod(geometry.kernel)) + 2) * accumulated * abs(absolute)
    out, buffer = suite.guarded(geometry.input.shape, grad.dtype)
    views = canonical(grad), canonical(out), places
    run(pool_grad(call_of(geometry, *views), enough), *views)
    assert_guarded(buffer)
    suite.assert_within(out.astype(np.float64), expected, bound)


@runs
@layouts
@pytest.mark.parametrize(("case", "reduction"), poolings(POOL_CASES, MAX_CASES, MEAN_CASES))
@pytest.mark.parametrize("tier", suite.TIERS)
def test_cases(case: PoolCase, reduction: str, tier: str, last: bool) -> None:
    check(case, reduction, "float32", tier, last)


@runs
@layouts
@pytest.mark.parametrize(("case", "reduction"), poolings(STRIPS, (), STRIPS_OF_MEANS))
def test_strips_and_whole_inputs(case: PoolCase, reduction: str, last: bool) -> None:
    check(case, reduction, "float32", "bound", last, FEW)


@runs
@layouts
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "float32"])
@pytest.mark.parametrize(
    ("case", "reduction"),
    poolings((POOL_CASES[1], POOL_CASES[15], STRIPS[0], STRIPS[2], STRIPS[8]), (), MEAN_CASES[2:3]),
)
def test_dtypes(case: PoolCase, reduction: str, dtype: str, last: bool) -> None:
    check(case, reduction, dtype, "exact" if dtype == "int64" else "bound", last, FEW)


@runs
@pytest.mark.parametrize("view", ["reversed", "steps", "repeated", "transposed"])
@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_any_strides(reduction: str, view: str) -> None:
    base = suite._values((2, 3, 8, 8), "float32", "exact", 3)
    x = {
        "reversed": base[:, ::-1, ::-1, ::-1],
        "steps": np.repeat(base, 2, axis=3)[:, :, :, ::2],
        "repeated": np.broadcast_to(base[:, :1], base.shape),
        "transposed": base.transpose(0, 1, 3, 2),
    }[view]
    geometry = PoolGeometry.of(x.shape, reduction, 3, stride=2, padding=1)
    out, found = np.empty((2, 4, 4, 3), np.float32), np.empty((2, 4, 4, 3), np.int64)
    expected, places = np.empty(geometry.out_shape), np.empty(geometry.out_shape, np.int64)
    target, indices = np.moveaxis(out, -1, 1), np.moveaxis(found, -1, 1)
    of_max = reduction == "max"
    five = [geometry.canonical(array) for array in (x, target, indices, expected, places)]
    reference.pool(five[0], five[3], five[4] if of_max else None, geometry, 1)
    views = five[0], five[1], five[2] if of_max else None
    run(rows.pool(call_of(geometry, *views)), *views)
    suite.assert_within(target, expected, 1e-6 * abs(expected) if not of_max else 0 * expected)
    if of_max:
        np.testing.assert_array_equal(indices, places)
    # The adjoint, from and to such arrays.
    summed, wanted = np.empty((8, 2, 3, 8), np.float32), np.empty(x.shape)
    summed_view = summed.transpose(1, 2, 0, 3)[:, :, ::-1]
    back = geometry.canonical(summed_view)
    reference.pool_grad(five[1].astype(float), views[2], geometry.canonical(wanted), geometry, 1)
    run(pool_grad(call_of(geometry, five[1], back, views[2])), five[1], back, views[2])
    np.testing.assert_allclose(summed_view, wanted, rtol=1e-5, atol=1e-5)


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "case", [POOL_CASES[2], STRIPS[2], STRIPS[8], MAX_CASES[2]], ids=lambda c: c.name
)
def test_maxima_of_special_values(case: PoolCase, last: bool) -> None:
    # NaN wins, the last of several; of zeros the first, with its sign; minus infinity has a place.
    random = np.random.default_rng(3)
    pool = np.array([np.nan, -0.0, 0.0, -np.inf, -np.inf, -np.inf, -1.0], np.float32)
    geometry = geometry_of(case, "max", last)
    x = pool[random.integers(0, pool.size, geometry.input.shape)]
    for chosen in (x, np.where(np.isnan(x), -np.inf, x), np.full_like(x, -np.inf)):
        given = np.ascontiguousarray(chosen.astype(np.float32))
        results = []
        for with_indices in (False, True):
            out = np.empty(geometry.out_shape, np.float32)
            found = np.empty(geometry.out_shape, np.int64)
            expected, places = out.copy(), found.copy()
            arrays = [geometry.canonical(array) for array in (given, out, found, expected, places)]
            reference.pool(arrays[0], arrays[3], arrays[4], geometry, 1)
            views = arrays[0], arrays[1], arrays[2] if with_indices else None
            run(rows.pool(call_of(geometry, *views), FEW), *views)
            np.testing.assert_array_equal(out, expected)
            np.testing.assert_array_equal(np.signbit(out[out == 0]), np.signbit(expected[out == 0]))
            if with_indices:
                np.testing.assert_array_equal(found, places)
            results.append(out)
        np.testing.assert_array_equal(*results)


@runs
def test_indices_that_are_no_places_get_nothing() -> None:
    geometry = PoolGeometry.of((1, 8, 4, 8), "max", 2)
    grad = np.ones(geometry.out_shape, np.float32)
    indices = np.full(geometry.out_shape, -1, np.int64)
    indices[:, ::2] = 2**32
    indices[0, 0, 0, 0] = 0
    out = np.full((1, 8, 4, 8), np.nan, np.float32)
    views = [geometry.canonical(array) for array in (grad, out, indices)]
    run(pool_grad(call_of(geometry, *views)), *views)
    assert out[0, 0, 0, 0] == 1
    assert out.sum() == 1


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 112, 2**20 - 1, 2**30 + 1, 2**31 - 1])
def test_division_by_multiplying(divisor: int) -> None:
    multiplier, shift = windows.magic(divisor)
    assert 0 < multiplier < 2**32
    for base in (0, divisor, 2**31 // divisor * divisor, 2**31 - 1):
        for number in range(max(base - 2, 0), min(base + 2, 2**31)):
            assert number * multiplier >> shift == number // divisor


def test_wide_windows_are_computed_in_64_bits() -> None:
    def kind(size: int, outputs: int) -> str:
        geometry = PoolGeometry.of_adaptive((1, 1, size), "mean", outputs, rank=1)
        strides: Any = (size, size, size, size, 1)
        return windows.kind_of(rows.call_of(geometry, "float32", strides, strides))

    assert kind(1001, 10) == "adaptive"
    assert kind(2**20, 2**12 - 1) == "wide"


@runs
def test_wide_windows() -> None:
    geometry = PoolGeometry.of_adaptive((1, 1, 9), "mean", 4, rank=1)
    x, out, expected = np.arange(9.0), np.empty((1, 1, 4)), np.empty((1, 1, 4))
    five = [geometry.canonical(array) for array in (x.reshape(1, 1, 9), out, expected)]
    call = call_of(geometry, five[0], five[1])
    program = rows.pool(call)
    launch = program.launches[0]
    constants = tuple("wide" if part == "adaptive" else part for part in launch.entry.constants)
    launch = launch._replace(entry=launch.entry._replace(constants=constants))
    run(Program((launch,)), five[0], five[1], None)
    reference.pool(five[0], five[2], None, geometry, 1)
    np.testing.assert_allclose(out, expected, rtol=1e-15)


def dense(
    shape: tuple[int, ...], reduction: str, kernel: int, dtype: str, last: bool, indices: bool,
    adjoint: bool, **arguments: Any,
) -> PoolCall:  # fmt: skip
    """The call of C-contiguous arrays of a layout."""
    case = PoolCase("", shape, kernel, arguments)
    geometry = geometry_of(case, reduction, last)

    def strides(*extents: int) -> Any:
        _, c, d, h, w = extents
        if last:
            return d * h * w * c, 1, h * w * c, w * c, c
        return c * d * h * w, d * h * w, h * w, w, 1

    inner, outer = (strides(*shape[:2], *size) for size in (geometry.size, geometry.output))
    first, out = (outer, inner) if adjoint else (inner, outer)
    return rows.call_of(geometry, dtype, first, out, outer if indices else None)


LAYER = (32, 64, 112, 112)
#: Of layers in use: kernel, arguments, and how a maximum's adjoint is called.
LAYERS = {
    "max 3x3/2": (LAYER, "max", 3, {"stride": 2, "padding": 1}),
    "max 2x2/2": (LAYER, "max", 2, {}),
    "mean 3x3/2": (LAYER, "mean", 3, {"stride": 2, "padding": 1}),
    "mean 3x3/1": (LAYER, "mean", 3, {"stride": 1, "padding": 1, "count_include_pad": False}),
    "max 3x3/1": (LAYER, "max", 3, {"stride": 1, "padding": 1}),
    "mean 7x7": ((32, 2048, 7, 7), "mean", 7, {}),
    "max 8x8": ((32, 2048, 8, 8), "max", 8, {}),
    "max 2x2x2": ((8, 64, 16, 56, 56), "max", 2, {}),
}


#: A dtype and a target, and the layers that are enough for it.
COMPILED = [
    pytest.param(layer, dtype, target, id=f"{layer}-{dtype}-sm_{''.join(map(str, target))}")
    for dtype, target, layers in (
        ("float32", (9, 0, "a"), tuple(LAYERS)),
        ("float32", (8, 0), ("max 3x3/2", "max 3x3/1", "mean 3x3/1", "mean 7x7")),
        ("float16", (9, 0, "a"), ("max 3x3/2", "max 3x3/1", "mean 3x3/1", "mean 7x7")),
    )
    for layer in layers
]


@compiles
@layouts
@pytest.mark.parametrize(("layer", "dtype", "target"), COMPILED)
def test_compiles_without_spills(layer: str, dtype: str, last: bool, target: Any) -> None:
    from cnnfast.kernels.numba_cuda.compiler import ptx_of

    shape, reduction, kernel, arguments = LAYERS[layer]
    of_max = reduction == "max"
    forward = [
        dense(shape, reduction, kernel, dtype, last, i, False, **arguments) for i in (False, True)
    ]
    adjoint = dense(shape, reduction, kernel, dtype, last, of_max, True, **arguments)
    for program in (*map(rows.pool, forward[: 1 + of_max]), pool_grad(adjoint)):
        entry = program.launches[0].entry
        found = gpu.report(entry, target)
        assert found["spills"] == found["reloads"] == found["stack"] == 0
        assert found["shared"] <= 49152
        assert not found["warnings"]
        text, _ = ptx_of(entry, target)
        if entry.build.__name__ in ("build_strips", "build_grad_strips"):
            assert re.search(r"(ld|st)\.global\.v4\.[bfu]32", text)


@compiles
def test_uncommon_windows_compile_without_spills() -> None:
    for dtype in DTYPES:
        call = dense((2, 3, 40, 41), "max", 5, dtype, False, True, False, dilation=2)
        calls = [call, dense((2, 3, 40, 41), "mean", 0, dtype, True, False, False, output_size=7)]
        programs = [rows.pool(call) for call in calls]
        if dtype != "int64":
            adjoint = dense((2, 3, 40, 41), "mean", 0, dtype, True, False, True, output_size=7)
            programs.append(pool_grad(adjoint))
        for program in programs:
            found = gpu.report(program.launches[0].entry)
            assert found["spills"] == found["reloads"] == found["stack"] == 0
