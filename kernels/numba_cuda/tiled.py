"""Convolution as an implicit GEMM on CUDA cores, strictly in float32 (or float64).

x       (N, C, D, H, W)    any strides            IN   "first"
weight  (K, C/G, T, R, S)  same dtype             IN   "second"
bias    (K,)               same dtype, or none    IN   "bias"
out     (N, K, O, P, Q)    overwritten            OUT  "out"
Accumulates in <dtype>, 16-bit floats in float32. Scratch: packed weights, and partial sums where
the reduction is sliced.
Launches: weights packed as [g][row][k]; a block per tile and slice; slices added up in order.
Tiles and slices depend on the problem and dtype alone.
Why: a thread's 8 x 8 sums take 64 FFMA for 4 loads of shared memory, and two blocks of 256 threads
fill the registers of a multiprocessor. Packed, weights are read 16 bytes at a time from whatever
strides, dgrad's flipped ones too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

from ..drivers import reads_padding
from ..problem import ConvProblem
from ..shapes import ceil_div, round_up
from ._tile_shape import FLAT_TAPS, STEP, Tile
from ._tiled_kernels import (
    FINISH_THREADS,
    PACK_THREADS,
    PACKED,
    build_conv,
    build_finish,
    build_pack,
)
from .phases import dgrad_of
from .program import ACCUMULATED, STORED, At, ConvCall, Entry, Launch, Program, Strides

#: Tiles, the largest first, and the share of the peak that their instructions leave: so many of a
#: step's are multiplications (``nvdisasm``, without the code that goes on to the next tap). Those
#: of float64 are guesses: its multiplications take two cycles.
TILES = {
    "float32": (
        (Tile(4, 2, 2, 2, 4, 2), 0.85),
        (Tile(2, 2, 2, 2, 4, 4), 0.81),
        (Tile(2, 1, 2, 2, 4, 8), 0.79),
        (Tile(1, 2, 2, 2, 4, 6), 0.74),
        (Tile(1, 1, 2, 2, 4, 12), 0.73),
        (Tile(1, 1, 1, 1, 4, 16), 0.52),
    ),
    "float64": (
        (Tile(2, 2, 4, 2, 2, 4), 0.85),
        (Tile(1, 1, 4, 2, 2, 12), 0.70),
        (Tile(1, 1, 2, 1, 2, 16), 0.45),
    ),
}
#: What a cut is made for: an H200's multiprocessors, multiply-adds per cycle of one, bytes of
#: memory per cycle, warps that keep one busy, and cycles of another launch and of a block's rest.
PROCESSORS, LANES, BYTES_PER_CYCLE, BUSY_WARPS = 132, 128, 2400, 12
LAUNCH_CYCLES, BLOCK_CYCLES = 4000, 1500
#: Slices that are tried, and the least steps of one.
SLICES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
LEAST_STEPS = 4
#: Steps of one tap are taken unless filling up channels costs more than one part in so many.
FILLED = 12
#: Parts of scratch begin at multiples of so many bytes.
ALIGNMENT = 256


class Cut(NamedTuple):
    """How a problem is cut: tiles along out-channels and pixels, slices of so many of all steps;
    whether rows run over taps and channels as one, and the channels of a tap as packed."""

    tile: Tile
    tiles_k: int
    tiles_p: int
    slices: int
    slice_steps: int
    steps: int
    flat: bool
    channels: int

    @property
    def pitch(self) -> int:
        """Out-channels of a group as packed."""
        return self.tiles_k * self.tile.rows


class View(NamedTuple):
    """Where an operand's elements are."""

    operand: str
    offset: int
    strides: Strides
    aligned: bool


class Whole(NamedTuple):
    """A convolution and its input."""

    problem: ConvProblem
    x: View


def _pixels(problem: ConvProblem) -> int:
    return problem.n * prod(problem.output)


def outputs_of(problem: ConvProblem) -> int:
    """Elements of the result."""
    return problem.g * problem.k * _pixels(problem)


def itemsize_of(dtype: str) -> int:
    """Bytes of an element."""
    return {"float64": 8, "float32": 4}.get(dtype, 2)


def cut_into(problem: ConvProblem, tile: Tile, slices: int = 1) -> Cut:
    """The cut into tiles of a shape, and into so many slices if there are steps enough."""
    taps, filled = prod(problem.kernel), round_up(problem.c, STEP)
    least = round_up(taps * problem.c, STEP)
    flat = max(problem.kernel) <= FLAT_TAPS and least * (FILLED + 1) < taps * filled * FILLED
    channels = problem.c if flat else filled
    steps = ceil_div(taps * channels, STEP)
    of_slice = ceil_div(steps, slices)
    tiles_k, tiles_p = ceil_div(problem.k, tile.rows), ceil_div(_pixels(problem), tile.columns)
    return Cut(tile, tiles_k, tiles_p, ceil_div(steps, of_slice), of_slice, steps, flat, channels)


