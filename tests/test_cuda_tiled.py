"""Tiled and im2col convolution on CUDA cores: in Numba's simulator on tiles of one warp, else as
PTX at the tiles that they run with; and what the compiler makes of them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import conformance as suite
from cases import CONV_CASES, ConvCase
from functions import dtype_of

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from numba import cuda, float32, int32

from cnnfast.kernels.numba_cuda import direct, im2col, tensor, tiled
from cnnfast.kernels.numba_cuda.phases import dgrad_of
from cnnfast.kernels.numba_cuda.program import At, Entry, Launch, Program
from cnnfast.kernels.numba_cuda.tiles import STEP, TABLE, pack, tile_functions
from cnnfast.kernels.problem import ConvProblem

import gpu_rows as gpu

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.sampled

SIMULATED = gpu.simulated()
runs = pytest.mark.skipif(
    not SIMULATED and find_spec("ptx_machine") is None,
    reason="neither NUMBA_ENABLE_CUDASIM=1 nor the PTX machine",
)
as_ptx = pytest.mark.skipif(
    SIMULATED or find_spec("ptx_machine") is None, reason="needs the PTX machine"
)
compiles = pytest.mark.skipif(
    SIMULATED or gpu.tool("ptxas") is None, reason="the simulator compiles nothing, or no ptxas"
)
BY_NAME = {case.name: case for case in CONV_CASES}
both_layouts = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
TILES = tiled.TILES["float32"]
#: A tile of each dtype that the simulator is quick enough for.
SMALLEST = {dtype: tiles[-1][0] for dtype, tiles in tiled.TILES.items()}


def in_tiles_of(tile: Any, slices: int = 1) -> Any:
    """The tiled row with a tile and so many slices."""

    def fprop(call: Any, skips_padding: bool = False) -> Any:
        made = tiled.cut_into(call.problem, tile, slices)
        return tiled.fprop(call, skips_padding, made)

    return fprop


def check(
    row: Any, family: str, case: ConvCase, dtype: str, tier: str, last: bool,
    infinite: bool = False,
) -> list[Any] | None:  # fmt: skip
    """A case exactly or within the bound, nothing written beside it; the machine's counters."""
    stored, real = dtype_of(dtype), "float64" if dtype == "float64" else "float32"
    data = suite.conv_data(family, case, real, tier, last)
    first, second, bias = (each.astype(stored) for each in (data.first, data.second, data.bias))
    if infinite:
        second.flat[:: second.size // 3 + 1] = np.inf
        first[first == 0] = 1
    wide = [each.astype(np.float64) for each in (first, second, bias)]
    expected = suite.reference_conv(family, *wide, data.geometry, data.activation)
    tolerance = EPS[dtype] * abs(expected) * (dtype != real)
    if tier == "bound":
        absolute = suite.reference_conv(family, *map(abs, wide), data.geometry, 0)
        length = suite.length(family, data.geometry)
        tolerance = EPS[dtype] * abs(expected) + (length + 2) * EPS[real] * absolute
    out, buffer = suite.guarded(data.shape, stored)
    views = data.geometry.canonical(first, second, out, family)
    problem = data.geometry.problem
    call = gpu.conv_call(problem, *views, bias=case.bias, activation=case.activation)
    counts = gpu.run(row(call), first=views[0], second=views[1], bias=bias, out=views[2])
    suite.assert_guarded(buffer)
    if tier == "exact":
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out, expected.astype(stored))
    else:
        assert (abs(out.astype(np.float64) - expected) <= tolerance).all()
    return counts


@runs
@both_layouts
@pytest.mark.parametrize("name", ["no bias", "relu6", "size 1", "stride per axis", "1x1"])
def test_fprop_is_exact(name: str, last: bool) -> None:
    check(tiled.fprop, "fprop", BY_NAME[name], "float32", "exact", last)


@runs
def test_dgrad_and_columns_are_exact() -> None:
    check(tiled.dgrad, "dgrad", BY_NAME["no bias"], "float32", "exact", last=True)
    check(im2col.fprop, "fprop", BY_NAME["relu"], "float32", "exact", last=False)


