"""Receptive fields: which inputs of a network an output depends on, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cnnfast.layers.reach import Reach

#: First and last position; None where nothing is read.
Window = tuple[int, int] | None


@dataclass(frozen=True)
class Field:
    """The receptive field of a layer's outputs along one axis.

    Output i depends on the inputs from the first to the last of ``windows[i % period]``, moved by
    ``i // period * step``, period being ``len(windows)``: 1, but for transposed convolutions and
    adaptive pooling. Positions below 0 or beyond the input are padding's.

    Attributes
    ----------
    size : int
        Inputs from the first to the last that an output depends on, the most of all outputs.
    stride : int or Fraction
        Inputs from one output's field to the next one's: the jump; 0 where outputs have no place.
    offset : int
        Where the field of output 0 begins.

    Examples
    --------
    >>> field = Field(4, ((-1, 5),))
    >>> field.size, field.stride, field.offset, field.inputs(2)
    (7, 4, -1, range(7, 14))
    """

    step: int
    windows: tuple[Window, ...]

    @property
    def size(self) -> int:
        """Inputs from the first to the last that an output depends on, the most of all outputs."""
        return max((last - first + 1 for first, last in filter(None, self.windows)), default=0)

    @property
    def stride(self) -> int | Fraction:
        """Inputs from one output's field to the next one's."""
        stride = Fraction(self.step, len(self.windows))
        return stride.numerator if stride.denominator == 1 else stride

    @property
    def offset(self) -> int:
        """Where the field of output 0 begins."""
        return next((window[0] for window in self.windows if window), 0)

    def inputs(self, output: int) -> range:
        """What one output depends on, padding included."""
        window = self._window(output)
        return range(window[0], window[1] + 1) if window else range(0)

    def _window(self, output: int) -> Window:
        turns, phase = divmod(output, len(self.windows))
        window = self.windows[phase]
        return window and (window[0] + turns * self.step, window[1] + turns * self.step)

    def through(self, reach: Reach) -> Field:
        """The field of a layer's outputs, this being that of its inputs.

        >>> Field(2, ((0, 1),)).through(Reach(8, 8, 1, ((-1, 0, 1),)))
        Field(step=2, windows=((-2, 3),))
        """
        turns = len(self.windows) // math.gcd(len(self.windows), reach.step)
        windows = tuple(
            _hull(self._window(position) for position in reach.positions(output))
            for output in range(turns * len(reach.taps))
        )
        return Field(self.step * (reach.step * turns // len(self.windows)), windows)

    def together(self, outputs: int, inputs: int) -> Field:
        """What all outputs together depend on, padding left out.

        >>> Field(2, ((-1, 1),)).together(4, 7)
        Field(step=0, windows=((0, 6),))
        """
        window = _hull(self._window(output) for output in range(outputs))
        if window:
            window = (max(window[0], 0), min(window[1], inputs - 1))
        return Field(0, (window,))


#: Before the first layer every position depends on itself.
IDENTITY = Field(1, ((0, 0),))


def _hull(windows: Iterable[Window]) -> Window:
    found = [window for window in windows if window]
    if not found:
        return None
    return min(first for first, _ in found), max(last for _, last in found)


def joined(fields: Sequence[Field], outputs: int) -> Field:
    """The field of a sum of branches.

    >>> joined([IDENTITY, Field(1, ((-1, 1),))], 8)
    Field(step=1, windows=((-1, 1),))
    """
    first, *others = fields
    for other in others:
        alike = first.stride == other.stride
        # Fields that move apart are told one by one.
        period = math.lcm(len(first.windows), len(other.windows)) if alike else outputs
        step = first.step * period // len(first.windows)
        pairs = ((first._window(o), other._window(o)) for o in range(period))
        first = Field(step, tuple(_hull(pair) for pair in pairs))
    return first


@dataclass(frozen=True)
class Map:
    """Fields along the axes of a feature map, the map's extents and those of the input."""

    fields: tuple[Field, ...]
    sizes: tuple[int, ...]
    inputs: tuple[int, ...]

    @classmethod
    def of_input(cls, sizes: Sequence[int]) -> Map:
        """The network's input itself."""
        return cls((IDENTITY,) * len(sizes), tuple(sizes), tuple(sizes))

    def through(self, reach: tuple[Reach, ...] | None) -> Map:
        """The map that a layer makes of this one."""
        if reach is None:
            return self
        if not reach:
            rows = zip(self.fields, self.sizes, self.inputs, strict=True)
            fields = tuple(field.together(size, inputs) for field, size, inputs in rows)
            return Map(fields, (1,) * len(fields), self.inputs)
        if len(reach) != len(self.fields):
            raise ValueError(
                f"receptive fields of {len(self.fields)} axes don't go through a layer of "
                f"{len(reach)}"
            )
        pairs = zip(self.fields, reach, strict=True)
        fields = tuple(field.through(axis) for field, axis in pairs)
        return Map(fields, tuple(axis.outputs for axis in reach), self.inputs)

    @classmethod
    def joined(cls, maps: Sequence[Map]) -> Map:
        """The sum of maps of the same extents."""
        sizes = maps[0].sizes
        columns = zip(*(each.fields for each in maps), strict=True)
        pairs = zip(columns, sizes, strict=True)
        fields = tuple(joined(fields, outputs) for fields, outputs in pairs)
        return cls(fields, sizes, maps[0].inputs)
