"""Convolution on tensor cores: implicit GEMM by mma.sync, copies to shared memory in flight.

x        (N, C, D, H, W)    any strides            IN
weight   (K, C/G, T, R, S)  same dtype             IN
out      (N, K, O, P, Q)    overwritten            OUT
float16 and bfloat16 (products exact, rounded once from float32), and float32 as tf32. Accumulates
in float32. tf32 keeps 11 bits of an operand: weights are rounded to nearest, x too where it is
packed, else cut off by the hardware, so that a product is off by 2**-11 + 2**-10 of itself at most
(2**-11 + 2**-11 packed), besides float32 sums.
x is read as it lies if its channels are contiguous, whole chunks of 16 bytes and aligned; otherwise
a launch copies it so (``_tensor_pack``). Weights are always packed. Scratch: those, and
partial sums where the reduction is split, which add up in the order of the splits.
Tasks: a block per tile of pixels x out-channels, group and split (``_tensor_tile``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

from numba import config

from ..adjoints import phases_of
from ..drivers import reads_padding
from ..problem import ConvProblem
from ..shapes import ceil_div, round_up
from . import _tensor_again as again
from . import _tensor_pack as pack
from ._tensor_operands import Operand, itemsize_of
from ._tensor_tile import CHUNK, SIGNATURE, Tile, build_tile
from .phases import dgrad_of
from .program import STORED, At, ConvCall, Entry, Grid, Launch, Program

#: Multiprocessors of the card that blocks are cut for.
PROCESSORS = 132
#: Tiles of 128 or 64 pixels x out-channels, in steps of 128 bytes of the reduction, by four warps;
#: two or three blocks of a multiprocessor hide each other's waits.
TILES = (
    Tile(2, 2, 4, 8, 8, 3, 2),
    Tile(2, 2, 4, 4, 8, 3, 2),
    Tile(2, 2, 2, 8, 8, 3, 2),
    Tile(2, 2, 2, 4, 8, 4, 3),
)
#: For the simulator: a warp, and two taps of few channels in a step.
TINY = Tile(1, 1, 1, 2, 2, 3, 1)
TINY_WIDE = Tile(4, 1, 1, 2, 8, 3, 1, True)
MOST_SPLITS = 16
#: Bytes that segments of scratch begin at multiples of.
ALIGNMENT = 256
#: That many elements 32 bits can't tell apart.
ELEMENTS_LIMIT = 1 << 31


class Cut(NamedTuple):
    """How a problem is cut: tiles, steps of a split, splits."""

    tile: Tile
    steps: int
    splits: int


def _elements(itemsize: int) -> int:
    return CHUNK // itemsize


def _chunks(problem: ConvProblem, itemsize: int) -> tuple[int, int]:
    """Chunks of a tap's channels, and of the reduction."""
    of_tap = ceil_div(problem.c, _elements(itemsize))
    return of_tap, of_tap * math.prod(problem.kernel)


@lru_cache(maxsize=256)
def cut(problem: ConvProblem, itemsize: int, tiles: tuple[Tile, ...] = TILES) -> Cut:
    """The tile and split that take the least time by a model: waves of blocks, the time of one by
    its products and by what it reads, and the launch that adds parts up."""
    reduction = _chunks(problem, itemsize)[1]
    if config.ENABLE_CUDASIM:
        tile = TINY_WIDE if tiles[0].wide else TINY
        steps = ceil_div(reduction, tile.chunks)
        each = ceil_div(steps, 2 if steps >= 8 else 1)
        return Cut(tile, each, ceil_div(steps, each))
    found = []
    shape = problem.n * math.prod(problem.output), problem.k, problem.g
    for tile in tiles:
        steps = ceil_div(reduction, tile.chunks)
        for splits in range(1, min(MOST_SPLITS, steps) + 1):
            each = ceil_div(steps, splits)
            if ceil_div(steps, each) == splits:
                time = cycles(shape, tile, each, splits, splits > 1)
                found.append((time, Cut(tile, each, splits)))
    return min(found, key=lambda pair: pair[0])[1]


