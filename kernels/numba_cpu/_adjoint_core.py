"""Sequential transposed convolutions as C functions: each phase (``adjoints``) is a convolution of
stride 1 over views, by the same tasks as all others.

Words are those of the convolution that it is adjoint to, but that ``x`` is its output's gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from ..problem import ConvProblem
from . import _conv_core
from ._direct_stores import apply_function, clamped
from ._emit import Code, Value
from ._library import Library
from ._vector import INT64
from ._words import (
    CONV,
    LOCAL_ELEMENTS,
    TASKS,
    Call,
    Checks,
    adjoint_phase,
    transposed_output_size,
)


class _Axis(NamedTuple):
    """A phase of an axis: its first place, how many there are, their taps and which is the last,
    the step between them in the weight and in the gradient, and how far in front of the gradient
    the first place's window begins."""

    start: Value
    places: Value
    taps: Value
    last: Value
    step: Value
    spread: Value
    before: Value


def _write_problem(code: Code, words: Value) -> None:
    """The ConvProblem that it is adjoint to and the result's extents, or what rule is broken."""
    call = Call(code, CONV, words)
    checks = Checks(call)
    (n, channels, *inputs), (k, c, *kernels) = call.all("x_sizes", 5), call.all("weight_sizes", 5)
    groups, biases = call.get("groups"), call.get("biases")
    checks.refuse((channels < 1) | (c < 1), "no channel")
    checks.refuse(groups < 1, "groups must be positive")
    groups = code.greatest(groups, 1)
    checks.refuse((channels % groups).differs(0) | channels.differs(k), "the weight must have as")
    checks.refuse(biases.differs(-1) & biases.differs(c * groups), "bias")
    strides, dilations, pads = (call.all(name, 3) for name in ("stride", "dilation", "padding"))
    sizes = []
    for i, (size, kernel, stride, pad, dilation) in enumerate(
        zip(inputs, kernels, strides, pads, dilations, strict=True)
    ):
        extra = call.get("extra", i)
        checks.check_axis(size, kernel, stride, pad, dilation)
        checks.refuse(extra < 0, "output_padding must be non-negative")
        checks.refuse(extra >= code.greatest(stride, dilation), "output_padding must be smaller")
        outputs = transposed_output_size(size, kernel, stride, dilation, pad, pad, extra)
        checks.refuse(outputs < 1, "the output")
        sizes.append(outputs)
    checks.check_counts(n, code.greatest(k, c * groups), sizes, inputs, [*kernels, c])
    fields = n, groups, c, k // groups, *sizes, *kernels, *inputs, *strides, *dilations, *pads
    call.set_all("problem", fields)
    call.set_all("out_sizes", (n, c * groups, *sizes))
    checks.done()


def _common(code: Code, a: Value, b: Value) -> Value:
    """The greatest common divisor."""
    first, second = code.var(a), code.var(b)
    with code.loop_while(lambda: second.get() > 0):
        rest = first.get() % second.get()
        first.set(second.get())
        second.set(rest)
    return first.get()


def _numbers(problem: ConvProblem, axis: int) -> tuple[Value, ...]:
    """Size, taps, outputs, stride, dilation and padding."""
    return tuple(problem[at + axis] for at in (4, 7, 10, 13, 16, 19))  # type: ignore[misc]