@runs
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes_are_exact(dtype: str) -> None:
    check(tiled.fprop, "fprop", BY_NAME["no bias"], dtype, "exact", last=False)


@runs
@both_layouts
def test_slices_add_up(last: bool) -> None:
    row = in_tiles_of(SMALLEST["float32"], slices=3)
    check(row, "fprop", ConvCase("sliced", (1, 20, 2, 3), (4, 20, 2, 1)), "float32", "exact", last)


@runs
@pytest.mark.filterwarnings("ignore:invalid value")  # of the simulator's threads
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("rows", [tiled, im2col], ids=["tiled", "im2col"])
def test_infinite_weights_of_a_dgrad_meet_no_padding(rows: Any, slices: int) -> None:
    case = ConvCase("infinite", (1, 2, 4, 5), (10, 2, 3, 3), {"padding": 1})
    row = rows.dgrad
    if rows is tiled:
        inner = in_tiles_of(SMALLEST["float32"], slices)
        row = dgrad_of(lambda call: inner(call, True))
    with np.errstate(all="ignore"):
        check(row, "dgrad", case, "float32", "exact", last=False, infinite=True)


@as_ptx
@pytest.mark.parametrize("family", ["fprop", "dgrad"])
@both_layouts
@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.name)
def test_cases_as_ptx(case: ConvCase, last: bool, family: str) -> None:
    for tier in suite.TIERS:
        check(getattr(tiled, family), family, case, "float32", tier, last)


@as_ptx
@pytest.mark.parametrize("family", ["fprop", "dgrad"])
@pytest.mark.parametrize("name", ["padded", "groups", "7x7/2", "3d, everything", "batch 0"])
def test_columns_as_ptx(name: str, family: str) -> None:
    check(getattr(im2col, family), family, BY_NAME[name], "float32", "exact", last=False)


@as_ptx
def test_columns_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images, of planes, and of rows."""
    case = ConvCase("chunks", (2, 3, 4, 5, 6), (4, 3, 2, 3, 2), {"padding": 1, "stride": 2})
    column = 3 * 12 * 4
    for outputs in (36, 12, 4, 1):
        monkeypatch.setattr(im2col, "CHUNK_BYTES", column * outputs)
        check(im2col.fprop, "fprop", case, "float32", "exact", last=False)


WIDE = (
    ConvCase("steps of a tap", (1, 16, 12, 12), (132, 16, 3, 3), {"padding": 1}),
    ConvCase("channels to spare", (2, 13, 9, 7), (70, 13, 2, 3), {"padding": 1, "stride": 2}),
    ConvCase("flat", (1, 3, 15, 16), (130, 3, 3, 3), {"padding": 1}, activation="relu"),
)


@as_ptx
@both_layouts
@pytest.mark.parametrize("case", WIDE, ids=lambda case: case.name)
@pytest.mark.parametrize("tile", [tile for tile, _ in TILES], ids=lambda t: f"{t.rows}x{t.columns}")
def test_every_tile_as_ptx(tile: Any, case: ConvCase, last: bool) -> None:
    check(in_tiles_of(tile), "fprop", case, "float32", "exact", last)


@as_ptx
@both_layouts
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("case", [*WIDE[::2], BY_NAME["many of both"]], ids=lambda case: case.name)
def test_other_dtypes_as_ptx(case: ConvCase, dtype: str, last: bool) -> None:
    for tier in suite.TIERS:
        check(tiled.fprop, "fprop", case, dtype, tier, last)


@as_ptx
def test_views_are_read_and_written_where_they_are() -> None:
    """Negative, zero and great strides; channels that don't begin at a multiple of 16 bytes."""
    rng = np.random.default_rng(8)
    everything = rng.integers(-4, 5, (3, 20, 1, 9, 17)).astype(np.float32)
    x = everything[::-2, 1:17, :, ::-1, ::2]
    weight = np.broadcast_to(rng.integers(-4, 5, (5, 16, 1, 3, 1)), (5, 16, 1, 3, 3))
    weight = weight.astype(np.float32)[::-1, :, :, ::-1]
    kept = np.full((2, 7, 1, 7, 9), np.float32(-7))
    out = kept[:, 1:6, :, :, 7::-1][..., :7]
    problem = ConvProblem(2, 1, 16, 5, 1, 9, 9, 1, 3, 3, 1, 7, 7, 1, 1, 1, 1, 1, 1, 0, 0, 0)
    expected = np.zeros(out.shape)
    for r in range(3):
        for s in range(3):
            window = x[..., r : r + 7, s : s + 7].astype(float)
            expected += np.einsum("ncohw,kc->nkohw", window, weight[:, :, 0, r, s])
    for rows in (tiled, im2col):
        gpu.run(rows.fprop(gpu.conv_call(problem, x, weight, out)), first=x, second=weight, out=out)
        np.testing.assert_array_equal(out, expected)
        assert (kept[:, [0, 6]] == -7).all()
        assert (kept[..., [0, 8]] == -7).all()
        out[...] = 0


