"""Direct convolution on GPUs: the paths that only some shapes take, in Numba's simulator or, as
PTX, in the PTX machine; and what the compiler makes of them. ``test_cuda_rows`` has every case."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from cnnfast import ConvGeometry
from cnnfast.kernels.problem import ACTIVATION_CODES, ConvProblem

import conformance as suite
from cases import ConvCase

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from cnnfast.kernels.numba_cuda import direct, direct_depthwise, direct_depthwise_last
from cnnfast.kernels.numba_cuda import direct_wgrad as gradients
from cnnfast.kernels.numba_cuda.program import ConvCall, Program

import gpu_rows as gpu

Array = np.ndarray[Any, Any]

pytestmark = [pytest.mark.sampled, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
SIMULATED = gpu.simulated()
runs = pytest.mark.skipif(
    not SIMULATED and find_spec("ptx_machine") is None,
    reason="neither NUMBA_ENABLE_CUDASIM=1 nor the PTX machine",
)
compiles = pytest.mark.skipif(
    SIMULATED or gpu.tool("ptxas") is None, reason="the simulator compiles nothing, or no ptxas"
)
NAMES = {code: name for name, code in ACTIVATION_CODES.items()}
ROWS = {"fprop": direct.fprop, "dgrad": direct.dgrad, "wgrad": direct.wgrad}

HALVED = {"padding": 1, "stride": 2}
#: Shapes that vectors of channels fit, and rows that they don't.
DEPTHWISE = (
    ConvCase("3x3", (2, 8, 7, 9), (8, 1, 3, 3), {"groups": 8, "padding": 1}),
    ConvCase("3x3/2", (1, 4, 9, 8), (4, 1, 3, 3), {**HALVED, "groups": 4}, activation="relu"),
    ConvCase("5x5", (1, 4, 19, 6), (4, 1, 5, 5), {"groups": 4, "padding": 2}, bias=False),
    ConvCase("2x2, padding > kernel", (1, 4, 5, 3), (4, 1, 2, 2), {"groups": 4, "padding": 3}),
    ConvCase("dilated row", (1, 4, 6, 11), (4, 1, 1, 3), {"groups": 4, "dilation": (1, 2)}),
    ConvCase("multiplier 2", (2, 4, 6, 5), (8, 1, 3, 3), {"groups": 4, "padding": 1}),
)  # fmt: skip
SLICED = (
    ConvCase("depthwise", (2, 3, 40, 43), (3, 1, 3, 3), {"groups": 3, "padding": 1}),
    ConvCase("few channels", (5, 2, 40, 43), (5, 2, 5, 5), {"padding": 2, "stride": 2}),
)


def kernels_of(program: Program) -> set[str]:
    return {launch.entry.build.__name__ for launch in program.launches}


def result_of(family: str, geometry: ConvGeometry, *arrays: Array, code: int = 0) -> Array:
    """What a row makes of arrays (first, second, bias) in the user's layout."""
    first, second, bias = arrays
    shape = geometry.operands(family)[2].shape
    out = np.full(shape, -7 if first.dtype.kind == "i" else np.nan, first.dtype)
    one, two, three = geometry.canonical(first, second, out, family)
    given = {"bias": bool(bias.size), "activation": NAMES[code]}
    call = gpu.conv_call(geometry.problem, one, two, three, **given)
    gpu.run(ROWS[family](call), first=one, second=two, bias=bias, out=three)
    return out


def check(family: str, case: ConvCase, dtype: str, tier: str, last: bool) -> None:
    data = suite.conv_data(family, case, dtype, tier, last)
    arrays = data.first, data.second, data.bias
    result = result_of(family, data.geometry, *arrays, code=data.activation)
    suite.assert_within(result, data.expected, data.tolerance)


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("family", suite.CONV_FAMILIES)
@pytest.mark.parametrize("case", DEPTHWISE, ids=lambda case: case.name)
def test_depthwise(case: ConvCase, family: str, last: bool) -> None:
    check(family, case, "float32", "exact", last)


