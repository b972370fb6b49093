"""The filters: a band of the array with its borders at a time, axis after axis where that is
the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._borders import in_bands
from cnnfast._core.arrays import Array, Dtype, as_array
from cnnfast._windows import correlated as sums_under
from cnnfast._windows import tap_by_tap

from .arguments import (
    Window,
    axes_of,
    constant_of,
    numbers_of,
    one_mode,
    output_of,
    windows_of,
)

#: SciPy's n-d correlations leave out taps up to this size.
NO_TAP = float(np.finfo(np.float64).eps)


def correlated(
    name: str, input: Any, weights: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any,
    flipped: bool,
) -> Array:  # fmt: skip
    """Correlation over several axes; ``flipped``: convolution."""
    x, weight = numbers_of(name, "input", input), numbers_of(name, "weights", weights)
    chosen = _kernel_axes(name, axes, x.ndim)
    if weight.ndim != len(chosen) or weight.size == 0:
        raise ValueError(
            f"{name}: weights must have {len(chosen)} axes, those of input or of axes, and not be "
            f"empty, got shape {weight.shape}"
        )
    size = _sizes(weight, chosen)
    windows = windows_of(name, chosen, size, one_mode(name, mode), origin, flipped)
    if weight.dtype.kind in "fc":  # the smallest integer has no absolute value
        weight = np.where(np.abs(weight) > NO_TAP, weight, 0)
    if len(chosen) < x.ndim:
        weight = np.expand_dims(weight, [axis for axis in range(x.ndim) if axis not in chosen])
    weight = np.flip(weight) if flipped else weight.conj()
    return _under(name, x, weight, output, windows, cval, not weight.all())


def correlated_1d(
    name: str, input: Any, weights: Any, axis: Any, output: Any, mode: Any, cval: Any, origin: Any,
    flipped: bool,
) -> Array:  # fmt: skip
    """Correlation along one axis; ``flipped``: convolution."""
    x, weight = numbers_of(name, "input", input), numbers_of(name, "weights", weights)
    if weight.ndim != 1 or weight.size == 0:
        raise ValueError(f"{name}: weights must be one line of numbers, got shape {weight.shape}")
    mode = one_mode(name, mode)
    windows = windows_of(name, axes_of(name, axis, x.ndim), weight.size, mode, origin, flipped)
    weight = weight[::-1] if flipped else weight.conj()
    return _under(name, x, weight, output, windows, cval, False)


def _kernel_axes(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """As in SciPy: a kernel's axes, and origins of a kernel that has all, are in the input's order,
    whatever that of ``axes``.
    """
    chosen = axes_of(name, axes, ndim)
    return tuple(range(ndim)) if len(chosen) == ndim else chosen


def _sizes(kernel: Array, chosen: Sequence[int]) -> list[int]:
    return [kernel.shape[sorted(chosen).index(axis)] for axis in chosen]


def _under(
    name: str, x: Array, weight: Array, output: Any, windows: Sequence[Window], cval: Any,
    holes: bool,
) -> Array:  # fmt: skip
    """Sums under ``weight``, of one axis or of all; ``holes``: some are zero and left out."""
    is_complex = "c" in (x.dtype.kind, weight.dtype.kind)
    out = output_of(name, output, x, is_complex)
    value = constant_of(name, cval, is_complex)
    dtype = np.result_type(x, weight, np.float64)
    weight = weight.astype(dtype)

    def sums(band: Array) -> Array:
        if weight.ndim != band.ndim:
            return along_axis(band, weight, windows[0].axis)
        if holes and not np.isfinite(band).all():
            return tap_by_tap(band, weight)
        return sums_under(band, weight)

    in_bands(x, out, *_borders(x.ndim, windows), value, dtype, sums)
    return out


def along_axis(band: Array, weight: Array, axis: int) -> Array:
    """Sums under ``weight`` along one axis of an array of any rank."""
    shape = [*band.shape]
    shape[axis] -= weight.size - 1
    if weight.dtype not in map(np.dtype, "dD"):
        return tap_by_tap(band, np.expand_dims(weight, _others(band.ndim, axis)))
    lines = _planes(band, axis)
    kernel = weight.reshape((1, 1, 1, -1) if axis == band.ndim - 1 else (1, 1, -1, 1))
    return functional.conv2d(lines, kernel).reshape(shape)


def _planes(band: Array, axis: int) -> Array:
    """(N, 1, H, W) with ``axis`` as W if it is the last one and H if it is not."""
    last = axis == band.ndim - 1
    outer = int(np.prod(band.shape[:axis]))
    length = band.shape[axis]
    return band.reshape((1, 1, outer, length) if last else (outer, 1, length, -1))


def _others(ndim: int, axis: int) -> list[int]:
    return [other for other in range(ndim) if other != axis]


def _borders(ndim: int, windows: Sequence[Window]) -> tuple[list[tuple[int, int]], list[str]]:
    """Reach and mode on every axis."""
    reach, modes = [(0, 0)] * ndim, ["constant"] * ndim
    for window in windows:
        reach[window.axis], modes[window.axis] = window.reach, window.mode
    return reach, modes


def means(
    name: str, input: Any, size: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any
) -> Array:
    x = numbers_of(name, "input", input)
    windows = windows_of(name, axes_of(name, axes, x.ndim), size, mode, origin)
    is_complex = x.dtype.kind == "c"
    out = output_of(name, output, x, is_complex)
    value = constant_of(name, cval, is_complex)
    dtype = np.result_type(x, np.float64)
    cuts = out.dtype.kind in "biu"

    def compute(band: Array, window: Window) -> Array:
        if not cuts:
            return along_axis(band, np.full(window.size, 1 / window.size, dtype), window.axis)
        band = along_axis(band, np.ones(window.size, dtype), window.axis)
        band /= window.size  # an exact sum, rounded once: what is cut off depends on that
        return np.trunc(band, out=band)

    # What is beyond an axis is not cut off with the means of another.
    exact = not cuts or (out.dtype == x.dtype and value == np.asarray(value).astype(out.dtype))
    _separable(x, out, windows, value, dtype, compute, exact)
    return out


def _separable(
    x: Array, out: Array, windows: Sequence[Window], value: complex, dtype: Dtype,
    compute: Callable[..., Array], at_once: bool,
) -> None:  # fmt: skip
    """A window after another; ``at_once``: storing what is between them would change nothing."""
    windows = [window for window in windows if window.size > 1] or windows[:1]
    if at_once or not windows:  # without any, as for no axes, the input is stored as it is
        every = _borders(x.ndim, windows)
        in_bands(x, out, *every, value, dtype, lambda band: reduce(compute, windows, band))
        return
    for window in windows:
        edges = _borders(x.ndim, [window])
        in_bands(x, out, *edges, value, dtype, partial(compute, window=window))
        x = out


def extremes(
    name: str, input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any,
    origin: Any, axes: Any,
) -> Array:  # fmt: skip
    """``maximum_filter`` and ``minimum_filter``."""
    x = numbers_of(name, "input", input)
    if x.dtype.kind == "c":
        raise TypeError(f"{name}: input must hold real numbers, got dtype {x.dtype}")
    chosen = axes_of(name, axes, x.ndim)
    shape = None
    if footprint is not None:
        if size is not None:
            warnings.warn(f"{name}: size is ignored beside footprint", UserWarning, stacklevel=3)
        shape = as_array(f"{name}: footprint", footprint).astype(bool)
        if shape.ndim != len(chosen) or not shape.any():
            raise ValueError(
                f"{name}: footprint must have {len(chosen)} axes, those of input or of axes, and a "
                f"True, got shape {shape.shape}"
            )
        if shape.all():
            size, shape = shape.shape, None
        else:
            mode = one_mode(name, mode)
            chosen = _kernel_axes(name, axes, x.ndim)
            size = _sizes(shape, chosen)
            shape = np.expand_dims(shape, [axis for axis in range(x.ndim) if axis not in chosen])
    elif size is None:
        raise ValueError(f"{name}: one of size and footprint must be given")
    windows = windows_of(name, chosen, size, mode, origin)
    out = output_of(name, output, x, False)
    value = constant_of(name, cval, False).real
    dtype = x.dtype.newbyteorder("=")
    if out.dtype != dtype:
        dtype = np.result_type(dtype, out.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        value = int(min(max(value, limits.min), limits.max)) if value == value else 0
    best = np.minimum if name.startswith("minimum") else np.maximum
    if shape is None:
        _separable(
            x, out, windows, value, dtype,
            lambda band, window: _longest(best, band, window.axis, window.size),
            out.dtype == x.dtype,
        )  # fmt: skip
    else:
        edges = _borders(x.ndim, windows)
        in_bands(x, out, *edges, value, dtype, lambda band: _under_footprint(best, band, shape))
    return out


def _longest(best: Any, band: Array, axis: int, size: int) -> Array:
    """Extremes along one axis: of windows whose length doubles until it is ``size``."""
    length = 1
    while length < size:
        step = min(length, size - length)
        low, high = (
            band[(*(slice(None),) * axis, part)] for part in (slice(0, -step), slice(step, None))
        )
        band = best(low, high)
        length += step
    return band


def _under_footprint(best: Any, band: Array, footprint: Array) -> Array:
    shape = tuple(n - k + 1 for n, k in zip(band.shape, footprint.shape, strict=True))
    taps = [
        band[tuple(slice(at, at + n) for at, n in zip(tap, shape, strict=True))]
        for tap in np.argwhere(footprint).tolist()
    ]
    result = taps[0].copy()
    for tap in taps[1:]:
        best(result, tap, out=result)
    return result
