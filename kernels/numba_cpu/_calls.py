"""What functions for users' compiled code are made of: arguments of several types in, words of the
kernels in ``_cores`` out. All of it is intrinsics, for these cost callers next to nothing to
compile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from . import _cores
from ._activation_functions import activation_code, check_activation
from ._vector import INT64

WORDS = types.CPointer(types.int64)
TRIPLE, SIZES = types.UniTuple(types.int64, 3), types.UniTuple(types.int64, 5)


def _literal(value: Any) -> int:
    return int(value.literal_value)


def is_array(array: Any, axes: int, dtype: Any = None) -> bool:
    """Whether it is an array that kernels can read."""
    if not isinstance(array, types.Array) or array.ndim != axes or not array.aligned:
        return False
    return array.dtype in (types.float32, types.float64) if dtype is None else array.dtype == dtype


def _check(good: bool, rule: str, got: Any) -> None:
    if not good:
        raise TypingError(f"{rule}, got {got}")


@intrinsic(prefer_literal=True)
def check_types(typing_context: Any, rank: Any, x: Any, weight: Any, bias: Any) -> Any:
    """Refuse, while code is compiled, what isn't an array of the right rank and dtype."""
    axes = _literal(rank) + 2
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


@intrinsic(prefer_literal=True)
def check_out(typing_context: Any, rank: Any, x: Any, out: Any) -> Any:
    """The same for what is written."""
    axes = _literal(rank) + 2
    good = is_array(out, axes, x.dtype) and out.mutable
    _check(good, f"out must be a writeable, aligned array of {axes} axes and {x.dtype}", out)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.none(rank, x, out), generate


@intrinsic(prefer_literal=True)
def triple(typing_context: Any, rank: Any, value: Any, fill: Any) -> Any:
    """An integer, or a tuple with one for each axis, as three integers; ``fill`` in front."""
    count = _literal(rank)
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
        front = [INT64(_literal(fill))] * (3 - count)
        return context.make_tuple(builder, signature.return_type, front + whole)

    return TRIPLE(rank, value, fill), generate


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


@intrinsic
def sizes(typing_context: Any, array: Any) -> Any:
    """An array's extents, with unit axes up to three spatial ones."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shape = context.make_array(array)(context, builder, arguments[0]).shape
        return context.make_tuple(builder, signature.return_type, _five(builder, shape, 1))

    return SIZES(array), generate


@intrinsic
def length_of(typing_context: Any, bias: Any) -> Any:
    """How many values, -1 for None."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if isinstance(bias, types.NoneType):
            return INT64(-1)
        shape = context.make_array(bias)(context, builder, arguments[0]).shape
        return cgutils.unpack_tuple(builder, shape)[0]

    return types.int64(bias), generate


@intrinsic(prefer_literal=True)
def result_shape(typing_context: Any, rank: Any, n: Any, k: Any, spatial: Any) -> Any:
    """The last axes of ``spatial`` behind two others."""
    count = _literal(rank)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        extents = cgutils.unpack_tuple(builder, arguments[3])[3 - count :]
        values = [arguments[1], arguments[2], *extents]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(types.int64, count + 2)(rank, types.int64, types.int64, TRIPLE), generate


