"""From a validated geometry to a call that is ready to run, and running it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from . import complexes
from .activations import check_device_activation, split_activation
from .arrays import Array, Dtype, check_out
from .conv_geometry import ConvGeometry
from .device_arrays import DeviceArray, stand_in
from .dtypes import Arithmetic, converted
from .launching import launched_conv, launched_pool
from .operand import Shape, View
from .planner import Plan, Rejected, plan, warn
from .pool_geometry import PoolGeometry
from .prepared import (
    Delivery,
    PreparedComplex,
    PreparedConv,
    PreparedPacked,
    PreparedPool,
    PreparedPoolGrad,
)
from .recall import pass_on
from .recording import note, recording


def result_array(out: Array | None, shape: Shape, dtype: Dtype) -> Array:
    """Where to write a result: the user's ``out``, if there is one and steps aren't recorded."""
    if out is None or recording():
        return np.empty(shape, dtype)
    return out


def deliver(result: Array, out: Array | None, dtype: Dtype) -> Array:
    """The result in its dtype, written into the user's ``out`` if there is one."""
    if out is None or recording():
        return converted(result, dtype)
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


def prepare_conv(
    family: str,
    arrays: tuple[Array, Array, Array | None, Array | None],
    geometry: ConvGeometry,
    arithmetic: Arithmetic,
    activation: Any = None,
    backend: str | None = None,
    shaped: tuple[Shape, tuple[Shape, Shape, Shape]] | None = None,
) -> Callable[..., Array]:
    """Validate and plan a convolution family's call ``(first, second, bias, out)`` on arrays like
    these.

    The first two are what ``geometry.operands(family)`` says, of any dtype that the arithmetic
    took; bias and activation are for fprop and dgrad. ``shaped`` is for arrays that have the
    operands' elements in another shape: the result's shape, and what to reshape first, second and
    result to.
    """
    first, second, bias, out = arrays
    operands = geometry.operands(family)
    shape = operands[2].shape if shaped is None else shaped[0]
    channels = geometry.in_channels if family == "dgrad" else geometry.out_channels
    check_bias(geometry.name, bias, channels)
    computing = arithmetic.computing(products_of(family, geometry))
    split = check_device_activation if isinstance(first, DeviceArray) else split_activation
    code, following = split(geometry.name, activation, arithmetic.kind, computing)
    # What follows the kernel changes sums that aren't rounded yet.
    stored = arithmetic.stored(products_of(family, geometry)) if following is None else None
    geometry = replace(geometry, dtype=computing, stored=stored if family == "fprop" else None)
    if out is not None:
        inputs = [array for array in (first, second, bias) if array is not None]
        check_out(geometry.name, out, shape, arithmetic.result, inputs)
    if isinstance(first, DeviceArray):
        geometry = replace(geometry, stored=stored)
        return _on_device(family, arrays, geometry, arithmetic, activation, backend, shaped)
    kind: type[PreparedConv] = PreparedPacked if geometry.prepared else PreparedConv
    lowered, filled = geometry, computing
    if arithmetic.kind == "complex":
        geometry = replace(geometry, prepared=False)
        kind, lowered = PreparedComplex, complexes.real_geometry(geometry)
        filled = np.result_type(computing, np.complex64)
    chosen = _planned(family, lowered, backend)
    if recording():
        return _not_run(shape, arithmetic.result)
    if chosen.row.reads(lowered) != computing:
        filled = arithmetic.result
    if chosen.row.engine == "numba_cuda":
        pass_on()
        # Kernels on a GPU have them all, and compile the user's.
        code, following = activation, None
    one, two, three = _views(geometry, family, shaped)
    delivery = Delivery(geometry.name, shape, filled, arithmetic.result, out, three)
    call = kind(family, chosen, lowered, (one, two, three), delivery, code, following)
    return launched_conv(call, arrays)


def _views(
    geometry: ConvGeometry, family: str, shaped: tuple[Shape, tuple[Shape, Shape, Shape]] | None
) -> list[View]:
    views = [operand.view for operand in geometry.operands(family)]
    if shaped is None:
        return views
    return [view._replace(shape=given) for view, given in zip(views, shaped[1], strict=True)]


def _on_device(
    family: str, arrays: tuple[Array, Array, Array | None, Array | None], geometry: ConvGeometry,
    arithmetic: Arithmetic, activation: Any, backend: str | None,
    shaped: tuple[Shape, tuple[Shape, Shape, Shape]] | None,
) -> Callable[..., Any]:  # fmt: skip
    """The call of arrays on a GPU."""
    from .device_calls import DeviceConv, conv_program

    if arithmetic.result != arrays[0].dtype:
        raise TypeError(
            f"{geometry.name}: arrays on a GPU give results of their own dtype, "
            f"{arrays[0].dtype}, not {arithmetic.result}"
        )
    if arithmetic.kind == "integer":
        geometry = replace(geometry, dtype=arithmetic.common)

    def plan_without(rejected: Rejected) -> Plan:
        return plan(family, geometry, backend, True, rejected)

    shape = geometry.operands(family)[2].shape if shaped is None else shaped[0]
    out, result = arrays[3], arithmetic.result
    target = stand_in(shape, result) if out is None else out
    views = _views(geometry, family, shaped)
    chosen, program = conv_program(plan_without, geometry, views, arrays, target, activation)
    _noted(family, geometry, chosen)
    if recording():
        return _not_run(shape, result, like=arrays[0])
    return DeviceConv(geometry, program, shape, result, arrays[2] is not None)


