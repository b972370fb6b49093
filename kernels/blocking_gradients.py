"""How the rows that are made for gradients cut their work, as ``blocking`` for the others."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from .blocking import DIRECT_CHANNELS, MIN_TASKS, TILE_BYTES, reduction_length, split_evenly
from .problem import ConvProblem
from .shapes import ceil_div, effective_kernel, round_up

#: Taps of a kernel row that the direct dgrad of pairs of columns takes, and rows of a task times
#: taps (t, r).
PAIR_TAPS = 16
PAIR_PLACES = 512
#: Weights of a wgrad register tile, and channels that are too few for one: their taps along a row
#: lie side by side with them.
WGRAD_WEIGHTS = 12
WGRAD_FEW_CHANNELS = 6
#: Pixels of a wgrad unit, 256 x 64 bytes of a panel's gradients (16 KiB), and its columns at most:
#: of a flat unit the taps would copy the same rows again.
WGRAD_PIXELS = 256
WGRAD_COLUMNS = 64
#: Bytes of a task's sums, which units go through one after the other: they stay in L2. Panels of a
#: task at most, tasks that are wanted at least, and scratch that slices may always have for it.
WGRAD_SUM_BYTES = 512 * 1024
WGRAD_PANELS = 16
WGRAD_TASKS = 8
WGRAD_SLICE_BYTES = 1024 * 1024
#: Bytes of input and gradient rows that a unit of the direct wgrad reads for every tap: they stay
#: in L2 meanwhile.
WGRAD_ROWS_BYTES = 128 * 1024
#: Out-channels that a task of the direct wgrad sums side by side.
WGRAD_FILTERS = 4


def in_pairs(problem: ConvProblem) -> bool:
    """Whether the direct dgrad computes every second column beside the one before."""
    return (
        problem.stride_w == 2
        and problem.dilation_w == 1
        and 1 < problem.s <= PAIR_TAPS
        and problem.t * problem.r <= PAIR_PLACES
        and problem.c <= DIRECT_CHANNELS
    )


class DgradCut(NamedTuple):
    """Task = (n, g, block of ``channels``, d, block of ``rows`` of the result). No scratch."""

    channels: int
    channel_blocks: int
    rows: int
    row_blocks: int
    tasks: int


@lru_cache(maxsize=256)
def dgrad_cut(problem: ConvProblem) -> DgradCut:
    """Blocks of the direct dgrad of pairs of columns."""
    channels = split_evenly(problem.c, DIRECT_CHANNELS)
    channel_blocks = ceil_div(problem.c, channels)
    planes = problem.n * problem.g * channel_blocks * problem.d
    most = min(ceil_div(problem.h * planes, MIN_TASKS), PAIR_PLACES // (problem.t * problem.r))
    rows = split_evenly(problem.h, max(most, 1))
    row_blocks = ceil_div(problem.h, rows)
    return DgradCut(channels, channel_blocks, rows, row_blocks, planes * row_blocks)


class WgradCut(NamedTuple):
    """Task = (g, block of ``panels``, block of ``channels``, slice of ``slice_units`` units).

    A unit is (n, o, block of ``rows``, block of ``columns``). Local scratch: the gradients of a
    unit, ``[panel][pixels][width]``, then the padded input under it, channels last, for
    ``tile_channels`` at a time, ``[t][halo_rows][halo_columns][tile_channels]``. A register tile is
    ``tile_weights`` of them, or of them and the taps of a row if they go ``together``, x one or two
    panels. The sums of one slice are local, of several shared scratch:
    ``[slice][g][panel][c][t][r][s][width]``.
    """

    width: int
    panels: int
    k_blocks: int
    channels: int
    channel_blocks: int
    together: int
    tile_channels: int
    tile_weights: int
    rows: int
    row_blocks: int
    columns: int
    column_blocks: int
    pixels: int
    halo_rows: int
    halo_columns: int
    halo_elements: int
    units: int
    slices: int
    slice_units: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


@lru_cache(maxsize=256)
def exchanged_product(problem: ConvProblem, itemsize: int) -> ConvProblem | None:
    """The wgrad of input and gradient in each other's place, if the tiled rows compute that.

    Kernels of one tap are a product of the two. In (K, C) its rows are vectors along C, which are
    stored as they were summed, and not through a transpose that takes as long as the sums.
    """
    width = TILE_BYTES // itemsize
    reach = ((o - 1) * step for o, step in zip(problem.output, problem.stride, strict=True))
    if (
        problem.g > 1
        or problem.kernel != (1, 1, 1)
        or any(problem.pad)
        or any(last >= size for last, size in zip(reach, problem.size, strict=True))
        # Lanes that are left unused would cost more.
        or 4 * round_up(problem.c, width) * problem.k > 5 * round_up(problem.k, width) * problem.c
    ):
        return None
    d, h, w = problem.output
    return problem._replace(
        c=problem.k, k=problem.c, d=d, h=h, w=w, stride_d=1, stride_h=1, stride_w=1,
        dilation_d=1, dilation_h=1, dilation_w=1,
    )  # fmt: skip


def wgrad_tiled_cut(problem: ConvProblem, itemsize: int) -> WgradCut:
    """Blocks of the tiled rows of wgrad, of the exchanged product where there is one."""
    return wgrad_cut(exchanged_product(problem, itemsize) or problem, itemsize)


@lru_cache(maxsize=256)
def wgrad_cut(problem: ConvProblem, itemsize: int) -> WgradCut:
    """Blocks of the tiled rows of wgrad, of the problem as it is."""
    width, taps = TILE_BYTES // itemsize, problem.t * problem.r * problem.s
    columns = split_evenly(problem.q, WGRAD_PIXELS if taps == 1 else WGRAD_COLUMNS)
    rows = split_evenly(problem.p, max(WGRAD_PIXELS // columns, 1))
    row_blocks, column_blocks = ceil_div(problem.p, rows), ceil_div(problem.q, columns)
    halo_rows = (rows - 1) * problem.stride_h + effective_kernel(problem.r, problem.dilation_h)
    halo_columns = (columns - 1) * problem.stride_w + effective_kernel(
        problem.s, problem.dilation_w
    )
    together = problem.c <= WGRAD_FEW_CHANNELS and problem.dilation_w == 1
    tile_channels = split_evenly(problem.c, WGRAD_WEIGHTS)
    run = tile_channels * problem.s if together else tile_channels
    all_panels, units = (
        ceil_div(problem.k, width),
        problem.n * problem.o * row_blocks * column_blocks,
    )
    sums = problem.g * all_panels * problem.c * taps * width
    slices = _wgrad_slices(problem, units, sums, itemsize)
    slice_units = ceil_div(max(units, 1), slices)
    slices = ceil_div(max(units, 1), slice_units)
    panels, channels = _wgrad_block(
        problem, problem.g * slices, all_panels, tile_channels, taps * TILE_BYTES
    )
    k_blocks, channel_blocks = ceil_div(all_panels, panels), ceil_div(problem.c, channels)
    halo_elements = round_up(problem.t * halo_rows * halo_columns * tile_channels, width)
    return WgradCut(
        width=width,
        panels=panels,
        k_blocks=k_blocks,
        channels=channels,
        channel_blocks=channel_blocks,
        together=int(together),
        tile_channels=tile_channels,
        tile_weights=split_evenly(run, WGRAD_WEIGHTS),
        rows=rows,
        row_blocks=row_blocks,
        columns=columns,
        column_blocks=column_blocks,
        pixels=rows * columns,
        halo_rows=halo_rows,
        halo_columns=halo_columns,
        halo_elements=halo_elements,
        units=units,
        slices=slices,
        slice_units=slice_units,
        tasks=problem.g * k_blocks * channel_blocks * slices,
        weight_panels=problem.g * all_panels,
        shared_elements=slices * sums if slices > 1 else 0,
        local_elements=panels * rows * columns * width
        + halo_elements
        + (panels * channels * taps * width if slices == 1 else 0),
    )


def _wgrad_slices(problem: ConvProblem, units: int, sums: int, itemsize: int) -> int:
    """Slices of the reduction: an eighth of what is read may go into their sums."""
    read = (
        problem.n
        * problem.g
        * (
            problem.c * problem.d * problem.h * problem.w
            + problem.k * problem.o * problem.p * problem.q
        )
    )
    room = max(WGRAD_SLICE_BYTES // itemsize, read // 8)
    wanted = ceil_div(MIN_TASKS, problem.g)
    return max(min(wanted, units, room // max(sums, 1)), 1)


def _wgrad_block(
    problem: ConvProblem, others: int, all_panels: int, tile_channels: int, weight_bytes: int
) -> tuple[int, int]:
    """Panels and channels of a task. Each block of the former copies all of the input again, each
    of the latter all gradients, so what is larger is cut."""
    pairs, tiles = ceil_div(all_panels, 2), ceil_div(problem.c, tile_channels)
    input_elements = problem.c * problem.d * problem.h * problem.w
    grad_elements = problem.k * problem.o * problem.p * problem.q
    share, part = min(pairs, WGRAD_PANELS // 2), tiles
    while share > 1 or part > 1:
        k_blocks, channel_blocks = ceil_div(pairs, share), ceil_div(tiles, part)
        sum_bytes = 2 * share * part * tile_channels * weight_bytes
        if others * k_blocks * channel_blocks >= WGRAD_TASKS and sum_bytes <= WGRAD_SUM_BYTES:
            break
        again = k_blocks * input_elements, channel_blocks * grad_elements
        if part == 1 or (share > 1 and again[0] <= again[1]):
            share = ceil_div(share, 2)
        else:
            part = ceil_div(part, 2)
    return min(2 * share, all_panels), min(part * tile_channels, problem.c)


class WgradDirectCut(NamedTuple):
    """Task = (g, block of ``filters`` out-channels, slice of ``slice_units`` units).

    A unit is (n, o, block of ``rows``). Local scratch: a vector of sums for every weight of the
    out-channels and a channel, ``[k][t][r][s][TILE_BYTES]``. Every ``row_step``-th kernel row reads
    the same input rows, for outputs ``row_spread`` apart. Shared scratch, of several slices: the
    sums of the tasks, ``[slice][g][k][c][t][r][s]``.
    """

    filters: int
    k_blocks: int
    row_step: int
    row_spread: int
    rows: int
    row_blocks: int
    units: int
    slices: int
    slice_units: int
    tasks: int
    weight_panels: int
    shared_elements: int
    local_elements: int


@lru_cache(maxsize=256)
def wgrad_direct_cut(problem: ConvProblem, itemsize: int) -> WgradDirectCut:
    """Blocks of the direct rows of wgrad."""
    filters = split_evenly(problem.k, WGRAD_FILTERS)
    k_blocks = ceil_div(problem.k, filters)
    # Without the padding: drivers.wgrad_multiplying_padding replaces it, and the cut must stay the
    # same.
    planes = problem.n * problem.o * problem.g * k_blocks
    most = ceil_div(problem.p * planes, MIN_TASKS)
    if filters > 1:
        most = WGRAD_ROWS_BYTES // ((problem.stride_w + filters) * problem.q * itemsize)
    rows = split_evenly(problem.p, max(most, 1))
    row_blocks = ceil_div(problem.p, rows)
    common = math.gcd(problem.stride_h, problem.dilation_h)
    units = problem.n * problem.o * row_blocks
    slice_units = ceil_div(max(units, 1), ceil_div(MIN_TASKS, problem.g * k_blocks))
    slices = ceil_div(max(units, 1), slice_units)
    weights = problem.g * problem.k * reduction_length(problem)
    return WgradDirectCut(
        filters=filters,
        k_blocks=k_blocks,
        row_step=problem.stride_h // common,
        row_spread=problem.dilation_h // common,
        rows=rows,
        row_blocks=row_blocks,
        units=units,
        slices=slices,
        slice_units=slice_units,
        tasks=problem.g * k_blocks * slices,
        weight_panels=problem.g * problem.k,
        shared_elements=slices * weights if slices > 1 else 0,
        local_elements=filters * problem.t * problem.r * problem.s * TILE_BYTES // itemsize,
    )