def cycles(shape: tuple[int, int, int], tile: Tile, steps: int, splits: int, adds: bool) -> float:
    """What a GEMM of rows x columns in groups takes, ``adds`` if a launch adds its splits up."""
    rows, columns, groups = shape
    blocks = ceil_div(rows, tile.pixels) * ceil_div(columns, tile.channels)
    waves = ceil_div(blocks * groups * splits, PROCESSORS)
    # Per step: products of 8 (of 16 bits) at their rate, and reads of operands and copies at 128
    # bytes a cycle. mma.sync has not two thirds of the rate of wgmma.
    products = tile.pixels * tile.channels * tile.chunks / (240 if tile.wide else 160)
    readers = tile.warps_m // 4 if tile.wide else tile.warps_m
    read = tile.warps_n * tile.pixels + readers * tile.channels
    moved = (read + tile.pixels + tile.channels) * tile.chunks * CHUNK / 128
    block = steps * max(products, moved) + 2000 + tile.pixels * tile.channels / 16
    # Memory: 4.3 TB/s at 1.8 GHz is 2400 bytes a cycle; a launch takes 2 us.
    added = 4 * rows * columns * groups * (2 * splits + 1) / 2400 + 3600
    return waves * block + (added if adds else 0)


class _Layout(NamedTuple):
    """Scratch: where its segments begin, in bytes, and their end."""

    weight: int
    x: int
    parts: int
    marks: int
    end: int


def _layout(problem: ConvProblem, itemsize: int, packs: bool, splits: int) -> _Layout:
    _, reduction = _chunks(problem, itemsize)
    pixels = problem.n * math.prod(problem.output)
    weight = problem.g * reduction * problem.k * CHUNK
    filled = round_up(problem.c, _elements(itemsize))
    x = problem.n * math.prod(problem.size) * problem.g * filled * itemsize if packs else 0
    parts = splits * problem.g * pixels * round_up(problem.k, 4) * 4 if splits > 1 else 0
    marks = 4 * math.prod(weight_grid(problem, itemsize)[0])
    ends = [0]
    for size in (weight, x, parts, marks):
        ends.append(round_up(ends[-1] + size, ALIGNMENT))
    return _Layout(*ends)


def scratch_bound(problem: ConvProblem, dtype: str, tiles: tuple[Tile, ...] = TILES) -> int:
    """The most that an fprop takes, whatever its strides."""
    itemsize = itemsize_of(dtype)
    return _layout(problem, itemsize, True, cut(problem, itemsize, tiles).splits).end


def fits(problem: ConvProblem, dtype: str) -> bool:
    """Whether scratch is indexed in 32 bits, however much of the problem is packed into it."""
    return scratch_bound(problem, dtype) // itemsize_of(dtype) < ELEMENTS_LIMIT


def fprop(call: ConvCall, tiles: tuple[Tile, ...] = TILES, skips_padding: bool = False) -> Program:
    """Pack, multiply, and add up what was split. ``skips_padding``: infinite weights aren't
    multiplied by padding."""
    problem, itemsize = call.problem, itemsize_of(call.dtype)
    if not problem.n * math.prod(problem.output) * problem.g * problem.k:
        return Program(())
    chosen = cut(problem, itemsize, tiles)
    if not fits(problem, call.dtype):
        raise ValueError(f"packed operands have {ELEMENTS_LIMIT} elements or more")
    x = _input_of(call)
    packs = not x.lies_in_chunks
    layout = _layout(problem, itemsize, packs, chosen.splits)
    skips_padding = skips_padding and reads_padding(problem)
    launches = [_pack_weight(call, layout, skips_padding)]
    if packs:
        launches.append(x.pack(layout.x))
    launches.append(_multiply(call, layout, chosen, packs))
    if chosen.splits > 1:
        launches.append(_add_parts(call, layout, chosen.splits))
    if skips_padding:
        launches.append(_compute_again(call, layout))
    return Program(tuple(launches), layout.end)


