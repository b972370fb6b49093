"""Sequential kernels as C functions that read a call from words of 8 bytes: what ``functions`` and
``pool_functions`` run. A convolution's are the direct row's tasks, a pooling's the pooling row's.

Words of a convolution: the addresses of x, weight, bias (0: none) and out, the activation, strides
in elements (five of x, weight and out each), a ConvProblem, and room for a RowsCut.
Words of a pooling: the addresses of x and out, strides, a PoolProblem, then per axis kernel, stride
and padding, and whether padding counts.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ..blocking_rows import RowsCut
from ..problem import ConvProblem, PoolProblem
from . import _direct_tasks
from ._direct_cut import cut_of
from ._direct_tasks import Operands
from ._direct_stores import apply_function, clamped
from ._emit import Code, Value
from ._library import Library, Source
from ._pool_folds import COLUMN_BYTES
from ._pool_rows import fold_tasks
from ._pool_windows import pooling_of, side_by_side
from ._views import View

#: Where the fields of a convolution begin.
X, WEIGHT, BIAS, OUT, ACTIVATION = range(5)
X_STRIDES, WEIGHT_STRIDES, OUT_STRIDES, PROBLEM = 5, 10, 15, 20
CUT = PROBLEM + len(ConvProblem._fields)
CONV_WORDS = CUT + len(RowsCut._fields)
#: What of the cut a caller looks at.
TASKS = CUT + RowsCut._fields.index("tasks")
LOCAL_ELEMENTS = CUT + RowsCut._fields.index("local_elements")
#: And of a pooling.
POOL_X, POOL_OUT, POOL_X_STRIDES, POOL_OUT_STRIDES, POOL_PROBLEM = 0, 1, 2, 7, 12
KERNEL = POOL_PROBLEM + len(PoolProblem._fields)
STRIDE, PADDING, COUNTED = KERNEL + 3, KERNEL + 6, KERNEL + 9
POOL_WORDS = COUNTED + 1


def _fields(code: Code, words: Value, kind: Any, first: int) -> Any:
    return kind(*(code.load(words + (first + i)) for i in range(len(kind._fields))))


def _address(code: Code, words: Value, at: int) -> Value:
    pointer = code.real.as_pointer()
    return Value(code, code.builder.inttoptr(code.load(words + at).value, pointer))


def _view(code: Code, words: Value, at: int, strides: int) -> View:
    return View(_address(code, words, at), *(code.load(words + (strides + i)) for i in range(5)))


def _plan_conv(code: Code, words: Value, least_tasks: Value) -> None:
    """Write the cut of a convolution."""
    cut = cut_of(code, _fields(code, words, ConvProblem, PROBLEM), least_tasks)
    for i, field in enumerate(cut):
        code.store(code.of(field), words + (CUT + i))


def _run_conv(code: Code, words: Value, local: Value, begin: Value, end: Value) -> None:
    """Tasks begin .. end-1 of a convolution with a cut."""
    operands = Operands(
        _fields(code, words, ConvProblem, PROBLEM), _fields(code, words, RowsCut, CUT),
        _view(code, words, X, X_STRIDES), _view(code, words, WEIGHT, WEIGHT_STRIDES),
        _view(code, words, OUT, OUT_STRIDES), _address(code, words, BIAS),
        code.choose(code.load(words + BIAS).differs(0), 1, 0), local, code.load(words + ACTIVATION),
    )  # fmt: skip
    _direct_tasks.prepare(code, operands)
    _direct_tasks.run_tasks(code, operands, begin, end)


def _run_loop(code: Code, words: Value) -> None:
    """All of a convolution of one group by the plain loops, which leave the padding out."""
    problem = _fields(code, words, ConvProblem, PROBLEM)
    x, weight = _view(code, words, X, X_STRIDES), _view(code, words, WEIGHT, WEIGHT_STRIDES)
    out, bias = _view(code, words, OUT, OUT_STRIDES), _address(code, words, BIAS)
    axes = list(zip("dhw", "trs", "opq", strict=True))
    with ExitStack() as loops:

        def each(count: Value) -> Value:
            return loops.enter_context(code.range(0, count, scalar=True))

        n, k = each(problem.n), each(problem.k)
        places = [each(getattr(problem, outputs)) for _, _, outputs in axes]
        total = code.var(code.number(0))
        with ExitStack() as taps_and_channels:

            def each_inside(count: Value) -> Value:
                return taps_and_channels.enter_context(code.range(0, count, scalar=True))

            source, factor = x.data + n * x.n, weight.data + k * weight.n
            good = code.of(0).equals(0)
            for (size, taps, _), place in zip(axes, places, strict=True):
                tap = each_inside(getattr(problem, taps))
                at = place * getattr(problem, f"stride_{size}") - getattr(problem, f"pad_{size}")
                at = at + tap * getattr(problem, f"dilation_{size}")
                good = good & code.inside(at, getattr(problem, size))
                source, factor = (
                    source + at * getattr(x, size),
                    factor + tap * getattr(weight, size),
                )
            c = each_inside(problem.c)
            with code.when(good):
                product = code.load(source + c * x.c), code.load(factor + c * weight.c)
                total.set(code.multiply_add(*product, total.get()))
        with code.when(code.load(words + BIAS).differs(0)):
            total.set(total.get() + code.load(bias + k))
        kept = code.buffer(code.real, code.lanes)
        (y,) = clamped(code, [code.splat(total.get())], code.load(words + ACTIVATION))
        code.vstore(y, kept)
        with code.when(code.load(words + ACTIVATION) > 2):
            apply_function(code, kept, 1, code.load(words + ACTIVATION))
        place = out.data + n * out.n + k * out.c
        for (size, _, _), at in zip(axes, places, strict=True):
            place = place + at * getattr(out, size)
        code.store(code.load(kept), place)


def _look_for_finite(code: Code, words: Value, found: Value) -> None:
    """Whether all weights of a dgrad are finite, as 1 or 0: no sum of w - w is another number."""
    problem = _fields(code, words, ConvProblem, PROBLEM)
    weight = _view(code, words, WEIGHT, WEIGHT_STRIDES)
    total = code.var(code.number(0))
    with ExitStack() as loops:
        place = weight.data
        for count, stride in zip(
            (problem.g * problem.k, problem.c, problem.t, problem.r, problem.s), weight[1:],
            strict=True,
        ):  # fmt: skip
            place = place + loops.enter_context(code.range(0, count, scalar=True)) * stride
        total.set(total.get() + (code.load(place) - code.load(place)))
    code.store(code.choose(total.get().equals(0), 1, 0), found)


def _write_windows(code: Code, words: Value, windows: Value) -> None:
    """The windows of ``PoolGeometry.windows``: first tap, end and counted extent of each."""
    problem, at = _fields(code, words, PoolProblem, POOL_PROBLEM), code.var(windows)
    axes = (
        (problem.d, problem.o, problem.dilation_d),
        (problem.h, problem.p, problem.dilation_h),
        (problem.w, problem.q, problem.dilation_w),
    )
    for i, (size, outputs, dilation) in enumerate(axes):
        kernel, stride, padding = (code.load(words + (k + i)) for k in (KERNEL, STRIDE, PADDING))
        span = dilation * (kernel - 1) + 1
        with code.range(0, outputs) as output:
            start = output * stride - padding
            # A tap before the input moves up by whole dilations, so that it stays a tap.
            behind = (dilation - (start * -1) % dilation) % dilation
            first = code.choose(start < 0, behind, start)
            last = code.greatest(code.least(start + span, size), first)
            padded = code.least(start + span, size + padding) - start
            counted = code.choose(code.load(words + COUNTED).differs(0), padded, last - first)
            for j, value in enumerate((first, last, counted)):
                code.store(value, at.get() + j)
            at.set(at.get() + 3)


def _make_pool(mean: bool) -> Any:
    def run(code: Code, words: Value, windows: Value) -> None:
        """A whole pooling; ``windows`` is room for (o + p + q) x 3 integers."""
        code.function("windows", _write_windows, (words, windows))
        problem = _fields(code, words, PoolProblem, POOL_PROBLEM)
        x = _view(code, words, POOL_X, POOL_X_STRIDES)
        out = _view(code, words, POOL_OUT, POOL_OUT_STRIDES)
        together = side_by_side(problem, x, out)
        pooling = pooling_of(code, problem, x, out, windows, together)
        # Vectors may be read beyond the columns.
        kept = code.buffer(code.real, COLUMN_BYTES // code.itemsize + code.lanes)
        tasks = problem.n * problem.c * problem.o * problem.p
        fold_tasks(code, mean, kept, pooling, code.of(0), tasks)

    return run


CONV = Library(
    Source(
        "conv",
        {
            "plan": (_plan_conv, ("words", "integer")),
            "run": (_run_conv, ("words", "values", "integer", "integer")),
        },
    )
)
#: What else a transposed convolution needs.
ADJOINT = Library(
    Source(
        "adjoint",
        {"loop": (_run_loop, ("words",)), "finite": (_look_for_finite, ("words", "words"))},
    )
)
MAX_POOL = Library(Source("max_pool", {"run": (_make_pool(False), ("words", "words"))}))
AVG_POOL = Library(Source("avg_pool", {"run": (_make_pool(True), ("words", "words"))}))

LIBRARIES = {library.source.name: library for library in (CONV, ADJOINT, MAX_POOL, AVG_POOL)}
