"""Window reductions on the GPU: maximum, maximum with its index, mean.

x        (N, C, D, H, W)    any strides           IN
out      (N, C, O, P, Q)    any strides           OUT
indices  (N, C, O, P, Q)    int64, any strides    OUT
Accumulates in the dtype (int64 wraps), 16-bit floats in float32. Scratch: none.
A maximum is NaN where its window holds one, and the least value (index -1) where the window is
empty; an index is the flat d x h x w one of the first maximum, or of the last NaN. A mean of int64
is truncated towards zero.
Assumes a validated PoolGeometry; raises nothing.
"""

from __future__ import annotations

import math
from typing import Any

from ..shapes import ceil_div
from ._pool_general import build_pool
from ._pool_strips import MOST_OUTPUTS, MOST_ROWS, Strip, build_strips, vector_of
from ._pool_whole import Whole, build_whole
from ._pool_windows import axes_of, kind_of, magic, regular
from .program import ACCUMULATED, STORED, At, Entry, Launch, PoolCall, Program, Strides

#: Threads of a block.
THREADS = 256
#: Threads that fill the multiprocessors of the largest GPU in question: 132 of 1024 each.
ENOUGH = 132 * 1024
#: Neighbouring vectors of channels in a block: 256 bytes, so that the rest of it is neighbours
#: along w, which share inputs.
LANES = 16
#: Planes of so few places are small windows; threads that share a plane of at most so many places
#: (or vectors of them), else all of a block.
FEW, GROUPS = 8, ((64, 4), (128, 8), (2048, 32))


def call_of(
    geometry: Any, dtype: str, first: Strides, out: Strides, indices: Strides | None = None,
    aligned: tuple[bool, bool, bool] = (True, True, True),
) -> PoolCall:  # fmt: skip
    """The call of a PoolGeometry for arrays of a dtype and element strides."""
    before, after = zip(*geometry.padding, strict=True)
    return PoolCall(
        geometry.problem.n, geometry.problem.c, geometry.size, geometry.output, geometry.kernel,
        geometry.stride, geometry.dilation, before, after, geometry.reduction, dtype, first, out,
        indices, geometry.adaptive, geometry.divisor, geometry.count_include_pad, aligned,
    )  # fmt: skip


def pool(call: PoolCall, enough: int = ENOUGH) -> Program:
    """The launch of a pooling; threads make more than one row of outputs where ``enough`` threads
    remain."""
    call = regular(call)
    outputs = call.n * call.c * math.prod(call.output)
    if outputs == 0:
        return Program(())
    return Program(
        (_of_whole(call, enough) or _in_strips(call, enough) or _general(call, outputs),)
    )


def channels_last(call: PoolCall) -> bool:
    """Whether there are several channels, neighbours in all memory."""
    strides = (call.first, call.out, call.indices or call.out)
    return call.c > 1 and all(step[1] == 1 for step in strides)


def pointers(call: PoolCall) -> tuple[str, str, str]:
    """The types of first, out and indices; of no indices that of out."""
    stored = f"{STORED[call.dtype]}*"
    return stored, stored, stored if call.indices is None else "int64*"


def operands(call: PoolCall) -> tuple[At, At, At]:
    """The same three as arguments."""
    return At("first"), At("out"), At("out" if call.indices is None else "indices")


def divisor_of(call: PoolCall) -> Any:
    """What a mean's sums are divided by, 0 if each by its places, in the type of sums."""
    return call.divisor if call.dtype == "int64" else float(call.divisor)


def _general(call: PoolCall, outputs: int) -> Launch:
    constants = (
        call.dtype, call.reduction == "mean", call.indices is not None, kind_of(call),
        call.count_include_pad, call.divisor != 0, channels_last(call), THREADS,
    )  # fmt: skip
    signature = (
        *pointers(call), "int32[5]", *("int32[7]",) * 3, *("int32[5]",) * 3, ACCUMULATED[call.dtype]
    )  # fmt: skip
    entry = Entry(build_pool, constants, signature, THREADS)
    args = (
        *operands(call), (call.n, call.c, *call.output), *axes_of(call), call.first, call.out,
        call.indices or call.out, divisor_of(call),
    )  # fmt: skip
    return Launch(entry, (ceil_div(outputs, THREADS), 1, 1), args)


