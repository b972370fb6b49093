"""Layers made of layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array, as_array
from cnnfast._core.operand import Shape

from .activations import Activation
from .layer import Layer
from .names import join
from .pooling import MaxPool


class Composite(Layer):
    """Layers one after another, under names."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        for name, layer in layers.items():
            if not isinstance(name, str):
                raise TypeError(f"{type(self).__name__}: names must be strings, got {name!r}")
            if not isinstance(layer, Layer):
                raise TypeError(f"{type(self).__name__}: {name} must be a layer, got {layer!r}")
        super().__init__(next((layer.dtype for layer in layers.values()), np.float32), 0)
        self._layers = dict(layers)
        self._settle()

    def _settle(self) -> None:
        """Give the layers their names, and look for one that is used twice."""
        arrays = [
            join(path, name)
            for path, layer in self.walk()
            for name in (*layer._parameters, *layer._buffers)
        ]
        if len(self.children()) < len(self._layers) or len(set(arrays)) < len(arrays):
            names = ", ".join(map(repr, self.children()))
            raise ValueError(
                f"{type(self).__name__}: names must keep layers and parameters apart, got {names}"
            )
        self._rename("")
        seen: set[int] = set()
        self._twice: str | None = None
        for path, layer in self.walk():
            if id(layer) in seen:
                self._twice = path
                break
            seen.add(id(layer))

    def _rename(self, path: str) -> None:
        self.name = path
        for name, layer in self.children().items():
            where = join(path, name)
            if isinstance(layer, Composite):
                layer._rename(where)
            else:
                layer.name = where

    def children(self) -> dict[str, Layer]:
        """The layers by name."""
        return dict(self._layers)

    def _described(self) -> str:
        return ", ".join(f"{name}: {layer!r}" for name, layer in self._layers.items())

    def rebuilt(self, layers: Sequence[Layer | None]) -> Composite:
        """The same of other layers under the same names, given in the order of ``children()``; None
        leaves one out."""
        other = copy.copy(self)
        pairs = zip(self._layers, layers, strict=True)
        other._layers = {name: layer for name, layer in pairs if layer is not None}
        other._settle()
        return other

    @property
    def fuses(self) -> bool:
        """Whether the last layer's kernel can apply an activation."""
        return bool(self._layers) and list(self._layers.values())[-1].fuses

    def _shape(self, input_shape: Shape) -> Shape:
        """The last layer's."""
        for layer in self._layers.values():
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """The sum over all layers."""
        total = 0
        for layer in self._layers.values():
            total += layer.flops(input_shape)
            input_shape = layer.output_shape(input_shape)
        return total

    def _checked(self, input: Any) -> Array:
        return as_array("input", input)

    def _forward(self, input: Array) -> Array:
        return self._run(input, None, None)

    def _fused(self, input: Array, activation: str | None) -> Array:
        return self._run(input, activation, None)

    def _folding(self, input: Array, activation: str | None, norm: Layer) -> Array:
        return self._run(input, activation, norm)

    def _run(self, input: Array, activation: str | None, norm: Layer | None) -> Array:
        self._keep()
        layers = list(self._layers.values())
        while layers:
            layer = layers.pop(0)
            if not layers and (activation is not None or norm is not None):
                return layer.forward_fused(input, activation, norm)
            folded = layers.pop(0) if layers and layer.folds(layers[0], input.ndim) else None
            after = layers[0] if layers and layer.fuses else None
            name = after.fused_name() if isinstance(after, Activation) else None
            if folded is None and name is None:
                input = layer.forward(input)
            else:
                input = layer.forward_fused(input, name, folded)
            if name is not None and isinstance(after, Activation):
                layers.pop(0)
                after.follow(input)
        return input

    def _check_once(self) -> None:
        """A layer knows its last batch alone: one that is used twice in a pass has no gradient."""
        if self._twice is not None:
            raise RuntimeError(
                f"a layer that is used twice has no gradients, and {self._twice!r} is a layer of "
                "before: use a copy there"
            )

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        self._check_once()
        layers = list(self._layers.values())
        grad: Array | None = grad_output
        # What has no parameters before it needs no gradient in its input.
        first = next((i for i, layer in enumerate(layers) if layer.parameter_shapes()), len(layers))
        i = len(layers)
        while i > 0:
            i -= 1
            layer, before = layers[i], layers[i - 1] if i else None
            if i < first and not to_input:
                return None
            if isinstance(layer, MaxPool) and isinstance(before, Activation) and i > first:
                found = layer.backward_through(before, grad)
                if found is not None:
                    grad, i = found, i - 1
                    continue
            grad = layer.backward(grad, to_input or i > first)
        return grad


