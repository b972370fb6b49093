"""Direct convolution: stretches of output rows are summed in registers, without columns per tap.

x       (N, C, D, H, W)       any strides                             IN
weight  (K, C/G, T, R, S)     any strides                             IN
bias    (K,) or (0,)          contiguous                              IN
out     (N, K, O, P, Q)       any strides, overwritten                OUT
local   RowsCut: offsets of taps, weights, padded input               SCRATCH
Accumulates in its dtype, in the order t, r, s, c, one fused multiply-add per product.
Task = (n, g, out-channels, o, rows, columns).
Assumes a validated ConvGeometry; raises nothing.
Why: with few channels a copy per tap (im2col) or a transposed one (tiled) costs more than the sums.
Four ways, as in Cython: depthwise layers whose channels lie next to each other have vectors of
channels (``_direct_channels``). One channel with 3 x 3 taps reads its input in place
(``_direct_3x3``). All others sum over a padded copy of the input under a task: up to four
out-channels share loads (``_direct_flat``), of taller kernels of one out-channel output rows do
(``_direct_rows``; they copy nothing where no padding is near). Source: Zhang et al. 2018
(1809.10170).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import adjoints, drivers
from ..blocking_rows import RowsCut, rows_cut
from ..problem import ConvProblem
from . import _direct_tasks, _vector, loop
from ._compile import inner, task_range
from ._direct_tasks import Operands
from ._emit import Code
from ._entry import Entry, conv_arguments
from ._queue import next_tasks
from ._vector import INT64
from ._views import fields_of, view_of


def _operation(body: Callable[..., None]) -> Any:
    """What ``body(code, operands, begin, end)`` writes, as a function of a call's arguments."""

    @intrinsic
    def operation(
        typing_context: Any, x: Any, weight: Any, bias: Any, out: Any, problem: Any, cut: Any,
        local: Any, activation: Any, begin: Any, end: Any,
    ) -> Any:  # fmt: skip
        integers = [types.int64] * 3

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            code = Code(context, builder, context.get_data_type(x.dtype))
            biases = cgutils.unpack_tuple(
                builder, context.make_array(bias)(context, builder, given[2]).shape
            )[0]
            operands = Operands(
                fields_of(code, ConvProblem, given[4]), fields_of(code, RowsCut, given[5]),
                view_of(code, x, given[0]), view_of(code, weight, given[1]),
                view_of(code, out, given[3]),
                code.of(_vector.pointer(context, builder, bias, given[2], INT64(0))),
                code.choose(code.of(biases) > 0, 1, 0),
                code.of(_vector.pointer(context, builder, local, given[6], INT64(0))),
                code.of(given[7]),
            )  # fmt: skip
            body(code, operands, code.of(given[8]), code.of(given[9]))
            return context.get_dummy_value()

        return types.void(x, weight, bias, out, problem, cut, local, *integers), generate

    return operation


_prepare = _operation(lambda code, operands, *_: _direct_tasks.prepare(code, operands))
_tasks = _operation(_direct_tasks.run_tasks)


@task_range
def tiles(
    x: Any, weight: Any, bias: Any, out: Any, problem: Any, taps: Any, cut: Any, local: Any,
    activation: int, queue: Any,
) -> None:  # fmt: skip
    """Compute the tasks of the queue."""
    _prepare(x, weight, bias, out, problem, cut, local, activation, 0, 0)
    begin, end = next_tasks(queue, 0, 0)
    while begin < end:
        _tasks(x, weight, bias, out, problem, cut, local, activation, begin, end)
        begin, end = next_tasks(queue, begin, end)


_arguments, _tiles = conv_arguments(RowsCut, weight_axes=5), inner(tiles)


@Entry
def run_tasks(call: Any, local: Any, queue: Any) -> None:
    """The same as a C function."""
    x, weight, bias, out, problem, taps, cut, scratch, activation, tasks = _arguments(
        call, local, queue
    )
    _tiles(x, weight, bias, out, problem, taps, cut, scratch, activation, tasks)


fprop = drivers.fprop(rows_cut, tiles, compiled=drivers.CompiledConv(rows_cut, run_tasks))
# Columns in the padding add a zero times the weight.
dgrad = adjoints.dgrad(fprop, skipping=loop.dgrad, split=adjoints.in_rows)