@runs
@pytest.mark.parametrize(
    "rows", [tiled, im2col, direct, tensor], ids=lambda rows: rows.__name__[27:]
)
def test_a_dgrad_of_groups_that_share_their_weights(rows: Any) -> None:
    """A stride of zero is one, not none."""
    rng = np.random.default_rng(9)
    grad, one = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((4, 2), (1, 3)))
    weight = np.broadcast_to(one.reshape(1, 3, 1, 1, 1), (4, 3, 1, 1, 1))
    problem = ConvProblem(1, 2, 3, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0)
    first, out = grad.reshape(1, 4, 1, 1, 2), np.full((1, 6, 1, 1, 2), np.nan, np.float32)
    call = gpu.conv_call(problem, first, weight, out)
    gpu.run(rows.dgrad(call), first=first, second=weight, out=out)
    sums = grad.reshape(2, 2, 2).sum(1)
    np.testing.assert_array_equal(out.reshape(2, 3, 2), one.reshape(3, 1) * sums[:, None])


def build_norms(tile: Any, flat: bool) -> Any:
    """A user's kernel: for each pixel and 16 (``tile.rows``) out-channels, the sum of squares."""
    functions = tile_functions(tile, "float32", flat, channels=False)
    clear, place, accumulate = functions.clear, functions.place, functions.accumulate
    row, column = functions.row, functions.column
    sizes = tile.weights_size, tile.input_size, tile.origins_size, tile.rows * tile.columns
    weights_size, input_size, origins_size, square_size = sizes
    (own_k, own_p), columns, rows = tile.sums, tile.columns, tile.rows

    def norms(x, weights, out, problem, strides, pitch, steps):
        a = cuda.shared.array(weights_size, float32)
        b = cuda.shared.array(input_size, float32)
        origins = cuda.shared.array(origins_size, int32)
        table = cuda.shared.array(TABLE, int32)
        squares = cuda.shared.array(square_size, float32)
        sums = cuda.local.array((own_k, own_p), float32)
        pixel, k = cuda.blockIdx.x * columns, cuda.blockIdx.y * rows
        place(problem, strides, 0, pixel, origins)
        clear(sums)
        accumulate(x, weights, problem, strides, pitch, k, 0, steps, origins, a, b, table, sums)
        for i in range(own_k):
            for j in range(own_p):
                squares[column(j) * rows + row(i)] = sums[i, j] * sums[i, j]
        cuda.syncthreads()
        at = int32(pixel + cuda.threadIdx.x)
        if cuda.threadIdx.x < columns and at < problem.n * problem.o * problem.p * problem.q:
            total = float32(0)
            for i in range(rows):
                total += squares[cuda.threadIdx.x * rows + i]
            out[at * cuda.gridDim.y + cuda.blockIdx.y] = total

    return norms


