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
from ._pool_windows import axes_of, kind_of, regular
from .program import ACCUMULATED, STORED, At, Entry, Launch, PoolCall, Program, Strides

#: Threads of a block.
THREADS = 256


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


def pool(call: PoolCall) -> Program:
    """The launch of a pooling."""
    call = regular(call)
    outputs = call.n * call.c * math.prod(call.output)
    if outputs == 0:
        return Program(())
    return Program((_general(call, outputs),))


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
        call.count_include_pad, channels_last(call), THREADS,
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
