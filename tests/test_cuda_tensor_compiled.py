"""What the compiler makes of tensor cores' kernels: registers, no spills, the instructions."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda isn't installed")

from cnnfast.kernels.numba_cuda import tensor, tensor_wgrad, wgmma
from cnnfast.kernels.numba_cuda._tensor_tile import SIGNATURE, Tile, build_tile
from cnnfast.kernels.numba_cuda._tensor_wgrad_tile import SIGNATURE as WGRAD_SIGNATURE
from cnnfast.kernels.numba_cuda._tensor_wgrad_tile import build_wgrad_tile
from cnnfast.kernels.numba_cuda.compiler import AMPERE, HOPPER, ptx_of
from cnnfast.kernels.numba_cuda.program import STORED, ConvCall, Entry
from cnnfast.kernels.problem import ConvProblem

import gpu_rows
from gpu_rows import report, simulated, tool

compiles = pytest.mark.skipif(
    simulated() or tool("ptxas") is None,
    reason="the simulator compiles nothing, or no ptxas",
)
#: Instructions of SASS that a tile must be made of.
PRODUCTS = {
    "float16": ("HMMA.16816.F32", "HGMMA"),
    "bfloat16": ("HMMA.16816.F32.BF16", "HGMMA"),
    "float32": ("HMMA.1688.F32.TF32", "HGMMA"),
}


def _tile_entry(dtype: str, tile: Tile, order: str) -> Entry:
    pointer = f"{STORED[dtype]}*"
    return Entry(
        build_tile, (dtype, tile, dtype, order, True, "relu"), (*[pointer] * 4, *SIGNATURE),
        tile.threads, tile.blocks, tile.shared,
    )  # fmt: skip


def _check_compiled(entry: Entry, wanted: tuple[str, ...], target: tuple[Any, ...]) -> None:
    found = report(entry, target)
    assert found["spills"] == found["reloads"] == found["stack"] == 0
    assert found["shared"] + entry.shared <= 227 * 1024
    assert (found["registers"] + 7) // 8 * 8 * entry.threads * entry.blocks <= 65536
    assert not found["warnings"]
    if found["sass"] is not None:
        for name in wanted:
            assert any(each.startswith(name) for each in found["sass"]), name


@compiles
@pytest.mark.parametrize("order", ["channels", "pixels"])
@pytest.mark.parametrize("tile", tensor.TILES, ids=lambda tile: f"{tile.pixels}x{tile.channels}")
def test_tiles_compile_for_tensor_cores(tile: Tile, order: str) -> None:
    wanted = PRODUCTS["float16"][0], "LDSM.16.M88.4", "LDGSTS.E.BYPASS.128"
    for target in (AMPERE, HOPPER):
        _check_compiled(_tile_entry("float16", tile, order), wanted, target)


@compiles
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_other_dtypes_compile_for_tensor_cores(dtype: str) -> None:
    wanted = PRODUCTS[dtype][0], "LDSM.16.M88.4", "LDGSTS.E.BYPASS.128"
    _check_compiled(_tile_entry(dtype, tensor.TILES[0], "channels"), wanted, HOPPER)


@compiles
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("tile", wgmma.TILES, ids=lambda tile: f"{tile.pixels}x{tile.channels}")
def test_tiles_compile_for_warpgroups(tile: Tile, dtype: str) -> None:
    wanted = PRODUCTS[dtype][1], "LDGSTS.E.BYPASS.128"
    _check_compiled(_tile_entry(dtype, tile, "channels"), wanted, HOPPER)


@compiles
def test_products_that_are_made_to_wait_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfenced(entry: Entry, target: tuple[Any, ...]) -> tuple[str, str]:
        text, name = ptx_of(entry, target)
        return text.replace("wgmma.fence.sync.aligned;", ""), name

    monkeypatch.setattr(gpu_rows, "ptx_of", unfenced)
    entry = _tile_entry("float16", wgmma.TILES[-1], "channels")
    assert report.__wrapped__(entry, HOPPER)["warnings"]


@compiles
@pytest.mark.parametrize(
    "tile",
    [*tensor_wgrad.TILES, *wgmma.TILES],
    ids=lambda t: f"{t.pixels}x{t.channels}x{t.wide}",
)
def test_tiles_of_wgrad_compile(tile: Tile) -> None:
    constants = "float16", tile
    pointers = "uint16*", "uint16*", "float32*"
    entry = Entry(
        build_wgrad_tile, constants, (*pointers, *WGRAD_SIGNATURE),
        tile.threads, tile.blocks, tile.shared,
    )  # fmt: skip
    products = ("HGMMA",) if tile.wide else ("HMMA.16816.F32", "LDSM.16.MT88.4")
    for target in (HOPPER,) if tile.wide else (AMPERE, HOPPER):
        _check_compiled(entry, (*products, "LDGSTS.E.BYPASS.128"), target)


@compiles
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_launches_around_the_tiles_compile(dtype: str) -> None:
    """Packing, adding up, and computing again."""
    problem = ConvProblem(1, 1, 70, 9, 1, 9, 9, 1, 3, 3, 1, 9, 9, 1, 1, 1, 1, 1, 1, 0, 1, 1)
    strides = ((5670, 81, 0, 9, 1), (630, 9, 0, 3, 1), (729, 81, 0, 9, 1))
    call = ConvCall(problem, dtype, *strides, bias=True)
    programs = tensor.fprop(call), tensor.dgrad(call)
    entries = {launch.entry for program in programs for launch in program.launches}
    assert len(entries) >= 5
    for entry in entries:
        for target in (AMPERE, HOPPER):
            _check_compiled(entry, (), target)
