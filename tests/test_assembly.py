"""The micro-kernel's inner loop as the machine runs it: multiply-adds, and no sums in memory."""

from __future__ import annotations

import importlib
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnfast import ConvGeometry
from cnnfast.kernels.blocking import MOST_PIXELS, TILE_PIXELS
from cnnfast.kernels.registry import engine_missing

STEP = 2 * TILE_PIXELS
LABEL = re.compile(r"^\s*(\.LBB\w+|[0-9a-f]+):")
JUMP = re.compile(r"\bj\w+\s+(\.LBB\w+|[0-9a-f]+)\b")

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly"
)


def inner_loops(listing: str) -> Iterator[list[str]]:
    """The loops that contain no other: from a label to the jump back to it."""
    lines = listing.splitlines()
    seen: dict[str, int] = {}
    targets = {found[1] for line in lines if (found := JUMP.search(line))}
    for place, line in enumerate(lines):
        label = LABEL.match(line)
        if label and label[1] in targets:
            seen[label[1]] = place
        jump = JUMP.search(line)
        if jump and jump[1] in seen:
            body = lines[seen[jump[1]] : place + 1]
            if not any(JUMP.search(inside) for inside in body[:-1]):
                yield body


def count(body: list[str], pattern: str) -> int:
    return sum(bool(re.search(pattern, line)) for line in body)


def assert_micro_kernel(listing: str, suffix: str, stack: str) -> None:
    """Some inner loop does whole steps of the register tile, and touches nothing on the stack but
    masks of loads."""
    loops = [b for b in inner_loops(listing) if count(b, rf"vfmadd\w+{suffix}\b.*ymm") >= STEP]
    assert loops, "no inner loop has the register tile's multiply-adds"
    for body in loops:
        steps, rest = divmod(count(body, r"vfmadd"), STEP)
        assert rest == 0, body
        assert count(body, stack) <= count(body, "vmaskmov"), f"sums are spilled: {body}"
        assert count(body, r"vmov[au]p[sd].*,\s*(0x)?[-\w]*\(") == 0, f"a store: {body}"
        assert count(body, r"vbroadcast|vmovddup") <= steps * TILE_PIXELS


#: A kernel's function, by what it multiplies: rows x vectors (or pixels x panels) side by side.
KERNEL = re.compile(r'^"?cnnfast\.(tile|gemm)\.f\d+\.(\d+)\.(\d+)x(\d+)[\w.]*"?:\s*$', re.MULTILINE)


