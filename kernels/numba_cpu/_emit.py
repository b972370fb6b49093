"""LLVM code written as Python: values with operators, loops and conditions as ``with`` blocks.

What a kernel's Python functions do with these values is written into one LLVM function as they run;
what is a plain Python value then is a constant, so one source serves several sizes. Integers are
int64, pointers move by elements, vectors are as wide as the machine's; ``Code.function`` makes
functions that stay ones.
Why: Numba compiles every function that it inlines by itself first: pooling's took 33 s, and takes
2 s this way (process time of ``pooling.run_max["float32"]``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from . import _vector
from ._vector import INT32, INT64

Operand = Any


class Value:
    """A value of the code that is being written."""

    def __init__(self, code: Code, value: Any) -> None:
        self.code, self.value = code, value

    @property
    def element(self) -> ir.Type:
        """The type, of a vector its elements'."""
        kind = self.value.type
        return kind.element if isinstance(kind, ir.VectorType) else kind

    def _both(self, other: Operand) -> Any:
        """The other operand, a Python number as one of the same type."""
        if isinstance(other, Value):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [other] * kind.count if isinstance(kind, ir.VectorType) else other)

    def _do(self, whole: str, real: str, other: Operand, swap: bool = False) -> Value:
        operands = [self.value, self._both(other)]
        name = whole if isinstance(self.element, ir.IntType) else real
        if swap:
            operands.reverse()
        return Value(self.code, getattr(self.code.builder, name)(*operands))

    def __add__(self, other: Operand) -> Value:
        if isinstance(self.value.type, ir.PointerType):
            at = other.value if isinstance(other, Value) else INT64(other)
            return Value(self.code, self.code.builder.gep(self.value, [at]))
        return self._do("add", "fadd", other)

    def __sub__(self, other: Operand) -> Value:
        return self._do("sub", "fsub", other)

    def __rsub__(self, other: Operand) -> Value:
        return self._do("sub", "fsub", other, swap=True)

    def __mul__(self, other: Operand) -> Value:
        return self._do("mul", "fmul", other)

    def __floordiv__(self, other: Operand) -> Value:
        """Of integers, none of them negative."""
        return self._do("sdiv", "fdiv", other)

    def __truediv__(self, other: Operand) -> Value:
        return self._do("sdiv", "fdiv", other)

    def __mod__(self, other: Operand) -> Value:
        return self._do("srem", "frem", other)

    def __and__(self, other: Operand) -> Value:
        return self._do("and_", "and_", other)

    def __or__(self, other: Operand) -> Value:
        return self._do("or_", "or_", other)

    def __xor__(self, other: Operand) -> Value:
        return self._do("xor", "xor", other)

    def __invert__(self) -> Value:
        return Value(self.code, self.code.builder.not_(self.value))

    __radd__, __rmul__ = __add__, __mul__

    def _compare(self, sign: str, other: Operand) -> Value:
        builder, operands = self.code.builder, (self.value, self._both(other))
        whole = isinstance(self.element, ir.IntType)
        compare = builder.icmp_signed if whole else builder.fcmp_ordered
        return Value(self.code, compare(sign, *operands))

    def __lt__(self, other: Operand) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Operand) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Operand) -> Value:
        return self._compare(">=", other)

    def equals(self, other: Operand) -> Value:
        """Whether two values are the same."""
        return self._compare("==", other)

    def differs(self, other: Operand) -> Value:
        """Whether they aren't, both numbers."""
        return self._compare("!=", other)

    def is_nan(self) -> Value:
        """Where it is NaN, which no integer is."""
        if isinstance(self.element, ir.IntType):
            return self.differs(self)
        return Value(self.code, self.code.builder.fcmp_unordered("uno", self.value, self.value))


class Variable:
    """A value that changes."""

    def __init__(self, code: Code, value: Value) -> None:
        self.code, self.place = code, cgutils.alloca_once(code.builder, value.value.type)
        self.set(value)

    def get(self) -> Value:
        """What it is now."""
        return Value(self.code, self.code.builder.load(self.place))

    def set(self, value: Operand) -> None:
        """Change it."""
        given = value.value if isinstance(value, Value) else value
        self.code.builder.store(given, self.place)


