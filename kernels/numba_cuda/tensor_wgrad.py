"""Weight gradients on tensor cores: implicit GEMM over pixels, 16-bit operands.

x            (N, C, D, H, W)    any strides     IN
grad_output  (N, K, O, P, Q)    same dtype      IN
out          (K, C/G, T, R, S)  overwritten     OUT
float16 and bfloat16; products are exact, sums float32, rounded once. Operands are read as they lie
or packed as in ``tensor``. Scratch: packed operands and a tile's sums per split, at most
``SCRATCH_BYTES`` of those but one split's. Tasks: a block per tile of out-channels x (taps, chunks
of in-channels), group and split of the pixels (``_tensor_wgrad_tile``); a launch adds splits up in
their order.
Padding is zeros that are multiplied.
"""

from __future__ import annotations

import math
from functools import lru_cache

from numba import config

from ..problem import ConvProblem
from ..shapes import ceil_div, round_up
from . import _tensor_wgrad_finish as finish
from ._tensor_operands import Operand, itemsize_of
from ._tensor_pack import order_of
from ._tensor_tile import CHUNK, Tile
from ._tensor_wgrad_tile import ELEMENTS, SIGNATURE, build_wgrad_tile
from .program import STORED, At, ConvCall, Entry, Launch, Program
from .tensor import ALIGNMENT, ELEMENTS_LIMIT, TINY, TINY_WIDE, Cut, cycles, weight_grid

#: Tiles of out-channels x channels of taps.
TILES = (
    Tile(2, 2, 4, 8, 8, 3, 2),
    Tile(2, 2, 4, 4, 8, 3, 2),
    Tile(2, 2, 2, 8, 8, 3, 2),
    Tile(2, 2, 2, 4, 8, 3, 2),
)
MOST_SPLITS = 128
SCRATCH_BYTES = 64 << 20


def _chunks(problem: ConvProblem) -> tuple[int, int]:
    """Chunks of a tap's channels, and of all taps."""
    of_tap = ceil_div(problem.c, ELEMENTS)
    return of_tap, of_tap * math.prod(problem.kernel)


def _part_bytes(problem: ConvProblem) -> int:
    return problem.g * problem.k * _chunks(problem)[1] * ELEMENTS * 4


@lru_cache(maxsize=256)
def cut(problem: ConvProblem, tiles: tuple[Tile, ...] = TILES) -> Cut:
    """The tile and split that take the least time by ``tensor``'s model."""
    pixels = problem.n * math.prod(problem.output)
    columns = _chunks(problem)[1] * ELEMENTS
    if config.ENABLE_CUDASIM:
        # Warpgroups read 64 channels at a time.
        tile = TINY_WIDE._replace(columns=8) if tiles[0].wide else TINY._replace(chunks=2)
        steps = ceil_div(pixels, 8 * tile.chunks)
        each = ceil_div(steps, 2)
        return Cut(tile, each, ceil_div(steps, each))
    found = []
    most = max(1, min(MOST_SPLITS, SCRATCH_BYTES // _part_bytes(problem)))
    for tile in tiles:
        steps = ceil_div(pixels, 8 * tile.chunks)
        for splits in range(1, min(most, steps) + 1):
            each = ceil_div(steps, splits)
            if ceil_div(steps, each) == splits:
                # One split goes through scratch too.
                time = cycles((problem.k, columns, problem.g), tile, each, splits, True)
                found.append((time, Cut(tile, each, splits)))
    return min(found, key=lambda pair: pair[0])[1]


def _operands(call: ConvCall) -> tuple[Operand, Operand]:
    problem, dtype = call.problem, call.dtype
    n, g = problem.n, problem.g
    return (
        Operand("first", dtype, n, g, problem.c, problem.size, call.first, call.aligned[0]),
        Operand("second", dtype, n, g, problem.k, problem.output, call.second, call.aligned[1]),
    )


def scratch_bound(problem: ConvProblem, dtype: str, tiles: tuple[Tile, ...] = TILES) -> int:
    """The most that a wgrad takes, whatever its strides."""
    if not _computes(problem):
        return _part_bytes(problem)
    none = (0, 0, 0, 0, 0)
    sizes = [
        operand.packed_bytes for operand in _operands(ConvCall(problem, dtype, none, none, none))
    ]
    sizes.append(cut(problem, tiles).splits * _part_bytes(problem))
    return sum(round_up(size, ALIGNMENT) for size in sizes)


def fits(problem: ConvProblem, dtype: str) -> bool:
    """Whether scratch is indexed in 32 bits, however much of the problem is packed into it."""
    return scratch_bound(problem, dtype) // itemsize_of(dtype) < ELEMENTS_LIMIT


def _computes(problem: ConvProblem) -> bool:
    """Whether there is anything to sum."""
    return problem.n * math.prod(problem.output) * math.prod(problem.size) > 0


def wgrad(call: ConvCall, tiles: tuple[Tile, ...] = TILES) -> Program:
    """Pack, multiply, add up."""
    problem = call.problem
    if not problem.g * problem.k * problem.c * math.prod(problem.kernel):
        return Program(())
    if not fits(problem, call.dtype):
        raise ValueError(f"packed operands have {ELEMENTS_LIMIT} elements or more")
    launches, sources, end = [], [], 0
    splits = 0
    if _computes(problem):
        chosen = cut(problem, tiles)
        splits = chosen.splits
        for operand in _operands(call):
            packed = None if operand.lies_in_chunks else end
            sources.append(operand.source(packed))
            if packed is not None:
                launches.append(operand.pack(packed))
                end = round_up(end + operand.packed_bytes, ALIGNMENT)
        launches.append(_multiply(call, chosen, sources, end))
    launches.append(_finish(call, end, splits))
    end += splits * _part_bytes(problem)
    return Program(tuple(launches), round_up(max(end, ALIGNMENT), ALIGNMENT))


def _multiply(
    call: ConvCall, chosen: Cut, sources: list[tuple[At, tuple[int, ...]]], parts: int
) -> Launch:
    problem = call.problem
    tile, steps, splits = chosen
    of_tap, every = _chunks(problem)
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        build_wgrad_tile,
        (call.dtype, tile),
        (pointer, pointer, "float32*", *SIGNATURE),
        tile.threads,
        tile.blocks,
        tile.shared,
        "90a" if tile.wide else "80",
    )
    tiles = ceil_div(problem.k, tile.pixels), ceil_div(every, tile.channels // ELEMENTS)
    (x, x_at), (grad, grad_at) = sources
    args = (
        x, grad, At("scratch", parts // 4), problem, x_at, grad_at, (of_tap, every),
        (steps, *tiles),
    )  # fmt: skip
    return Launch(entry, (math.prod(tiles) * problem.g * splits, 1, 1), args)


def _finish(call: ConvCall, parts: int, splits: int) -> Launch:
    problem = call.problem
    entry = Entry(
        finish.build_finish_wgrad,
        (call.dtype,),
        ("float32*", f"{STORED[call.dtype]}*", *finish.SIGNATURE),
        finish.THREADS,
    )
    grid, block = weight_grid(problem, CHUNK // ELEMENTS)
    args = (
        At("scratch", parts // 4),
        At("out"),
        (problem.g, problem.k, problem.c, *problem.kernel),
        call.out,
        block,
        splits,
        order_of(*call.out[:2], call.out[4]),
    )
    return Launch(entry, grid, args)