def _bounds(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any, Any]:
    """The first address of an array, one past its last, and whether its strides are elements."""
    array = context.make_array(kind)(context, builder, value)
    low = builder.ptrtoint(array.data, INT64)
    size = INT64(kind.dtype.bitwidth // 8)
    high, whole = builder.add(low, size), ir.Constant(ir.IntType(1), 1)
    axes = (cgutils.unpack_tuple(builder, part) for part in (array.shape, array.strides))
    for extent, stride in zip(*axes, strict=True):
        reach = builder.mul(builder.sub(extent, INT64(1)), stride)
        down = builder.icmp_signed("<", reach, INT64(0))
        low = builder.select(down, builder.add(low, reach), low)
        high = builder.select(down, high, builder.add(high, reach))
        rest = builder.icmp_signed("==", builder.srem(stride, size), INT64(0))
        whole = builder.and_(whole, rest)
    return low, high, whole


@intrinsic
def whole_strides(typing_context: Any, array: Any) -> Any:
    """Whether strides are whole elements; None has none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if isinstance(array, types.NoneType):
            return ir.Constant(ir.IntType(1), 1)
        return _bounds(context, builder, array, arguments[0])[2]

    return types.boolean(array), generate


@intrinsic
def apart(typing_context: Any, array: Any, out: Any) -> Any:
    """Whether all of one array lies in front of all of the other; None lies anywhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if isinstance(array, types.NoneType):
            return ir.Constant(ir.IntType(1), 1)
        low, high, _ = _bounds(context, builder, array, arguments[0])
        out_low, out_high, _ = _bounds(context, builder, out, arguments[1])
        before = builder.icmp_signed("<=", high, out_low)
        return builder.or_(before, builder.icmp_signed("<=", out_high, low))

    return types.boolean(array, out), generate


class _Words:
    """A call's words on the stack, while code is made that writes them."""

    def __init__(self, context: Any, builder: Any, count: int) -> None:
        self.context, self.builder = context, builder
        self.first = cgutils.alloca_once(builder, INT64, size=INT64(count))

    def put(self, at: int, value: Any) -> None:
        self.builder.store(value, self.builder.gep(self.first, [INT64(at)]))

    def put_all(self, at: int, values: Any) -> None:
        for i, value in enumerate(values):
            self.put(at + i, value)

    def put_array(self, kind: Any, value: Any, at: int, strides: int) -> None:
        """An array's address, and its strides in elements. An axis of one position has any."""
        builder = self.builder
        array = self.context.make_array(kind)(self.context, builder, value)
        self.put(at, builder.ptrtoint(array.data, INT64))
        size = INT64(kind.dtype.bitwidth // 8)
        steps = _five(builder, array.strides, kind.dtype.bitwidth // 8)
        self.put_all(strides, [builder.sdiv(step, size) for step in steps])


@intrinsic
def conv_words(
    typing_context: Any, x: Any, weight: Any, bias: Any, out: Any, problem: Any, activation: Any
) -> Any:
    """The words of a convolution, on the stack of the calling function."""
    check_activation(typing_context, activation, x.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = _Words(context, builder, _cores.CONV_WORDS)
        x_value, weight_value, bias_value, out_value, fields, function = arguments
        words.put_array(x, x_value, _cores.X, _cores.X_STRIDES)
        words.put_array(weight, weight_value, _cores.WEIGHT, _cores.WEIGHT_STRIDES)
        words.put_array(out, out_value, _cores.OUT, _cores.OUT_STRIDES)
        words.put(_cores.BIAS, INT64(0))
        if not isinstance(bias, types.NoneType):
            data = context.make_array(bias)(context, builder, bias_value).data
            words.put(_cores.BIAS, builder.ptrtoint(data, INT64))
        code = activation_code(context, builder, activation, x.dtype)
        words.put(_cores.ACTIVATION, code)
        words.put_all(_cores.PROBLEM, cgutils.unpack_tuple(builder, fields))
        return words.first

    return WORDS(x, weight, bias, out, problem, activation), generate


@intrinsic
def copied_words(typing_context: Any, words: Any) -> Any:
    """A copy of a convolution's words, on the stack of the calling function."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        copy = _Words(context, builder, _cores.CONV_WORDS)
        for at in range(_cores.PROBLEM):
            copy.put(at, builder.load(builder.gep(arguments[0], [INT64(at)])))
        return copy.first

    return WORDS(words), generate


@intrinsic
def pool_words(
    typing_context: Any, x: Any, out: Any, problem: Any, kernel: Any, stride: Any, padding: Any,
    counted: Any,
) -> Any:  # fmt: skip
    """The words of a pooling, on the stack of the calling function."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = _Words(context, builder, _cores.POOL_WORDS)
        x_value, out_value, fields, *axes, counts = arguments
        words.put_array(x, x_value, _cores.POOL_X, _cores.POOL_X_STRIDES)
        words.put_array(out, out_value, _cores.POOL_OUT, _cores.POOL_OUT_STRIDES)
        words.put_all(_cores.POOL_PROBLEM, cgutils.unpack_tuple(builder, fields))
        for at, values in zip((_cores.KERNEL, _cores.STRIDE, _cores.PADDING), axes, strict=True):
            words.put_all(at, cgutils.unpack_tuple(builder, values))
        words.put(_cores.COUNTED, builder.zext(counts, INT64))
        return words.first

    return WORDS(x, out, problem, TRIPLE, TRIPLE, TRIPLE, types.boolean), generate


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


plan_conv = _make_call(_cores.CONV, "plan", WORDS, types.int64)
run_conv = _make_call(_cores.CONV, "run", WORDS, None, types.int64, types.int64)
run_loop = _make_call(_cores.ADJOINT, "loop", WORDS)
look_for_finite = _make_call(_cores.ADJOINT, "finite", WORDS, WORDS)
run_max_pool = _make_call(_cores.MAX_POOL, "run", WORDS, WORDS)
run_avg_pool = _make_call(_cores.AVG_POOL, "run", WORDS, WORDS)
