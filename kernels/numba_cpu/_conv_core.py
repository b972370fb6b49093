"""Sequential convolutions as C functions: arguments checked, the direct row's cut and tasks."""

from __future__ import annotations

from ..blocking_rows import RowsCut
from ..problem import ConvProblem
from . import _direct_tasks
from ._direct_cut import cut_of
from ._direct_tasks import Operands
from ._emit import Code, Value
from ._library import Library
from ._words import CONV, Call, Checks, effective_kernel


def _write_problem(code: Code, words: Value) -> None:
    """The ConvProblem and the result's extents, or what rule is broken."""
    call = Call(code, CONV, words)
    checks = Checks(call)
    (n, channels, *sizes), (k, c, *kernels) = call.all("x_sizes", 5), call.all("weight_sizes", 5)
    groups, biases = call.get("groups"), call.get("biases")
    checks.refuse((channels < 1) | (k < 1) | (c < 1), "no channel")
    checks.refuse(groups < 1, "groups must be positive")
    groups = code.greatest(groups, 1)
    checks.refuse((channels % groups).differs(0) | (k % groups).differs(0), "groups must divide")
    checks.refuse((channels // groups).differs(c), "the weight must have in-channels")
    checks.refuse(biases.differs(-1) & biases.differs(k), "bias")
    strides, dilations, pads = (call.all(name, 3) for name in ("stride", "dilation", "padding"))
    outputs = []
    for size, kernel, stride, pad, dilation in zip(
        sizes, kernels, strides, pads, dilations, strict=True
    ):
        checks.check_axis(size, kernel, stride, pad, dilation)
        span = effective_kernel(kernel, dilation)
        checks.refuse(size + pad + pad < span, "the kernel")
        outputs.append((size + pad + pad - span) // code.greatest(stride, 1) + 1)
    padded = [size + pad + pad for size, pad in zip(sizes, pads, strict=True)]
    checks.check_counts(n, code.greatest(k, channels), padded, outputs, [*kernels, c])
    # However large the stride of an axis of one output.
    strides = [
        code.choose(output.equals(1), 1, stride)
        for output, stride in zip(outputs, strides, strict=True)
    ]
    fields = n, groups, c, k // groups, *sizes, *kernels, *outputs, *strides, *dilations, *pads
    call.set_all("problem", fields)
    call.set_all("out_sizes", (n, k, *outputs))
    checks.done()


def _write_cut(code: Code, words: Value, least_tasks: Value) -> None:
    """The cut of a convolution."""
    call = Call(code, CONV, words)
    call.set_all("cut", cut_of(code, call.fields("problem", ConvProblem), least_tasks))


def _run(code: Code, words: Value, local: Value, begin: Value, end: Value) -> None:
    """Tasks begin .. end-1 of a convolution with a cut."""
    call = Call(code, CONV, words)
    operands = Operands(
        call.fields("problem", ConvProblem), call.fields("cut", RowsCut), call.view("x"),
        call.view("weight"), call.view("out"), call.address("bias"),
        code.choose(call.get("bias").differs(0), 1, 0), local, call.get("activation"),
        channels_last=False,
    )  # fmt: skip
    _direct_tasks.prepare(code, operands)
    _direct_tasks.run_tasks(code, operands, begin, end)


LIBRARY = Library(
    "conv",
    {
        "problem": (_write_problem, ("words",)),
        "plan": (_write_cut, ("words", "integer")),
        "run": (_run, ("words", "values", "integer", "integer")),
    },
)
