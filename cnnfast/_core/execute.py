"""Running a plan: dtypes, result memory, scratch, and the call of the kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cnnfast.kernels.drivers import has_element_strides

from . import complexes
from .activations import split_activation
from .arrays import Array, Dtype, check_out, kernel_ready
from .conv_geometry import ConvGeometry
from .dtypes import Arithmetic, converted
from .operand import Shape
from .planner import Plan, plan
from .pool_geometry import PoolGeometry
from .workspace import scratch


class Step(NamedTuple):
    """A kernel that a call runs."""

    family: str
    geometry: ConvGeometry | PoolGeometry
    plan: Plan


_recorder: ContextVar[list[Step] | None] = ContextVar("cnnfast_recorder", default=None)


@contextmanager
def recorded_steps() -> Iterator[list[Step]]:
    """Inside, calls note their kernels in the list instead of running them."""
    steps: list[Step] = []
    token = _recorder.set(steps)
    try:
        yield steps
    finally:
        _recorder.reset(token)


def _planned(
    family: str, geometry: ConvGeometry | PoolGeometry, backend: str | None
) -> Plan | None:
    """The plan, or None where steps are recorded: then nothing is to be run or written."""
    chosen, recorder = plan(family, geometry, backend), _recorder.get()
    if recorder is None:
        return chosen
    recorder.append(Step(family, geometry, chosen))
    return None


def result_array(out: Array | None, shape: Shape, dtype: Dtype) -> Array:
    """Where to write a result: the user's ``out``, if there is one and steps aren't recorded."""
    if out is None or _recorder.get() is not None:
        return np.empty(shape, dtype)
    return out


def deliver(result: Array, out: Array | None, dtype: Dtype) -> Array:
    """The result in its dtype, written into the user's ``out`` if there is one."""
    if out is None or _recorder.get() is not None:
        return converted(result, dtype)
    if not np.may_share_memory(result, out):
        out[...] = converted(result, dtype)
    return out


def check_bias(name: str, bias: Array | None, out_channels: int) -> None:
    """ValueError unless ``bias`` is None or has one value per out-channel."""
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(
            f"{name}: bias must have shape ({out_channels},), one value per out-channel, "
            f"got shape {bias.shape}"
        )


def products_of(family: str, geometry: ConvGeometry) -> int:
    """The most products that are summed for one value of a family's result."""
    if family == "wgrad":
        return geometry.batch * math.prod(geometry.output)
    channels = geometry.in_channels if family == "fprop" else geometry.out_channels
    return channels // geometry.groups * math.prod(geometry.kernel)