class Code:
    """Where code is written: a function of a module, for arrays of an element type."""

    def __init__(self, context: Any, builder: Any, element: ir.Type) -> None:
        self.context, self.builder, self.real = context, builder, element
        self.itemsize = _vector.element_bytes(element)
        self.lanes = _vector.widest(context) // self.itemsize
        self.vector = ir.VectorType(element, self.lanes)
        self.whole = isinstance(element, ir.IntType)

    def halved(self) -> Code:
        """The same with vectors that are half as wide."""
        half = Code(self.context, self.builder, self.real)
        half.lanes //= 2
        half.vector = ir.VectorType(self.real, half.lanes)
        return half

    def of_bits(self) -> Code:
        """The same place, for integers as wide as the elements."""
        return Code(self.context, self.builder, ir.IntType(8 * self.itemsize))

    def from_bits(self, vector: Value) -> Value:
        """A vector of integers as one of elements."""
        return Value(self, self.builder.bitcast(vector.value, self.vector))

    def of(self, value: Any) -> Value:
        """An LLVM value, or a Python integer as an int64."""
        if isinstance(value, Value):
            return value
        return Value(self, INT64(value) if isinstance(value, int) else value)

    def var(self, value: Operand) -> Variable:
        """A variable."""
        return Variable(self, self.of(value))

    def number(self, value: float) -> Value:
        """A constant of the element type."""
        return Value(self, self.real(value))

    @contextmanager
    def range(
        self, begin: Operand, end: Operand, step: Operand = 1, scalar: bool = False
    ) -> Iterator[Value]:
        """A loop over begin, begin + step, ... below end. LLVM makes gathers of elements that lie
        apart unless it is to be ``scalar``: speech-frames took 180 us with them, and takes 148."""
        first, last, apart = (self.of(value).value for value in (begin, end, step))
        with _vector.loop(self.builder, first, last, apart, scalar) as index:
            yield Value(self, index)

    @contextmanager
    def loop_while(self, condition: Callable[[], Value]) -> Iterator[None]:
        """A loop as long as a condition holds."""
        builder = self.builder
        names = ("head", "body", "after")
        head, body, after = (builder.append_basic_block(name) for name in names)
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(condition().value, body, after)
        builder.position_at_end(body)
        yield
        builder.branch(head)
        builder.position_at_end(after)

    def when(self, condition: Value) -> Any:
        """``with code.when(condition): ...``"""
        return self.builder.if_then(condition.value)

    def either(self, condition: Value) -> Any:
        """``with code.either(condition) as (then, otherwise): ...``"""
        return self.builder.if_else(condition.value)

    def choose(self, condition: Value, yes: Operand, no: Operand) -> Value:
        """``yes`` where the condition holds, elsewhere ``no``."""
        first, second = self.of(yes).value, self.of(no).value
        return Value(self, self.builder.select(condition.value, first, second))

    def least(self, a: Operand, b: Operand) -> Value:
        """The lesser of two integers."""
        return self.choose(self.of(a) < b, a, b)

    def greatest(self, a: Operand, b: Operand) -> Value:
        """The greater of two integers."""
        return self.choose(self.of(a) > b, a, b)

    def inside(self, index: Value, size: Value) -> Value:
        """Whether an index is one of 0 to size - 1."""
        return Value(self, self.builder.icmp_unsigned("<", index.value, size.value))

    def load(self, place: Value) -> Value:
        """An element."""
        return Value(self, self.builder.load(place.value))

    def store(self, value: Value, place: Value) -> None:
        """Write an element."""
        self.builder.store(value.value, place.value)

    def splat(self, scalar: Value) -> Value:
        """A vector of one value."""
        kind = ir.VectorType(scalar.value.type, self.lanes)
        return Value(self, _vector.splat(self.builder, kind, scalar.value))

    def numbers(self) -> Value:
        """The lanes' numbers, as a vector of int64."""
        kind = ir.VectorType(INT64, self.lanes)
        return Value(self, ir.Constant(kind, list(range(self.lanes))))

    def first(self, count: Operand) -> Value:
        """A mask of the first lanes."""
        return self.numbers() < self.splat(self.of(count))

    def vload(self, place: Value, count: Operand = None) -> Value:
        """Neighbours; of ``count`` lanes the first ones, and zeros, which aren't read."""
        if count is None:
            return Value(self, _vector.load_vector(self.builder, self.vector, place.value))
        return self.vload_masked(place, self.first(count))

    def vload_masked(self, place: Value, mask: Value) -> Value:
        """The lanes of a mask, and zeros."""
        loaded = _vector.load_masked(self.builder, self.vector, place.value, mask.value)
        return Value(self, loaded)

    def vload_few(self, place: Value, count: int) -> Value:
        """The first ``count`` elements; what follows in the vector is anything."""
        few = ir.VectorType(self.real, count)
        loaded = _vector.load_vector(self.builder, few, place.value)
        lanes = [*range(count), *[count] * (self.lanes - count)]
        return Value(self, _vector.shuffle(self.builder, loaded, loaded, lanes))

    def vload_apart(self, place: Value, stride: Operand) -> Value:
        """Elements ``stride`` apart, one after the other."""
        result = ir.Constant(self.vector, ir.Undefined)
        for lane in range(self.lanes):
            element = self.load(place + self.of(stride) * lane).value
            result = self.builder.insert_element(result, element, INT32(lane))
        return Value(self, result)

    def vstore(self, value: Value, place: Value, count: Operand = None) -> None:
        """Write a vector, or its first ``count`` lanes."""
        if count is None:
            _vector.store_vector(self.builder, value.value, place.value)
        else:
            _vector.store_first(self.builder, value.value, place.value, self.of(count).value)

    def store_few(self, values: Sequence[Value], place: Value) -> None:
        """Write single elements as one vector."""
        few = ir.Constant(ir.VectorType(self.real, len(values)), ir.Undefined)
        for lane, value in enumerate(values):
            few = self.builder.insert_element(few, value.value, INT32(lane))
        _vector.store_vector(self.builder, few, place.value)

    def vstream(self, value: Value, place: Value) -> None:
        """Write a vector past the caches, to an address that it is aligned to."""
        _vector.stream_vector(self.builder, value.value, place.value)

    def vstore_apart(self, value: Value, place: Value, stride: Operand, count: Operand) -> None:
        """Write the first ``count`` lanes ``stride`` apart."""
        with self.range(0, count) as lane:
            element = self.builder.extract_element(value.value, lane.value)
            self.store(Value(self, element), place + lane * stride)

    def shuffle(self, low: Value, high: Value, lanes: Sequence[int]) -> Value:
        """The chosen lanes of two vectors side by side."""
        return Value(self, _vector.shuffle(self.builder, low.value, high.value, list(lanes)))

    def following(self, low: Value, high: Value, first: int) -> Value:
        """The vector that begins with a lane of ``low`` and goes on in ``high``."""
        return self.shuffle(low, high, range(first, first + self.lanes))

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """``a * b + c``, rounded once wherever the machine can."""
        operands = (value.value for value in (a, b, c))
        return Value(self, _vector.multiply_add_values(self.builder, *operands))

    def larger(self, former: Value, value: Value) -> Value:
        """The larger ones: ``value`` where it is NaN, ``former`` where it is or both are equal."""
        greatest = _vector.maximum(self.context, self.builder, value.value, former.value)
        if greatest is None:
            greatest = self.choose(value > former, value, former).value
        if self.whole:
            return Value(self, greatest)
        return self.choose(value.is_nan(), value, Value(self, greatest))

    def prefetch(self, place: Value, to_write: bool = False, near: bool = True) -> None:
        """Fetch the cache line of an address, into the second cache if not ``near``."""
        _vector.prefetch(self.builder, place.value, to_write, near)

    def buffer(self, kind: ir.Type, count: int) -> Value:
        """Room for some elements on the function's stack."""
        place = cgutils.alloca_once(self.builder, kind, size=INT64(count))
        place.align = 64
        return Value(self, place)

    def function(
        self, name: str, body: Callable[..., None], arguments: Sequence[Operand], *constants: Any
    ) -> None:
        """Call ``body(code, *constants, *arguments)`` as a function that stays one; the name and
        the constants tell it from others. ``arguments`` may be named tuples of values."""
        flat, shape = _flatten([_each(self.of, argument) for argument in arguments])
        module, number = self.builder.module, "".join(f".{constant}" for constant in constants)
        full = f"cnnfast.{name}.{self.real.intrinsic_name}{number}"
        function = module.globals.get(full)
        if function is None:
            kinds = [value.value.type for value in flat]
            function = _vector.own_function(module, full, kinds)
            builder = ir.IRBuilder(function.append_basic_block())
            # Room on the stack is made before all else, where its place is known beforehand.
            first = function.append_basic_block()
            builder.branch(first)
            builder.position_at_end(first)
            code = Code(self.context, builder, self.real)
            given = _rebuild(iter(Value(code, value) for value in function.args), shape)
            body(code, *constants, *given)
            builder.ret_void()
        self.builder.call(function, [value.value for value in flat])


def _each(change: Callable[[Any], Value], argument: Any) -> Any:
    if isinstance(argument, tuple):
        return type(argument)(*(_each(change, item) for item in argument))
    return change(argument)


def _flatten(arguments: Any) -> tuple[list[Value], list[Any]]:
    flat: list[Value] = []
    shape: list[Any] = []
    for argument in arguments:
        if isinstance(argument, tuple):
            inside, kinds = _flatten(argument)
            flat += inside
            shape.append((type(argument), kinds))
        else:
            flat.append(argument)
            shape.append(None)
    return flat, shape


def _rebuild(values: Iterator[Value], shape: list[Any]) -> list[Any]:
    return [next(values) if kind is None else kind[0](*_rebuild(values, kind[1])) for kind in shape]
