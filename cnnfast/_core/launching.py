"""Prepared calls of compiled rows, run without Python in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast.kernels.drivers import compiled_of, reads_padding
from cnnfast.kernels.problem import taps_of

from .arrays import Array, is_ready
from .planner import SERIAL_FLOPS
from .prepared import PreparedConv, PreparedPool

#: Scratch up to this is a launcher's own (``_launch.STACK_BYTES``).
LAUNCHED_SCRATCH = 32768


def launched_conv(
    call: PreparedConv, arrays: tuple[Array, Array, Array | None, Array | None]
) -> Callable[..., Array]:
    """A prepared call's launcher, if its row has one that can take such arrays, else the call."""
    geometry, delivery, row = call.geometry, call.delivery, call.running.plan.row
    compiled = compiled_of(call.running.function)
    first, second, bias, out = arrays
    if compiled is None or call.family != "fprop" or geometry.flops >= SERIAL_FLOPS:
        return call
    if geometry.prepared:
        return call
    if delivery.computing != delivery.result or (out is not None and not delivery.into_out):
        return call
    if row.scratch_bytes(geometry) > LAUNCHED_SCRATCH:
        return call
    result = np.empty(delivery.shape, delivery.result) if out is None else out
    given = [array for array in (first, second, bias, result) if array is not None]
    if not result.size or any(not _as_it_is(array, geometry.dtype) for array in given):
        return call
    if bias is not None and not bias.flags.c_contiguous:
        return call
    pairs = zip(call.views, (first, second, result), strict=True)
    views = [view.of(array) for view, array in pairs]
    if not all(map(np.may_share_memory, views, (first, second, result))):
        return call
    from cnnfast.kernels.cython_cpu._launch import ConvLauncher

    name, padded = geometry.dtype.name, reads_padding(call.problem)
    launcher: Callable[..., Array] = ConvLauncher(
        call,
        (first, second, bias, result, out is not None),
        views,
        call.problem,
        compiled.cut_of(call.problem, geometry.dtype.itemsize),
        taps_of(call.problem),
        compiled.tasks[name],
        None if compiled.packing is None else compiled.packing[name],
        call.code,
        call.following,
        compiled.skips_padding and padded and geometry.dtype.kind == "f",
        geometry.flops,
    )
    return launcher


def launched_pool(call: PreparedPool, x: Array, out: Array | None) -> Callable[..., Any]:
    """The same for a pooling."""
    geometry, delivery = call.geometry, call.delivery
    compiled = compiled_of(call.running.function)
    if compiled is None or geometry.flops >= SERIAL_FLOPS or not call.lasting:
        return call
    if delivery.computing != delivery.result or (out is not None and not delivery.into_out):
        return call
    result = np.empty(delivery.shape, delivery.result) if out is None else out
    if call.least is not None or not result.size:
        return call
    if not (_as_it_is(x, geometry.dtype) and _as_it_is(result, geometry.dtype)):
        return call
    from cnnfast.kernels.cython_cpu._launch import PoolLauncher

    read, written = call.views
    launcher: Callable[..., Any] = PoolLauncher(
        call,
        (x, result, out is not None),
        (read.of(x), written.of(result), written),
        geometry.problem,
        geometry.windows,
        compiled.tasks[geometry.dtype.name],
        compiled.codes["argmax" if call.with_indices else geometry.reduction],
        call.with_indices,
        geometry.flops,
    )
    return launcher


def _as_it_is(array: Array, dtype: np.dtype[np.generic]) -> bool:
    """Whether a kernel can take an array without any conversion."""
    return type(array) is np.ndarray and is_ready(array, dtype)
