"""What a network has and costs, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cnnfast._core.arguments import integer, sequence, shown
from cnnfast._core.operand import Shape
from cnnfast.layers import Layer
from cnnfast.layers.names import join

from .fields import Field, Map


def count_parameters(model: Layer) -> int:
    """Trainable numbers of a network; those of a layer that is used twice count once.

    Examples
    --------
    >>> from cnnfast.layers import Linear
    >>> count_parameters(Linear(1_000_000, 100))
    100000100
    """
    shapes = {
        (id(layer), name): parameter.shape
        for _, layer in model.walk()
        for name, parameter in layer._parameters.items()
    }
    return sum(map(math.prod, shapes.values()))


def output_shape(model: Layer, input_shape: Shape) -> Shape:
    """The result's shape for an input of this shape, batch and all.

    ValueError that names the layer where the shape doesn't fit.

    Examples
    --------
    >>> from cnnfast.layers import Conv2d
    >>> output_shape(Conv2d(3, 8, 3, stride=2), (16, 3, 32, 32))
    (16, 8, 15, 15)
    """
    shape = _checked(input_shape)
    with model._named():
        return tuple(model.output_shape(shape))


def flops(model: Layer, input_shape: Shape) -> int:
    """Multiplications and additions of convolutions and dense layers, and those (or comparisons) of
    pooling, for an input of this shape, batch and all. What goes element by element isn't counted.

    Examples
    --------
    >>> from cnnfast.layers import Conv2d, SeparableConv2d
    >>> flops(Conv2d(3, 4, 3, padding=1), (1, 3, 8, 8))
    13824
    >>> flops(SeparableConv2d(3, 4, 3, padding=1), (1, 3, 8, 8))
    4992
    """
    output_shape(model, input_shape)
    return model.flops(_checked(input_shape))


def receptive_field(model: Layer, input_shape: Shape) -> dict[str, tuple[Field, ...]]:
    """What the outputs of every layer depend on in the network's input.

    Parameters
    ----------
    model : Layer
    input_shape : tuple of int
        Batch and all.

    Returns
    -------
    dict of a ``Field`` per spatial axis
        By the layers' paths, in the order they run; a network made of layers comes after them, the
        whole model, "", last. A dense layer (and whatever comes after it) depends on everything:
        all of the input that some place of the map before it depends on.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Notes
    -----
    Exact for every output whose window lies inside the maps of all layers. Nearer to the border a
    window holds padding as well: those of its inputs that exist are all that can count.

    Examples
    --------
    >>> from cnnfast.layers import Conv2d, MaxPool2d, Sequential
    >>> net = Sequential(Conv2d(1, 4, 3, padding=1), MaxPool2d(2), Conv2d(4, 4, 3, dilation=2))
    >>> for path, (rows, columns) in receptive_field(net, (1, 1, 16, 16)).items():
    ...     print(repr(path), rows.size, rows.stride, rows.offset)
    '0' 3 1 -1
    '1' 4 2 -1
    '2' 12 2 -1
    '' 12 2 -1
    """
    return {step.path: step.map.fields for step in _trace(model, _checked(input_shape))}


@dataclass(frozen=True)
class Row:
    """A layer in a summary; ``field`` has a ``Field`` per spatial axis."""

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    flops: int
    field: tuple[Field, ...]

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        return [
            self.name,
            self.kind,
            str(self.output_shape).replace(" ", ""),
            f"{self.parameters:,}",
            f"{self.flops:,}",
            _by([axis.size for axis in self.field]),
            _by([axis.stride or "-" for axis in self.field]),
        ]


COLUMNS = ("layer", "kind", "output", "parameters", "FLOP", "field", "stride")
#: Columns of text; the others are numbers, aligned to the right.
TEXT = 3


@dataclass(frozen=True)
class Summary:
    """A network layer by layer, and in all; prints as a table."""

    input_shape: Shape
    output_shape: Shape
    rows: tuple[Row, ...]
    parameters: int
    flops: int

    def __str__(self) -> str:
        total = ["total", "", "", f"{self.parameters:,}", f"{self.flops:,}", "", ""]
        lines = [list(COLUMNS), *(row.cells() for row in self.rows), total]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = []
        for cells in lines:
            pairs = zip(cells, widths, strict=True)
            aligned = [
                cell.ljust(width) if i < TEXT else cell.rjust(width)
                for i, (cell, width) in enumerate(pairs)
            ]
            text.append("  ".join(aligned).rstrip())
        rule = "-" * max(map(len, text))
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


def summary(model: Layer, input_shape: Shape) -> Summary:
    """A network's layers with their output shapes, parameters, FLOP and receptive fields.

    Parameters
    ----------
    model : Layer
    input_shape : tuple of int
        Batch and all.

    Returns
    -------
    Summary
        With ``rows``, a ``Row`` per layer; a composite has one where its branches meet. A layer
        that is used twice has its parameters in its first row.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> from cnnfast.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
    >>> net = Sequential(Conv2d(1, 4, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(36, 10))
    >>> print(summary(net, (1, 1, 8, 8)))
    layer  kind       output     parameters   FLOP  field  stride
    -------------------------------------------------------------
    0      Conv2d     (1,4,6,6)          40  2,592    3x3     1x1
    1      ReLU       (1,4,6,6)           0      0    3x3     1x1
    2      MaxPool2d  (1,4,3,3)           0    144    4x4     2x2
    3      Flatten    (1,36)              0      0    8x8     -x-
    4      Linear     (1,10)            370    720    8x8     -x-
    -------------------------------------------------------------
    total                               410  3,456
    """
    shape = _checked(input_shape)
    rows, seen = [], set()
    for step in _trace(model, shape):
        layer = step.layer
        if layer.children() and not _joins(layer):
            continue
        own = (
            0 if id(layer) in seen else sum(math.prod(p.shape) for p in layer._parameters.values())
        )
        seen.add(id(layer))
        work = 0 if layer.children() else layer.flops(step.input_shape)
        kind = type(layer).__name__
        rows.append(Row(step.path, kind, step.output_shape, own, work, step.map.fields))
    total = sum(row.flops for row in rows)
    return Summary(shape, output_shape(model, shape), tuple(rows), count_parameters(model), total)


@dataclass(frozen=True)
class _Step:
    """A layer as it was passed."""

    path: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape
    map: Map


def _trace(model: Layer, shape: Shape) -> list[_Step]:
    sizes = _places(model, shape) or shape[2:] or shape[1:]
    return list(_steps(model, "", shape, Map.of_input(sizes)))


def _steps(layer: Layer, path: str, shape: Shape, before: Map) -> Iterator[_Step]:
    """All layers below, then the layer itself."""
    with layer._named():
        result = tuple(layer.output_shape(shape))
        after, reading = before, shape
        if not layer.children():
            reach = layer.reach(shape)
            if reach is None and result != shape:
                raise TypeError("the layer must tell what its outputs read, by geometry or reach")
            after = before.through(reach)
        for branches in layer.steps():
            ends: list[tuple[Shape, Map]] = []
            for name, child in branches.items():
                end = (reading, after)
                if child is not None:
                    for step in _steps(child, join(path, name), reading, after):
                        yield step
                        end = (step.output_shape, step.map)
                ends.append(end)
            reading, after = ends[0][0], Map.joined([each for _, each in ends])
    yield _Step(path, layer, shape, result, after)


def _places(layer: Layer, shape: Shape) -> tuple[int, ...] | None:
    """The extents of the spatial axes, as the first layer says that reads more than its own place;
    ``()`` if it reads everything."""
    children = [child for step in layer.steps() for child in step.values() if child is not None]
    if children:
        found = (_places(child, shape) for child in children)
        return next((sizes for sizes in found if sizes is not None), None)
    with layer._named():
        reach = layer.reach(shape)
    return None if reach is None else tuple(axis.inputs for axis in reach)


def _joins(layer: Layer) -> bool:
    return any(len(step) > 1 for step in layer.steps())


def _checked(input_shape: Any) -> Shape:
    extents = sequence(input_shape)
    if extents is None:
        raise TypeError(
            f"input_shape must be a sequence of integers, batch and all, got {shown(input_shape)}"
        )
    return tuple(integer("input_shape", extent, 0) for extent in extents)


def _by(numbers: list[Any]) -> str:
    return "x".join(map(str, numbers))
