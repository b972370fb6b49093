"""Arrays as geometries know them: letters, shape and element strides."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .arguments import axis_letters, integer

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

CANONICAL_DATA = "NCDHW"
CANONICAL_WEIGHT = "OIDHW"


class View(NamedTuple):
    """How an array is seen with five axes in canonical order: reshaped (unless ``shape`` is None),
    transposed, indexed."""

    axes: Shape
    indexing: tuple[slice | None, ...]
    shape: Shape | None = None

    def of(self, array: Array) -> Array:
        """The five-axis view; no copy, unless reshaping takes one."""
        if self.shape is not None:
            array = array.reshape(self.shape)
        return array.transpose(self.axes)[self.indexing]


class Operand(NamedTuple):
    """An array as a geometry knows it; shape and element strides in the user's order."""

    layout: str
    shape: Shape
    strides: Shape
    batched: bool = True

    @classmethod
    def of(cls, source: Any, layout: str, batched: bool = True) -> Operand:
        """From an array, or from a shape (a tuple of ints: a C-contiguous array of it)."""
        if isinstance(source, tuple):
            shape = tuple(integer("a shape's extent", extent, 0) for extent in source)
            return cls(layout, shape, contiguous_strides(shape), batched)
        strides = tuple(step // source.itemsize for step in source.strides)
        return cls(layout, tuple(source.shape), strides, batched)

    @property
    def letters(self) -> str:
        """The letters of the axes that the array really has."""
        return self.layout if self.batched else self.layout[1:]

    def extent(self, letter: str) -> int:
        """Extent of the axis with that letter; 1 where the user's array has no such axis."""
        letters = self.letters
        return self.shape[letters.index(letter)] if letter in letters else 1

    def stride_of(self, letter: str) -> int:
        """Element stride of the axis with that letter; 1 where the array has no such axis."""
        letters = self.letters
        return self.strides[letters.index(letter)] if letter in letters else 1

    def check_not_empty(self, name: str, what: str, letters: str) -> None:
        """ValueError if one of the axes has no elements."""
        for letter in letters:
            if self.extent(letter) == 0:
                raise ValueError(
                    f"{name}: axis {letter} of the {what} must not be empty, got shape {self.shape}"
                )

    @property
    def view(self) -> View:
        """What makes five axes in canonical order of an array."""
        letters = self.letters
        order = CANONICAL_WEIGHT if "O" in self.layout else CANONICAL_DATA
        axes = tuple(letters.index(letter) for letter in order if letter in letters)
        index = tuple(slice(None) if letter in letters else None for letter in order)
        return View(axes, index)

    def canonical(self, array: Array) -> Array:
        """A five-axis view of ``array`` in canonical order; no copy."""
        return self.view.of(array)


def contiguous_strides(shape: Shape) -> Shape:
    """Element strides of a C-contiguous array.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def shape_of(source: Any) -> Shape:
    if isinstance(source, tuple):
        return source
    if not isinstance(source, np.ndarray):
        raise TypeError(f"an operand must be an array or a shape (a tuple of ints), got {source!r}")
    return tuple(source.shape)


def data_operand(name: str, source: Any, rank: int, layout: str | None) -> Operand:
    letters = axis_letters(name, layout, rank, "NC")
    ndim = len(shape_of(source))
    if ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name}: input must have {rank + 2} axes {letters} (or {rank + 1} without the batch), "
            f"got shape {shape_of(source)}"
        )
    operand = Operand.of(source, letters, batched=ndim == rank + 2)
    operand.check_not_empty(name, "input", letters[1:])
    return operand