def run_conv(
    family: str,
    first: Array,
    second: Array,
    bias: Array | None,
    geometry: ConvGeometry,
    arithmetic: Arithmetic,
    activation: Any = None,
    backend: str | None = None,
) -> Array:
    """Plan and run a convolution family's kernel once: the result in the user's layout."""
    arrays = first, second, bias, None
    call = prepare_conv(family, arrays, geometry, arithmetic, activation, backend)
    return call(*arrays)


def prepare_pool(
    x: Array,
    out: Array | None,
    geometry: PoolGeometry,
    return_indices: bool,
    result: Dtype,
    backend: str | None = None,
) -> Callable[..., Any]:
    """Validate and plan a pooling's call ``(x, out)`` on arrays like these: the result in dtype
    ``result``, and the indices if asked for."""
    shape = geometry.out_shape
    if out is not None:
        check_out(geometry.name, out, shape, result, [x])
    on_device = isinstance(x, DeviceArray)
    if on_device:
        geometry = _of_own_dtype(geometry, x.dtype, result)
    chosen = _planned("pool", geometry, backend, on_device)
    if recording():
        dtypes = (result, np.dtype(np.int64)) if return_indices else (result,)
        return _not_run(shape, *dtypes, like=x)
    if on_device:
        from .device_calls import DevicePool

        return DevicePool(chosen, geometry, x, out, return_indices)
    delivery = _pool_delivery(geometry, shape, result, out)
    return launched_pool(PreparedPool(chosen, geometry, delivery, return_indices), x, out)


def prepare_pool_grad(
    out: Array | None,
    geometry: PoolGeometry,
    result: Dtype,
    inputs: list[Array],
    backend: str | None = None,
    of_input: bool = False,
) -> Callable[..., Array]:
    """Validate and plan the call ``(grad_output, indices, out)`` of a pooling's adjoint; with the
    forward pooling's input in place of indices if its row is one that ``finds_maxima``."""
    shape = geometry.input.shape
    if out is not None:
        check_out(geometry.name, out, shape, result, inputs)
    on_device = isinstance(inputs[0], DeviceArray) if inputs else False
    if on_device:
        geometry = _of_own_dtype(geometry, inputs[0].dtype, result)
    chosen = _planned("pool_grad", geometry, backend, on_device)
    if recording():
        return _not_run(shape, result, like=inputs[0] if inputs else None)
    if on_device:
        from .device_calls import DevicePoolGrad

        return DevicePoolGrad(chosen, geometry, result, inputs[0], out)
    delivery = _pool_delivery(geometry, shape, result, out)
    return PreparedPoolGrad(chosen, geometry, delivery, of_input)


def finds_maxima(geometry: PoolGeometry, backend: str | None, on_device: bool) -> bool:
    """Whether the row for the adjoint finds maxima by itself."""
    return hasattr(plan("pool_grad", geometry, backend, on_device).function, "of_input")


def _of_own_dtype(geometry: PoolGeometry, dtype: Dtype, result: Dtype) -> PoolGeometry:
    """The geometry of arrays on a GPU, which aren't converted."""
    if result != dtype:
        raise TypeError(
            f"{geometry.name}: arrays on a GPU give results of their own dtype, {dtype}, not "
            f"{result}"
        )
    return replace(geometry, dtype=dtype)


def _pool_delivery(
    geometry: PoolGeometry, shape: Shape, result: Dtype, out: Array | None
) -> Delivery:
    filled = result if result.kind == "c" else geometry.dtype
    return Delivery(geometry.name, shape, filled, result, out)


def _planned(
    family: str, geometry: ConvGeometry | PoolGeometry, backend: str | None, on_device: bool = False
) -> Plan:
    """The plan, noted where steps are recorded."""
    chosen = plan(family, geometry, backend, on_device)
    _noted(family, geometry, chosen)
    return chosen


def _noted(family: str, geometry: ConvGeometry | PoolGeometry, chosen: Plan) -> None:
    """Note the plan where steps are recorded."""
    if recording():
        if chosen.warning is not None:
            warn(chosen.warning)
        note(family, geometry, chosen)


def _not_run(shape: Shape, *dtypes: Dtype, like: Array | None = None) -> Callable[..., Any]:
    """What stands for a call whose steps are recorded: results that nothing is written to, on a
    GPU if ``like`` is."""
    kind = type(like) if isinstance(like, DeviceArray) else np.ndarray

    def call(*arrays: Array | None) -> Any:
        results = tuple(np.empty(shape, dtype).view(kind) for dtype in dtypes)
        return results if len(results) > 1 else results[0]

    return call
