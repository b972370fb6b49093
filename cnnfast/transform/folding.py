"""Batch normalisation folded into the layer before it."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from cnnfast._core.arguments import axis_letters
from cnnfast._core.arrays import Array
from cnnfast.layers import GroupedLinear, Layer, Linear
from cnnfast.layers.composite import Composite
from cnnfast.layers.conv import _Conv
from cnnfast.layers.conv_transpose import _ConvTranspose
from cnnfast.layers.norm import BatchNorm1d, _BatchNorm
from cnnfast.layers.parameters import constant


def fold_batch_norm(model: Layer) -> Layer:
    """A new model without the batch normalisation that weights can take over.

    In evaluation, normalising a convolution's result multiplies each out-channel by a number and
    adds another: so do the weights and the bias ``weight * s`` and ``(bias - mean) * s + shift``,
    with ``s = scale / sqrt(var + eps)``, computed in float64.

    Parameters
    ----------
    model : Layer
        Stays as it is.

    Returns
    -------
    Layer
        In evaluation mode, sharing no array with ``model``; its result is that of
        ``model.eval()``, up to rounding. Layers keep their names.

    Notes
    -----
    Folded is what comes right after a convolution, a transposed one or a dense layer (for which
    ``BatchNorm1d`` is taken to normalise features, (N, C)), at any depth. What comes after anything
    else stays, so does what meets branches, and whatever a network uses twice.

    Examples
    --------
    >>> from cnnfast.layers import BatchNorm2d, Conv2d, ReLU, Sequential
    >>> net = Sequential(Conv2d(1, 4, 3, bias=False), BatchNorm2d(4), ReLU())
    >>> folded = fold_batch_norm(net)
    >>> list(folded.children()), list(folded.parameter_shapes())
    (['0', '2'], ['0.weight', '0.bias'])
    """
    return _Folding.of(model).run(model)


@dataclass
class _Folding:
    """One walk over a model, in the order its layers run."""

    uses: Counter[int]
    #: The new layer whose result comes next to the one that is looked at, if that can take over.
    last: Layer | None = None
    done: dict[int, Layer] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Layer) -> _Folding:
        return cls(Counter(id(layer) for _, layer in model.walk()))

    def run(self, model: Layer) -> Layer:
        made = self._changed(model)
        assert made is not None  # nothing comes before the model
        return made.eval()

    def _changed(self, layer: Layer) -> Layer | None:
        """The new layer; None for a normalisation that the last one takes over."""
        if isinstance(layer, Composite):
            return layer.rebuilt(self._inside(layer))
        once = self.uses[id(layer)] == 1
        if isinstance(layer, _BatchNorm) and once and self.last and _fits(layer, self.last):
            _take_over(layer, self.last)
            return None
        made = self.done.setdefault(id(layer), copy.deepcopy(layer))
        self.last = made if once and _takes(made) else None
        return made

    def _inside(self, layer: Composite) -> list[Layer | None]:
        made: list[Layer | None] = []
        for branches in layer.steps():
            for child in branches.values():
                if len(branches) > 1:
                    self.last = None
                if child is not None:
                    made.append(self._changed(child))
            if len(branches) > 1:
                self.last = None
        return made


def _takes(layer: Layer) -> bool:
    """Whether its weights can be multiplied for each out-channel alone."""
    if isinstance(layer, _Conv | _ConvTranspose):
        return len(layer.parameter_shapes()["weight"]) == layer.rank + 2
    return isinstance(layer, Linear) and not isinstance(layer, GroupedLinear)


def _fits(norm: _BatchNorm, layer: Layer) -> bool:
    """Whether what is normalised are the layer's out-channels."""
    if isinstance(layer, Linear):
        last = norm.channel_axis > 1 or isinstance(norm, BatchNorm1d)
        return last and norm.num_features == layer.out_features
    assert isinstance(layer, _Conv | _ConvTranspose)
    channels = axis_letters("", _layout(layer), layer.rank, "NC").index("C")
    counts = norm.num_features == layer.out_channels
    return counts and norm.axes[-1] == layer.rank + 2 and norm.channel_axis == channels


def _layout(layer: _Conv | _ConvTranspose) -> str | None:
    found: str | None = layer.layout if isinstance(layer, _Conv) else layer.arguments["layout"]
    return found


def _take_over(norm: _BatchNorm, layer: Layer) -> None:
    """Change a layer's weights and bias to what the two give together."""
    weight, bias = (None if a is None else a.astype(np.float64) for a in norm._affine())
    factor = 1 / np.sqrt(norm._array("running_var").astype(np.float64) + norm.eps)
    factor = factor if weight is None else factor * weight
    kernel = layer._array("weight")
    before = layer._bias()
    moved = (0 if before is None else before.astype(np.float64)) - norm._array("running_mean")
    moved = moved * factor + (0 if bias is None else bias)
    layer._arrays["weight"] = (kernel * _along_outputs(layer, factor)).astype(kernel.dtype)
    if before is None:
        layer._add("bias", factor.shape, constant(0))
    layer._arrays["bias"] = moved.astype(kernel.dtype)


def _along_outputs(layer: Layer, factor: Array) -> Array:
    """A number per out-channel, shaped to multiply the weight."""
    if isinstance(layer, Linear):
        return factor[:, None]
    assert isinstance(layer, _Conv | _ConvTranspose)
    first = axis_letters("", _layout(layer), layer.rank, "NC")[1] == "C"
    if isinstance(layer, _Conv):
        letters = axis_letters("", layer.weight_layout, layer.rank, "OI", first)
        return factor.reshape([-1 if letter == "O" else 1 for letter in letters])
    named = layer.arguments["weight_layout"]
    letters = axis_letters("", named, layer.rank, "OI", first)
    # By default the letters are those of the convolution that a transposed one is adjoint to.
    inputs, outputs = "IO" if named is not None else "OI"
    # A group's in-channels have its out-channels, not those of the others.
    by_group = factor.reshape(layer.groups, -1)
    square = np.repeat(by_group, layer.in_channels // layer.groups, axis=0)
    if letters.index(inputs) > letters.index(outputs):
        square = square.T
    extents = {inputs: layer.in_channels, outputs: layer.out_channels // layer.groups}
    return square.reshape([extents.get(letter, 1) for letter in letters])
