"""Prepared calls of compiled rows, run without Python in between."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from cnnfast.kernels import parallel
from cnnfast.kernels.drivers import compiled_of, reads_padding
from cnnfast.kernels.packing import panel_elements
from cnnfast.kernels.problem import taps_of
from cnnfast.kernels.registry import engine_missing

from .arrays import Array, is_ready
from .planner import SERIAL_FLOPS
from .prepared import PreparedConv, PreparedPool
from .workspace import scratch


def launched_conv(
    call: PreparedConv, arrays: tuple[Array, Array, Array | None, Array | None]
) -> Callable[..., Array]:
    """A prepared call's launcher, if its row has one that can take such arrays, else the call."""
    geometry, delivery, row = call.geometry, call.delivery, call.running.plan.row
    compiled = _launchable(call.running.function)
    first, second, bias, out = arrays
    if compiled is None or call.family != "fprop" or not delivery.plain:
        return call
    result = np.empty(delivery.shape, delivery.result) if out is None else out
    given = [array for array in (first, second, bias, result) if array is not None]
    if not result.size or not all(_as_it_is(array, geometry.dtype) for array in given):
        return call
    if bias is not None and not bias.flags.c_contiguous:
        return call
    views = [
        view.of(array) for view, array in zip(call.views, (first, second, result), strict=True)
    ]
    if not all(map(np.may_share_memory, views, (first, second, result))):
        return call
    weight_of: Callable[[Any], Array] | None = attrgetter("array") if geometry.prepared else None
    cut = compiled.cut_of(call.problem, geometry.dtype.itemsize)
    packing = None if compiled.packing is None else compiled.packing[geometry.dtype.name]
    if row.packs_once(geometry):
        elements = panel_elements(views[1].shape, geometry.groups, geometry.dtype.itemsize)
        second = views[1] = np.empty(elements, geometry.dtype)
        cut, packing = cut._replace(shared_elements=0), None

        def weight_of(packed: Any) -> Array:
            panels: Array = packed.panels(geometry)
            return panels

    from cnnfast.kernels.cython_cpu._launch import ConvLauncher

    looks = compiled.skips_padding and geometry.dtype.kind == "f" and reads_padding(call.problem)
    flops = geometry.flops
    launcher: Callable[..., Array] = ConvLauncher(
        call, (first, second, bias, result, out is not None), views, call.problem, cut,
        taps_of(call.problem), compiled.tasks[geometry.dtype.name], packing, flops,
        flops < SERIAL_FLOPS, parallel.run, scratch, looks, weight_of,
    )  # fmt: skip
    return launcher


def launched_pool(call: PreparedPool, x: Array, out: Array | None) -> Callable[..., Any]:
    """The same for a pooling."""
    geometry, delivery = call.geometry, call.delivery
    compiled = _launchable(call.running.function)
    if compiled is None or not call.lasting or not delivery.plain or call.least is not None:
        return call
    result = np.empty(delivery.shape, delivery.result) if out is None else out
    if not result.size or not all(_as_it_is(array, geometry.dtype) for array in (x, result)):
        return call
    from cnnfast.kernels.cython_cpu._launch import PoolLauncher

    reduction = "argmax" if call.with_indices else geometry.reduction
    read, written = call.views
    views = read.of(x), written.of(result), written.of(np.empty(delivery.shape, np.int64))
    flops = geometry.flops
    launcher: Callable[..., Any] = PoolLauncher(
        call, (x, result, out is not None), views, geometry.problem, geometry.windows,
        compiled.tasks[reduction][geometry.dtype.name], compiled.codes[reduction],
        flops, flops < SERIAL_FLOPS, parallel.run,
    )  # fmt: skip
    return launcher


def _launchable(function: Callable[..., None]) -> Any:
    """How a row runs by a launcher, if it does and there are launchers."""
    return None if engine_missing("cython_cpu") else compiled_of(function)


def _as_it_is(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether a kernel can take an array without any conversion."""
    return type(array) is np.ndarray and is_ready(array, dtype)
