"""Direct convolution: rows of the output are summed in registers, the input read where it lies.

x       (N, C, D, H, W)       any strides                             IN
weight  (K, C/G, T, R, S)     any strides                             IN
bias    (K,) or (0,)          contiguous                              IN
out     (N, K, O, P, Q)       any strides, overwritten                OUT
local   BlocksCut: offsets of (s, c), weights, padded input             SCRATCH
Accumulates in its dtype, in the order t, r, s, c, one fused multiply-add per product.
Task = (n, g, out-channels, o, rows, columns).
Assumes a validated ConvGeometry; raises nothing.
Why: with few channels a copy per tap (im2col) or a transposed one (tiled) costs more than the sums.
Where columns lie next to each other and the stride is 1, nothing is copied: lanes outside of the
input aren't loaded. One channel's 3x3 and 5x5 taps are strips (``_strips``), depthwise channels
next to each other vectors (``_direct_channels``). Everything else (stride 2, channels last) sums
over a padded copy of the few rows under a task, its columns dealt out by their position modulo the
stride. Source: Zhang et al. 2018 (1809.10170).
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import adjoints, drivers
from ..blocking_blocks import BlocksCut, blocks_cut
from ..problem import ConvProblem
from . import _direct_tasks, _vector, loop
from ._compile import inner, task_range
from ._direct_tasks import Operands
from ._emit import Code
from ._entry import Entry, conv_arguments
from ._queue import next_tasks
from ._vector import INT64
from ._views import fields_of, view_of


@intrinsic
def _tasks(
    typing_context: Any, x: Any, weight: Any, bias: Any, out: Any, problem: Any, cut: Any,
    local: Any, activation: Any, begin: Any, end: Any,
) -> Any:  # fmt: skip
    """Compute tasks begin .. end-1."""
    integers = [types.int64] * 3

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        code = Code(context, builder, context.get_data_type(x.dtype))
        biases = cgutils.unpack_tuple(
            builder, context.make_array(bias)(context, builder, given[2]).shape
        )[0]
        operands = Operands(
            fields_of(code, ConvProblem, given[4]), fields_of(code, BlocksCut, given[5]),
            view_of(code, x, given[0]), view_of(code, weight, given[1]),
            view_of(code, out, given[3]),
            code.of(_vector.pointer(context, builder, bias, given[2], INT64(0))),
            code.choose(code.of(biases) > 0, 1, 0),
            code.of(_vector.pointer(context, builder, local, given[6], INT64(0))),
            code.of(given[7]),
        )  # fmt: skip
        _direct_tasks.run_tasks(code, operands, code.of(given[8]), code.of(given[9]))
        return context.get_dummy_value()

    return types.void(x, weight, bias, out, problem, cut, local, *integers), generate


@task_range
def tiles(
    x: Any, weight: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        _tasks(x, weight, bias, out, problem, cut, local, activation, begin, end)
        begin, end = next_tasks(queue, begin, end)


_arguments, _tiles = conv_arguments(BlocksCut, weight_axes=5), inner(tiles)


@Entry
def run_tasks(call: Any, local: Any, queue: Any) -> None:
    """The same as a C function."""
    x, weight, bias, out, problem, taps, cut, scratch, activation, tasks = _arguments(
        call, local, queue
    )
    _tiles(x, weight, bias, out, problem, taps, cut, scratch, activation, tasks)


fprop = drivers.fprop(blocks_cut, tiles, compiled=drivers.CompiledConv(blocks_cut, run_tasks))
# Columns in the padding add a zero times the weight.
dgrad = adjoints.dgrad(fprop, skipping=loop.dgrad, split=adjoints.in_rows)
