"""The callables of the GPU's rows on arrays of the host, as the table's rows are called.

``fprop(x, weight, bias, out, problem, scratch, activation, threads)`` of ``drivers``, and
``pool(x, out, indices, geometry, threads)`` and ``pool_grad(grad_output, indices, out, geometry,
threads)`` of ``pool_drivers``: arrays are moved to the device and results come back; the host's
scratch and threads aren't looked at. ``program_of``, an attribute, is the row itself (``program``),
for arrays that are on the device already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ..problem import ConvProblem
from . import device, direct, direct_wgrad, im2col, tensor, tensor_wgrad, tiled, wgmma
from . import pool_grad as pool_gradients
from . import pooling as poolings
from . import wgrad as weight_gradients
from .moving import at_once, in_batches
from .program import ConvCall, PoolCall, Program

Array = np.ndarray[Any, Any]

#: Programs that a row remembers.
KEPT_PROGRAMS = 256


def conv(program_of: Callable[[ConvCall], Program]) -> Callable[..., None]:
    """The callable of a convolution family's row."""

    def run(
        first: Array, second: Array, bias: Array, out: Array, problem: ConvProblem,
        scratch: Array, activation: Any, threads: int,
    ) -> None:  # fmt: skip
        arrays = {"first": device.compact(first), "second": device.compact(second)}
        arrays["out"] = target = _dense(out)
        views = list(arrays.values())
        program = device.conv_program(run, problem, views, bool(bias.size), activation)
        if bias.size:
            arrays["bias"] = bias.astype(first.dtype)
        device.run_on_host_arrays(program, arrays, {"out"})
        _deliver(target, out)

    run.program_of = lru_cache(maxsize=KEPT_PROGRAMS)(program_of)  # type: ignore[attr-defined]
    return run


def pool(program_of: Callable[[PoolCall], Program]) -> Callable[..., None]:
    """The callable of a pooling row."""

    def run(first: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
        arrays = {"first": device.compact(first), "out": _dense(out)}
        if indices is not None:
            arrays["indices"] = _dense(indices)
        program = device.pool_program(run, geometry, list(arrays.values()))
        device.run_on_host_arrays(program, arrays, {"out", "indices"})
        _deliver(arrays["out"], out)
        if indices is not None:
            _deliver(arrays["indices"], indices)

    run.program_of = lru_cache(maxsize=KEPT_PROGRAMS)(program_of)  # type: ignore[attr-defined]
    return run


def pool_grad(program_of: Callable[[PoolCall], Program]) -> Callable[..., None]:
    """The callable of a row of a pooling's adjoint."""

    def run(first: Array, indices: Array | None, out: Array, geometry: Any, threads: int) -> None:
        arrays = {"first": device.compact(first), "out": _dense(out)}
        if indices is not None:
            arrays["indices"] = device.compact(indices)
        program = device.pool_program(run, geometry, list(arrays.values()))
        device.run_on_host_arrays(program, arrays, {"out"})
        _deliver(arrays["out"], out)

    run.program_of = lru_cache(maxsize=KEPT_PROGRAMS)(program_of)  # type: ignore[attr-defined]
    return run


def _dense(out: Array) -> Array:
    """Where results come to: ``out``, or an array of the same order of axes without gaps."""
    return out if device.is_dense(out) else np.empty_like(out)


def _deliver(target: Array, out: Array) -> None:
    if target is not out:
        out[...] = target


def _fprop(row: Callable[[ConvCall], Program]) -> Callable[..., None]:
    return conv(in_batches(row, ("input", "output")))


def _dgrad(row: Callable[[ConvCall], Program]) -> Callable[..., None]:
    return conv(in_batches(row, ("output", "input")))


def _wgrad(row: Callable[[ConvCall], Program]) -> Callable[..., None]:
    return conv(at_once(row))


# By family and algorithm, as the table's rows name them.
fprop_tensor, dgrad_tensor = _fprop(tensor.fprop), _dgrad(tensor.dgrad)
fprop_wgmma, dgrad_wgmma = _fprop(wgmma.fprop), _dgrad(wgmma.dgrad)
fprop_tiled, dgrad_tiled = _fprop(tiled.fprop), _dgrad(tiled.dgrad)
fprop_im2col, dgrad_im2col = _fprop(im2col.fprop), _dgrad(im2col.dgrad)
fprop_direct, dgrad_direct = _fprop(direct.fprop), _dgrad(direct.dgrad)
wgrad_tensor, wgrad_wgmma = _wgrad(tensor_wgrad.wgrad), _wgrad(wgmma.wgrad)
wgrad_tiled, wgrad_direct = _wgrad(weight_gradients.wgrad), _wgrad(direct_wgrad.wgrad)
pool_direct = pool(in_batches(poolings.pool, ("input", "output")))
pool_grad_direct = pool_grad(in_batches(pool_gradients.pool_grad, ("output", "input")))
