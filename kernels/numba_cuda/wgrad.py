"""Weight gradients as an implicit GEMM on CUDA cores.

x            (N, C, D, H, W)    any strides     IN
grad_output  (N, K, O, P, Q)    same dtype      IN
out          (K, C/G, T, R, S)  overwritten     OUT
Accumulates in float32, of float64 in float64.  Scratch: a tile's sums per slice of the reduction,
at most ``SCRATCH_BYTES``.  Blocks: one per tile of out, group and slice; the cut depends on the
problem and the dtype alone. Slices are added up in their order by a second launch.
Assumes a validated ConvGeometry; raises nothing.
Why: out is small and the reduction long, so that without slices most of the GPU would have nothing
to do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..problem import ConvProblem
from ..shapes import ceil_div, round_up
from .program import ACCUMULATED, STORED, At, ConvCall, Entry, Launch, Program
from .wgrad_finish import FINISH_LANES, FINISH_PARTS, build_finish
from .wgrad_products import build_products
from .wgrad_tile import DEPTH, QUAD, Tile, Variant

#: Multiprocessors that the cut is made for.
PROCESSORS = 132
#: Most bytes of scratch, and most slices of a reduction.
SCRATCH_BYTES = 64 << 20
SLICES = 512
#: Slices begin at a multiple of a memory sector's pixels (32 bytes) and of several steps.
SLICE_PIXELS = 32

#: Tiles by the type that sums are made in: blocks of a multiprocessor, which leave the compiler the
#: registers it needs, and the share of its peak that the loop can reach: of float32 the multiplying
#: instructions among all (sm_90a, pixels across the lanes, which has more others), of float64, the
#: units of which take two cycles each, an estimate.
TILES = {
    "float32": (
        (Tile(128, 128, 8, 8), 2, 0.81),
        (Tile(128, 64, 8, 8), 3, 0.78),
        (Tile(64, 128, 8, 8), 3, 0.77),
        (Tile(64, 64, 8, 4), 4, 0.71),
        (Tile(64, 32, 8, 4), 7, 0.66),
        (Tile(32, 64, 4, 8), 7, 0.64),
        (Tile(32, 32, 4, 4), 8, 0.57),
        (Tile(16, 16, 4, 2), 16, 0.40),
    ),
    "float64": (
        (Tile(64, 64, 8, 4), 3, 0.90),
        (Tile(64, 32, 8, 4), 5, 0.85),
        (Tile(32, 64, 4, 8), 5, 0.85),
        (Tile(32, 32, 4, 4), 8, 0.75),
        (Tile(16, 16, 4, 2), 16, 0.50),
    ),
}
#: Products that a multiprocessor makes in a cycle, cycles that a step takes at least (a load's way
#: from memory), cycles of a block before and behind its loop, and sums that are stored in a cycle.
PRODUCTS = {"float32": 128, "float64": 64}
STEP_CYCLES, BLOCK_CYCLES, STORED_PER_CYCLE = 800, 3000, 16
#: Cycles of a second launch, and elements that the whole GPU adds in one.
LAUNCH_CYCLES, ADDED_PER_CYCLE = 4000, 500


class Cut(NamedTuple):
    """How a problem is cut: tile, slices of the reduction, and pixels of each but the last."""

    tile: Tile
    slices: int
    pixels: int


@lru_cache(maxsize=1024)
def cut(problem: ConvProblem, dtype: str) -> Cut:
    """The cut that should take the fewest cycles."""
    real = ACCUMULATED[dtype]
    costs = dict(pair for kind in TILES[real] for pair in _costs(problem, real, *kind))
    return min(costs, key=costs.__getitem__)


def _costs(
    problem: ConvProblem, real: str, tile: Tile, resident: int, share: float
) -> list[tuple[Cut, float]]:
    """Cuts with a tile, for as many blocks as multiprocessors hold, or some multiple or part."""
    blocks, area = _blocks(problem, tile), tile.rows * tile.columns
    cap = min(SLICES, SCRATCH_BYTES // (blocks * area * np.dtype(real).itemsize))
    rounds = (*range(1, resident), *range(resident, 9 * resident, resident))
    numbers = {min(count * PROCESSORS // blocks, cap) for count in rounds}
    found = []
    for slices in sorted({max(number, 1) for number in numbers}):
        made = _sliced(problem, tile, slices)
        each = ceil_div(blocks * made.slices, PROCESSORS)
        whole = round_up(each, resident)
        # Of a round that isn't full, a quarter of what is missing is lost.
        step = (3 * each + whole) / 4 * area * DEPTH / (PRODUCTS[real] * share)
        step = max(step, whole // resident * STEP_CYCLES)
        cost = step * ceil_div(made.pixels, DEPTH) + each * area / STORED_PER_CYCLE
        cost += whole // resident * BLOCK_CYCLES
        if made.slices > 1:
            cost += LAUNCH_CYCLES + made.slices * blocks * area / ADDED_PER_CYCLE
        found.append((made, cost))
    return found


def _sliced(problem: ConvProblem, tile: Tile, slices: int) -> Cut:
    total = problem.n * problem.o * problem.p * problem.q
    pixels = max(round_up(ceil_div(total, slices), SLICE_PIXELS), SLICE_PIXELS)
    return Cut(tile, max(ceil_div(total, pixels), 1), pixels)


def _blocks(problem: ConvProblem, tile: Tile) -> int:
    return ceil_div(problem.k, tile.rows) * ceil_div(_columns(problem), tile.columns) * problem.g


def _columns(problem: ConvProblem) -> int:
    return problem.c * problem.t * problem.r * problem.s


def scratch_bytes(problem: ConvProblem, dtype: str, chosen: Cut | None = None) -> int:
    """Bytes of a call's scratch."""
    tile, slices, _ = chosen or cut(problem, dtype)
    elements = _blocks(problem, tile) * tile.rows * tile.columns
    return slices * elements * np.dtype(ACCUMULATED[dtype]).itemsize if slices > 1 else 0


