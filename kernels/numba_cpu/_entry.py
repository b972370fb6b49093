"""Rows as plain C functions, which ``cython_cpu._launch`` calls by their addresses.

``call`` is a ConvCall or a PoolCall of ``cython_cpu._call``, read here as words of 8 bytes. What is
read becomes the arguments of the row's loop body: arrays, of which a body looks at addresses and
strides alone, and named tuples.
Why: to unpack Python's arrays and named tuples takes longer than a small layer.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from ..problem import ConvProblem, PoolProblem
from ._compile import compile_entry
from ._vector import INT64

#: Where the fields of a ConvCall begin: pointers, activation, strides, problem.
X, WEIGHT, BIAS, OUT, TAPS, CUT, ACTIVATION = range(7)
X_STRIDES, WEIGHT_STRIDES, OUT_STRIDES, CONV_PROBLEM = 7, 12, 17, 22
#: And of a PoolCall.
POOL_X, POOL_OUT, INDICES, WINDOWS, REDUCTION = range(5)
POOL_X_STRIDES, POOL_OUT_STRIDES, INDICES_STRIDES, POOL_PROBLEM = 5, 10, 15, 20

WORDS = types.CPointer(types.int64)


class Entry:
    """A function's address for each dtype, compiled when it is first asked for: a capsule, as
    ``cython_cpu._call.address`` makes them."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        #: What owns the code, and its address.
        self.found: dict[str, tuple[Any, Any]] = {}

    def __getitem__(self, dtype: str) -> Any:
        if dtype not in self.found:
            self.found[dtype] = self._compile(dtype)
        return self.found[dtype][1]

    def _compile(self, dtype: str) -> tuple[Any, Any]:
        element = types.CPointer(numba.from_dtype(np.dtype(dtype)))
        kinds = {"call": WORDS, "queue": WORDS, "width": types.int64}
        names = inspect.signature(self.function).parameters
        dispatcher = compile_entry(self.function, tuple(kinds.get(name, element) for name in names))
        (overload,) = dispatcher.overloads.values()
        address = overload.library.get_pointer_to_function(overload.fndesc.llvm_cfunc_wrapper_name)
        make = ctypes.PYFUNCTYPE(ctypes.py_object, *[ctypes.c_void_p] * 3)
        return dispatcher, make(("PyCapsule_New", ctypes.pythonapi))(address, None, None)


