"""Arguments of several types in, a call's words out: what functions for users' code are made of.

All of it is intrinsics, which take a caller's compiler next to no time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from . import _adjoint_core, _conv_core, _pool_core
from ._activation_functions import activation_code, check_activation
from ._vector import INT64, greatest
from ._words import CONV, POOL, Layout

WORDS = types.CPointer(types.int64)
TRIPLE = types.UniTuple(types.int64, 3)


def axes_of(rank: int) -> tuple[int, ...]:
    """A number of spatial axes as the functions here take it: in a type, as a tuple's length."""
    return (0,) * rank


def is_array(array: Any, axes: int, dtype: Any = None) -> bool:
    """Whether it is an array that kernels can read."""
    if not isinstance(array, types.Array) or array.ndim != axes or not array.aligned:
        return False
    return array.dtype in (types.float32, types.float64) if dtype is None else array.dtype == dtype


def _check(good: bool, rule: str, got: Any) -> None:
    if not good:
        raise TypingError(f"{rule}, got {got}")


@intrinsic
def check_types(typing_context: Any, rank: Any, x: Any, weight: Any, bias: Any) -> Any:
    """Refuse, while code is compiled, what isn't an array of the right rank and dtype."""
    axes = rank.count + 2
    rule = f"must be an aligned array of {axes} axes"
    _check(is_array(x, axes), f"x {rule}, float32 or float64", x)
    if not isinstance(weight, types.NoneType):
        _check(is_array(weight, axes, x.dtype), f"weight {rule} and x's dtype {x.dtype}", weight)
    if not isinstance(bias, types.NoneType):
        good = is_array(bias, 1, x.dtype)
        _check(good, f"bias must be None or an aligned array of 1 axis and {x.dtype}", bias)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.none(rank, x, weight, bias), generate


@intrinsic
def check_out(typing_context: Any, rank: Any, x: Any, out: Any) -> Any:
    """The same for what is written."""
    axes = rank.count + 2
    good = is_array(out, axes, x.dtype) and out.mutable
    _check(good, f"out must be a writeable, aligned array of {axes} axes and {x.dtype}", out)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.none(rank, x, out), generate


