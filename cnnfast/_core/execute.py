"""Running a plan: result memory, scratch, and the call of the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast.kernels.drivers import has_element_strides

from .activations import split_activation
from .arrays import Array, Dtype, check_out, kernel_ready
from .geometry import ConvGeometry, PoolGeometry
from .planner import plan
from .workspace import scratch


def check_bias(name: str, bias: Array | None, out_channels: int) -> None:
    """ValueError unless ``bias`` is None or has one value per out-channel."""
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(
            f"{name}: bias must have shape ({out_channels},), one value per out-channel, "
            f"got shape {bias.shape}"
        )


def run_fprop(
    x: Array,
    weight: Array,
    bias: Array | None,
    geometry: ConvGeometry,
    activation: Any,
    result_dtype: Any,
    out: Array | None,
    backend: str | None,
) -> Array:
    """Plan and run a convolution of kernel-ready arrays; the result in the user's layout."""
    check_bias(geometry.name, bias, geometry.out_channels)
    code, following = split_activation(geometry.name, activation)
    result_dtype = np.dtype(result_dtype)
    inputs = [array for array in (x, weight, bias) if array is not None]
    target = _target(geometry, out, result_dtype, inputs)
    chosen = plan("fprop", geometry, backend)
    if target.size:
        threads = chosen.threads_for(geometry)
        x5, weight5, out5 = geometry.canonical(x, weight, target)
        added = np.empty(0, geometry.dtype)
        if bias is not None:
            added = np.ascontiguousarray(kernel_ready(bias, geometry.dtype))
        with scratch(chosen.row.scratch_bytes(geometry, threads)) as buffer:
            chosen.function(x5, weight5, added, out5, geometry, buffer, code, threads)
        if following is not None:
            following(target)
    return _deliver(target, out, result_dtype)


def run_pool(
    x: Array, geometry: PoolGeometry, return_indices: bool, out: Array | None, backend: str | None
) -> tuple[Array, Array | None]:
    """Plan and run a pooling of a kernel-ready array: the result, and the indices if asked for."""
    target = _target(geometry, out, geometry.dtype, [x])
    indices = np.empty(geometry.out_shape, np.int64) if return_indices else None
    chosen = plan("pool", geometry, backend)
    if target.size:
        x5, out5 = geometry.canonical(x), geometry.canonical(target)
        indices5 = None if indices is None else geometry.canonical(indices)
        chosen.function(x5, out5, indices5, geometry, chosen.threads_for(geometry))
    return _deliver(target, out, geometry.dtype), indices


def _target(
    geometry: ConvGeometry | PoolGeometry, out: Array | None, dtype: Dtype, inputs: list[Array]
) -> Array:
    """The array that the kernel fills: the user's ``out`` where it can be, a new one otherwise."""
    if out is not None:
        check_out(geometry.name, out, geometry.out_shape, dtype, inputs)
        if dtype == geometry.dtype and has_element_strides(out):
            return out.view(np.ndarray)
    return np.empty(geometry.out_shape, geometry.dtype)


def _deliver(target: Array, out: Array | None, dtype: Dtype) -> Array:
    with np.errstate(over="ignore"):
        if out is None:
            return target.astype(dtype, copy=False)
        if target.base is not out:
            out[...] = target
    return out
