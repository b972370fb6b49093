"""Prepared calls on arrays of a GPU: pointers, a result of the caller's library, launches.

They are remembered by what of the arrays and arguments decides them, as the host's calls are
(``recall``). Nothing is copied or waited for; work is queued on the caller's stream.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from cnnfast.kernels.drivers import has_element_strides
from cnnfast.kernels.registry import engine_missing

from . import recall
from .arrays import Array, Dtype, check_apart
from .config import get_workspace_limit
from .conv_geometry import ConvGeometry
from .device_arrays import DeviceArray, Library, library_of, stand_in
from .operand import Shape, View
from .planner import BackendUnavailableError, Plan, Rejected
from .pool_geometry import PoolGeometry
from .recording import recording

#: Dtypes that arrays on a GPU may have.
TAKEN = ("float16", "bfloat16", "float32", "float64", "int64")
INT64 = np.dtype(np.int64)

Arrays = tuple[Any, ...]


class DeviceCall:
    """A program ready for arrays of the caller's library, or DeviceArray, in the order of
    ``operands``; its results are arrays of that library."""

    def __init__(self, name: str, program: Any, operands: Sequence[str]) -> None:
        from cnnfast.kernels.numba_cuda import device

        self.name = name
        self.scratch_bytes = program.scratch_bytes
        self.ready = device.bind(program, (*operands, "scratch"))

    def target(self, out: Any, shape: Shape, dtype: Dtype, *inputs: Any) -> Any:
        """Where a result goes: a new array like the first input, or ``out``, which must be apart
        from the inputs."""
        if out is None:
            like = inputs[0]
            return _library(like).empty(_owner(like), shape, dtype)
        check_apart(self.name, wrapped(out), map(wrapped, filter(_given, inputs)))
        return out

    def launch(self, *arrays: Any) -> None:
        """Queue the launches; scratch comes from the caller's library where that knows when it may
        be used again."""
        library, like = _library(arrays[0]), _owner(arrays[0])
        pointers = [_pointer(array) for array in arrays if array is not None]
        stream = library.stream(like)
        if not self.scratch_bytes:
            pointers.append(0)
            self.ready.run(pointers, stream)
            return
        with library.scratch(like, self.scratch_bytes, stream) as scratch:
            pointers.append(scratch)
            self.ready.run(pointers, stream)


class DeviceConv(DeviceCall):
    """A call of a convolution family: ``call(first, second, bias, out)``."""

    def __init__(
        self, geometry: ConvGeometry, program: Any, shape: Shape, result: Dtype, biased: bool
    ) -> None:
        self.shape, self.result = shape, result
        names = ("first", "second", "bias", "out") if biased else ("first", "second", "out")
        super().__init__(geometry.name, program, names)

    def __call__(self, first: Any, second: Any, bias: Any = None, out: Any = None) -> Any:
        """Queue the call; its result."""
        target = self.target(out, self.shape, self.result, first, second, bias)
        if 0 not in self.shape:
            self.launch(first, second, bias, target)
        return target


def conv_program(
    plan_without: Callable[[Rejected], Plan], geometry: ConvGeometry, views: Sequence[View],
    arrays: tuple[Array, Array, Array | None, Array | None], target: Array, activation: Any,
) -> tuple[Plan, Any]:  # fmt: skip
    """The plan of the first row whose program's scratch is within the workspace limit, and that
    program. ``plan_without`` plans without rows that need more."""
    from cnnfast.kernels.numba_cuda import device
    from cnnfast.kernels.numba_cuda.program import Program

    first, second, bias, _ = arrays
    if bias is not None and bias.size > 1 and bias.strides != (bias.itemsize,):
        raise ValueError(
            f"{geometry.name}: a bias on a GPU must be contiguous, got strides {bias.strides} for "
            f"elements of {bias.itemsize} bytes"
        )
    limit = get_workspace_limit()
    rejected: Rejected = ()
    while True:
        chosen = plan_without(rejected)
        if target.size == 0:
            return chosen, Program(())
        seen = [view.of(a) for view, a in zip(views, (first, second, target), strict=True)]
        program = device.conv_program(
            chosen.function, geometry.problem, seen, bias is not None, activation
        )
        if program.scratch_bytes <= limit:
            return chosen, program
        needs = f"needs {program.scratch_bytes} bytes of scratch, the workspace limit is {limit}"
        rejected = (*rejected, (chosen.row.name, needs))


class DevicePool(DeviceCall):
    """A pooling: ``call(x, out)``."""

    def __init__(
        self, plan: Plan, geometry: PoolGeometry, x: Array, out: Array | None, with_indices: bool
    ) -> None:
        from cnnfast.kernels.numba_cuda import device

        self.shape, self.result, self.with_indices = geometry.out_shape, x.dtype, with_indices
        target = stand_in(self.shape, x.dtype) if out is None else out
        seen = [x, target]
        if with_indices:
            seen.append(stand_in(self.shape, INT64))
        program = device.pool_program(plan.function, geometry, list(map(geometry.canonical, seen)))
        super().__init__(geometry.name, program, ("first", "out", "indices")[: len(seen)])

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Queue the call; its result, and the indices if asked for."""
        target = self.target(out, self.shape, self.result, x)
        indices = self.target(None, self.shape, INT64, x) if self.with_indices else None
        if 0 not in self.shape:
            self.launch(x, target, indices)
        return target if indices is None else (target, indices)


