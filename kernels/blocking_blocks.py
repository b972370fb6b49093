"""How Numba's direct row cuts its work: block sizes, task counts and scratch.

A function of the problem alone, never of the number of threads (see ``blocking``).
"""

from __future__ import annotations

from typing import NamedTuple

from .blocking import DIRECT_COLUMNS, TILE_BYTES, split_evenly
from .blocking_rows import channels_of, rows_of, weight_elements_of
from .problem import ConvProblem
from .shapes import ceil_div, effective_kernel, round_up

#: Bytes of padded input under a task, a quarter of a 512 KiB L2, and a number of rows that the
#: register blocks divide.
HALO_BYTES = 128 * 1024
ROWS = 12
#: Per (s, c): two int64, for the input and for a copy; two masks of a vector.
STEP_BYTES = 2 * 16
EDGE_BYTES = 64


class BlocksCut(NamedTuple):
    """Task = (n, g, block of ``channels`` of k, o, block of ``rows``, block of ``columns``).

    Local scratch: memory and column offset of every (s, c), and where its first and last vectors
    end; the weights of up to
    DIRECT_CHANNELS out-channels, ``[t][r][s][c][k]``; the padded input under the task, its columns
    dealt out to ``phases`` if the stride is one, ``[t][halo_rows][c][phase][pitch]``.
    """

    channels: int
    k_blocks: int
    rows: int
    row_blocks: int
    columns: int
    column_blocks: int
    phases: int
    pitch: int
    halo_rows: int
    edge_elements: int
    step_elements: int
    weight_elements: int
    tasks: int
    shared_elements: int
    local_elements: int


def blocks_cut(problem: ConvProblem, itemsize: int) -> BlocksCut:
    """Blocks of Numba's direct row."""
    lanes = TILE_BYTES // itemsize
    columns = min(round_up(split_evenly(problem.q, DIRECT_COLUMNS), lanes), problem.q)
    column_blocks = ceil_div(problem.q, columns)
    phases = min(problem.stride_w, effective_kernel(problem.s, problem.dilation_w))
    reach = (problem.s - 1) * problem.dilation_w // problem.stride_w
    pitch = round_up(round_up(columns, lanes) + reach, lanes)
    row_elements = problem.t * problem.c * phases * pitch
    span = effective_kernel(problem.r, problem.dilation_h)
    cached = (HALO_BYTES // (row_elements * itemsize) - span) // problem.stride_h + 1
    rows = rows_of(problem, lanes, column_blocks, cached, ROWS)
    row_blocks = ceil_div(problem.p, rows)
    strips = problem.n * problem.g * problem.o * column_blocks
    channels = channels_of(problem, strips * row_blocks)
    k_blocks = ceil_div(problem.k, channels)
    halo_rows = (rows - 1) * problem.stride_h + span
    edge_elements = round_up(problem.s * problem.c * EDGE_BYTES // itemsize, lanes)
    step_elements = edge_elements + round_up(problem.s * problem.c * STEP_BYTES // itemsize, lanes)
    weight_elements = weight_elements_of(problem, lanes)
    return BlocksCut(
        channels=channels,
        k_blocks=k_blocks,
        rows=rows,
        row_blocks=row_blocks,
        columns=columns,
        column_blocks=column_blocks,
        phases=phases,
        pitch=pitch,
        halo_rows=halo_rows,
        edge_elements=edge_elements,
        step_elements=step_elements,
        weight_elements=weight_elements,
        tasks=strips * row_blocks * k_blocks,
        shared_elements=0,
        local_elements=step_elements + weight_elements + halo_rows * row_elements,
    )
