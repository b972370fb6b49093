"""Sequential poolings as C functions: arguments checked, windows, and the pooling row's tasks."""

from __future__ import annotations

from typing import Any

from ..problem import PoolProblem
from ._emit import Code, Value
from ._library import Library
from ._pool_folds import COLUMN_BYTES
from ._pool_rows import fold_tasks
from ._pool_windows import pooling_of, side_by_side
from ._words import POOL, Call, Checks, effective_kernel


def _write_problem(code: Code, words: Value) -> None:
    """The PoolProblem and the result's extents, or what rule is broken."""
    call = Call(code, POOL, words)
    checks = Checks(call)
    n, c, *sizes = call.all("x_sizes", 5)
    checks.refuse(c < 1, "no channel")
    kernels, dilations, pads = (call.all(name, 3) for name in ("kernel", "dilation", "padding"))
    outputs = []
    for i, (size, kernel, pad, dilation) in enumerate(
        zip(sizes, kernels, pads, dilations, strict=True)
    ):
        given = call.get("stride", i)
        checks.check_axis(size, kernel, given, pad, dilation)
        checks.refuse(pad > kernel // 2, "padding must be at most")
        span = effective_kernel(kernel, dilation)
        checks.refuse(size + pad + pad < span, "the kernel")
        left, stride = size + pad + pad - span, code.greatest(given, 1)
        whole = left // stride + 1
        # A last, partial window counts unless it would start in the padding after the input.
        partial = call.get("ceil").differs(0) & (left % stride).differs(0)
        partial = partial & (whole * stride < size + pad)
        outputs.append(whole + code.choose(partial, 1, 0))
    checks.check_counts(n, c, sizes, outputs, kernels)
    call.set_all("problem", (n, c, *sizes, *outputs, *dilations, 0))
    call.set_all("out_sizes", (n, c, *outputs))
    call.set("local", (outputs[0] + outputs[1] + outputs[2]) * 3)
    checks.done()


def _write_windows(code: Code, words: Value, windows: Value) -> None:
    """What ``PoolGeometry.windows`` has: first tap, end and counted extent of each window."""
    call, at = Call(code, POOL, words), code.var(windows)
    problem = call.fields("problem", PoolProblem)
    for i, (size, outputs, dilation) in enumerate(
        zip(problem[2:5], problem[5:8], problem[8:11], strict=True)
    ):
        kernel, stride, pad = (call.get(name, i) for name in ("kernel", "stride", "padding"))
        span = effective_kernel(kernel, dilation)
        with code.range(0, outputs) as output:
            start = output * stride - pad
            # A tap before the input moves up by whole dilations, so that it stays a tap.
            behind = (dilation - (start * -1) % dilation) % dilation
            first = code.choose(start < 0, behind, start)
            last = code.greatest(code.least(start + span, size), first)
            padded = code.least(start + span, size + pad) - start
            counted = code.choose(call.get("counted").differs(0), padded, last - first)
            for j, value in enumerate((first, last, counted)):
                code.store(value, at.get() + j)
            at.set(at.get() + 3)


def _make_run(mean: bool) -> Any:
    def run(code: Code, words: Value, windows: Value) -> None:
        """A whole pooling; ``windows`` is room for ``local`` integers."""
        _write_windows(code, words, windows)
        call = Call(code, POOL, words)
        problem, x, out = call.fields("problem", PoolProblem), call.view("x"), call.view("out")
        pooling = pooling_of(code, problem, x, out, windows, side_by_side(problem, x, out))
        # Vectors may be read beyond the columns.
        kept = code.buffer(code.real, COLUMN_BYTES // code.itemsize + code.lanes)
        tasks = problem.n * problem.c * problem.o * problem.p
        fold_tasks(code, mean, kept, pooling, code.of(0), tasks)

    return run


def _library_of(name: str, mean: bool) -> Library:
    functions: Any = {
        "problem": (_write_problem, ("words",)),
        "run": (_make_run(mean), ("words", "words")),
    }
    return Library(name, functions)


MAX, AVG = _library_of("max_pool", False), _library_of("avg_pool", True)
