"""Convolution on tensor cores, run without a GPU (``gpu_rows``) on the named cases."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from cnnfast import ConvGeometry
from cnnfast.kernels import reference
from cnnfast.kernels.numba_cuda import tensor, tensor_wgrad, wgmma
from cnnfast.kernels.numba_cuda._tensor_tile import Tile
from cnnfast.kernels.numba_cuda.program import ConvCall
from cnnfast.kernels.problem import ACTIVATION_CODES, ConvProblem

from cases import CONV_CASES, ConvCase
from conformance import channels_last, layout_names
from conformance import length as length_of
from gpu_rows import conv_call, run, simulated

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.sampled

SIMULATED = simulated()

#: Bits that an operand and a result have.
OPERAND_BITS = {"float16": 11, "bfloat16": 8, "float32": 11}
RESULT_BITS = {"float16": 11, "bfloat16": 8, "float32": 24}


def stored(values: Array, dtype: str) -> Array:
    """float64 values as they are stored: bfloat16 as its bits."""
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)


def numbers(values: Array, dtype: str) -> Array:
    """What stored values stand for, in float64."""
    if dtype != "bfloat16":
        return values.astype(np.float64)
    return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def random(shape: tuple[int, ...], exact: bool, seed: int) -> Array:
    generator = np.random.default_rng([seed, *shape])
    if exact:
        return generator.integers(-4, 5, shape).astype(np.float64)
    return generator.standard_normal(shape)


def check(
    case: ConvCase,
    dtype: str,
    exact: bool,
    last: bool,
    family: str = "fprop",
    infinite: bool = False,
    rows: Any = tensor,
) -> Any:
    """Assert that the row computes a case: exactly, or as well as float32 sums can."""
    x = stored(random(case.input, exact, 1), dtype)
    weight = stored(random(case.weight, exact, 2), dtype)
    if infinite:
        weight.flat[:: weight.size // 3 + 1] = stored(np.array(np.inf), dtype)
    if last:
        x = channels_last(x)
    layout = layout_names(len(case.weight) - 2, last)
    like = np.lib.stride_tricks.as_strided(np.float32(0), x.shape, (0,) * x.ndim)
    flat = np.lib.stride_tricks.as_strided(np.float32(0), case.weight, (0,) * weight.ndim)
    if last:
        weight = np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2)))
        flat = np.moveaxis(flat, (0, 1), (-1, -2))
    geometry = ConvGeometry.of(like, flat, layout=layout, **case.arguments)
    grad = stored(random(geometry.out_shape, exact, 6), dtype)
    first, second = {"fprop": (x, weight), "dgrad": (grad, weight), "wgrad": (x, grad)}[family]
    channels = geometry.in_channels if family == "dgrad" else geometry.out_channels
    if family == "wgrad":
        case = replace(case, bias=False, activation=None)
    bias = stored(random((channels,), exact, 3), dtype)
    out = stored(np.full(geometry.operands(family)[2].shape, np.nan), dtype)
    views = geometry.canonical(first, second, out, family)
    call = conv_call(geometry.problem, *views, bias=case.bias, activation=case.activation)._replace(
        dtype=dtype
    )
    program = getattr(rows, family)(call)
    if family != "dgrad":
        bound = getattr(rows, f"{family}_scratch_bound", rows.scratch_bound)
        assert program.scratch_bytes <= bound(geometry.problem, dtype)
    counts = run(program, first=views[0], second=views[1], bias=bias, out=views[2])
    expected, tolerance = _expected(geometry, first, second, bias, case, dtype, exact, family)
    result = numbers(out, dtype)
    with np.errstate(invalid="ignore"):
        wrong = ~(abs(result - expected) <= tolerance) & (result != expected)
    wrong &= ~(np.isnan(result) & np.isnan(expected))
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {wrong.size} values are wrong, the first at "
        f"{np.argwhere(wrong)[0]}: {result[wrong][0]} instead of {expected[wrong][0]}"
    )
    return counts


def _expected(
    geometry: ConvGeometry, first: Array, weight: Array, bias: Array, case: ConvCase,
    dtype: str, exact: bool, family: str,
) -> tuple[Array, Array]:  # fmt: skip
    """The reference's result and how far from it a sum in float32 may be: operands are off by
    their bits (tf32 cuts one of them off), each addition of products by 2**-23 of the sum of
    absolute values (tensor cores don't round to nearest), the result by its own bits."""
    values, filters = numbers(first, dtype), numbers(weight, dtype)
    added = numbers(bias, dtype)[: None if case.bias else 0]
    code = ACTIVATION_CODES[case.activation]

    def of(one: Array, two: Array, three: Array, activation: int) -> Array:
        out = np.empty(geometry.operands(family)[2].shape)
        views = geometry.canonical(one, two, out, family)
        function = getattr(reference, family)
        function(views[0], views[1], three, views[2], geometry.problem, None, activation, 1)
        return out

    expected = of(values, filters, added, code)
    if exact:
        rounded = numbers(stored(expected, dtype), dtype)
        return rounded, np.zeros(expected.shape)
    absolute = of(abs(values), abs(filters), abs(added), 0)
    length = length_of(family, geometry)
    operands = 2.0**-11 + 2.0**-10 if dtype == "float32" else 0.0
    return expected, (
        2.0 ** -RESULT_BITS[dtype] * abs(expected) + (operands + (length + 2) * 2.0**-23) * absolute
    )


runs = pytest.mark.skipif(
    not SIMULATED and find_spec("ptx_machine") is None,
    reason="neither NUMBA_ENABLE_CUDASIM=1 nor the PTX machine",
)
as_ptx = pytest.mark.skipif(
    SIMULATED or find_spec("ptx_machine") is None, reason="needs the PTX machine"
)
BY_NAME = {case.name: case for case in CONV_CASES}
#: What the simulator is quick enough for: everything that there is in the kernels.
SIMULATED_CASES = ("relu", "no bias", "size 1", "stride per axis", "asymmetric padding", "1x1")
named = pytest.mark.parametrize(
    "case", [BY_NAME[name] for name in SIMULATED_CASES], ids=lambda case: case.name
)
every_case = pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.name)
both_layouts = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
ROWS = pytest.mark.parametrize("rows", [tensor, wgmma], ids=["mma", "wgmma"])