class _Call:
    """A call's words while code is made that reads them."""

    def __init__(self, context: Any, builder: Any, call: Any) -> None:
        self.context, self.builder, self.call = context, builder, call

    def word(self, at: int, of: Any = None) -> Any:
        """A word of the call, or of what ``of`` points to."""
        place = self.builder.gep(self.call if of is None else of, [INT64(at)])
        return self.builder.load(place)

    def pointer(self, at: int, element: Any) -> Any:
        """A pointer of the call."""
        kind = self.context.get_value_type(element).as_pointer()
        return self.builder.inttoptr(self.word(at), kind)

    def array(self, kind: types.Array, data: Any, strides: int | None, shape: Any = None) -> Any:
        """An array at ``data``, with the strides that begin at a word, or contiguous and of a
        shape, whose first extent says nothing."""
        builder, size = self.builder, INT64(kind.dtype.bitwidth // 8)
        array = self.context.make_array(kind)(self.context, builder)
        if strides is None:
            steps = [size]
            for extent in reversed(shape[1:]):
                steps.insert(0, builder.mul(steps[0], extent))
        else:
            shape = [INT64(0)] * kind.ndim
            steps = [builder.mul(self.word(strides + axis), size) for axis in range(kind.ndim)]
        populate_array(array, data=data, shape=shape, strides=steps, itemsize=size, meminfo=None)
        return array._getvalue()

    def view(self, kind: types.Array, at: int, strides: int) -> Any:
        """An array of the call."""
        return self.array(kind, self.pointer(at, kind.dtype), strides)

    def fields(self, count: int, first: int, of: Any = None) -> Any:
        """A named tuple of ints."""
        return cgutils.pack_array(self.builder, [self.word(first + i, of) for i in range(count)])


def _tuple_of(kind: Any) -> types.Type:
    return types.NamedUniTuple(types.int64, len(kind._fields), kind)


def _view_of(element: Any, readonly: bool) -> types.Array:
    return types.Array(element, 5, "A", readonly=readonly)


def _flat(element: Any, axes: int = 1, readonly: bool = True) -> types.Array:
    return types.Array(element, axes, "C", readonly=readonly)


def conv_arguments(cut: Any, weight_axes: int) -> Any:
    """What reads the arguments of an fprop body from ``(call, local, queue)``; ``cut`` is its cut's
    class, ``weight_axes`` is 1 where it takes panels."""

    @intrinsic
    def arguments(typing_context: Any, call: Any, local: Any, queue: Any) -> Any:
        element = local.dtype
        weight = _flat(element) if weight_axes == 1 else _view_of(element, True)
        taps, scratch = _flat(types.int64, 2), _flat(element, readonly=False)
        tasks = _flat(types.int64, readonly=False)
        kinds = (
            _view_of(element, True), weight, _flat(element), _view_of(element, False),
            _tuple_of(ConvProblem), taps, _tuple_of(cut), scratch, types.int64, tasks,
        )  # fmt: skip

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            read = _Call(context, builder, given[0])
            data = read.pointer(BIAS, element)
            missing = builder.icmp_unsigned("==", read.word(BIAS), INT64(0))
            biases = builder.select(missing, INT64(0), read.word(CONV_PROBLEM + 3))
            panels = read.pointer(WEIGHT, element)
            values = [
                read.view(kinds[0], X, X_STRIDES),
                read.array(weight, panels, None, [INT64(0)])
                if weight_axes == 1
                else read.view(weight, WEIGHT, WEIGHT_STRIDES),
                read.array(kinds[2], data, None, [biases]),
                read.view(kinds[3], OUT, OUT_STRIDES),
                read.fields(len(ConvProblem._fields), CONV_PROBLEM),
                read.array(taps, read.pointer(TAPS, types.int64), None, [INT64(0), INT64(2)]),
                read.fields(len(cut._fields), 0, read.pointer(CUT, types.int64)),
                read.array(scratch, given[1], None, [INT64(0)]),
                read.word(ACTIVATION),
                read.array(tasks, given[2], None, [INT64(4)]),
            ]
            return context.make_tuple(builder, signature.return_type, values)

        return types.Tuple(kinds)(call, local, queue), generate

    return arguments


@intrinsic
def packing_arguments(typing_context: Any, call: Any, packed: Any, width: Any, queue: Any) -> Any:
    """The arguments of ``pack_weight`` from ``(call, packed, width, queue)``."""
    weight, tasks = _view_of(packed.dtype, True), _flat(types.int64, readonly=False)
    panels = _flat(packed.dtype, readonly=False)
    kinds = weight, panels, _tuple_of(ConvProblem), types.int64, tasks

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        read = _Call(context, builder, given[0])
        values = [
            read.view(weight, WEIGHT, WEIGHT_STRIDES),
            read.array(panels, given[1], None, [INT64(0)]),
            read.fields(len(ConvProblem._fields), CONV_PROBLEM),
            given[2],
            read.array(tasks, given[3], None, [INT64(4)]),
        ]
        return context.make_tuple(builder, signature.return_type, values)

    return types.Tuple(kinds)(call, packed, width, queue), generate


def pool_arguments(with_indices: bool) -> Any:
    """What reads the arguments of a pooling body from ``(call, x, queue)``."""

    @intrinsic
    def arguments(typing_context: Any, call: Any, x: Any, queue: Any) -> Any:
        windows, tasks = _flat(types.int64, 2), _flat(types.int64, readonly=False)
        arrays = [_view_of(x.dtype, True), _view_of(x.dtype, False)]
        places = [(POOL_X, POOL_X_STRIDES), (POOL_OUT, POOL_OUT_STRIDES)]
        if with_indices:
            arrays.append(_view_of(types.int64, False))
            places.append((INDICES, INDICES_STRIDES))
        kinds = (*arrays, _tuple_of(PoolProblem), windows, tasks)

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            read = _Call(context, builder, given[0])
            table = read.pointer(WINDOWS, types.int64)
            values = [
                *(read.view(kind, *at) for kind, at in zip(arrays, places, strict=True)),
                read.fields(len(PoolProblem._fields), POOL_PROBLEM),
                read.array(windows, table, None, [INT64(0), INT64(3)]),
                read.array(tasks, given[2], None, [INT64(4)]),
            ]
            return context.make_tuple(builder, signature.return_type, values)

        return types.Tuple(kinds)(call, x, queue), generate

    return arguments