@lru_cache(maxsize=256)
def cut(problem: ConvProblem, dtype: str) -> Cut:
    """The tile and the slices that should take least time, by a model of the instructions.

    >>> problem = ConvProblem(
    ...     32, 1, 128, 128, 1, 28, 28, 1, 3, 3, 1, 28, 28, 1, 1, 1, 1, 1, 1, 0, 1, 1
    ... )
    >>> found = cut(problem, "float32")
    >>> found.tile.rows, found.tile.columns, found.slices
    (64, 128, 1)
    """
    found = []
    for number, (tile, share) in enumerate(TILES[ACCUMULATED[dtype]]):
        for slices in SLICES:
            made = cut_into(problem, tile, slices)
            if slices > 1 and made.slice_steps < LEAST_STEPS:
                break
            found.append((_cycles(problem, dtype, made, share), number, slices, made))
    return min(found)[-1]


def _cycles(problem: ConvProblem, dtype: str, cut: Cut, share: float) -> float:
    tile, double = cut.tile, 1 + (dtype == "float64")
    step = tile.rows * tile.columns * STEP * double / (LANES * share)
    block = cut.slice_steps * step + BLOCK_CYCLES
    blocks = cut.tiles_k * cut.tiles_p * cut.slices * problem.g
    waves, rest = divmod(blocks, PROCESSORS * tile.blocks)
    cycles = waves * tile.blocks * block
    if rest:
        cycles += max(ceil_div(rest, PROCESSORS), BUSY_WARPS / (tile.threads / 32)) * block
    if cut.slices > 1:
        sums = problem.g * problem.k * _pixels(problem) * itemsize_of(ACCUMULATED[dtype])
        cycles += LAUNCH_CYCLES + 2 * cut.slices * sums / BYTES_PER_CYCLE
    return cycles


def _packed_bytes(problem: ConvProblem, dtype: str, made: Cut) -> int:
    size = problem.g * made.steps * STEP * made.pitch * itemsize_of(ACCUMULATED[dtype])
    return round_up(size, ALIGNMENT)


def scratch_bytes(problem: ConvProblem, dtype: str, made: Cut | None = None) -> int:
    """Packed weights, and the sums of slices."""
    outputs = outputs_of(problem)
    if not outputs:
        return 0
    made = made or cut(problem, dtype)
    sums = made.slices * outputs * itemsize_of(ACCUMULATED[dtype]) if made.slices > 1 else 0
    return _packed_bytes(problem, dtype, made) + sums


def fprop(call: ConvCall, skips_padding: bool = False, made: Cut | None = None) -> Program:
    """Pack, sum tiles, and add up slices. ``skips_padding``: an infinite weight isn't multiplied
    by zeros beyond the input. ``made``: another cut than the problem's own."""
    if not outputs_of(call.problem):
        return Program(())
    made = made or cut(call.problem, call.dtype)
    x = View("first", 0, call.first, call.aligned[0])
    out = View("out", 0, call.out, call.aligned[2])
    launches = tuple(launches_of(call, call.problem, made, x, out, 0, skips_padding))
    return Program(launches, scratch_bytes(call.problem, call.dtype, made))


dgrad = dgrad_of(partial(fprop, skips_padding=True))


