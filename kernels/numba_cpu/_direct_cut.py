"""The direct row's cut as compiled code: what ``blocking_rows.rows_cut`` computes, line by line
(a test compares them)."""

from __future__ import annotations

from typing import Any

from ..blocking import DIRECT_CHANNELS, DIRECT_COLUMNS, TILE_BYTES
from ..blocking_rows import HALO_BYTES, MOST_COLUMNS, ROWS, STEP_BYTES, RowsCut
from ._emit import Code, Operand


def _ceil_div(a: Operand, b: Operand) -> Operand:
    return (a + b - 1) // b


def _round_up(a: Operand, multiple: int) -> Operand:
    return _ceil_div(a, multiple) * multiple


def _split_evenly(code: Code, total: Operand, most: Operand) -> Any:
    return _ceil_div(total, _ceil_div(total, code.of(most)))


def _takes_3x3(problem: Any) -> Any:
    taps = problem.c.equals(1) & problem.t.equals(1) & problem.r.equals(3) & problem.s.equals(3)
    near = problem.dilation_h.equals(1) & problem.dilation_w.equals(1)
    return taps & near & problem.stride_h.equals(problem.stride_w) & (problem.stride_w <= 2)


def cut_of(code: Code, problem: Any, least_tasks: Operand) -> Any:
    """``rows_cut(problem, itemsize, least_tasks)``, fields and all of them values."""
    size, lanes = code.itemsize, TILE_BYTES // code.itemsize
    in_place, depthwise = _takes_3x3(problem), problem.c.equals(1) & problem.k.equals(1)
    span_h = problem.dilation_h * (problem.r - 1) + 1
    span_w = problem.dilation_w * (problem.s - 1) + 1
    phases_h = code.least(problem.stride_h, span_h)
    phases_w = code.least(problem.stride_w, span_w)
    length = problem.c * problem.t * problem.r * problem.s

    rows = problem.stride_h * (3 * ROWS) + span_h
    # Factor by factor: the product may pass 64 bits.
    fitting = code.of(HALO_BYTES) // (problem.t * problem.c) // problem.stride_w // rows // size
    widest = code.greatest(code.least(fitting, MOST_COLUMNS), DIRECT_COLUMNS)
    widest = code.choose(in_place, 2 * MOST_COLUMNS, widest)
    columns = code.least(_round_up(_split_evenly(code, problem.q, widest), lanes), problem.q)
    column_blocks = _ceil_div(problem.q, columns)
    behind = (problem.q - 1) * problem.stride_w + span_w - problem.pad_w - problem.w
    common = code.least(code.least(problem.pad_w, code.greatest(behind, 0)), span_w - 1)
    alone = column_blocks.equals(1) & problem.stride_w.equals(1)
    common = code.choose(alone, common, 0)
    pitch = columns + (span_w - 1) // problem.stride_w - common
    rest = common + lanes
    planes = problem.t * problem.c * phases_h * phases_w

    cached = code.of(HALO_BYTES) // planes // pitch // size - (span_h - 1) // problem.stride_h
    cached = code.choose(in_place, code.greatest(cached, ROWS), cached)
    strips = problem.n * problem.g * problem.o * column_blocks
    counted = code.choose(depthwise, _ceil_div(strips, 2 * lanes), strips)
    finest = code.greatest(_ceil_div(problem.p * counted, least_tasks), ROWS)
    rows = code.greatest(code.least(cached, finest), 1)
    rows = _split_evenly(code, problem.p, rows)
    whole = (rows >= ROWS) & (rows < problem.p)
    rows = code.choose(whole, rows - rows % ROWS, rows)
    row_blocks = _ceil_div(problem.p, rows)

    sets = _ceil_div(problem.k, DIRECT_CHANNELS)
    wanted = _ceil_div(least_tasks, code.greatest(strips * row_blocks, 1))
    channels = _ceil_div(sets, code.least(wanted, sets)) * DIRECT_CHANNELS
    k_blocks = _ceil_div(problem.k, channels)
    plane = _round_up((rows + (span_h - 1) // problem.stride_h) * pitch + rest, lanes)
    steps = length + problem.s * problem.c
    step_elements = _round_up(steps * STEP_BYTES // size, lanes)
    together = code.choose(depthwise, 2 * lanes, code.least(problem.k, DIRECT_CHANNELS))
    weight_elements = _round_up(length * together, lanes)
    zero_elements = problem.stride_w * _round_up(columns, lanes) + 2 * lanes
    copied = code.greatest(planes * plane, zero_elements)
    fields: dict[str, Operand] = {
        "channels": channels,
        "k_blocks": k_blocks,
        "rows": rows,
        "row_blocks": row_blocks,
        "columns": columns,
        "column_blocks": column_blocks,
        "phases_h": phases_h,
        "phases_w": phases_w,
        "pitch": pitch,
        "plane": plane,
        "rest": rest,
        "step_elements": step_elements,
        "weight_elements": weight_elements,
        "zero_elements": zero_elements,
        "tasks": strips * row_blocks * k_blocks,
        "shared_elements": code.of(0),
        "local_elements": step_elements + weight_elements + copied,
    }
    return RowsCut(**fields)