@intrinsic
def triple(typing_context: Any, rank: Any, value: Any, fill: Any) -> Any:
    """An integer, or a tuple with one for each axis, as three integers; ``fill`` in front."""
    count = rank.count
    several = isinstance(value, types.BaseTuple)
    parts = list(value.types) if several else [value]
    good = all(isinstance(part, types.Integer) for part in parts)
    good = good and len(parts) == (count if several else 1)
    rule = f"stride, padding, dilation and sizes must be an integer or a tuple of {count} integers"
    _check(good, rule, value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = cgutils.unpack_tuple(builder, arguments[1]) if several else [arguments[1]]
        whole = [
            context.cast(builder, item, part, types.int64)
            for item, part in zip(given, parts, strict=True)
        ]
        whole = whole if several else whole * count
        front = [arguments[2]] * (3 - count)
        return context.make_tuple(builder, signature.return_type, front + whole)

    return TRIPLE(rank, value, types.int64), generate


@intrinsic
def steps_of(typing_context: Any, stride: Any, kernel: Any) -> Any:
    """The stride of a pooling: the window where it is None."""
    missing = isinstance(stride, types.NoneType)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[1] if missing else arguments[0]

    return (kernel if missing else stride)(stride, kernel), generate


def _five(builder: Any, values: Any, fill: int) -> list[Any]:
    """Two axes, and three spatial ones."""
    given = cgutils.unpack_tuple(builder, values)
    return [*given[:2], *[INT64(fill)] * (5 - len(given)), *given[2:]]


def contiguous(bias: Any) -> Any:
    """A bias whose values lie side by side; None stays None."""
    raise NotImplementedError("for compiled code alone")


@overload(contiguous, inline="always")
def _contiguous(bias):
    if isinstance(bias, types.Array) and bias.layout != "C":
        return lambda bias: bias.copy()
    return lambda bias: bias


@intrinsic
def keep(typing_context: Any, array: Any) -> Any:
    """Nothing, but that the array is needed up to here."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.none(array), generate


def bounds_of(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any, Any]:
    """The first address of an array, one past its last (0 and 0 of an empty one), and whether its
    strides are elements."""
    array = context.make_array(kind)(context, builder, value)
    low = builder.ptrtoint(array.data, INT64)
    size = INT64(kind.dtype.bitwidth // 8)
    high, whole = builder.add(low, size), ir.Constant(ir.IntType(1), 1)
    empty = ir.Constant(ir.IntType(1), 0)
    axes = (cgutils.unpack_tuple(builder, part) for part in (array.shape, array.strides))
    for extent, stride in zip(*axes, strict=True):
        reach = builder.mul(greatest(builder, builder.sub(extent, INT64(1)), INT64(0)), stride)
        down = builder.icmp_signed("<", reach, INT64(0))
        low = builder.select(down, builder.add(low, reach), low)
        high = builder.select(down, high, builder.add(high, reach))
        rest = builder.icmp_signed("==", builder.srem(stride, size), INT64(0))
        whole = builder.and_(whole, rest)
        empty = builder.or_(empty, builder.icmp_signed("==", extent, INT64(0)))
    low, high = (builder.select(empty, INT64(0), end) for end in (low, high))
    return low, high, whole


class CallWords:
    """A call's words, while code is made that writes them: new ones, on the stack of the calling
    function, or those from ``first`` on."""

    def __init__(self, context: Any, builder: Any, layout: Layout, first: Any = None) -> None:
        self.context, self.builder, self.layout = context, builder, layout
        room = INT64(layout.words)
        self.first = cgutils.alloca_once(builder, INT64, size=room) if first is None else first

    def get(self, name: str, i: int = 0) -> Any:
        """A field, or one of several."""
        return self.builder.load(
            self.builder.gep(self.first, [INT64(self.layout.places[name] + i)])
        )

    def put(self, name: str, *values: Any) -> None:
        """Write a field, or all of several."""
        for i, value in enumerate(values):
            place = self.builder.gep(self.first, [INT64(self.layout.places[name] + i)])
            self.builder.store(value, place)

    def put_tuple(self, name: str, values: Any) -> None:
        """The same from a tuple."""
        self.put(name, *cgutils.unpack_tuple(self.builder, values))

    def put_array(self, kind: Any, value: Any, name: str) -> None:
        """An array's address, and its strides in elements."""
        builder, size = self.builder, kind.dtype.bitwidth // 8
        array = self.context.make_array(kind)(self.context, builder, value)
        self.put(name, builder.ptrtoint(array.data, INT64))
        steps = _five(builder, array.strides, size)
        self.put(f"{name}_strides", *(builder.sdiv(step, INT64(size)) for step in steps))

    def put_sizes(self, kind: Any, value: Any, name: str) -> None:
        """Its extents."""
        shape = self.context.make_array(kind)(self.context, self.builder, value).shape
        self.put(f"{name}_sizes", *_five(self.builder, shape, 1))

    def put_whole(self, kinds: Any, values: Any) -> None:
        """Whether strides of arrays are whole elements."""
        whole = ir.Constant(ir.IntType(1), 1)
        for kind, value in zip(kinds, values, strict=True):
            if isinstance(kind, types.Array):
                _, _, good = bounds_of(self.context, self.builder, kind, value)
                whole = self.builder.and_(whole, good)
        self.put("whole", self.builder.zext(whole, INT64))


@intrinsic
def conv_words(
    typing_context: Any, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, extra: Any,
    groups: Any, bias: Any, activation: Any,
) -> Any:  # fmt: skip
    """The words of a convolution, but for its result."""
    check_activation(typing_context, activation, x.dtype)
    _check(isinstance(groups, types.Integer), "groups must be an integer", groups)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = CallWords(context, builder, CONV)
        x_value, weight_value, *triples, count, bias_value, _ = arguments
        for kind, value, name in ((x, x_value, "x"), (weight, weight_value, "weight")):
            words.put_array(kind, value, name)
            words.put_sizes(kind, value, name)
        for name, values in zip(("stride", "padding", "dilation", "extra"), triples, strict=True):
            words.put_tuple(name, values)
        words.put("groups", context.cast(builder, count, groups, types.int64))
        words.put("bias", INT64(0))
        words.put("biases", INT64(-1))
        if isinstance(bias, types.Array):
            array = context.make_array(bias)(context, builder, bias_value)
            words.put("bias", builder.ptrtoint(array.data, INT64))
            words.put("biases", *cgutils.unpack_tuple(builder, array.shape))
        words.put("activation", activation_code(context, builder, activation, x.dtype))
        words.put_whole((x, weight, bias), (x_value, weight_value, bias_value))
        return words.first

    kinds = x, weight, TRIPLE, TRIPLE, TRIPLE, TRIPLE, groups, bias, activation
    return WORDS(*kinds), generate


@intrinsic
def pool_words(
    typing_context: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any,
    counted: Any,
) -> Any:  # fmt: skip
    """The words of a pooling, but for its result."""
    for flag in (ceil, counted):
        good = isinstance(flag, types.Boolean)
        _check(good, "ceil_mode and count_include_pad must be booleans", flag)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = CallWords(context, builder, POOL)
        x_value, *triples, ceil_value, counted_value = arguments
        words.put_array(x, x_value, "x")
        words.put_sizes(x, x_value, "x")
        for name, values in zip(("kernel", "stride", "padding", "dilation"), triples, strict=True):
            words.put_tuple(name, values)
        words.put("ceil", builder.zext(ceil_value, INT64))
        words.put("counted", builder.zext(counted_value, INT64))
        words.put_whole((x,), (x_value,))
        return words.first

    kinds = x, TRIPLE, TRIPLE, TRIPLE, TRIPLE, types.boolean, types.boolean
    return WORDS(*kinds), generate


def _make_call(library: Any, function: str, *kinds: Any) -> Any:
    """What calls a library's function; its first argument says the dtype."""

    @intrinsic
    def call(typing_context: Any, x: Any, arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            items = cgutils.unpack_tuple(builder, values[1])
            for i, (kind, actual) in enumerate(zip(kinds, arguments.types, strict=True)):
                if isinstance(actual, types.Array):
                    items[i] = context.make_array(actual)(context, builder, items[i]).data
                elif kind is types.int64:
                    items[i] = context.cast(builder, items[i], actual, kind)
            library.call(context, builder, function, x.dtype.name, items)
            return context.get_dummy_value()

        return types.none(x, arguments), generate

    return call


write_conv_problem = _make_call(_conv_core.LIBRARY, "problem", WORDS)
plan_conv = _make_call(_conv_core.LIBRARY, "plan", WORDS, types.int64)
run_conv = _make_call(_conv_core.LIBRARY, "run", WORDS, None, types.int64, types.int64)
write_transposed_problem = _make_call(_adjoint_core.LIBRARY, "problem", WORDS)
plan_transposed = _make_call(_adjoint_core.LIBRARY, "plan", WORDS)
run_transposed = _make_call(_adjoint_core.LIBRARY, "run", WORDS, None)
write_max_problem = _make_call(_pool_core.MAX, "problem", WORDS)
run_max_pool = _make_call(_pool_core.MAX, "run", WORDS, WORDS)
write_avg_problem = _make_call(_pool_core.AVG, "problem", WORDS)
run_avg_pool = _make_call(_pool_core.AVG, "run", WORDS, WORDS)


def _make_result_shape(layout: Layout) -> Any:
    @intrinsic
    def result_shape(typing_context: Any, rank: Any, words: Any) -> Any:
        """The shape of a call's result."""
        count = rank.count

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            call = CallWords(context, builder, layout, arguments[1])
            extents = [call.get("out_sizes", axis) for axis in (0, 1, *range(5 - count, 5))]
            return context.make_tuple(builder, signature.return_type, extents)

        return types.UniTuple(types.int64, count + 2)(rank, words), generate

    return result_shape


conv_shape, pool_shape = _make_result_shape(CONV), _make_result_shape(POOL)


def _make_set_out(layout: Layout) -> Any:
    @intrinsic
    def set_out(typing_context: Any, words: Any, out: Any) -> Any:
        """Write a call's result into its words."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            call = CallWords(context, builder, layout, arguments[0])
            call.put_array(out, arguments[1], "out")
            return context.get_dummy_value()

        return types.none(words, out), generate

    return set_out


set_conv_out, set_pool_out = _make_set_out(CONV), _make_set_out(POOL)