@runs
@pytest.mark.parametrize("c", [3, 8])
def test_a_users_kernel_calls_the_tile(c: int) -> None:
    rng, tile, flat = np.random.default_rng(3), SMALLEST["float32"], c < STEP
    x = rng.integers(-4, 5, (1, c, 1, 6, 7)).astype(np.float32)
    weight = rng.integers(-4, 5, (20, c, 1, 2, 3)).astype(np.float32)
    packed = pack(weight, tile, flat)
    problem = ConvProblem(1, 1, c, 20, 1, 6, 7, 1, 2, 3, 1, 5, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0)
    out = np.full((25, 2), np.nan, np.float32)
    signature = ("float32*",) * 3 + ("problem", "int32[5]", "int32", "int32")
    entry = Entry(build_norms, (tile, flat), signature, tile.threads, tile.blocks)
    steps, pitch = packed.shape[0] // STEP, packed.shape[1]
    args = problem, gpu.strides_of(x), pitch, steps
    pointers = At("first"), At("second"), At("out")
    launch = Launch(entry, (1, 2, 1), (*pointers, *args))
    gpu.run(Program((launch,)), first=x, second=packed, out=out)
    sums = np.zeros((20, 5, 5))
    for r in range(2):
        for s in range(3):
            sums += np.einsum(
                "chw,kc->khw", x[0, :, 0, r : r + 5, s : s + 5], weight[:, :, 0, r, s]
            )
    squares = (sums.reshape(20, 25) ** 2).T
    expected = np.stack([squares[:, :16].sum(1), squares[:, 16:].sum(1)], 1)
    np.testing.assert_array_equal(out, expected)


def test_scratch_depends_on_problem_and_dtype_alone() -> None:
    """And the cut: few outputs of many products are sliced, many aren't."""
    deep = ConvProblem(1, 1, 512, 64, 1, 7, 7, 1, 3, 3, 1, 7, 7, 1, 1, 1, 1, 1, 1, 0, 1, 1)
    assert tiled.cut(deep, "float32").slices > 1
    wide = deep._replace(n=1024, k=512)
    assert tiled.cut(wide, "float32").slices == 1
    for problem in (deep, wide):
        strides = (1, 2, 3, 4, 5)
        call = tiled.ConvCall(problem, "float32", strides, strides, strides)
        assert tiled.fprop(call).scratch_bytes == tiled.scratch_bytes(problem, "float32")


def entry_of(tile: Any, last: bool, c: int, dtype: str = "float32", skips: bool = False) -> Any:
    """The tiles' entry for a 3x3 convolution of contiguous arrays."""
    p = ConvProblem(4, 1, c, 256, 1, 28, 28, 1, 3, 3, 1, 28, 28, 1, 1, 1, 1, 1, 1, 0, 1, 1)

    def strides(channels: int) -> tuple[int, int, int, int, int]:
        plane = 28 * 28 * channels
        return (plane, 1, plane, 28 * channels, channels) if last else (plane, 784, 784, 28, 1)

    call = tiled.ConvCall(p, dtype, strides(c), (9 * c, 9, 9, 3, 1), strides(256), bias=True)
    return tiled.fprop(call, skips, tiled.cut_into(p, tile)).launches[1].entry


@compiles
@pytest.mark.parametrize("target", [(9, 0, "a"), (8, 0)], ids=["sm_90a", "sm_80"])
@pytest.mark.parametrize("c", [64, 3])
@both_layouts
def test_the_large_tile_is_multiplications_above_all(last: bool, c: int, target: Any) -> None:
    entry = entry_of(TILES[0][0], last, c)
    report = gpu.report(entry, target)
    assert report["spills"] == report["stack"] == 0
    assert report["registers"] <= 128
    assert 2 * report["shared"] <= 100 << 10
    loop = report["loop"]
    if loop is not None:
        assert loop["FFMA"] == 512
        assert loop["LDS.128"] >= 32
        assert loop["LDG.E.128"] >= 1
        # Of steps of one tap; where they are flat, the loop has the table's code, which one warp
        # of eight runs.
        assert loop["FFMA"] >= (0.75 if c == 64 else 0.66) * loop.total()


@compiles
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("number", range(len(TILES)))
def test_no_tile_spills(number: int, dtype: str) -> None:
    tiles = tiled.TILES[tiled.ACCUMULATED[dtype]]
    if number >= len(tiles) or (dtype == "bfloat16" and number):
        pytest.skip("no such tile, or one like float32's")
    for c, skips in ((64, False), (64, True), (3, False)):
        report = gpu.report(entry_of(tiles[number][0], False, c, dtype, skips))
        assert report["spills"] == report["stack"] == 0
        assert report["shared"] <= 48 << 10
