"""What arrives as an input, and what a kernel may be handed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from cnnfast.kernels.drivers import has_element_strides

from .device_arrays import device_of

Array = np.ndarray[Any, Any]
Dtype = np.dtype[Any]


def on_gpu(*sources: Any) -> bool:
    """Whether any of them is an array in a GPU's memory."""
    for source in sources:
        if type(source) is not np.ndarray and source is not None and device_of(source) == "cuda":
            return True
    return False


def is_masked(source: Any) -> bool:
    """Whether it is a masked array; without importing what makes them.

    >>> is_masked(np.zeros(3)), is_masked(np.ma.masked_array([1.0]))
    (False, True)
    """
    kind = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    return kind is not None and isinstance(source, kind)


def as_array(name: str, source: Any) -> Array:
    """``source`` as a NumPy array, without a copy where it offers ``__array__`` or ``__dlpack__``.

    TypeError for masked arrays and for arrays on another device.
    """
    if device_of(source) != "cpu":
        raise TypeError(
            f"{name} must be in host memory: this function has no kernels for the device of "
            f"{type(source).__module__}.{type(source).__qualname__}"
        )
    if is_masked(source):
        raise TypeError(f"{name} must not be a masked array: its mask would be ignored")
    if hasattr(source, "__dlpack__") and not hasattr(source, "__array__"):
        return np.from_dlpack(source)
    try:
        return np.asarray(source)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of one shape: {error}") from None
    except RuntimeError as error:
        raise TypeError(f"{name} can't be read as an array: {error}") from None


def as_arrays(name: str, **sources: Any) -> tuple[Any, ...]:
    """Each source as an array, in order; None stays None."""
    return tuple(
        None if source is None and which == "bias" else as_array(f"{name}: {which}", source)
        for which, source in sources.items()
    )


def is_ready(array: Array, dtype: Dtype) -> bool:
    """Whether a kernel for ``dtype`` can take it: native, aligned, whole-element strides."""
    return array.dtype == dtype and array.dtype.isnative and has_element_strides(array)


def kernel_ready(array: Array, dtype: Dtype) -> Array:
    """``array`` if a kernel can take it, else a copy."""
    return array if is_ready(array, dtype) else array.astype(dtype, order="C")


def check_out(
    name: str, out: Any, shape: tuple[int, ...], dtype: Dtype, inputs: list[Array]
) -> None:
    """Errors for an ``out`` that can't take the result."""
    if not isinstance(out, np.ndarray) or is_masked(out):
        raise TypeError(f"{name}: out must be a plain numpy.ndarray, got {type(out).__qualname__}")
    if out.shape != shape:
        raise ValueError(f"{name}: out must have the result's shape {shape}, got {out.shape}")
    if out.dtype != dtype:
        raise ValueError(f"{name}: out must have the result's dtype {dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: out must be writeable, got a read-only array")
    if not strides_nest(out):
        raise ValueError(
            f"{name}: out must not overlap itself: each of its strides must step over what the "
            f"smaller ones span, got strides {out.strides} for shape {shape}"
        )
    check_apart(name, out, inputs)


def check_apart(name: str, out: Array, inputs: Iterable[Array]) -> None:
    """ValueError if ``out`` shares memory with an input."""
    if any(overlap(out, array) for array in inputs):
        raise ValueError(f"{name}: out must not share memory with an input")


def strides_nest(array: Array) -> bool:
    """Whether no two elements can share memory: true of every view that slicing, transposing and
    reshaping make.

    >>> strides_nest(np.zeros((3, 4)).T[::-1]), strides_nest(np.broadcast_to(0.0, (3, 4)))
    (True, False)
    """
    if array.size == 0:
        return True
    spanned = array.itemsize
    axes = sorted(
        (abs(step), extent)
        for step, extent in zip(array.strides, array.shape, strict=True)
        if extent > 1
    )
    for step, extent in axes:
        if step < spanned:
            return False
        spanned += step * (extent - 1)
    return True


def overlap(first: Array, second: Array) -> bool:
    """Whether two arrays share an element; True where finding out would take too long."""
    effort: Any = 10_000  # NumPy's stubs know only 0 and -1
    try:
        # Plain arrays, of which those on a GPU have addresses as well.
        one, two = first.view(np.ndarray), second.view(np.ndarray)
        return np.shares_memory(one, two, max_work=effort)
    except np.exceptions.TooHardError:
        return True
