"""What the arguments of ``scipy.ndimage``'s filters mean."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnnfast._core.arguments import integer, sequence, shown
from cnnfast._core.arrays import Array, Dtype, as_array, check_out

#: SciPy's names -> those of ``_borders.sources``.
MODES = {
    **{mode: mode for mode in ("reflect", "mirror", "nearest", "wrap", "constant")},
    "grid-mirror": "reflect",
    "grid-wrap": "wrap",
    "grid-constant": "constant",
}


class Window(NamedTuple):
    """A filter's extent on one axis."""

    axis: int
    size: int
    origin: int
    mode: str

    @property
    def reach(self) -> tuple[int, int]:
        """How many elements it covers before and after the one that it is for."""
        before = self.size // 2 + self.origin
        return before, self.size - 1 - before


def numbers_of(name: str, which: str, source: Any) -> Array:
    array = as_array(f"{name}: {which}", source)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name}: {which} must hold numbers, got dtype {array.dtype}")
    return array


def axes_of(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """Axes as non-negative numbers, in the order given.

    >>> axes_of("uniform_filter", (-1, 0), 3), axes_of("uniform_filter", None, 2)
    ((2, 0), (0, 1))
    """
    if axes is None:
        return tuple(range(ndim))
    items = sequence(axes)
    try:
        result = [operator.index(axis) for axis in ((axes,) if items is None else items)]
    except TypeError:
        raise TypeError(f"{name}: axes must be integers, got {shown(axes)}") from None
    if any(not -ndim <= axis < ndim for axis in result):
        raise ValueError(f"{name}: axes must be from {-ndim} to {ndim - 1}, got {shown(axes)}")
    result = [axis % ndim for axis in result]
    if len(set(result)) != len(result):
        raise ValueError(f"{name}: axes must differ from each other, got {shown(axes)}")
    return tuple(result)


def windows_of(
    name: str, axes: Sequence[int], size: Any, mode: Any, origin: Any, flipped: bool = False
) -> list[Window]:
    """One window for each axis; ``flipped``: for a kernel that will be reversed."""
    result = []
    for axis, extent, move, edge in zip(
        axes,
        _each(name, "size", size, len(axes)),
        _each(name, "origin", origin, len(axes)),
        _each(name, "mode", mode, len(axes)),
        strict=True,
    ):
        extent = max(integer(f"{name}: size", extent, 0), 1)
        if not isinstance(edge, str) or edge not in MODES:
            raise ValueError(
                f"{name}: mode must be one of {', '.join(map(repr, MODES))}, got {shown(edge)}"
            )
        try:
            move = operator.index(move)
        except TypeError:
            raise TypeError(f"{name}: origin must be an integer, got {shown(move)}") from None
        if flipped:
            move = -move - (extent % 2 == 0)
        if not -(extent // 2) <= move <= (extent - 1) // 2:
            raise ValueError(
                f"{name}: origin must leave the element in its window of {extent}, "
                f"got {shown(origin)}"
            )
        result.append(Window(axis, extent, move, MODES[edge]))
    return result


def _each(name: str, what: str, value: Any, count: int) -> Sequence[Any]:
    items = sequence(value)
    if items is None:
        return (value,) * count
    if len(items) != count:
        raise ValueError(f"{name}: {what} must be one or {count} of them, got {shown(value)}")
    return items


def one_mode(name: str, mode: Any) -> str:
    if not isinstance(mode, str):
        raise ValueError(f"{name}: mode must be one string here, got {shown(mode)}")
    return mode


def output_of(name: str, output: Any, x: Array, is_complex: bool) -> Array:
    """The array to fill: the caller's, or a new one of the dtype asked for."""
    if isinstance(output, np.ndarray):
        check_out(name, output, x.shape, output.dtype, [])
        dtype: Dtype = output.dtype
    elif output is None:
        dtype = x.dtype.newbyteorder("=")
        dtype = np.promote_types(dtype, np.complex64) if is_complex else dtype
    else:
        dtype = np.dtype(output)
        if is_complex and dtype.kind in "biuf":
            warnings.warn(f"{name}: promoting specified output dtype to complex", stacklevel=5)
            dtype = np.promote_types(dtype, np.complex64)
    if dtype.kind not in "biufc" or (is_complex and dtype.kind != "c"):
        kind = "complex numbers" if is_complex else "numbers"
        raise TypeError(f"{name}: output must hold {kind}, got dtype {dtype}")
    return output if isinstance(output, np.ndarray) else np.empty(x.shape, dtype)


def constant_of(name: str, cval: Any, is_complex: bool) -> complex:
    value = np.asarray(cval)
    if value.size != 1 or value.dtype.kind not in ("biufc" if is_complex else "biuf"):
        kind = "number" if is_complex else "real number"
        raise TypeError(f"{name}: cval must be a {kind}, got {shown(cval)}")
    return complex(value.item()) if value.dtype.kind == "c" else float(value.item())