def run_conv(
    family: str,
    first: Array,
    second: Array,
    bias: Array | None,
    geometry: ConvGeometry,
    arithmetic: Arithmetic,
    activation: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Plan and run a convolution family's kernel: the result in the user's layout.

    ``first`` and ``second`` are what ``geometry.operands(family)`` says, of any dtype that the
    arithmetic took; bias and activation are for fprop and dgrad.
    """
    target_operand = geometry.operands(family)[2]
    channels = geometry.in_channels if family == "dgrad" else geometry.out_channels
    check_bias(geometry.name, bias, channels)
    code, following = split_activation(geometry.name, activation, arithmetic.kind)
    computing = arithmetic.computing(products_of(family, geometry))
    geometry = replace(geometry, dtype=computing)
    inputs = [array for array in (first, second, bias) if array is not None]
    if out is not None:
        check_out(geometry.name, out, target_operand.shape, arithmetic.result, inputs)
    lowered = complexes.real_geometry(geometry) if arithmetic.kind == "complex" else geometry
    chosen = _planned(family, lowered, backend)
    if chosen is None:
        return np.empty(target_operand.shape, arithmetic.result)
    if arithmetic.kind == "complex":
        result = _run_complex(family, chosen, first, second, bias, geometry, lowered)
        return deliver(result, out, arithmetic.result)
    target = _target(out, target_operand.shape, computing, arithmetic.result)
    ready = [kernel_ready(array, computing) for array in (first, second)]
    _call_conv(family, chosen, (*ready, target), bias, geometry, code)
    if following is not None:
        following(target)
    return deliver(target, out, arithmetic.result)


def _run_complex(
    family: str,
    chosen: Plan,
    first: Array,
    second: Array,
    bias: Array | None,
    geometry: ConvGeometry,
    lowered: ConvGeometry,
) -> Array:
    """The complex result of a geometry by the kernel for the real one that it is lowered to."""
    one, two, three = geometry.operands(family)
    dtype = lowered.dtype
    of_second = complexes.real_data if family == "wgrad" else complexes.real_weight
    real = complexes.real_data(one.canonical(first), dtype), of_second(two.canonical(second), dtype)
    added = None
    if bias is not None:
        added = complexes.real_data(bias[None].astype(np.complex128), dtype)[0]
    target = np.empty(lowered.operands(family)[2].shape, dtype)
    _call_conv(family, chosen, (*real, target), added, lowered, 0)
    result = np.empty(three.shape, np.result_type(dtype, np.complex64))
    put = complexes.put_weight if family == "wgrad" else complexes.put_data
    put(target, three.canonical(result))
    return result


def _call_conv(
    family: str,
    chosen: Plan,
    arrays: tuple[Array, ...],
    bias: Array | None,
    geometry: ConvGeometry,
    code: int,
) -> None:
    """Fill the last of three kernel-ready arrays."""
    first, second, target = arrays
    if target.size == 0:
        return
    threads = chosen.threads_for(geometry)
    added = np.empty(0, geometry.dtype)
    if bias is not None:
        added = np.ascontiguousarray(kernel_ready(bias, geometry.dtype))
    views = geometry.canonical(first, second, target, family)
    with scratch(chosen.row.scratch_bytes(geometry, threads)) as buffer:
        chosen.function(*views[:2], added, views[2], geometry.problem, buffer, code, threads)


def run_pool(
    x: Array,
    geometry: PoolGeometry,
    return_indices: bool,
    result: Dtype,
    out: Array | None,
    backend: str | None,
) -> tuple[Array, Array | None]:
    """Plan and run a pooling: the result in dtype ``result``, and the indices if asked for."""
    if out is not None:
        check_out(geometry.name, out, geometry.out_shape, result, [x])
    indices = np.empty(geometry.out_shape, np.int64) if return_indices else None
    chosen = _planned("pool", geometry, backend)
    if chosen is None:
        return np.empty(geometry.out_shape, result), indices
    target = _pool_target(out, geometry.out_shape, geometry, result)
    _call_pool("pool", chosen, x, target, indices, geometry)
    if result.kind in "iu" and geometry.reduction == "max":
        # A window wholly in padding has the least value of the result's own dtype.
        np.maximum(target, np.iinfo(result).min, out=target)
    return deliver(target, out, result), indices


def _pool_target(out: Array | None, shape: Shape, geometry: PoolGeometry, result: Dtype) -> Array:
    return _target(out, shape, result if result.kind == "c" else geometry.dtype, result)


def _call_pool(
    family: str,
    chosen: Plan,
    source: Array,
    target: Array,
    indices: Array | None,
    geometry: PoolGeometry,
) -> None:
    """Fill ``target``: of complex numbers the real parts and then the imaginary ones, which are
    arrays of their own, of twice the stride."""
    if target.dtype.kind == "c":
        _call_pool(family, chosen, source.real, target.real, None, geometry)
        _call_pool(family, chosen, source.imag, target.imag, None, geometry)
    elif target.size:
        flat = None if indices is None else geometry.canonical(indices)
        read = geometry.canonical(kernel_ready(source, geometry.dtype))
        written, threads = geometry.canonical(target), chosen.threads_for(geometry)
        if family == "pool":
            chosen.function(read, written, flat, geometry, threads)
        else:
            chosen.function(read, flat, written, geometry, threads)


def run_pool_grad(
    grad_output: Array,
    indices: Array | None,
    geometry: PoolGeometry,
    result: Dtype,
    out: Array | None,
    inputs: list[Array],
    backend: str | None,
) -> Array:
    """Plan and run a pooling's adjoint: of "max" with ``indices``, of "mean" without."""
    if out is not None:
        check_out(geometry.name, out, geometry.input.shape, result, inputs)
    chosen = _planned("pool_grad", geometry, backend)
    if chosen is None:
        return np.empty(geometry.input.shape, result)
    target = _pool_target(out, geometry.input.shape, geometry, result)
    _call_pool("pool_grad", chosen, grad_output, target, indices, geometry)
    return deliver(target, out, result)


def _target(out: Array | None, shape: Shape, computing: Dtype, result: Dtype) -> Array:
    """The array that the kernel fills: the user's ``out`` where it can be, a new one otherwise."""
    if out is not None and result == computing and has_element_strides(out):
        return out.view(np.ndarray)
    return np.empty(shape, computing)