@runs
@both_layouts
@named
def test_fprop_is_exact(case: ConvCase, last: bool) -> None:
    check(case, "float16", True, last)


@runs
def test_fprop_by_warpgroups_is_exact() -> None:
    check(BY_NAME["size 1"], "float16", True, last=True, rows=wgmma)


@runs
@pytest.mark.parametrize("name", ["no bias", "stride > kernel"])
def test_dgrad_is_exact(name: str) -> None:
    check(BY_NAME[name], "float16", True, True, "dgrad")


@runs
@pytest.mark.parametrize("name", ["no bias", "stride per axis"])
def test_wgrad_is_exact(name: str) -> None:
    check(BY_NAME[name], "float16", True, True, "wgrad", rows=tensor_wgrad)


@runs
def test_wgrad_by_warpgroups_is_exact() -> None:
    check(BY_NAME["size 1"], "float16", True, True, "wgrad", rows=wgmma)


@runs
def test_parts_of_the_reduction_add_up() -> None:
    case = ConvCase("split", (1, 70, 3, 3), (9, 70, 3, 3))
    check(case, "float16", True, last=False)


@as_ptx
@both_layouts
@every_case
def test_fprop_as_ptx_at_the_tiles_it_runs_with(case: ConvCase, last: bool) -> None:
    check(case, "float16", True, last)


def _in_turn(case: ConvCase) -> bool:
    """A layout for a case, each of them for half of all."""
    return CONV_CASES.index(case) % 2 == 0


@as_ptx
@every_case
def test_fprop_by_warpgroups_as_ptx(case: ConvCase) -> None:
    check(case, "float16", True, _in_turn(case), rows=wgmma)


@as_ptx
@every_case
def test_dgrad_as_ptx(case: ConvCase) -> None:
    check(case, "float16", True, _in_turn(case), "dgrad")


@as_ptx
@every_case
def test_wgrad_as_ptx(case: ConvCase) -> None:
    check(case, "float16", True, _in_turn(case), "wgrad", rows=tensor_wgrad)


@as_ptx
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["primes", "3d, everything"])
def test_wgrad_of_random_numbers_is_within_the_bound(name: str, dtype: str) -> None:
    check(BY_NAME[name], dtype, False, True, "wgrad", rows=tensor_wgrad)


@as_ptx
@ROWS
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["plain", "groups", "7x7/2", "1x1", "3d, everything"])
def test_other_dtypes_as_ptx(name: str, dtype: str, rows: Any) -> None:
    check(BY_NAME[name], dtype, True, last=True, rows=rows)
    check(BY_NAME[name], dtype, True, last=False, family="dgrad", rows=rows)