class _Pixels(NamedTuple):
    """The axes (n, o, p, q) of the reduction as the kernel walks them: extents, and steps in the
    elements of grad and x."""

    extents: tuple[int, ...]
    grad: tuple[int, ...]
    x: tuple[int, ...]


def _pixels(call: ConvCall, checked: tuple[bool, ...]) -> _Pixels:
    """Axes one behind the other in both arrays, whose positions nobody asks for, become one."""
    problem = call.problem
    extents = [max(problem.n, 1), *problem.output]
    grad = [call.second[0], *call.second[2:]]
    steps = (first * step for first, step in zip(call.first[2:], problem.stride, strict=True))
    x = [call.first[0], *steps]
    asked = (False, *checked)
    for inner in (3, 2, 1):
        for outer in range(inner - 1, -1, -1):
            if extents[outer] == 1:
                continue
            behind = all(steps[outer] == extents[inner] * steps[inner] for steps in (grad, x))
            empty = inner == 3 and extents[inner] == 1
            if asked[outer] or asked[inner] or not (empty or (behind and extents[inner] > 1)):
                break
            if empty:
                grad[inner], x[inner] = grad[outer], x[outer]
            extents[inner] *= extents[outer]
            extents[outer] = 1
    return _Pixels(tuple(extents), tuple(grad), tuple(x))


def _checked(problem: ConvProblem) -> tuple[bool, bool, bool]:
    """The axes on which a window may reach outside."""
    pairs = zip(problem.pad, problem.pad_after, strict=True)
    first, second, third = (before > 0 or after > 0 for before, after in pairs)
    return first, second, third


def _packed(problem: ConvProblem) -> int:
    """How many positions are checked together, each with a bit to spare: the last three or two."""
    axes = zip(
        problem.output, problem.stride, problem.kernel, problem.dilation, problem.size,
        problem.pad, strict=True,
    )  # fmt: skip
    ends = [
        max((outputs - 1) * stride + (kernel - 1) * dilation, size, before)
        for outputs, stride, kernel, dilation, size, before in axes
    ]
    checked = _checked(problem)
    for count, bits in ((3, 9), (2, 15)):
        if all(checked[-count:]) and max(ends[-count:]) < (1 << bits) - 1:
            return count
    return 0


def _variant(call: ConvCall, tile: Tile, pixels: _Pixels, partial: bool) -> Variant:
    problem = call.problem
    last = call.first[1] == 1 and call.second[1] == 1
    grad = last and call.aligned[1] and problem.k % QUAD == 0 and _quads(pixels.grad)
    x = last and call.aligned[0] and problem.c % QUAD == 0
    x = x and _quads((*pixels.x, *call.first[2:]))
    checked, ragged = _checked(problem), problem.k % tile.rows > 0
    return Variant(last, (grad, x), checked, _packed(problem), ragged, partial)