class Sequential(Composite):
    """Layers one after another, numbered, or named by a dictionary, as ``torch.nn.Sequential``.

    Activations behind convolutions and dense layers are applied by their kernels. In evaluation
    batch normalisations behind convolutions are folded into prepared copies of their weights.

    A layer may stand in several places; ``backward`` raises RuntimeError then, as a layer remembers
    its last batch alone.

    Parameters
    ----------
    layers : layers, or one dictionary of them

    Raises
    ------
    TypeError
        For what isn't a layer.
    ValueError
        For names that give two parameters the same path.

    Examples
    --------
    >>> from cnnfast.layers import Flatten, Linear, ReLU
    >>> net = Sequential(Flatten(), Linear(9, 16), ReLU(), Linear(16, 2))
    >>> net(np.zeros((5, 1, 3, 3), np.float32)).shape
    (5, 2)
    >>> list(net.parameter_shapes())
    ['1.weight', '1.bias', '3.weight', '3.bias']
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            super().__init__(layers[0])
        else:
            super().__init__({str(i): layer for i, layer in enumerate(layers)})  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int | str) -> Layer:
        if isinstance(index, str):
            return self._layers[index]
        return list(self._layers.values())[index]


class Residual(Composite):
    """``activation(body(x) + shortcut(x))``, the shortcut being ``x`` itself if there is none.

    Parameters
    ----------
    body : Layer
    shortcut, activation : Layer, optional
    names : dict, optional
        Other names of the children than "body", "shortcut" and "activation". A child whose name is
        empty stands for its own children: their names follow the block's.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: He et al. 2016.

    Examples
    --------
    >>> from cnnfast.layers import Conv2d, ReLU
    >>> block = Residual(Conv2d(4, 4, 3, padding=1), activation=ReLU())
    >>> block(np.zeros((1, 4, 5, 5), np.float32)).shape
    (1, 4, 5, 5)
    >>> list(block.parameter_shapes())
    ['body.weight', 'body.bias']
    """

    def __init__(
        self,
        body: Layer,
        shortcut: Layer | None = None,
        activation: Layer | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        given = {"body": body, "shortcut": shortcut, "activation": activation}
        if body is None:
            raise TypeError("Residual: body must be a layer, got None")
        if unknown := set(names or {}) - set(given):
            raise ValueError(f"Residual: names are of {', '.join(given)}, got {sorted(unknown)}")
        self._names = {role: (names or {}).get(role, role) for role in given}
        super().__init__({role: layer for role, layer in given.items() if layer is not None})

    def children(self) -> dict[str, Layer]:
        """The layers by name."""
        return {self._names[role]: layer for role, layer in self._layers.items()}

    def steps(self) -> list[dict[str, Layer | None]]:
        """Body and shortcut side by side, then the activation."""
        names = dict(zip(self._layers, self.children(), strict=True))
        both = {names.get(role, role): self._layers.get(role) for role in ("body", "shortcut")}
        if "activation" not in names:
            return [both]
        return [both, {names["activation"]: self._layers["activation"]}]

    def _shape(self, input_shape: Shape) -> Shape:
        """The body's; ValueError if the shortcut's is another."""
        shape = self._layers["body"].output_shape(input_shape)
        shortcut = self._layers.get("shortcut")
        self._check_same(shape, shortcut.output_shape(input_shape) if shortcut else input_shape)
        return shape

    def flops(self, input_shape: Shape) -> int:
        """The sum of the body's and the shortcut's."""
        branches = [self._layers[name] for name in ("body", "shortcut") if name in self._layers]
        return sum(layer.flops(input_shape) for layer in branches)

    def _check_same(self, body: Shape, shortcut: Shape) -> None:
        if body != shortcut:
            raise ValueError(
                f"body and shortcut must give the same shape, got {body} and {shortcut}"
            )

    @property
    def fuses(self) -> bool:
        """No: the sum comes last."""
        return False

    def _forward(self, input: Array) -> Array:
        self._keep()
        result = self._layers["body"].forward(input)
        shortcut = self._layers.get("shortcut")
        around = shortcut.forward(input) if shortcut else input
        self._check_same(result.shape, around.shape)
        after = self._layers.get("activation")
        ours = result.dtype == around.dtype and not np.may_share_memory(result, input)
        if self.training or not ours:
            result = result + around
            return after.forward(result) if after else result
        # Nobody else has the body's result: the sum and the activation take its place.
        np.add(result, around, out=result)
        if isinstance(after, Activation):
            return after.forward_in_place(result)
        return after.forward(result) if after else result

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        self._check_once()
        after, shortcut = self._layers.get("activation"), self._layers.get("shortcut")
        grad = after.backward(grad_output) if after else grad_output
        back = self._layers["body"].backward(grad, to_input)
        around = shortcut.backward(grad, to_input) if shortcut else grad
        return None if back is None or around is None else back + around