class DevicePoolGrad(DeviceCall):
    """A pooling's adjoint: ``call(grad_output, indices, out)``."""

    def __init__(
        self, plan: Plan, geometry: PoolGeometry, result: Dtype, grad: Array, out: Array | None
    ) -> None:
        from cnnfast.kernels.numba_cuda import device

        self.shape, self.result = geometry.input.shape, result
        target = stand_in(self.shape, result) if out is None else out
        seen = [grad, target]
        if geometry.reduction == "max":
            seen.append(stand_in(geometry.out_shape, INT64))
        program = device.pool_program(plan.function, geometry, list(map(geometry.canonical, seen)))
        super().__init__(geometry.name, program, ("first", "out", "indices")[: len(seen)])

    def __call__(self, grad_output: Any, indices: Any, out: Any = None) -> Any:
        """Queue the call; its result."""
        target = self.target(out, self.shape, self.result, grad_output)
        if 0 not in self.shape:
            self.launch(grad_output, target, indices)
        return target


def _given(array: Any) -> bool:
    return array is not None


def _library(array: Any) -> Library:
    return array.library if isinstance(array, DeviceArray) else library_of(array)


def _owner(array: Any) -> Any:
    """The user's array; what stands for a result while steps are recorded is nobody's."""
    return array if getattr(array, "owner", None) is None else array.owner


def _pointer(array: Any) -> int:
    if isinstance(array, DeviceArray):
        address: int = array.__array_interface__["data"][0]
        return address
    return library_of(array).pointer(array)


def wrapped(source: Any) -> DeviceArray:
    """An array of a GPU as DeviceArray."""
    return source if isinstance(source, DeviceArray) else library_of(source).wrap(source)


def _check_memory(name: str, arrays: Arrays) -> None:
    """ValueError for arrays that kernels can't address: nothing is copied to where they could."""
    for array in arrays:
        if array is None or array.size == 0:
            continue
        if not has_element_strides(array):
            raise ValueError(
                f"{name}: arrays on a GPU must lie at whole elements, got strides {array.strides} "
                f"at {_pointer(array):#x} for elements of {array.itemsize} bytes"
            )


def _check_devices(name: str, arrays: Arrays) -> None:
    """ValueError for arrays that aren't on the thread's device."""
    from cnnfast.kernels.numba_cuda import device

    here = device.number()
    pointers = [_pointer(array) for array in arrays if array is not None and array.size]
    found = {number for number in device.numbers_of(pointers) if number is not None}
    if found - {here}:
        raise ValueError(
            f"{name}: arrays are on GPU {', '.join(map(str, sorted(found)))}, and the thread's "
            f"current one is {here}: move them to one, and make that current"
        )


def _check_dtypes(name: str, arrays: Arrays) -> None:
    """TypeError for dtypes that aren't all one that the kernels on a GPU take."""
    dtypes = {array.dtype.name for array in arrays if array is not None}
    native = all(array.dtype.isnative for array in arrays if array is not None)
    if len(dtypes) > 1 or not dtypes <= set(TAKEN) or not native:
        raise TypeError(
            f"{name}: arrays on a GPU must all be of one dtype, one of {', '.join(TAKEN)}, got "
            f"{', '.join(sorted(dtypes))}{'' if native else ' in another byte order'}"
        )


#: Calls that are remembered; the oldest makes room for a new one.
_calls: dict[Hashable, tuple[Callable[..., Any], bool]] = {}


def run(make: recall.Make, name: str, arrays: Arrays, arguments: Arrays) -> Any:
    """A call of arrays of which one is on a GPU: as remembered, or prepared now; its result is of
    the caller's library."""
    missing = engine_missing("numba_cuda")
    if missing is not None:
        raise BackendUnavailableError(f"{name}: the arrays are on a GPU, and {missing}")
    key = None if recording() else _key(make, name, arrays, arguments)
    found = None if key is None else _calls.get(key)
    if found is None:
        seen = tuple(None if array is None else wrapped(array) for array in arrays)
        _check_dtypes(name, seen)
        _check_memory(name, seen)
        _check_devices(name, seen)
        call = make(name, seen, *arguments)
        found = call, isinstance(call, DeviceCall)
        if key is not None and key == _key(make, name, arrays, arguments):
            while len(_calls) >= recall.KEPT_CALLS:
                # Another thread may change the table in between.
                with suppress(RuntimeError, StopIteration):
                    _calls.pop(next(iter(_calls)), None)
            _calls[key] = found
    call, takes_owners = found
    if not takes_owners:
        arrays = tuple(None if array is None else wrapped(array) for array in arrays)
    result = call(*arrays)
    return tuple(map(_owner, result)) if isinstance(result, tuple) else _owner(result)


def _key(make: recall.Make, name: str, arrays: Arrays, arguments: Arrays) -> Hashable | None:
    from cnnfast.kernels.numba_cuda import device

    described = recall.described(make, name, (), arguments)
    if described is None:
        return None
    return described, tuple(map(_array_key, arrays)), device.context()


def _array_key(array: Any) -> Hashable:
    """What of an array decides how a call is prepared."""
    if array is None:
        return None
    if isinstance(array, DeviceArray):
        flags = array.flags.writeable, array.__array_interface__["data"][0] % 16
        return array.library.name, array.dtype, array.shape, array.strides, flags
    key: Hashable = library_of(array).key(array)
    return key