@as_ptx
@ROWS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("name", ["long reduction", "many of both"])
def test_random_numbers_are_within_the_bound(name: str, dtype: str, rows: Any) -> None:
    check(BY_NAME[name], dtype, False, last=True, rows=rows)


@as_ptx
@pytest.mark.parametrize("family", ["fprop", "wgrad"])
@pytest.mark.parametrize(
    "tile", [*tensor.TILES, *wgmma.TILES], ids=lambda t: f"{t.pixels}x{t.channels}x{t.wide}"
)
def test_each_tile_as_ptx(tile: Tile, family: str) -> None:
    """More than one along every axis, and steps of the reduction more than are in flight."""
    tiles = (tile,)
    rows = SimpleNamespace(
        fprop=partial(tensor.fprop, tiles=tiles),
        scratch_bound=partial(tensor.scratch_bound, tiles=tiles),
        wgrad=partial(tensor_wgrad.wgrad, tiles=tiles),
        wgrad_scratch_bound=partial(tensor_wgrad.scratch_bound, tiles=tiles),
    )
    case = ConvCase("each tile", (2, 40, 12, 13), (264, 40, 3, 3), {"padding": 1})
    check(case, "float16", True, last=True, family=family, rows=rows)


@as_ptx
@ROWS
@pytest.mark.parametrize("channels", [(16, 24), (64, 64), (72, 136), (8, 264)])
def test_wide_channels_as_they_lie(channels: tuple[int, int], rows: Any) -> None:
    """Read without packing and stored in chunks; more out-channels than a tile has."""
    c, k = channels
    case = ConvCase("wide channels", (2, c, 9, 10), (k, c, 3, 3), {"padding": 1})
    check(case, "float16", True, last=True, rows=rows)
    check(case, "float16", True, last=True, family="dgrad", rows=rows)


@as_ptx
@both_layouts
@pytest.mark.parametrize("name", ["padded", "stride per axis", "padding > kernel"])
def test_infinite_weights_of_a_dgrad_meet_no_padding(name: str, last: bool) -> None:
    check(BY_NAME[name], "float16", True, last, "dgrad", infinite=True)


@as_ptx
@ROWS
@pytest.mark.parametrize("infinite", [False, True])
def test_phases_share_a_packed_gradient(infinite: bool, rows: Any) -> None:
    case = ConvCase(
        "phases", (2, 6, 9, 11), (16, 3, 3, 3), {"stride": 2, "padding": 1, "groups": 2}
    )
    check(case, "float16", True, False, "dgrad", infinite=infinite, rows=rows)


@as_ptx
def test_views_are_read_and_written_where_they_are() -> None:
    """Negative and great strides, and channels that don't begin at a multiple of 16 bytes."""
    rng = np.random.default_rng(8)
    everything = rng.integers(-4, 5, (3, 20, 9, 17)).astype(np.float16)
    x = everything[::-2, 1:17, ::-1, ::2]
    weight = rng.integers(-4, 5, (5, 16, 3, 3)).astype(np.float16)[::-1]
    kept = np.full((2, 7, 7, 9), np.float16(-7))
    out = kept[:, 1:6, :, 7::-1][..., :7]
    lifted = [np.expand_dims(each, 2) for each in (x, weight, out)]
    problem = ConvProblem(2, 1, 16, 5, 1, 9, 9, 1, 3, 3, 1, 7, 7, 1, 1, 1, 1, 1, 1, 0, 0, 0)
    call = conv_call(problem, *lifted)
    run(tensor.fprop(call), first=lifted[0], second=lifted[1], out=lifted[2])
    expected = np.zeros(lifted[2].shape)
    wide = [each.astype(np.float64) for each in lifted[:2]]
    reference.fprop(*wide, np.empty(0), expected, problem, np.empty(0, np.uint8), 0, 1)
    np.testing.assert_array_equal(lifted[2], expected.astype(np.float16))
    out[...] = -7
    assert (kept == -7).all(), "written beside out"


def test_what_32_bits_cannot_index_is_refused() -> None:
    """One channel of 300 million is filled up to eight."""
    problem = ConvProblem(3, 1, 1, 8, 1, 10**4, 10**4, 1, 1, 1, 1, 1, 1, *[1] * 6, 0, 0, 0)
    assert not tensor.fits(problem, "float16")
    assert tensor.fits(problem, "float32")
    call = ConvCall(problem, "float16", (10**8, 10**8, 0, 10**4, 1), (1,) * 5, (8, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="2147483648 elements"):
        tensor.fprop(call)