def launches_of(
    call: ConvCall, problem: ConvProblem, made: Cut, x: View, out: View, scratch: int,
    skips_padding: bool, whole: Whole | None = None,
) -> Iterator[Launch]:  # fmt: skip
    """The launches of a problem that has outputs, that of the packing first.

    They have the call's weights, bias and activation, and scratch that begins ``scratch`` bytes
    further on. ``skips_padding`` as ``fprop`` has it. ``whole``: the convolution, where ``problem``
    is the product over its columns.
    """
    outputs, itemsize = outputs_of(problem), itemsize_of(ACCUMULATED[call.dtype])
    window, source = whole or Whole(problem, x)
    channels = window.c if whole else made.channels
    packed = At("scratch", scratch // itemsize)
    yield _packing(call, window, made, channels, packed)
    sliced = made.slices > 1
    by_channels = abs(out.strides[1]) < abs(out.strides[4])
    sums = out
    if sliced:
        behind = scratch + _packed_bytes(problem, call.dtype, made)
        sums = _partial(problem, by_channels)._replace(offset=behind // itemsize)
    # What it takes to sum an output again.
    given = At("bias" if call.bias else "second")
    again = At(source.operand, source.offset), packed, given, window, source.strides
    numbers = (*made[1:6], channels, made.pitch, outputs if sliced else 0)
    skips = skips_padding and reads_padding(window)
    yield _tiles(call, problem, made, x, sums, (*again, sums.strides, numbers), skips)
    if sliced:
        yield _finish(call, outputs, sums, out, (*again, out.strides, numbers), skips, by_channels)


#: Types of what the tiles and the sum of slices both take: the input, weights and bias with which
#: a sum is made again, problem and strides of those, strides of the result, numbers of the cut.
_AGAIN = "problem", "int32[5]", "int32[5]", "int32[8]"


def _tiles(
    call: ConvCall, problem: ConvProblem, made: Cut, x: View, sums: View, again: tuple[Any, ...],
    skips: bool,
) -> Launch:  # fmt: skip
    total, pointer = ACCUMULATED[call.dtype], f"{STORED[call.dtype]}*"
    sliced = made.slices > 1
    result = total if sliced else call.dtype
    last = (False, False, None) if sliced else (skips, call.bias, call.activation)
    constants = (
        made.tile, call.dtype, result, made.flat, _reads_channels(problem, x, made),
        _store(problem, sums, made), *last,
    )  # fmt: skip
    signature = (
        pointer, f"{STORED[result]}*", "problem", "int32[5]",
        pointer, f"{total}*", pointer, *_AGAIN,
    )  # fmt: skip
    entry = Entry(build_conv, constants, signature, made.tile.threads, made.tile.blocks)
    blocks = made.tiles_k * made.tiles_p * made.slices * problem.g
    target = At(sums.operand, sums.offset)
    args = At(x.operand, x.offset), target, problem, x.strides, *again
    return Launch(entry, (blocks, 1, 1), args)


def _finish(
    call: ConvCall, outputs: int, sums: View, out: View, again: tuple[Any, ...], skips: bool,
    by_channels: bool,
) -> Launch:  # fmt: skip
    total, pointer = f"{ACCUMULATED[call.dtype]}*", f"{STORED[call.dtype]}*"
    constants = call.dtype, by_channels, skips, call.bias, call.activation
    signature = total, pointer, pointer, total, pointer, *_AGAIN
    entry = Entry(build_finish, constants, signature, FINISH_THREADS)
    args = At(sums.operand, sums.offset), At(out.operand, out.offset), *again
    return Launch(entry, (ceil_div(outputs, FINISH_THREADS), 1, 1), args)


def _packing(call: ConvCall, problem: ConvProblem, made: Cut, channels: int, packed: At) -> Launch:
    k_step, c_step, *tap_steps = call.second
    order = "k" if k_step == 1 else "c" if c_step == 1 else "t"
    sizes = made.steps * STEP, channels, made.pitch
    signature = (
        f"{STORED[call.dtype]}*", f"{ACCUMULATED[call.dtype]}*", "problem", "int32[3]", "int32[6]"
    )  # fmt: skip
    entry = Entry(build_pack, (call.dtype, order), signature, PACK_THREADS)
    blocks = problem.g * ceil_div(sizes[0], PACKED) * ceil_div(sizes[2], PACKED)
    strides = call.group_step, k_step, c_step, *tap_steps
    return Launch(entry, (blocks, 1, 1), (At("second"), packed, problem, sizes, strides))


def _partial(problem: ConvProblem, by_channels: bool) -> View:
    """Sums of a slice: pixels (or channels) side by side."""
    o, p, q = problem.output
    if by_channels:
        k = problem.g * problem.k
        return View("scratch", 0, (o * p * q * k, 1, p * q * k, q * k, k), True)
    return View("scratch", 0, (o * p * q, _pixels(problem), p * q, q, 1), True)


def _fours(*numbers: int) -> bool:
    return all(number % 4 == 0 for number in numbers)


def _reads_channels(problem: ConvProblem, x: View, made: Cut) -> bool:
    """Whether four channels may be read at once; strides of unit axes don't matter."""
    extents = problem.n, 1, *problem.size
    steps = [step for extent, step in zip(extents, x.strides, strict=True) if extent > 1]
    beside = x.strides[1] == 1 and x.aligned and not made.flat
    return beside and _fours(problem.c, x.offset, *steps)


def _store(problem: ConvProblem, out: View, made: Cut) -> str:
    """Whether four pixels or channels are stored at once; strides of unit axes don't matter."""
    extents = problem.n, 1, *problem.output
    pairs = list(zip(extents, out.strides, strict=True))
    if made.tile.vector != 4 or not out.aligned or out.offset % 4:
        return "single"
    if out.strides[1] == 1:
        steps = [step for extent, step in pairs if extent > 1]
        return "channels" if _fours(problem.k, *steps) else "single"
    run = 1
    steps = []
    for extent, step in reversed(pairs[2:]):
        if extent > 1 and not steps and step == run:
            run *= extent
        elif extent > 1:
            steps.append(step)
    steps += [out.strides[0] if problem.n > 1 else 0, out.strides[1]]
    return "pixels" if _fours(run, *steps) else "single"
