"""A classifier with dense layers as one that slides over larger images."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnfast._core.arguments import integer, sequence, shown
from cnnfast._core.operand import Shape
from cnnfast.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Conv1d,
    Conv2d,
    Conv3d,
    Flatten,
    GroupedLinear,
    Layer,
    Linear,
    LocallyConnected1d,
    LocallyConnected2d,
    MaxPool2d,
    Sequential,
)
from cnnfast.layers.composite import Composite
from cnnfast.layers.pooling import _AdaptivePool

CONVOLUTIONS = Conv1d, Conv2d, Conv3d
NORMALISATIONS = BatchNorm1d, BatchNorm2d, BatchNorm3d


def to_fully_convolutional(model: Layer, input_shape: tuple[int, ...]) -> Layer:
    """A new model that does at every place of a larger image what ``model`` does with one image.

    The dense layer behind ``Flatten`` becomes a convolution whose kernel is as large as the map
    that was flattened, later dense layers become 1x1 convolutions. Where ``model`` gives (N, K),
    the new one gives (N, K, 1, 1) for the same input and (N, K, P, Q) for a larger one, in one pass
    that shares what neighbouring windows have in common.

    Parameters
    ----------
    model : Layer
        Stays as it is.
    input_shape : tuple of int
        What ``model`` takes, such as (1, 3, 32, 32); the batch may be left out before a convolution
        or pooling.

    Returns
    -------
    Layer
        With copies of the weights, in the mode that ``model`` is in. Layers keep their names, but
        ``Flatten`` is gone. Activations and dropout stay as they are, ``BatchNorm1d`` becomes the
        one for maps. Adaptive pooling to one place becomes pooling over as large a window as it
        has for ``input_shape``, with stride 1; to more places, over windows side by side.

    Raises
    ------
    ValueError
        Naming the layer that can't slide: locally connected layers, what comes after ``Flatten``
        but isn't among the above, adaptive pooling over windows of different sizes.

    Notes
    -----
    Place (p, q) of the result is what ``model`` gives for the crop that begins at p and q times the
    stride that ``analysis.receptive_field`` tells of the new model. It is equal to it if no layer
    pads, none rounds up (``ceil_mode``) and none is a transposed convolution. Otherwise the crop
    ends where the large image has pixels: its maps differ as far from its borders as windows reach
    over them, and so do the results.
    Where strides leave the crop's last rows unread, there is a place more than crops fit.

    Source: Sermanet et al. 2014; Long, Shelhamer and Darrell 2015.

    Examples
    --------
    A 32x32 classifier whose last map is 4x4x3 looks at 25 places of a 64x64 image:

    >>> from cnnfast.layers import Linear, ReLU, Sequential
    >>> def stage(channels, kernels):
    ...     return Sequential(Conv2d(channels, kernels, 2, stride=2), ReLU())
    >>> net = Sequential(stage(3, 8), stage(8, 8), stage(8, 3), Flatten(), Linear(48, 10))
    >>> sliding = to_fully_convolutional(net, (1, 3, 32, 32))
    >>> sliding.output_shape((1, 3, 32, 32)), sliding.output_shape((1, 3, 64, 64))
    ((1, 10, 1, 1), (1, 10, 5, 5))
    >>> sliding.parameter_shapes()["4.weight"]
    (10, 3, 4, 4)
    """
    shape = _batched(model, input_shape)
    model.output_shape(shape)  # or the error that names the layer
    made, after = _turned(model, _Place(shape))
    if after.map is not None and math.prod(after.map.extents) > 1:
        raise ValueError("to_fully_convolutional: Flatten has no dense layer behind it to turn")
    return Sequential() if made is None else made


@dataclass(frozen=True)
class _Map:
    """What was flattened; the extents are 1 once a dense layer has become a convolution."""

    channels: int
    extents: tuple[int, ...]
    layout: str


@dataclass(frozen=True)
class _Place:
    """Where in the model the walk is: the shape there, the last layout, and ``map`` if it is
    behind ``Flatten``."""

    shape: Shape
    layout: str | None = None
    map: _Map | None = None


def _turned(layer: Layer, place: _Place) -> tuple[Layer | None, _Place]:
    """The new layer, or None if nothing is left of it, and what comes after it."""
    if isinstance(layer, Composite):
        return _composite(layer, place)
    after = replace(
        place, shape=tuple(layer.output_shape(place.shape)), layout=_layout(layer, place)
    )
    if isinstance(layer, Flatten):
        return None, replace(after, map=place.map or _flattened(layer, after.layout, place.shape))
    if place.map is None:
        return _before(layer, place), after
    made = _behind(layer, place.map)
    made.training = layer.training
    if isinstance(layer, Linear):
        after = replace(
            after, map=_Map(layer.out_features, (1,) * len(place.map.extents), place.map.layout)
        )
    return made, after


def _composite(layer: Composite, place: _Place) -> tuple[Layer, _Place]:
    made: list[Layer | None] = []
    for branches in layer.steps():
        ends = []
        for child in branches.values():
            end = place
            if child is not None:
                new, end = _turned(child, place)
                # A branch of which nothing is left is the input itself.
                made.append(Sequential() if new is None and len(branches) > 1 else new)
            ends.append(end)
        if any(end.map != ends[0].map for end in ends):
            raise _refusal(layer, "its branches must meet as maps, or all behind Flatten")
        place = ends[0]
    return layer.rebuilt(made), place


def _before(layer: Layer, place: _Place) -> Layer:
    """A layer in front of Flatten: as it is, if it slides."""
    if isinstance(layer, LocallyConnected1d | LocallyConnected2d):
        raise _refusal(layer, "its weights belong to the places of one input size")
    if isinstance(layer, _AdaptivePool):
        return _pool(layer, place.shape)
    return copy.deepcopy(layer)


def _pool(layer: _AdaptivePool, shape: Shape) -> Layer:
    geometry = layer.geometry(shape)
    pairs = list(zip(geometry.size[1:], geometry.output[1:], strict=True))
    if any(size % outputs for size, outputs in pairs):
        raise _refusal(layer, f"its windows differ in size for an input of shape {shape}")
    window = tuple(size // outputs for size, outputs in pairs)
    stride = tuple(
        1 if outputs == 1 else side for side, (_, outputs) in zip(window, pairs, strict=True)
    )
    kind = AvgPool2d if isinstance(layer, AdaptiveAvgPool2d) else MaxPool2d
    made = kind(window, stride, layout=layer.arguments["layout"])
    made.training = layer.training
    return made


def _behind(layer: Layer, flat: _Map) -> Layer:
    """A layer behind Flatten, for maps."""
    if isinstance(layer, Linear):
        return _convolution(layer, flat)
    if isinstance(layer, BatchNorm1d) and math.prod(flat.extents) == 1:
        return _normalisation(layer, flat)
    if layer.parameter_shapes() or layer.buffers or type(layer)._shape is not Layer._shape:
        raise _refusal(layer, "there is no layer for maps that does the same behind Flatten")
    return copy.deepcopy(layer)


def _convolution(layer: Linear, flat: _Map) -> Layer:
    bias = layer._bias()
    weight = layer._array("weight")
    if isinstance(layer, GroupedLinear):
        each = layer.out_features // layer.groups
        weight = np.repeat(weight, each, axis=0)
        bias = None if bias is None else np.repeat(bias, each)
    rank = len(flat.extents)
    made = CONVOLUTIONS[rank - 1](
        flat.channels, layer.out_features, flat.extents, bias=bias is not None,
        layout=flat.layout, dtype=layer.dtype, rng=0,
    )  # fmt: skip
    # Features were flattened in the map's layout; by default a weight's axes are OIHW beside NCHW
    # and HWIO beside NHWC.
    if flat.layout[1] == "C":
        weight = weight.reshape(-1, flat.channels, *flat.extents)
    else:
        weight = weight.reshape(-1, *flat.extents, flat.channels)
        weight = weight.transpose(*range(1, rank + 2), 0)
    made.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return made


def _normalisation(layer: BatchNorm1d, flat: _Map) -> Layer:
    made = NORMALISATIONS[len(flat.extents) - 1](
        layer.num_features, layer.eps, layer.momentum, "weight" in layer._parameters,
        layout=flat.layout, dtype=layer.dtype,
    )  # fmt: skip
    made.load_state_dict(layer.state_dict())
    return made


def _flattened(layer: Flatten, layout: str | None, shape: Shape) -> _Map:
    if len(shape) not in (3, 4, 5):
        raise _refusal(layer, f"there must be a map (N, C, H, W) to flatten, got shape {shape}")
    letters = layout or "NC" + "DHW"[5 - len(shape) :]
    extents = dict(zip(letters, shape, strict=True))
    return _Map(
        extents["C"], tuple(extents[letter] for letter in letters if letter in "DHW"), letters
    )


def _layout(layer: Layer, place: _Place) -> str | None:
    """The letters of the axes behind a layer, as the last one says that knows them."""
    geometry = layer.geometry(place.shape)
    if geometry is not None:
        return geometry.input.layout
    if isinstance(layer, Linear) and place.map is None:
        return "N" + "DHW"[5 - len(place.shape) :] + "C"
    return place.layout


def _refusal(layer: Layer, why: str) -> ValueError:
    where = f" {layer.name!r}" if layer.name else ""
    return ValueError(
        f"to_fully_convolutional: {type(layer).__name__}{where} can't be turned: {why}"
    )


def _batched(model: Layer, input_shape: Any) -> Shape:
    extents = sequence(input_shape)
    if extents is None:
        raise TypeError(f"input_shape must be a sequence of integers, got {shown(input_shape)}")
    shape = tuple(integer("input_shape", extent, 1) for extent in extents)
    ranks = (layer.rank for _, layer in model.walk() if hasattr(layer, "rank"))
    if len(shape) == next(ranks, len(shape)) + 1:
        shape = (1, *shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            f"to_fully_convolutional: input_shape must be that of a map, (N, C, H, W), got {shape}"
        )
    return shape