def _input_of(call: ConvCall) -> Operand:
    problem = call.problem
    return Operand(
        "first", call.dtype, problem.n, problem.g, problem.c, problem.size, call.first,
        call.aligned[0],
    )  # fmt: skip


def _output_of(call: ConvCall) -> Operand:
    problem = call.problem
    return Operand(
        "out", call.dtype, problem.n, problem.g, problem.k, problem.output, call.out,
        call.aligned[2],
    )  # fmt: skip


def weight_grid(problem: ConvProblem, itemsize: int) -> tuple[Grid, tuple[int, int]]:
    """Blocks that pack the weights, and taps and chunks of channels of one."""
    of_tap, _ = _chunks(problem, itemsize)
    taps = math.prod(problem.kernel)
    together = min(taps, pack.CHUNKS)
    chunks = min(of_tap, pack.CHUNKS // together)
    filters = problem.g * ceil_div(problem.k, pack.FILTERS)
    return (filters, ceil_div(of_tap, chunks), ceil_div(taps, together)), (together, chunks)


def _weight_strides(call: ConvCall) -> tuple[int, ...]:
    """(g, k, c, t, r, s)."""
    return call.group_step, *call.second


def _pack_weight(call: ConvCall, layout: _Layout, marked: bool) -> Launch:
    problem, itemsize = call.problem, itemsize_of(call.dtype)
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        pack.build_pack_weight,
        (call.dtype, marked),
        (pointer, pointer, "int32*", *pack.WEIGHT_SIGNATURE),
        pack.THREADS,
    )
    grid, block = weight_grid(problem, itemsize)
    args = (
        At("second"),
        At("scratch", layout.weight // itemsize),
        At("scratch", layout.marks // 4),
        (problem.g, problem.k, problem.c, *problem.kernel),
        _weight_strides(call),
        block,
        pack.order_of(*call.second[:2], call.second[4]),
    )
    return Launch(entry, grid, args)


def _digits(number: int, *bases: int) -> list[int]:
    """A number in a mixed radix, the lowest digit first."""
    digits = []
    for base in bases:
        number, digit = divmod(number, base)
        digits.append(digit)
    return [*digits, number]


def _multiply(call: ConvCall, layout: _Layout, chosen: Cut, packs: bool) -> Launch:
    problem, itemsize = call.problem, itemsize_of(call.dtype)
    tile, steps, splits = chosen
    of_tap, reduction = _chunks(problem, itemsize)
    pixels = problem.n * math.prod(problem.output)
    x, x_at = _input_of(call).source(layout.x if packs else None)
    if splits > 1:
        out, result, bias, activation = At("scratch", layout.parts // 4), "float32", False, None
        order, out_at = _parts_of(call)
    else:
        out, out_at = At("out"), (*call.out, problem.k * call.out[1], 0)
        result, bias, activation = call.dtype, call.bias, call.activation
        order = "channels" if _output_of(call).lies_in_chunks else "pixels"
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        build_tile,
        (call.dtype, tile, result, order, bias, activation),
        (pointer, pointer, pointer, f"{STORED[result]}*", *SIGNATURE),
        tile.threads,
        tile.blocks,
        tile.shared,
        "90a" if tile.wide else "80",
    )
    tiles = ceil_div(problem.k, tile.channels), ceil_div(pixels, tile.pixels)
    digits = _digits(tile.chunks, of_tap, problem.s, problem.r)
    args = (
        x,
        At("scratch", layout.weight // itemsize),
        At("bias" if bias else "second"),
        out,
        problem,
        x_at,
        out_at,
        (of_tap, reduction, *digits),
        (steps, *tiles),
    )
    return Launch(entry, (math.prod(tiles) * problem.g * splits, 1, 1), args)


def _channels_first(call: ConvCall) -> bool:
    """Whether out has its pixels, not its channels, next to each other."""
    return abs(call.out[1]) >= abs(call.out[4])


def _parts_of(call: ConvCall) -> tuple[str, tuple[int, ...]]:
    """How a tile writes its part of a split, and where: in the order of out, so that they are added
    up in it; channels, if next to each other, filled up to whole chunks."""
    problem = call.problem
    pixels = problem.n * math.prod(problem.output)
    q, k = (1, pixels) if _channels_first(call) else (round_up(problem.k, 4), 1)
    p = q * problem.q
    o = p * problem.p
    group = problem.k * k if _channels_first(call) else pixels * q
    order = "pixels" if _channels_first(call) else "channels"
    return order, (o * problem.o, k, o, p, q, group, problem.g * group)


def _add_parts(call: ConvCall, layout: _Layout, splits: int) -> Launch:
    problem = call.problem
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        pack.build_add_parts,
        (call.dtype, call.bias, call.activation),
        ("float32*", pointer, pointer, *pack.PARTS_SIGNATURE),
        pack.THREADS,
    )
    total = problem.n * math.prod(problem.output) * problem.g * problem.k
    args: tuple[Any, ...] = (
        At("scratch", layout.parts // 4),
        At("bias" if call.bias else "second"),
        At("out"),
        problem,
        call.out,
        splits,
        int(not _channels_first(call)),
    )
    return Launch(entry, (ceil_div(total, pack.THREADS), 1, 1), args)


def _compute_again(call: ConvCall, layout: _Layout) -> Launch:
    problem = call.problem
    pointer = f"{STORED[call.dtype]}*"
    entry = Entry(
        again.build_compute_again,
        (call.dtype, call.bias, call.activation),
        (*[pointer] * 4, "int32*", *again.SIGNATURE),
        again.THREADS,
    )
    args: tuple[Any, ...] = (
        At("first"),
        At("second"),
        At("bias" if call.bias else "second"),
        At("out"),
        At("scratch", layout.marks // 4),
        math.prod(weight_grid(problem, itemsize_of(call.dtype))[0]),
        problem,
        call.first,
        _weight_strides(call),
        call.out,
    )
    return Launch(entry, (again.BLOCKS, 1, 1), args)


def dgrad_on(tiles: tuple[Tile, ...]) -> Callable[[ConvCall], Program]:
    """The dgrad row on some tiles."""
    of_phases = dgrad_of(partial(fprop, tiles=tiles, skips_padding=True))

    def dgrad(call: ConvCall) -> Program:
        problem = call.problem
        grad = Operand(
            "first", call.dtype, problem.n, problem.g, problem.k, problem.output, call.first,
            call.aligned[0],
        )  # fmt: skip
        several = len(phases_of(problem)) > 1 and grad.packed_bytes > 0
        if grad.lies_in_chunks or problem.k != grad.filled or not several:
            return of_phases(call)
        # Packed once, at the beginning of scratch, for all phases.
        ahead = round_up(grad.packed_bytes, ALIGNMENT)
        n, d, h, w, _ = grad.source(0)[1]
        aligned = (True, *call.aligned[1:])
        program = of_phases(call._replace(first=(n, 1, d, h, w), aligned=aligned))
        launches = [_on_packed(launch, ahead) for launch in program.launches]
        return Program((grad.pack(0), *launches), ahead + program.scratch_bytes)

    return dgrad


def _on_packed(launch: Launch, ahead: int) -> Launch:
    """A launch whose "first" is at the beginning of scratch, and all else there further on."""

    def moved(arg: Any, text: str) -> Any:
        if not isinstance(arg, At) or arg.operand not in ("first", "scratch"):
            return arg
        size = 2 if text == "uint16*" else 4
        return At("scratch", arg.offset + (ahead // size if arg.operand == "scratch" else 0))

    pairs = zip(launch.args, launch.entry.signature, strict=True)
    return launch._replace(args=tuple(moved(*pair) for pair in pairs))


dgrad = dgrad_on(TILES)