@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "ps"), ("float64", "pd")])
@pytest.mark.parametrize(("algorithm", "sizes"), [("tiled", 12), ("im2col", 15)])
def test_numba(algorithm: str, sizes: int, dtype: str, suffix: str) -> None:
    """The loop of every size multiplies whole steps in vectors as wide as the machine's, and keeps
    no vector in memory."""
    if engine_missing("numba_cpu"):
        pytest.skip(f"numba engine: {engine_missing('numba_cpu')}")
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    if not features.get("fma", False):
        pytest.skip("this machine has no fused multiply-add")
    register = "zmm" if features.get("avx512f", False) else "ymm"
    bytes_of_vector = 64 if register == "zmm" else 32
    module = importlib.import_module(f"cnnfast.kernels.numba_cpu.{algorithm}")
    geometry = ConvGeometry.of((1, 4, 8, 8), (5, 4, 3, 3), dtype=dtype)
    _, *found = KERNEL.split(numba_listing(module, algorithm, geometry))
    seen = 0
    for kind, lanes, rows, columns, rest in zip(*(found[i::5] for i in range(5)), strict=True):
        if int(lanes) * geometry.dtype.itemsize != bytes_of_vector:
            continue
        vectors = int(columns) * (64 // bytes_of_vector if kind == "tile" else 1)
        step = int(rows) * vectors
        listing = rest[: rest.index(".Lfunc_end")]
        loops = [body for body in inner_loops(listing) if count(body, "vfmadd")]
        assert loops, f"{kind} {rows}x{columns}: no inner loop multiplies"
        for body in loops:
            assert count(body, rf"vfmadd\w+{suffix}\b.*{register}") == step, body
            assert count(body, r"mm\d+.*\(%[re]sp|\(%[re]sp.*mm\d") == 0, f"spilled: {body}"
            assert count(body, r"vmov[au]p[sd].*,\s*(0x)?[-\w]*\(") == 0, f"a store: {body}"
        seen += 1
    assert seen >= sizes


def numba_listing(module: Any, algorithm: str, geometry: ConvGeometry) -> str:
    """The assembly of a tile function, compiled for the geometry's dtype."""
    from numba import from_dtype, typeof, types

    from cnnfast.kernels import blocking

    cut_of = {"tiled": blocking.tiled_cut, "im2col": blocking.gemm_cut}[algorithm]
    element = from_dtype(np.dtype(geometry.dtype))
    view = [types.Array(element, 5, "A", readonly=fixed) for fixed in (True, False)]
    flat = [types.Array(element, 1, "C", readonly=fixed) for fixed in (True, False)]
    kinds = {
        "x": view[0],
        "packed": flat[0],
        "bias": flat[0],
        "out": view[1],
        "problem": typeof(geometry.problem),
        "taps": types.Array(types.int64, 2, "C", readonly=True),
        "cut": typeof(cut_of(geometry.problem, geometry.dtype.itemsize)),
        "local": flat[1],
        "halo_ready": types.boolean,
    }
    tile = getattr(module, f"{algorithm}_tile")
    names = tile.py_func.__code__.co_varnames[: tile.py_func.__code__.co_argcount]
    tile.compile(tuple(kinds.get(name, types.int64) for name in names))
    return "\n".join(tile.inspect_asm().values())


def listing_of(algorithm: str) -> str:
    """The assembly of an extension."""
    if engine_missing("cython_cpu"):
        pytest.skip(f"cython engine: {engine_missing('cython_cpu')}")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    extension = importlib.import_module(f"cnnfast.kernels.cython_cpu._{algorithm}")
    command = ["objdump", "-d", "--no-show-raw-insn", str(extension.__file__)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("suffix", ["ps", "pd"])
@pytest.mark.parametrize("algorithm", ["tiled", "im2col", "wgrad"])
def test_cython(algorithm: str, suffix: str) -> None:
    assert_micro_kernel(listing_of(algorithm), suffix, r"[re][sb]p\b")


@pytest.mark.parametrize("suffix", ["ps", "pd"])
def test_cython_tiles_of_avx512(suffix: str) -> None:
    """For every number of pixels an inner loop of two vectors with a broadcast per pixel, all
    sums in registers and no offset in a vector register."""
    listing = listing_of("tiled")
    found = set()
    for body in inner_loops(listing):
        products = count(body, rf"vfmadd\w+{suffix}\b.*zmm")
        if count(body, r"vmovup.*zmm") != 2 or products < 8:
            continue
        pixels, rest = divmod(products, 2)
        assert rest == 0, body
        assert count(body, r"\bv\w+ .*[re][sb]p\b") == 0, f"sums are spilled: {body}"
        assert count(body, r"vmov\w+ +%zmm\w+,.*\(") == 0, f"a store: {body}"
        assert count(body, r"vmovq|vpextr") == 0, f"an offset in a vector register: {body}"
        assert count(body, rf"vbroadcasts{suffix[1]}") == pixels, body
        found.add(pixels)
    assert found == set(range(4, MOST_PIXELS + 1))


@pytest.mark.parametrize(
    ("multiply", "register", "sizes"),
    [
        ("vpdpwssd", "zmm", range(4, MOST_PIXELS + 1)),
        ("vpmaddwd", "zmm", range(4, MOST_PIXELS + 1)),
        ("vpmaddwd", "ymm", range(4, TILE_PIXELS + 1)),
    ],
)
def test_cython_tiles_of_pairs(multiply: str, register: str, sizes: range) -> None:
    """For every number of pixels a loop of two vectors of int8's weights: a broadcast per pixel,
    two multiply-adds, and an addition each where the instruction doesn't add; nothing in memory."""
    found = set()
    for body in inner_loops(listing_of("tiled")):
        products = count(body, rf"{multiply}\b.*{register}")
        if count(body, rf"vmovdqu.*,%{register}") != 2 or products < 8:
            continue
        pixels, rest = divmod(products, 2)
        assert rest == 0, body
        assert count(body, "vpaddd") == (products if multiply == "vpmaddwd" else 0), body
        assert count(body, "vpbroadcastd") == pixels, body
        assert count(body, r"\bv\w+ .*[re][sb]p\b") == 0, f"sums are spilled: {body}"
        assert count(body, rf"vmov\w+ +%{register}\w+,.*\(") == 0, f"a store: {body}"
        found.add(pixels)
    assert found == set(sizes)


@pytest.mark.parametrize("suffix", ["ps", "pd"])
@pytest.mark.parametrize(("register", "channels"), [("zmm", 8), ("ymm", 4)])
def test_gemm(register: str, channels: int, suffix: str) -> None:
    """Out-channels x 3 vectors of pixels: nothing but 3 loads, with and without masks, a broadcast
    weight per channel, and the multiply-adds; an inner loop of two loads is the other
    micro-kernel."""
    multiply = rf"vfmadd\w+{suffix}\b.*{register}"
    load = rf"vmov\w+\s.*\(.*,%{register}"
    loops = [
        body
        for body in inner_loops(listing_of("im2col"))
        if count(body, multiply) == 3 * channels and count(body, load) == 3
    ]
    assert len(loops) == 2
    for body in loops:
        assert count(body, r"vfmadd") == 3 * channels
        assert count(body, r"vbroadcast|vmovddup") == channels
        # A stride may lie on the stack, and AVX2's masks.
        spilled = count(body, r"\bv\w+\s.*[re][sb]p\b")
        assert spilled <= count(body, "vmaskmov"), f"sums are spilled: {body}"


#: A tile of the wgrad row: weights x panels of 64 bytes.
WEIGHTS = re.compile(r"^[0-9a-f]+ <tile_(\d+)_(\d+)_(f32|f64)_(avx2|avx512)>:\s*$", re.MULTILINE)


def test_cython_wgrad_tiles_keep_their_sums_in_registers() -> None:
    """Every size's loop is its multiply-adds, a broadcast per weight, and nothing on the stack."""
    _, *found = WEIGHTS.split(listing_of("wgrad"))
    if not found:
        pytest.skip("the extension's symbols are stripped")
    for weights, panels, _, instructions, rest in zip(
        *(found[i::5] for i in range(5)), strict=True
    ):
        step = int(weights) * int(panels) * (2 if instructions == "avx2" else 1)
        register = "ymm" if instructions == "avx2" else "zmm"
        loops = [body for body in inner_loops(rest.split("\n\n")[0]) if count(body, "vfmadd")]
        assert loops, f"{weights}x{panels}: no inner loop multiplies"
        for body in loops:
            assert count(body, rf"vfmadd.*{register}") == step, body
            assert count(body, r"\(%[re]sp|[re]sp\)") == 0, f"sums are spilled: {body}"
            assert count(body, r"vbroadcast|vmovddup") <= int(weights), body
