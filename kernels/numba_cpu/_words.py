"""A call of a function for users' code as words of 8 bytes, which the functions that ``_library``
compiles read and write; and what they find wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from .. import shapes
from ..blocking_rows import RowsCut
from ..problem import ConvProblem, PoolProblem
from ._emit import Code, Operand, Value
from ._views import View

#: The shape formulas, which are arithmetic alone: of values they make code.
effective_kernel: Callable[..., Any] = shapes.effective_kernel
transposed_output_size: Callable[..., Any] = shapes.transposed_output_size
adjoint_phase: Callable[..., Any] = shapes.adjoint_phase


class Layout:
    """Where the fields of a call begin, and how many words it has."""

    def __init__(self, **counts: int) -> None:
        self.places: dict[str, int] = {}
        self.words = 0
        for name, count in counts.items():
            self.places[name] = self.words
            self.words += count

    def __getattr__(self, name: str) -> int:
        return self.places[name]


#: Addresses (of a bias that isn't there 0); strides in elements; what was given: extents of five
#: axes, arguments of three, how many biases (-1: none); what is made of it: problem, cut, the
#: result's extents, elements of scratch, and the number of a rule that is broken.
CONV = Layout(
    x=1, weight=1, bias=1, out=1, activation=1,
    x_strides=5, weight_strides=5, out_strides=5,
    x_sizes=5, weight_sizes=5, stride=3, padding=3, dilation=3, extra=3, groups=1, biases=1,
    whole=1,
    problem=len(ConvProblem._fields), cut=len(RowsCut._fields), out_sizes=5, local=1, status=1,
)  # fmt: skip
#: The same; ``counted``: whether padding counts; ``local`` integers hold the windows.
POOL = Layout(
    x=1, out=1, x_strides=5, out_strides=5,
    x_sizes=5, kernel=3, stride=3, padding=3, dilation=3, ceil=1, counted=1, whole=1,
    problem=len(PoolProblem._fields), out_sizes=5, local=1, status=1,
)  # fmt: skip

#: Words of the cut that a caller looks at.
TASKS = CONV.cut + RowsCut._fields.index("tasks")
LOCAL_ELEMENTS = CONV.cut + RowsCut._fields.index("local_elements")

#: Sizes and arguments are smaller: sums and products of two stay in 64 bits. And what no array's
#: size and no operation count reaches (``cnnfast._core.arguments``).
LIMIT = 2**31
ELEMENTS, OPERATIONS = 2.0**59, 2.0**62

RULES = (
    "strides of arrays must be whole elements",
    "no channel and no spatial axis may be empty",
    "groups must be positive",
    "groups must divide the channels",
    "the weight must have in-channels / groups channels",
    "the weight must have as many in-channels as the input, and groups must divide them",
    "bias must have a value for each out-channel",
    "stride and dilation must be positive",
    "padding must be non-negative",
    "padding must be at most half the window",
    "output_padding must be non-negative",
    "output_padding must be smaller than stride or dilation",
    "sizes, stride, padding and dilation must be below 2**31",
    "the kernel must fit the padded input on every axis",
    "the output must not be empty",
    "the input's and the result's size must be below 2**59",
    "the count of operations must be below 2**62",
    "out must have the shape of the result",
    "out must lie in front of all inputs in memory, or behind them",
)


def number_of(rule: str) -> int:
    """The status of a rule that is broken, by its first words."""
    (number,) = (i + 1 for i, known in enumerate(RULES) if known.startswith(rule))
    return number


class Call:
    """A call's words, while code is written that reads and writes them."""

    def __init__(self, code: Code, layout: Layout, words: Value) -> None:
        self.code, self.layout, self.words = code, layout, words

    def get(self, name: str, i: Operand = 0) -> Value:
        """A field, or one of several."""
        return self.code.load(self.words + self.layout.places[name] + i)

    def set(self, name: str, value: Operand, i: Operand = 0) -> None:
        """Write it."""
        self.code.store(self.code.of(value), self.words + self.layout.places[name] + i)

    def all(self, name: str, count: int) -> list[Value]:
        """Several."""
        return [self.get(name, i) for i in range(count)]

    def set_all(self, name: str, values: Any) -> None:
        """Write several."""
        for i, value in enumerate(values):
            self.set(name, value, i)

    def fields(self, name: str, kind: Any) -> Any:
        """A named tuple."""
        return kind(*self.all(name, len(kind._fields)))

    def address(self, name: str) -> Value:
        """A pointer to elements."""
        pointer = self.code.real.as_pointer()
        return Value(self.code, self.code.builder.inttoptr(self.get(name).value, pointer))

    def view(self, name: str) -> View:
        """An array."""
        return View(self.address(name), *self.all(f"{name}_strides", 5))


class Checks:
    """The first rule of ``RULES`` that a call breaks."""

    def __init__(self, call: Call) -> None:
        self.call, self.code = call, call.code
        self.status = self.code.var(0)
        self.refuse(call.get("whole").equals(0), "strides of arrays")

    def refuse(self, broken: Value, rule: str) -> None:
        """A rule, by its first words; what comes after it may look at anything."""
        with self.code.when(broken & self.status.get().equals(0)):
            self.status.set(self.code.of(number_of(rule)))

    def check_axis(
        self, size: Value, kernel: Value, stride: Value, padding: Value, dilation: Value
    ) -> None:
        """What is asked of the numbers of an axis."""
        self.refuse((size < 1) | (kernel < 1), "no channel")
        self.refuse((stride < 1) | (dilation < 1), "stride and dilation")
        self.refuse(padding < 0, "padding must be non-negative")
        for number in (size, kernel, stride, padding, dilation):
            self.refuse(number >= LIMIT, "sizes, stride")

    def check_counts(
        self, images: Value, channels: Value, read: list[Value], written: list[Value],
        taps: list[Value],
    ) -> None:  # fmt: skip
        """Of volumes that are read and written, and the products of an output."""
        elements = self.real(self.code.greatest(images, 1)) * self.real(channels)
        for volume in (read, written):
            self.refuse(self.product(elements, volume) >= ELEMENTS, "the input's")
        operations = self.product(elements, [*written, *taps]) * 2.0
        self.refuse(operations >= OPERATIONS, "the count")

    def real(self, value: Value) -> Value:
        """A double."""
        double = self.code.context.get_data_type(types.float64)
        return Value(self.code, self.code.builder.sitofp(value.value, double))

    def product(self, first: Value, others: list[Value]) -> Value:
        """A product that can't overflow."""
        for value in others:
            first = first * self.real(value)
        return first

    def done(self) -> None:
        """Write what was found."""
        self.call.set("status", self.status.get())