def _in_strips(call: PoolCall, enough: int) -> Launch | None:
    """The launch for small windows; None if they aren't, or aren't near each other."""
    strip = _strip_of(call, enough)
    if strip is None:
        return None
    o, p, q = call.output
    p, q = ceil_div(p, strip.rows), ceil_div(q, strip.columns)
    cuts, blocks = thread_cuts(call.n, call.c // strip.lanes, (o, p, q), strip.last)
    if blocks * THREADS > 2**31:
        return None
    constants = (
        call.dtype, call.reduction == "mean", call.indices is not None, call.count_include_pad,
        call.divisor != 0, strip, THREADS,
    )  # fmt: skip
    signature = (
        *pointers(call), f"uint32[{len(cuts)}]", "int32", *("int32[7]",) * 3, *("int32[5]",) * 3,
        ACCUMULATED[call.dtype],
    )  # fmt: skip
    entry = Entry(build_strips, constants, signature, THREADS, blocks=2)
    args = (
        *operands(call), cuts, call.n, *axes_of(call), call.first, call.out,
        call.indices or call.out, divisor_of(call),
    )  # fmt: skip
    return Launch(entry, (blocks, 1, 1), args)


def thread_cuts(
    n: int, c: int, extents: tuple[int, int, int], last: bool
) -> tuple[tuple[int, ...], int]:
    """What threads' numbers are cut by, for ``by_rows`` or, if ``last``, ``by_channels``; and how
    many blocks there are."""
    o, p, q = extents
    cuts: tuple[int, ...] = (q, p, o, c)
    if last:
        lanes = max(k for k in range(1, LANES + 1) if c % k == 0)
        cuts = (lanes, q, c // lanes, p, o)
    numbers = tuple(number for cut in cuts for number in (cut, *magic(cut)))
    return numbers, ceil_div(n * math.prod(cuts), THREADS)


def _strip_of(call: PoolCall, enough: int) -> Strip | None:
    taps_h, taps_w = call.kernel[1:]
    # Of one output along an axis the stride doesn't matter.
    pairs = zip(call.output[1:], call.stride[1:], strict=True)
    stride_h, stride_w = (step if outputs > 1 else 1 for outputs, step in pairs)
    small = max(taps_h, taps_w) <= 3 and max(stride_h, stride_w) <= 2 and call.pad[2] < 3
    if call.adaptive or not small or max(call.dilation[1:]) > 1:
        return None
    last, widest, q = channels_last(call), vector_of(call.dtype), call.output[2]
    lanes = columns = vector = 1
    indices = call.indices or call.out
    if last:
        wide_in, wide_out = (
            in_vectors(strides, aligned, 1, call.c, widest)
            for strides, aligned in zip((call.first, call.out), call.aligned, strict=False)
        )
        wide_out = wide_out and wide_in
        lanes = vector = widest if wide_out else 1
        wide_indices = lanes > 1 and in_vectors(indices, call.aligned[2], 1, call.c, 2)
    else:
        vector = widest_vector(call.first, call.aligned[0], call.size[2], widest)
        columns = max(vector // stride_w, 2) if q > 1 else 1
        vector = vector if columns * stride_w % vector == 0 else 1
        whole = columns > 1 and q % columns == 0
        wide_out = whole and in_vectors(call.out, call.aligned[1], 4, q, columns)
        wide_indices = whole and in_vectors(indices, call.aligned[2], 4, q, 2)
    wide_indices = wide_indices and call.indices is not None
    rows, outputs = 1, call.n * call.c * math.prod(call.output)
    while (
        2 * rows <= call.output[1]
        and (2 * rows - 1) * stride_h + taps_h <= MOST_ROWS
        and 2 * rows * columns * lanes <= MOST_OUTPUTS
        and outputs >= 2 * rows * columns * lanes * enough
    ):
        rows *= 2
    return Strip(
        taps_h, taps_w, stride_h, stride_w, call.pad[2], rows, columns, lanes, vector, wide_out,
        wide_indices, last,
    )  # fmt: skip


def widest_vector(strides: Strides, aligned: bool, extent: int, widest: int) -> int:
    """The most neighbours along w, at most ``widest``, that an array falls into vectors of."""
    while widest > 1 and not in_vectors(strides, aligned, 4, extent, widest):
        widest //= 2
    return widest


def in_vectors(strides: Strides, aligned: bool, axis: int, extent: int, count: int) -> bool:
    """Whether an array falls into vectors of ``count`` neighbours along an axis."""
    others = (step for i, step in enumerate(strides) if i != axis)
    return (
        aligned
        and strides[axis] == 1
        and extent % count == 0
        and all(step % count == 0 for step in others)
    )


def is_whole(call: PoolCall, strides: Strides) -> bool:
    """Whether one output has all of an input of these strides, whose places are evenly apart."""
    axes, steps = axes_of(call), strides[2:]
    covered = (axis.kernel - axis.pad >= axis.size for axis in axes)
    evenly = all(steps[i] == steps[i + 1] * call.size[i + 1] or call.size[i] == 1 for i in range(2))
    one = call.output == (1, 1, 1) and not call.adaptive and max(call.dilation) == 1
    return one and all(covered) and evenly and math.prod(call.size) > FEW


def counted(call: PoolCall) -> int:
    """What the sum of the one window that has all of an input is divided by."""
    if call.divisor or not call.count_include_pad:
        return call.divisor or math.prod(call.size)
    return math.prod(
        min(axis.kernel, axis.pad + axis.size + axis.pad_after) for axis in axes_of(call)
    )


def _of_whole(call: PoolCall, enough: int) -> Launch | None:
    """The launch for one output that has all of an input evenly apart in memory."""
    if not is_whole(call, call.first):
        return None
    places, step = math.prod(call.size), call.first[4]
    last, vector = channels_last(call), vector_of(call.dtype)
    if last:
        lanes = vector if in_vectors(call.first, call.aligned[0], 1, call.c, vector) else 1
        across = min(1 << (call.c // lanes - 1).bit_length(), LANES)
        while across > 2 and call.n * ceil_div(call.c // lanes, across) * THREADS < enough:
            across //= 2
        blocks = ceil_div(call.c // lanes, across)
        units, group, cut, grid = places, THREADS // across, blocks, call.n * blocks
    else:
        planes = (*call.first[:2], 0, 0, step)
        lanes = vector if in_vectors(planes, call.aligned[0], 4, places, vector) else 1
        units, across, cut = places // lanes, 1, call.c
        group = next((group for most, group in GROUPS if units <= most), THREADS)
        while 2 * group <= min(units, THREADS) and call.n * call.c * group < enough:
            group *= 2
        grid = ceil_div(call.n * call.c, THREADS // group)
        step *= lanes
    whole = Whole(group, lanes, last, across)
    mean = call.reduction == "mean"
    constants = (call.dtype, mean, call.indices is not None, whole, THREADS)
    signature = (
        *pointers(call), "int32", "int32", "uint32[3]", "int32", "int32", *("int32[5]",) * 3,
        ACCUMULATED[call.dtype],
    )  # fmt: skip
    call = call._replace(divisor=counted(call))
    args = (
        *operands(call), call.n * call.c, call.c, (*magic(cut), cut), units, step, call.first,
        call.out, call.indices or call.out, divisor_of(call),
    )  # fmt: skip
    return Launch(Entry(build_whole, constants, signature, THREADS), (grid, 1, 1), args)