@runs
@pytest.mark.parametrize("shape", [(3, 5, 7, 7), (2, 3, 14, 14), (1, 7, 5, 9)], ids=str)
def test_several_strips_of_a_block(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As large batches of small planes have them."""
    monkeypatch.setattr(direct_depthwise, "MIN_BLOCKS", 1)
    case = ConvCase("", shape, (shape[1], 1, 3, 3), {"groups": shape[1], "padding": 1})
    for family in ("fprop", "dgrad"):
        geometry = suite.conv_data(family, case, "float32", "exact", False).geometry
        assert direct_depthwise.cut(geometry.problem, 4).strips > 1
        check(family, case, "float32", "exact", False)


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
def test_depthwise_of_other_dtypes(dtype: str, last: bool) -> None:
    for family in suite.CONV_FAMILIES:
        check(family, DEPTHWISE[0], dtype, "exact" if dtype == "int64" else "bound", last)


@runs
@pytest.mark.skipif(SIMULATED, reason="minutes in the simulator")
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", SLICED, ids=lambda case: case.name)
def test_slices_of_pixels(case: ConvCase, last: bool) -> None:
    data = suite.conv_data("wgrad", case, "float32", "bound", last)
    assert gradients.cut(data.geometry.problem, "float32", last).slices > 1
    check("wgrad", case, "float32", "bound", last)


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 2], ids=["depthwise", "groups"])
def test_infinite_weights(channels: int, last: bool) -> None:
    """Over padding they make NaN; what an output that isn't there would give they don't meet."""
    weight = (8, channels, 3, 3)
    case = ConvCase("", (1, 8, 5, 6), weight, {"groups": 8 // channels, "padding": 1}, bias=False)
    for family in ("fprop", "dgrad"):
        data = suite.conv_data(family, case, "float32", "exact", last)
        infinite, none = np.full_like(data.second, np.inf), np.empty(0, np.float32)
        ones = np.ones_like(data.first)
        expected = suite.reference_conv(family, ones, infinite, none, data.geometry, 0)
        assert np.isnan(expected).any() == (family == "fprop")
        result = result_of(family, data.geometry, ones, infinite, none)
        np.testing.assert_array_equal(result, expected)


@runs
@pytest.mark.parametrize("groups", [1, 4])
def test_any_strides(groups: int) -> None:
    """Views that are reversed, that skip, and that repeat an element."""
    generator = np.random.default_rng(0)
    x = generator.integers(-4, 5, (2, 8, 6, 15)).astype(np.float32)[:, ::-2, ::-1, 1::2]
    weight = generator.integers(-4, 5, (4, 4 // groups, 3, 1)).astype(np.float32)
    weight = np.broadcast_to(weight[::-1], (4, 4 // groups, 3, 2))
    geometry = ConvGeometry.of(x, weight, groups=groups, padding=1)
    none = np.empty(0, np.float32)
    expected = suite.reference_conv("fprop", x, weight, none, geometry, 0)
    np.testing.assert_array_equal(result_of("fprop", geometry, x, weight, none), expected)


def depthwise_call(
    shape: tuple[int, int, int], taps: int, stride: int, last: bool = False, **given: Any
) -> ConvCall:
    """The call of a square depthwise layer with "same" padding."""
    (n, c, h), pad = shape, taps // 2
    p = (h + 2 * pad - taps) // stride + 1
    steps = (stride, stride, 1, 1, 1, 0, pad, pad)
    problem = ConvProblem(n, c, 1, 1, 1, h, h, 1, taps, taps, 1, p, p, 1, *steps)

    def strides(extent: int) -> tuple[int, ...]:
        if last:
            return c * extent**2, 1, c * extent**2, c * extent, c
        return c * extent**2, extent**2, extent**2, extent, 1

    weight = (1, 1, taps**2 * c, taps * c, c) if last else (taps**2,) * 3 + (taps, 1)
    return ConvCall(problem, "float32", strides(h), weight, strides(p), **given)  # type: ignore[arg-type]


def test_which_kernel_takes_what() -> None:
    strips, vectors = {"build_strips"}, {"build_channels"}
    call = depthwise_call((32, 32, 112), 3, 1)
    assert kernels_of(direct.fprop(call)) == strips
    assert kernels_of(direct.dgrad(call)) == strips
    assert kernels_of(direct.fprop(call._replace(aligned=(False, True, True)))) != strips
    assert kernels_of(direct.fprop(depthwise_call((32, 32, 112), 3, 2, last=True))) == vectors
    assert kernels_of(direct.fprop(depthwise_call((32, 30, 112), 3, 1, last=True))) != vectors
    assert kernels_of(direct.fprop(depthwise_call((1, 1, 5000), 7, 1))) == {"build_general"}


def test_enough_blocks() -> None:
    """The work of a batch of 1 is cut finer, down to two blocks for each multiprocessor."""
    for n in (1, 32):
        for shape, stride in (((n, 32, 112), 1), ((n, 64, 112), 2), ((n, 512, 14), 1)):
            (launch,) = direct.fprop(depthwise_call(shape, 3, stride)).launches
            assert launch.grid[0] >= direct.MIN_BLOCKS - 10
            assert launch.entry.shared <= direct_depthwise.MOST_BYTES


#: What must compile well: the layers that are bound by memory, and the kernels of everything.
GENERAL = ConvProblem(32, 1, 3, 64, 1, 56, 56, 1, 3, 3, 1, 56, 56, 1, 1, 1, 1, 1, 1, 0, 1, 1)
GENERAL_STRIDES = {
    "first": (3 * 3136, 3136, 3136, 56, 1),
    "second": (27, 9, 9, 3, 1),
    "out": (64 * 3136, 3136, 3136, 56, 1),
}
PROGRAMS = {
    "strips 3x3": lambda: direct.fprop(depthwise_call((32, 32, 112), 3, 1)),
    "strips 3x3/2": lambda: direct.fprop(depthwise_call((32, 64, 112), 3, 2)),
    "strips 5x5": lambda: direct.fprop(depthwise_call((32, 96, 56), 5, 1)),
    "strips dgrad": lambda: direct.dgrad(depthwise_call((32, 32, 112), 3, 1)),
    "vectors 3x3": lambda: direct.fprop(depthwise_call((32, 32, 112), 3, 1, last=True)),
    "vectors 3x3/2": lambda: direct.fprop(depthwise_call((32, 64, 112), 3, 2, last=True)),
    "wgrad": lambda: direct.wgrad(depthwise_call((32, 32, 112), 3, 1)),
    "wgrad, last": lambda: direct.wgrad(depthwise_call((32, 32, 112), 3, 1, last=True)),
    **{
        f"general {dtype}": lambda dtype=dtype: direct.fprop(
            ConvCall(GENERAL, dtype, bias=True, activation="relu", **GENERAL_STRIDES)
        )
        for dtype in ("float32", "float64", "int64", "bfloat16")
    },
}


@compiles
@pytest.mark.parametrize("target", [(9, 0, "a"), (8, 0)], ids=["sm_90a", "sm_80"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiles_to_registers_alone(name: str, target: tuple[Any, ...]) -> None:
    for launch in PROGRAMS[name]().launches:
        found = gpu.report(launch.entry, target)
        assert found["spills"] == found["reloads"] == found["stack"] == 0
        assert found["shared"] + launch.entry.shared <= 49152
        sass = found["sass"]
        if sass is not None and name.startswith(("strips", "vectors")):
            wide = "LDGSTS.E.BYPASS.128" if name.startswith("strips") else "LDG.E.128"
            assert any(instruction.startswith(wide) for instruction in sass)
            # A number of any other size would be one that isn't unrolled, or done twice.
            problem = launch.args[4]
            rows = launch.entry.constants[2] if "strips" in name else launch.entry.constants[1].rows
            sums = rows * (1 if "strips" in name else direct_depthwise_last.COLUMNS * 4)
            products = sum(count for text, count in sass.items() if text.startswith("FFMA"))
            assert products == sums * math.prod(problem.kernel)
