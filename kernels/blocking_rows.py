"""How the direct rows cut their work: block sizes, task counts and scratch.

A function of the problem alone, never of the number of threads (see ``blocking``).
"""

from __future__ import annotations

from typing import NamedTuple

from .blocking import (
    DIRECT_CHANNELS,
    DIRECT_COLUMNS,
    MIN_TASKS,
    TILE_BYTES,
    reduction_length,
    split_evenly,
)
from .problem import ConvProblem
from .shapes import ceil_div, effective_kernel, round_up

#: Bytes of padded input under a task: three quarters of a 512 KiB L2. With 64 channels of 112
#: columns 128 KiB would be two output rows.
HALO_BYTES = 384 * 1024
#: Columns of a task that copies, at most, and a number of rows that the register blocks divide: of
#: 7 rows, 3 x 3 in place, or 2 along channels.
MOST_COLUMNS = 2048
ROWS = 14
#: Kernel and output rows, at least, of one out-channel that share loads.
SHARED_ROWS = 3
#: An offset of a tap.
STEP_BYTES = 8


class RowsCut(NamedTuple):
    """Task = (n, g, block of ``channels`` of k, o, block of ``rows``, block of ``columns``).

    Local scratch: the offset of every (t, r, s, c) in a copy, and of every (s, c) in the input; the
    weights of up to DIRECT_CHANNELS out-channels, ``[t][r][s][c][k]``; the padded input under the
    task, its rows and columns dealt out by their position modulo the stride,
    ``[t][c][phases_h][phases_w][plane]``, of which a row is ``pitch`` elements, and ``rest`` zeros
    follow the last. Padding between rows is there once: behind a row and in front of the next.
    Where nothing is copied, ``zero_elements`` zeros are there instead.
    """

    channels: int
    k_blocks: int
    rows: int
    row_blocks: int
    columns: int
    column_blocks: int
    phases_h: int
    phases_w: int
    pitch: int
    plane: int
    rest: int
    step_elements: int
    weight_elements: int
    zero_elements: int
    tasks: int
    shared_elements: int
    local_elements: int


def takes_3x3(problem: ConvProblem) -> bool:
    """Whether there is a loop for its taps that copies nothing where columns are contiguous."""
    return (
        (problem.c, problem.t, problem.r, problem.s) == (1, 1, 3, 3)
        and problem.dilation_h == problem.dilation_w == 1
        and problem.stride_h == problem.stride_w <= 2
    )


def rows_cut(problem: ConvProblem, itemsize: int, least_tasks: int = MIN_TASKS) -> RowsCut:
    """Blocks of the direct rows; of ``least_tasks`` tasks where the problem has as many."""
    lanes = TILE_BYTES // itemsize
    columns = min(round_up(split_evenly(problem.q, _widest(problem, itemsize)), lanes), problem.q)
    column_blocks = ceil_div(problem.q, columns)
    span_h = effective_kernel(problem.r, problem.dilation_h)
    span_w = effective_kernel(problem.s, problem.dilation_w)
    phases_h, phases_w = min(problem.stride_h, span_h), min(problem.stride_w, span_w)
    common = 0
    if column_blocks == problem.stride_w == 1:
        common = min(problem.pad_w, problem.pad_after[2], span_w - 1)
    pitch = columns + (span_w - 1) // problem.stride_w - common
    rest = common + lanes
    planes = problem.t * problem.c * phases_h * phases_w
    row_elements = planes * pitch
    cached = HALO_BYTES // (row_elements * itemsize) - (span_h - 1) // problem.stride_h
    if takes_3x3(problem):
        # In place, where the cache holds what blocks of rows have in common.
        cached = max(cached, ROWS)
    rows = _rows_of(problem, lanes, column_blocks, cached, least_tasks)
    row_blocks = ceil_div(problem.p, rows)
    strips = problem.n * problem.g * problem.o * column_blocks
    channels = _channels_of(problem, strips * row_blocks, least_tasks)
    k_blocks = ceil_div(problem.k, channels)
    plane = round_up((rows + (span_h - 1) // problem.stride_h) * pitch + rest, lanes)
    steps = reduction_length(problem) + problem.s * problem.c
    step_elements = round_up(steps * STEP_BYTES // itemsize, lanes)
    weight_elements = _weight_elements_of(problem, lanes)
    zero_elements = problem.stride_w * round_up(columns, lanes) + 2 * lanes
    return RowsCut(
        channels=channels,
        k_blocks=k_blocks,
        rows=rows,
        row_blocks=row_blocks,
        columns=columns,
        column_blocks=column_blocks,
        phases_h=phases_h,
        phases_w=phases_w,
        pitch=pitch,
        plane=plane,
        rest=rest,
        step_elements=step_elements,
        weight_elements=weight_elements,
        zero_elements=zero_elements,
        tasks=strips * row_blocks * k_blocks,
        shared_elements=0,
        local_elements=step_elements + weight_elements + max(planes * plane, zero_elements),
    )


def _widest(problem: ConvProblem, itemsize: int) -> int:
    """Columns of a task at most: whole rows come from memory quicker than parts of them, but a task
    has at least so many rows that most of its copy isn't copied again for the next one."""
    if takes_3x3(problem):
        return 2 * MOST_COLUMNS
    rows = 3 * ROWS * problem.stride_h + effective_kernel(problem.r, problem.dilation_h)
    fitting = HALO_BYTES // (problem.t * problem.c * problem.stride_w * rows * itemsize)
    return max(min(fitting, MOST_COLUMNS), DIRECT_COLUMNS)


def _rows_of(
    problem: ConvProblem, lanes: int, column_blocks: int, cached: int, least_tasks: int
) -> int:
    """Output rows of a task: ``cached`` at most, fewer for more tasks; by multiples of ROWS."""
    strips = problem.n * problem.g * problem.o * column_blocks
    if problem.c == problem.k == 1:
        # Where channels lie next to each other, one task of two vectors does all their groups.
        strips = ceil_div(strips, 2 * lanes)
    finest = max(ceil_div(problem.p * strips, least_tasks), ROWS)
    rows = split_evenly(problem.p, max(min(cached, finest), 1))
    if ROWS <= rows < problem.p:
        rows -= rows % ROWS
    return rows


def _channels_of(problem: ConvProblem, places: int, least_tasks: int) -> int:
    """Out-channels of a task, where there are as many ``places`` times blocks of them as tasks."""
    sets = ceil_div(problem.k, DIRECT_CHANNELS)
    wanted = ceil_div(least_tasks, max(places, 1))
    return ceil_div(sets, min(wanted, sets)) * DIRECT_CHANNELS


def _weight_elements_of(problem: ConvProblem, lanes: int) -> int:
    """Weights of up to DIRECT_CHANNELS out-channels, or of two vectors of them."""
    side_by_side = 2 * lanes if problem.c == problem.k == 1 else min(problem.k, DIRECT_CHANNELS)
    return round_up(reduction_length(problem) * side_by_side, lanes)
