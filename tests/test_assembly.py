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
    """Some inner loop does whole steps of the register tile, and touches nothing on the stack."""
    loops = [b for b in inner_loops(listing) if count(b, rf"vfmadd\w+{suffix}\b.*ymm") >= STEP]
    assert loops, "no inner loop has the register tile's multiply-adds"
    for body in loops:
        steps, rest = divmod(count(body, r"vfmadd"), STEP)
        assert rest == 0, body
        assert count(body, stack) == 0, f"sums are spilled: {body}"
        assert count(body, r"vmov[au]p[sd].*,\s*(0x)?[-\w]*\(") == 0, f"a store: {body}"
        assert count(body, r"vbroadcast|vmovddup") <= steps * TILE_PIXELS


@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "ps"), ("float64", "pd")])
@pytest.mark.parametrize("algorithm", ["tiled", "im2col"])
def test_numba(algorithm: str, dtype: str, suffix: str) -> None:
    if engine_missing("numba_cpu"):
        pytest.skip(f"numba engine: {engine_missing('numba_cpu')}")
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("fma", False):
        pytest.skip("this machine has no fused multiply-add")
    module = importlib.import_module(f"cnnfast.kernels.numba_cpu.{algorithm}")
    geometry = ConvGeometry.of((1, 4, 8, 8), (5, 4, 3, 3), dtype=dtype)
    # LLVM leaves out the frame pointer and uses its register for another one.
    assert_micro_kernel(numba_listing(module, algorithm, geometry), suffix, r"[re]sp\b")


def numba_listing(module: Any, algorithm: str, geometry: ConvGeometry) -> str:
    """The assembly of a tile function, compiled for the geometry's dtype."""
    from numba import from_dtype, typeof, types

    from cnnfast.kernels import blocking

    cut = getattr(blocking, f"{algorithm}_cut")(geometry.problem, geometry.dtype.itemsize)
    element = from_dtype(np.dtype(geometry.dtype))
    view = [types.Array(element, 5, "A", readonly=fixed) for fixed in (True, False)]
    flat = [types.Array(element, 1, "C", readonly=fixed) for fixed in (True, False)]
    signature: list[Any] = [view[0], flat[0], flat[0], view[1], typeof(geometry.problem)]
    signature += [typeof(cut), flat[1], types.int64, types.int64]
    tile = getattr(module, f"{algorithm}_tile")
    extra = len(tile.py_func.__code__.co_varnames[: tile.py_func.__code__.co_argcount])
    signature += [types.boolean] * (extra - len(signature))
    tile.compile(tuple(signature))
    return "\n".join(tile.inspect_asm().values())


def extension_listing(algorithm: str) -> str:
    """The assembly of a Cython row."""
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
    assert_micro_kernel(extension_listing(algorithm), suffix, r"[re][sb]p\b")


@pytest.mark.parametrize("suffix", ["ps", "pd"])
def test_cython_tiles_of_avx512(suffix: str) -> None:
    """For every number of pixels an inner loop of two vectors with a broadcast per pixel, all
    sums in registers and no offset in a vector register."""
    listing = extension_listing("tiled")
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
