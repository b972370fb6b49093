"""Weight gradients on GPUs: in Numba's simulator on a tile of one warp, else as PTX at the tiles
that they run with; and what the compiler makes of them."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import conformance as suite
from cases import CONV_CASES, ConvCase
from functions import dtype_of

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from cnnfast.kernels import reference
from cnnfast.kernels.numba_cuda import im2col, im2col_wgrad
from cnnfast.kernels.numba_cuda import wgrad as rows
from cnnfast.kernels.numba_cuda.program import ACCUMULATED, ConvCall
from cnnfast.kernels.numba_cuda.wgrad_tile import Tile
from cnnfast.kernels.problem import ConvProblem

import gpu_rows as gpu

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.sampled

SIMULATED = gpu.simulated()
TINY = Tile(16, 16, 4, 2)
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DTYPES = tuple(EPS)

runs = pytest.mark.skipif(
    not SIMULATED and find_spec("ptx_machine") is None,
    reason="neither NUMBA_ENABLE_CUDASIM=1 nor the PTX machine",
)
compiles = pytest.mark.skipif(
    SIMULATED or gpu.tool("ptxas") is None, reason="the simulator compiles nothing, or no ptxas"
)


def problem_of(
    n: int, c: int, k: int, size: int, kernel: int, stride: int = 1, pad: int = 0
) -> ConvProblem:
    out = (size + 2 * pad - kernel) // stride + 1
    return ConvProblem(
        n, 1, c, k, 1, size, size, 1, kernel, kernel, 1, out, out, 1, stride, stride, 1, 1, 1,
        0, pad, pad,
    )  # fmt: skip


#: Layers of networks at batch 32, and one of a volume.
LAYERS = {
    "3x3": problem_of(32, 256, 256, 14, 3, 1, 1),
    "3x3, ragged": problem_of(32, 256, 200, 14, 3, 1, 1),
    "3x3/2": problem_of(32, 128, 256, 28, 3, 2, 1),
    "1x1": problem_of(32, 256, 1024, 14, 1),
    "7x7/2": problem_of(32, 3, 64, 224, 7, 2, 3),
    "first 3x3": problem_of(32, 64, 64, 56, 3, 1, 1),
    "3d": problem_of(2, 64, 200, 14, 3, 1, 1)._replace(d=16, o=16, t=3, pad_d=1),
}


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


def cut_of(
    problem: ConvProblem, slices: int, tile: Tile | None = None, dtype: str = "float32"
) -> rows.Cut | None:
    """A tile (None: of one warp in the simulator, else the row's own), and as many slices as are
    asked for (0: the row's own)."""
    if tile is None and not slices and not SIMULATED:
        return None
    chosen = TINY if SIMULATED else rows.cut(problem, dtype).tile
    return rows._sliced(problem, tile or chosen, max(slices, 1))


def check(
    case: ConvCase, dtype: str, tier: str, last: bool, slices: int = 0, tile: Tile | None = None,
    row: Any = rows.wgrad,
) -> list[Any] | None:  # fmt: skip
    """A case's weight gradient, exactly or within the bound, nothing written beside it. Gives the
    machine's counters."""
    stored, real = dtype_of(dtype), "float64" if dtype == "float64" else "float32"
    data = suite.conv_data("wgrad", case, real, tier, last)
    x, grad = (array.astype(stored) for array in (data.first, data.second))
    wide = [array.astype(np.float64) for array in (x, grad)]
    expected = suite.reference_conv("wgrad", *wide, data.bias, data.geometry, 0)
    out, buffer = suite.guarded(data.shape, stored)
    one, two, three = data.geometry.canonical(x, grad, out, "wgrad")
    problem = data.geometry.problem
    call = gpu.conv_call(problem, one, two, three)
    counts = gpu.run(
        row(call, cut_of(problem, slices, tile, dtype)), first=one, second=two, out=three
    )
    # Rounded: -12345 isn't one of bfloat16's.
    assert (buffer[:64] == buffer.dtype.type(suite.CANARY)).all(), "written before out"
    assert (buffer[-64:] == buffer.dtype.type(suite.CANARY)).all(), "written behind out"
    if tier == "exact":
        np.testing.assert_array_equal(out, expected.astype(stored))
    else:
        absolute = suite.reference_conv("wgrad", *map(abs, wide), data.bias, data.geometry, 0)
        length = suite.length("wgrad", data.geometry)
        tolerance = EPS[dtype] * abs(expected) + (length + 2) * EPS[real] * absolute
        assert (abs(out.astype(np.float64) - expected) <= tolerance).all()
    return counts


def named(*names: str) -> list[ConvCase]:
    return [case for case in CONV_CASES if case.name in names]


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("tier", suite.TIERS)
def test_cases(case: ConvCase, last: bool, tier: str) -> None:
    """The named cases; a few in the simulator, which takes seconds for each."""
    few = ("plain", "asymmetric padding", "batch 0", "1x1, stride 2", "3d", "1d")
    if SIMULATED and (tier == "bound" or case.name not in few):
        pytest.skip("left to the PTX machine")
    check(case, "float32", tier, last)


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_slices(dtype: str, last: bool) -> None:
    """Slices of which the last is short, of every dtype."""
    name = "batch of 3" if SIMULATED else "3d, everything"
    for case in named(name, "groups and stride"):
        check(case, dtype, "exact", last, slices=2 if SIMULATED else 5)
        if not SIMULATED:
            check(case, dtype, "bound", last, slices=2)


@runs
@pytest.mark.skipif(SIMULATED, reason="256 threads are too many for the simulator")
@pytest.mark.parametrize(("last", "slices"), [(False, 1), (True, 3)], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("dtype", "tile"),
    [(dtype, kind[0]) for dtype, tiles in rows.TILES.items() for kind in tiles],
    ids=str,
)
def test_tiles(dtype: str, tile: Tile, slices: int, last: bool) -> None:
    """Every tile: with rows and columns to spare, and with several of both."""
    for case in named("primes", "many of both"):
        check(case, dtype, "exact", last, slices, tile)


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("chunk", [0, 3000, im2col.CHUNK_BYTES])
def test_columns(chunk: int, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """im2col, of rows, of images, or of everything at once."""
    monkeypatch.setattr(im2col, "CHUNK_BYTES", chunk)
    for case in named("groups and stride", *(("3d, everything", "batch 0") * (not SIMULATED))):
        check(case, "float16" if chunk else "float32", "exact", last, row=im2col_wgrad.wgrad)


@runs
def test_any_strides() -> None:
    """Reversed, thinned out and exchanged axes, and an offset that isn't a multiple of 16 bytes."""
    problem = problem_of(2, 4, 8, 5, 3, 1, 1)
    generator = np.random.default_rng(0)
    x = generator.integers(-4, 5, (2, 9, 1, 5, 11)).astype(np.float32)[:, 1::2, :, ::-1, 1::2]
    grad = generator.integers(-4, 5, (5, 2, 1, 5, 8)).astype(np.float32).transpose(1, 4, 2, 0, 3)
    memory = np.full((3, 8, 1, 4, 9), np.nan, np.float32)
    out = memory.transpose(1, 3, 2, 0, 4)[::-1, ..., ::-3]
    call = gpu.conv_call(problem, x, grad, out)
    gpu.run(rows.wgrad(call, cut_of(problem, 2)), first=x, second=grad, out=out)
    expected = np.empty(out.shape)
    nothing = np.empty(0)
    reference.wgrad(x, grad, nothing, expected, problem, nothing, 0, 1)
    np.testing.assert_array_equal(out, expected)
    assert np.isnan(memory).sum() == memory.size - out.size


@runs
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_infinite_gradients(last: bool) -> None:
    """Padding is zeros that are multiplied; what lies behind a slice's end isn't."""
    problem = problem_of(1, 4, 4, 3, 3, 1, 1)
    x, grad = np.ones((1, 4, 1, 3, 3), np.float32), np.ones((1, 4, 1, 3, 3), np.float32)
    grad[0, 1, 0, 0, 2], x[0, 2, 0, 2, 2] = np.inf, np.inf
    expected, nothing = np.empty((4, 4, 1, 3, 3)), np.empty(0)
    reference.wgrad(x, grad, nothing, expected, problem, nothing, 0, 1)
    assert np.isnan(expected).any()
    assert np.isfinite(expected).any()
    if last:
        x, grad = (np.moveaxis(suite.channels_last(a), -1, 1) for a in (x, grad))
    out = np.zeros(expected.shape, np.float32)
    call = gpu.conv_call(problem, x, grad, out)
    gpu.run(rows.wgrad(call, cut_of(problem, 1)), first=x, second=grad, out=out)
    np.testing.assert_array_equal(out, expected)


@runs
@pytest.mark.skipif(SIMULATED, reason="the simulator counts nothing")
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_memory(last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the large tile a load asks for whole sectors, and shared memory has no conflicts but where
    the table is filled: twice, by eight warps, two stores of four passes."""
    import ptx_machine

    machine = partial(ptx_machine.Machine, profile=True)
    monkeypatch.setattr(ptx_machine, "Machine", machine)
    case = ConvCase("", (1, 128, 16, 8), (128, 128, 1, 1))
    counts = check(case, "float32", "exact", last, 1, Tile(128, 128, 8, 8))
    assert counts is not None
    if not last:
        # Of channels across the lanes PTX has four stores that ptxas makes one.
        assert counts[0]["bank conflicts"] == 2 * 8 * 2 * 3
    assert counts[0]["global load sectors"] == 2 * 128 * 128 * 4 // 32


@compiles
@pytest.mark.parametrize("target", [(9, 0, "a"), (8, 0)], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("layer", LAYERS)
def test_compiled(layer: str, last: bool, target: tuple[Any, ...]) -> None:
    """No spills, no stack, wide accesses, products unrolled once."""
    call = dense_call(LAYERS[layer], last)._replace(capability=10 * target[0])
    program = rows.wgrad(call)
    for launch in program.launches:
        found = gpu.report(launch.entry, target)
        assert found["spills"] == found["reloads"] == found["stack"] == 0
        assert found["shared"] <= 49152
        assert found["registers"] * launch.entry.threads * launch.entry.blocks <= 65536
    sass = gpu.report(program.launches[0].entry, target)["sass"]
    if sass is not None:
        tile = program.launches[0].entry.constants[1]
        assert sass["FFMA"] == 8 * tile.thread_rows * tile.thread_columns
        assert sass["LDS.128"] >= 2 * (tile.thread_rows + tile.thread_columns)
        wide = sum(count for name, count in sass.items() if name.startswith("LDG.E.128"))
        assert wide >= 2 or not last or LAYERS[layer].c % 4


@compiles
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_compiled_dtypes(dtype: str, last: bool) -> None:
    """No spills at any tile, of sums that go to scratch or to out; 16-bit floats at the largest."""
    problem, tiles = LAYERS["3x3, ragged"], rows.TILES[ACCUMULATED[dtype]]
    for tile, *_ in tiles if dtype in rows.TILES else tiles[:2]:
        cut = rows._sliced(problem, tile, 1 if last else 2)
        program = rows.wgrad(dense_call(problem, last, dtype), cut)
        found = gpu.report(program.launches[0].entry)
        assert found["spills"] == found["stack"] == 0


def test_the_gpu_is_filled() -> None:
    """Layers of networks are cut into blocks for all multiprocessors, within the cap of scratch."""
    for problem in LAYERS.values():
        program = rows.wgrad(dense_call(problem, False))
        assert program.launches[0].grid[0] >= 132
        assert program.scratch_bytes <= rows.SCRATCH_BYTES
        assert program.scratch_bytes == rows.scratch_bytes(problem, "float32")


def test_scratch_has_a_cap() -> None:
    large = problem_of(32, 2048, 2048, 7, 3, 1, 1)
    program = rows.wgrad(dense_call(large, True))
    assert len(program.launches) == 1
    assert program.scratch_bytes == 0