def _quads(steps: tuple[int, ...]) -> bool:
    return all(step % QUAD == 0 for step in steps)


def wgrad(call: ConvCall, chosen: Cut | None = None) -> Program:
    """``out[k, c, t, r, s] = sum of window(c, t, r, s) * grad_output[n, k]`` (``chosen``: another
    cut than the problem's own, for tests)."""
    problem, dtype = call.problem, call.dtype
    made = chosen or cut(problem, dtype)
    if made.slices == 1:
        return Program((_products(call, made, call.out, "out"),))
    tile = made.tile
    row = round_up(_columns(problem), tile.columns)
    plane = round_up(problem.k, tile.rows) * row
    products = _products(call, made, (plane, row, 0, 0, 0), "scratch")
    return Program((products, _finish(call, made, plane, row)), scratch_bytes(problem, dtype, made))


#: What a step of d, h and w adds to positions, by how many of them are in one number.
UNITS = {3: (1 << 20, 1 << 10, 1), 2: (1, 1 << 16, 1), 0: (1, 1, 1)}


def _positions(problem: ConvProblem) -> tuple[tuple[int, ...], ...]:
    """Steps of a window's position per output and per tap, the first position, and the sizes; for
    positions in one number their greatest stand at h."""
    packed = _packed(problem)
    units = UNITS[packed]
    sizes = list(problem.size)
    if packed:
        ends = [(size - 1) * unit for size, unit in zip(sizes, units, strict=True)]
        sizes[1] = sum(ends[-packed:])
    steps, taps, pads = (
        tuple(number * unit for number, unit in zip(numbers, units, strict=True))
        for numbers in (problem.stride, problem.dilation, problem.pad)
    )
    return steps, taps, tuple(-before for before in pads), tuple(sizes)


def _products(call: ConvCall, made: Cut, strides: tuple[int, ...], target: str) -> Launch:
    problem, tile, partial = call.problem, made.tile, target == "scratch"
    pixels = _pixels(call, _checked(problem))
    variant = _variant(call, tile, pixels, partial)
    stored = STORED[call.dtype]
    result = ACCUMULATED[call.dtype] if partial else stored
    tiles = ceil_div(problem.k, tile.rows), ceil_div(_columns(problem), tile.columns)
    entry = Entry(
        build_products,
        (call.dtype, tile, variant),
        (f"{stored}*", f"{stored}*", f"{result}*", "int32[4]", "int32[5]", "int32[4]",
         "int32[5]", "int32[5]", "int32[3]", "int32[3]", "int32[3]", "int32[3]", "int32[3]",
         "int32[2]", "int32[5]"),
        tile.threads,
        next(blocks for kind, blocks, _ in TILES[ACCUMULATED[call.dtype]] if kind == tile),
    )  # fmt: skip
    spatial = call.first[2:]
    steps = (step * dilation for step, dilation in zip(spatial, problem.dilation, strict=True))
    origin = -sum(step * before for step, before in zip(spatial, problem.pad, strict=True))
    args: tuple[Any, ...] = (
        At("first"), At("second"), At(target),
        pixels.extents, (*pixels.grad, call.second[1]), pixels.x,
        (problem.k, problem.c, *problem.kernel), (call.first[1], *steps, origin),
        *_positions(problem),
        (problem.g, problem.n * problem.o * problem.p * problem.q, made.pixels),
        tiles, strides,
    )  # fmt: skip
    return Launch(entry, (tiles[0] * tiles[1] * problem.g * made.slices, 1, 1), args)


def _finish(call: ConvCall, made: Cut, plane: int, row: int) -> Launch:
    problem, real = call.problem, ACCUMULATED[call.dtype]
    last = call.first[1] == 1 and call.second[1] == 1
    entry = Entry(
        build_finish,
        (call.dtype, last),
        (f"{real}*", f"{STORED[call.dtype]}*", "int32[5]", "int32[4]", "int32[5]"),
        FINISH_LANES * FINISH_PARTS,
    )
    elements = problem.g * problem.k * _columns(problem)
    args = (
        At("scratch"),
        At("out"),
        (problem.k, problem.c, *problem.kernel),
        (problem.g, made.slices, plane, row),
        call.out,
    )
    return Launch(entry, (ceil_div(elements, FINISH_LANES), 1, 1), args)
