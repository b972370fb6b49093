"""Prepared calls of compiled rows, run with as little Python in between as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from cnnfast.kernels.blocking import of_panels
from cnnfast.kernels.drivers import compiled_of, reads_padding
from cnnfast.kernels.packing import panel_elements
from cnnfast.kernels.problem import ConvProblem, taps_of
from cnnfast.kernels.registry import engine_missing
from cnnfast.kernels.storage import in_elements
from cnnfast.kernels.temporaries import exchange_channels

from .arrays import Array, is_ready
from .prepared import PreparedConv, PreparedPool
from .workspace import scratch


def launched_conv(
    call: PreparedConv, arrays: tuple[Array, Array, Array | None, Array | None]
) -> Callable[..., Array]:
    """A prepared call's launcher, if its row has one that can take such arrays, else the call."""
    first, second, bias, out = arrays
    if bias is not None and out is None and bias.dtype == call.reads != call.computing:
        return _with_bias(call, arrays)
    geometry, delivery = call.geometry, call.delivery
    compiled = _launchable(call.running.function)
    if compiled is None or not delivery.plain:
        return call
    result = np.empty(delivery.shape, delivery.result) if out is None else out
    given = [(first, call.reads), (second, call.reads), (result, delivery.result)]
    if bias is not None:
        given.append((bias, call.computing))
    if not result.size or not all(_as_it_is(array, dtype) for array, dtype in given):
        return call
    if bias is not None and not bias.flags.c_contiguous:
        return call
    views = [
        view.of(array) for view, array in zip(call.views, (first, second, result), strict=True)
    ]
    if not all(map(np.may_share_memory, views, (first, second, result))):
        return call
    if call.family == "fprop":
        return _launcher(
            call, call, (first, second, bias, result, out is not None), views, call.problem
        )
    if compiled.on_views is None or call.following is not None or not call.running.plan.little:
        return call
    parts = compiled.on_views(call.problem, geometry.dtype.itemsize)
    if not parts:
        return call
    views[1], _ = exchange_channels(views[1], geometry.groups, np.empty(0, np.uint8))
    given_to = first, second, bias, result, out is not None or len(parts) > 1
    otherwise = call if len(parts) == 1 else _Phase(call)
    launchers = [
        _launcher(call, otherwise, given_to, part.views(*views), part.problem) for part in parts
    ]
    return launchers[0] if len(parts) == 1 else _after_each_other(call, launchers)


def _with_bias(
    call: PreparedConv, arrays: tuple[Array, Array, Array | None, Array | None]
) -> Callable[..., Array]:
    """A launcher for the bias converted to what the row computes in, or the call itself."""
    first, second, bias, _ = arrays
    assert bias is not None
    dtype = call.computing
    launcher = launched_conv(call, (first, second, bias.astype(dtype), None))

    def launch(first: Array, second: Any, bias: Array, out: None) -> Array:
        return launcher(first, second, bias.astype(dtype), out)

    return call if launcher is call else launch


class _Refused(Exception):
    """A launcher of a phase got arrays or weights that it can't take."""


class _Phase:
    """A call as the launchers of its phases see it: they hand back what they can't take."""

    def __init__(self, call: PreparedConv) -> None:
        self.running, self.delivery = call.running, call.delivery
        self.following, self.code = call.following, call.code

    def __call__(self, *arrays: Any) -> Array:
        raise _Refused


def _after_each_other(
    call: PreparedConv, launchers: Sequence[Callable[..., Array]]
) -> Callable[..., Array]:
    """Launchers that fill parts of one result, or the call itself where one refuses to."""

    def launch(
        first: Array, second: Array, bias: Array | None = None, out: Array | None = None
    ) -> Array:
        result = call.delivery.target(out)
        try:
            for launcher in launchers:
                launcher(first, second, bias, result)
        except _Refused:
            return call(first, second, bias, out)
        return result if out is None else out

    return launch


def _launcher(
    call: PreparedConv, otherwise: Callable[..., Array], arrays: tuple[Any, ...],
    views: Sequence[Array], problem: ConvProblem,
) -> Callable[..., Array]:  # fmt: skip
    """The launcher of an fprop of views; ``otherwise`` gets what it can't take. ``arrays``: first,
    second, bias or None, the result, and whether that is given."""
    from cnnfast.kernels.cython_cpu._launch import ConvLauncher

    first, second, bias, result, has_out = arrays
    geometry, compiled = call.geometry, compiled_of(call.running.function)
    weight_of: Callable[[Any], Array] | None = attrgetter("array") if geometry.prepared else None
    reads, itemsize = call.reads, call.computing.itemsize
    elements = in_elements(problem, reads)
    cut = compiled.cut_of(elements, itemsize)
    packing = None
    if compiled.packing is not None and cut.weight_panels:
        packing = compiled.packing[reads.name]
    if call.running.plan.row.packs_once(geometry):
        shape = views[1].shape[0], elements.c, *elements.kernel
        second = np.empty(panel_elements(shape, geometry.groups, itemsize), call.computing)
        views = views[0], second, views[2]
        cut, packing = of_panels(cut, elements), None

        def weight_of(packed: Any) -> Array:
            panels: Array = packed.panels(geometry, reads)
            return panels

    looks = compiled.skips_padding and geometry.dtype.kind == "f" and reads_padding(problem)
    launcher: Callable[..., Array] = ConvLauncher(
        otherwise, (first, second, bias, result, has_out), views, problem, cut, taps_of(problem),
        compiled.tasks[reads.name], packing, geometry.flops, call.running.plan.alone,
        scratch, looks, weight_of, itemsize,
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
    launcher: Callable[..., Any] = PoolLauncher(
        call, (x, result, out is not None), views, geometry.problem, geometry.windows,
        compiled.tasks_of(reduction, geometry.dtype.name), compiled.codes.get(reduction, 0),
        geometry.flops, call.running.plan.alone,
    )  # fmt: skip
    return launcher


def _launchable(function: Callable[..., None]) -> Any:
    """How a row runs by a launcher, if it does and there are launchers."""
    return None if engine_missing("cython_cpu") else compiled_of(function)


def _as_it_is(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether a kernel can take an array without any conversion."""
    return type(array) is np.ndarray and is_ready(array, dtype)