class _Phases:
    """The phases of a problem."""

    def __init__(self, code: Code, problem: ConvProblem) -> None:
        self.code, self.problem = code, problem
        self.steps = []
        for axis in range(3):
            _, _, _, stride, dilation, _ = _numbers(problem, axis)
            common = _common(code, stride, dilation)
            self.steps.append((stride // common, dilation // common))

    def count(self, axis: int) -> Value:
        """How many an axis has."""
        return self.code.least(self.steps[axis][0], _numbers(self.problem, axis)[1])

    def of(self, axis: int, first: Value) -> _Axis:
        """One of them; without places where no output reaches it."""
        code, (step, spread) = self.code, self.steps[axis]
        size, kernel, output, stride, dilation, pad = _numbers(self.problem, axis)
        start, taps, before = adjoint_phase(first, kernel, step, stride, dilation, pad)
        reached = (start < size) & (output + before > 0)
        places = code.choose(reached, (size - start + stride - 1) // stride, 0)
        return _Axis(start, places, taps, first + (taps - 1) * step, step, spread, before)

    def reached(self) -> Value:
        """Whether some output reaches every place."""
        every = self.code.of(0).equals(0)
        for axis in range(3):
            places = self.code.var(0)
            with self.code.range(0, self.count(axis)) as first:
                places.set(places.get() + self.of(axis, first).places)
            every = every & places.get().equals(self.problem[4 + axis])
        return every

    def each(self, body: Callable[[list[_Axis]], None]) -> None:
        """Write ``body(axes)`` for all that have places."""
        with ExitStack() as loops:
            axes = [
                self.of(axis, loops.enter_context(self.code.range(0, self.count(axis))))
                for axis in range(3)
            ]
            some = (axes[0].places > 0) & (axes[1].places > 0) & (axes[2].places > 0)
            with self.code.when(some):
                body(axes)


def _write_part(
    code: Code, words: Value, part_words: Value, padded_place: Value, g: Value, *axes: _Axis
) -> None:
    """The words of a phase of a group, and 1 where it reads padding."""
    call, part = Call(code, CONV, words), Call(code, CONV, part_words)
    problem = call.fields("problem", ConvProblem)
    size = code.itemsize
    x, weight, out = (call.all(f"{name}_strides", 5) for name in ("x", "weight", "out"))
    moved_x, moved_weight = g * problem.k * x[1], g * problem.k * weight[0]
    moved_out, padded = g * problem.c * out[1], code.of(0).differs(0)
    extents: list[list[Value]] = [[], [], [], [], []]
    # Taps are read from the last one down.
    steps = [weight[1], weight[0]]
    for i, axis in enumerate(axes):
        begin, before = code.greatest(axis.before * -1, 0), code.greatest(axis.before, 0)
        moved_x, moved_out = moved_x + begin * x[2 + i], moved_out + axis.start * out[2 + i]
        moved_weight = moved_weight + axis.last * weight[2 + i]
        steps.append(axis.step * weight[2 + i] * -1)
        outputs = problem[10 + i]
        values = outputs - begin, axis.taps, axis.places, axis.spread, before
        for extent, value in zip(extents, values, strict=True):
            extent.append(code.of(value))
        end = axis.places - 1 + axis.spread * (axis.taps - 1) - axis.before
        padded = padded | (before > 0) | (end >= outputs)
    part.set("x", call.get("x") + moved_x * size)
    part.set("weight", call.get("weight") + moved_weight * size)
    part.set("out", call.get("out") + moved_out * size)
    bias = call.get("bias")
    part.set("bias", code.choose(bias.equals(0), 0, bias + g * problem.c * size))
    part.set("activation", call.get("activation"))
    part.set_all("x_strides", x)
    part.set_all("weight_strides", steps)
    apart = [out[2 + i] * problem[13 + i] for i in range(3)]
    part.set_all("out_strides", [*out[:2], *apart])
    sizes, taps, places, spreads, pads = extents
    fields = problem.n, 1, problem.k, problem.c, *sizes, *taps, *places, 1, 1, 1, *spreads, *pads
    part.set_all("problem", fields)
    code.store(code.choose(padded, 1, 0), padded_place)


def _write_fill(code: Code, call: Call, part: Call, problem: ConvProblem) -> None:
    """The words of a convolution that writes bias and activation everywhere: of a zero by a zero,
    which have all strides 0."""
    zero = code.buffer(code.real, 1)
    code.store(code.number(0), zero)
    place = code.of(code.builder.ptrtoint(zero.value, INT64))
    for name in ("x", "weight"):
        part.set(name, place)
        part.set_all(f"{name}_strides", [0] * 5)
    for name in ("bias", "out", "activation"):
        part.set(name, call.get(name))
    part.set_all("out_strides", call.all("out_strides", 5))
    sizes, channels = problem[4:7], problem.g * problem.c
    ones, zeros = [1] * 3, [0] * 3
    fields = problem.n, 1, 1, channels, *sizes, *ones, *sizes, *ones, *ones, *zeros
    part.set_all("problem", fields)


def _plan(code: Code, words: Value) -> None:
    """How much scratch the largest part needs."""
    call, part = Call(code, CONV, words), Call(code, CONV, code.buffer(INT64, CONV.words))
    problem, most = call.fields("problem", ConvProblem), code.var(0)
    padded = code.buffer(INT64, 1)

    def look() -> None:
        _conv_core.LIBRARY.call_from(code, "plan", part.words, code.of(1))
        needed = code.load(part.words + LOCAL_ELEMENTS)
        most.set(code.greatest(most.get(), needed))

    def look_at(axes: list[_Axis]) -> None:
        code.function("part", _write_part, (words, part.words, padded, code.of(0), *axes))
        look()

    _write_fill(code, call, part, problem)
    look()
    _Phases(code, problem).each(look_at)
    call.set("local", most.get())


def _run(code: Code, words: Value, local: Value) -> None:
    """All of a transposed convolution."""
    call, part = Call(code, CONV, words), Call(code, CONV, code.buffer(INT64, CONV.words))
    problem, library = call.fields("problem", ConvProblem), _conv_core.LIBRARY
    finite, padded = code.var(-1), code.buffer(INT64, 1)

    def run() -> None:
        library.call_from(code, "plan", part.words, code.of(1))
        tasks = code.load(part.words + TASKS)
        library.call_from(code, "run", part.words, local, code.of(0), tasks)

    phases = _Phases(code, problem)
    with code.when(~phases.reached()):
        _write_fill(code, call, part, problem)
        run()
    with code.range(0, problem.g) as g:

        def run_phase(axes: list[_Axis]) -> None:
            code.function("part", _write_part, (words, part.words, padded, g, *axes))
            reads_padding = code.load(padded).equals(1)
            with code.when(reads_padding & finite.get().equals(-1)):
                finite.set(_are_finite(code, call, problem))
            # No place sees an output that isn't there: an infinite weight isn't multiplied by it.
            with code.either(reads_padding & finite.get().equals(0)) as (then, otherwise):
                with then:
                    _run_loop(code, part)
                with otherwise:
                    run()

        phases.each(run_phase)


def _are_finite(code: Code, call: Call, problem: ConvProblem) -> Value:
    """1 where all weights are: no sum of w - w is another number than 0."""
    weight, total = call.view("weight"), code.var(code.number(0))
    counts = problem.g * problem.k, problem.c, *problem[7:10]
    with ExitStack() as loops:
        place = weight.data
        for count, stride in zip(counts, weight[1:], strict=True):
            place = place + loops.enter_context(code.range(0, count, scalar=True)) * stride
        total.set(total.get() + (code.load(place) - code.load(place)))
    return code.choose(total.get().equals(0), 1, 0)


def _run_loop(code: Code, call: Call) -> None:
    """A convolution of one group and stride 1 by the plain loops, which leave the padding out."""
    problem = call.fields("problem", ConvProblem)
    x, weight, out = call.view("x"), call.view("weight"), call.view("out")
    bias, activation = call.get("bias"), call.get("activation")
    kept = code.buffer(code.real, code.lanes)
    with ExitStack() as loops:
        counts = problem.n, problem.k, *problem[10:13]
        n, k, *places = (loops.enter_context(code.range(0, count)) for count in counts)
        total = code.var(code.number(0))
        with ExitStack() as inner:
            taps = [inner.enter_context(code.range(0, count)) for count in problem[7:10]]
            source, factor = x.data + n * x.n, weight.data + k * weight.n
            inside = code.of(0).equals(0)
            for i, (tap, place) in enumerate(zip(taps, places, strict=True)):
                at = place + tap * problem[16 + i] - problem[19 + i]
                inside = inside & code.inside(at, problem[4 + i])
                source, factor = source + at * x[3 + i], factor + tap * weight[3 + i]
            with code.when(inside), code.range(0, problem.c, scalar=True) as c:
                product = code.load(source + c * x.c), code.load(factor + c * weight.c)
                total.set(code.multiply_add(*product, total.get()))
        with code.when(bias.differs(0)):
            total.set(total.get() + code.load(call.address("bias") + k))
        (y,) = clamped(code, [code.splat(total.get())], activation)
        code.vstore(y, kept)
        with code.when(activation > 2):
            apply_function(code, kept, 1, activation)
        target = out.data + n * out.n + k * out.c
        for i, place in enumerate(places):
            target = target + place * out[3 + i]
        code.store(code.load(kept), target)


LIBRARY = Library(
    "adjoint",
    {
        "problem": (_write_problem, ("words",)),
        "plan": (_plan, ("words",)),
        "run": (_run, ("words", "values")),
    },
    needs=(_conv_core.LIBRARY,),
)
