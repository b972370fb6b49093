"""Weights prepared once, for calls that repeat with the same weight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cnnfast.kernels import shapes
from cnnfast.kernels.packing import pack_weight as fill_panels
from cnnfast.kernels.packing import panel_elements
from cnnfast.kernels.storage import elements_of

from .arguments import axis_letters, integer, per_axis, sequence, shown
from .arrays import Array, Dtype, as_array
from .conv_geometry import ConvGeometry
from .dtypes import converted, promote
from .execute import products_of
from .operand import CANONICAL_DATA, Shape
from .planner import plan
from .workspace import aligned


class PackedWeight:
    """A copy of a weight, and the forms of it that kernels read; ``pack_weight`` makes it.

    It stands wherever a weight does: convolutions and ``linear`` read the prepared form, other
    functions the copy. It isn't changed any more, and any thread may use it.
    """

    def __init__(self, weight: Array) -> None:
        self.array: Array = weight.copy()
        self.array.flags.writeable = False
        self._panels: dict[tuple[Any, ...], Array] = {}

    @property
    def shape(self) -> Shape:
        """The weight's shape."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> Dtype:
        """The weight's dtype."""
        dtype: Dtype = self.array.dtype
        return dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the copy and of all prepared forms."""
        return self.array.nbytes + sum(panels.nbytes for panels in list(self._panels.values()))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy or (dtype is not None and dtype != self.array.dtype):
            return self.array.astype(self.array.dtype if dtype is None else dtype)
        return self.array

    def __repr__(self) -> str:
        return f"PackedWeight(shape={self.shape}, dtype={self.dtype}, {self.nbytes} bytes)"

    def panels(self, geometry: ConvGeometry, reads: Dtype) -> Array:
        """The weight as panels (``cnnfast.kernels.packing``) for this geometry's layout and groups
        and a row that reads this dtype, made when first asked for."""
        key = geometry.weight.layout, geometry.groups, reads
        found = self._panels.get(key)
        if found is None:
            weight = converted(self.array, reads).reshape(geometry.weight.shape)
            weight = elements_of(geometry.weight.canonical(weight))
            elements = panel_elements(weight.shape, geometry.groups, weight.itemsize)
            found = aligned(elements * weight.itemsize).view(weight.dtype)
            fill_panels(weight, geometry.groups, found)
            self._panels[key] = found
        return found


def pack_weight(
    weight: Any,
    input_shape: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    backend: str | None = None,
) -> PackedWeight:
    """Prepare a weight for calls that repeat with it: many kernels read weights in an order of
    their own, and making it can cost more than a small layer.

    Parameters
    ----------
    weight : (K, C / groups, ...) array with one to three spatial axes, or (K, C) for ``linear``
        Copied: what happens to the array afterwards doesn't matter.
    input_shape : tuple of ints, optional
        The shape of inputs to come. With it the form that the planner's kernel for such a call
        reads is made at once, without it in the first call.
    stride, padding, dilation, groups, layout, weight_layout, backend
        Of the calls to come, as for ``conv2d``. They are checked, and decide with ``input_shape``
        what is made at once; a call with others serves as well.

    Returns
    -------
    PackedWeight
        To be given to ``conv1d``, ``conv2d``, ``conv3d``, their like and ``linear`` in place of
        the array. The same kernel gives the same bits.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.
    BackendUnavailableError
        If the backend asked for can't serve.

    Examples
    --------
    >>> import numpy as np, cnnfast
    >>> weight = np.ones((8, 4, 3, 3), np.float32)
    >>> packed = pack_weight(weight, input_shape=(1, 4, 9, 9), padding=1)
    >>> x = np.ones((1, 4, 9, 9), np.float32)
    >>> np.array_equal(cnnfast.conv2d(x, packed, padding=1), cnnfast.conv2d(x, weight, padding=1))
    True
    """
    name = "pack_weight"
    array = as_array(f"{name}: weight", weight)
    arithmetic = promote(name, (array,))
    shape = None if input_shape is None else sequence(input_shape)
    if input_shape is not None and shape is None:
        raise TypeError(f"{name}: input_shape must be a tuple of ints, got {shown(input_shape)}")
    if array.ndim == 2:
        given = stride, padding, dilation, groups, layout, weight_layout
        if given != (1, 0, 1, 1, None, None):
            raise ValueError(
                f"{name}: a weight of two axes is that of linear, which has no stride, padding, "
                f"dilation, groups or layouts, got {shown(given)}"
            )
        geometry = ConvGeometry.of_linear(tuple(shape or array.shape), array.shape, name=name)
    else:
        keywords: dict[str, Any] = {"layout": layout, "weight_layout": weight_layout, "name": name}
        shape = tuple(shape or _least_input(array, dilation, groups, **keywords))
        geometry = ConvGeometry.of(shape, array, stride, padding, dilation, groups, **keywords)
    packed = PackedWeight(array)
    if input_shape is not None and arithmetic.kind != "complex":
        products = products_of("fprop", geometry)
        computing, stored = arithmetic.computing(products), arithmetic.stored(products)
        geometry = replace(geometry, dtype=computing, stored=stored, prepared=True)
        row = plan("fprop", geometry, backend).row
        if row.packs_once(geometry):
            packed.panels(geometry, row.reads(geometry))
    return packed


def _least_input(
    weight: Array, dilation: Any, groups: Any, *, layout: str | None, weight_layout: str | None,
    name: str,
) -> Shape:  # fmt: skip
    """The shape of an input that the kernel just covers."""
    rank = weight.ndim - 2
    if rank not in (1, 2, 3):
        raise ValueError(f"{name}: weight must have 2 to 5 axes, got shape {weight.shape}")
    data = axis_letters(name, layout, rank, "NC")
    letters = axis_letters(name, weight_layout, rank, "OI", data[1] == "C")
    extents = dict(zip(letters, weight.shape, strict=True))
    spread = per_axis(f"{name}: dilation", dilation, rank, 1)
    for letter, step in zip(CANONICAL_DATA[-rank:], spread, strict=True):
        extents[letter] = shapes.effective_kernel(extents[letter], step)
    extents |= {"N": 1, "C": extents["I"] * integer(f"{name}: groups", groups, 1)}
    return tuple(extents[letter] for letter in data)
