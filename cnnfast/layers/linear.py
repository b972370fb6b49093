"""Fully connected layers, also with neurons that share weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast import functional, grad
from cnnfast._core.arguments import flag, integer
from cnnfast._core.arrays import Array
from cnnfast._core.operand import Shape

from .parameters import Seed, uniform
from .reach import Reach, same
from .windowed import Fusing


class Linear(Fusing):
    """Every neuron reads everything: (..., in_features) to (..., out_features), as
    ``torch.nn.Linear``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with: uniform within ``1 / sqrt(in_features)``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> layer = Linear(9, 16, bias=False)
    >>> layer(np.zeros((2, 9), np.float32)).shape, layer.parameter_shapes()
    ((2, 16), {'weight': (16, 9)})
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
        rng: Seed = None,
    ) -> None:
        super().__init__(dtype, rng)
        name = type(self).__name__
        self.in_features = integer(f"{name}: in_features", in_features, 1)
        self.out_features = integer(f"{name}: out_features", out_features, 1)
        self._add_weights(self.out_features, bias)

    def _add_weights(self, neurons: int, bias: bool) -> None:
        flag(f"{type(self).__name__}: bias", bias)
        between = uniform(self.in_features)
        self._add("weight", (neurons, self.in_features), between)
        if bias:
            self._add("bias", (neurons,), between)

    def _shape(self, input_shape: Shape) -> Shape:
        """(..., out_features)."""
        self._check(input_shape)
        return (*input_shape[:-1], self.out_features)

    def reach(self, input_shape: Shape) -> tuple[Reach, ...]:
        """Everything; axes between the first and the last are places of their own."""
        return tuple(same(size) for size in input_shape[1:-1])

    def flops(self, input_shape: Shape) -> int:
        """A multiplication and an addition per weight of each neuron."""
        rows = int(np.prod(input_shape[:-1], dtype=object))
        return 2 * rows * self.in_features * self.out_features

    def _check(self, shape: Shape) -> None:
        if not shape or shape[-1] != self.in_features:
            raise ValueError(
                f"the input must have {self.in_features} features as its last axis, got shape "
                f"{tuple(shape)}"
            )

    def _fused(self, input: Array, activation: str | None) -> Array:
        self._check(input.shape)
        self._keep(input)
        weight = self._weight(input_shape=input.shape)
        return functional.linear(input, weight, self._bias(), activation=activation)

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (input,) = self._saved
        weight = self._array("weight")
        self._grads["weight"] = grad.linear_weight(input, weight.shape, grad_output)
        if "bias" in self._parameters:
            self._grads["bias"] = grad.linear_bias(grad_output)
        return grad.linear_input(input.shape, weight, grad_output) if to_input else None

    def _described(self) -> str:
        bias = "" if "bias" in self._parameters else ", bias=False"
        return f"{self.in_features}, {self.out_features}{bias}"


class GroupedLinear(Linear):
    """A dense layer whose neurons share weights in groups: neurons ``[i * n, (i + 1) * n)`` of n to
    a group have the weights and the bias of group i.

    Parameters
    ----------
    in_features, out_features : int
    groups : int
        Divides ``out_features``.
    bias, dtype, rng
        As for ``Linear``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> layer = GroupedLinear(9, 16, 4, bias=False)
    >>> layer(np.zeros((2, 9), np.float32)).shape, layer.parameter_shapes()
    ((2, 16), {'weight': (4, 9)})
    """

    @property
    def fuses(self) -> bool:
        """No: results are repeated."""
        return False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        groups: int,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
        rng: Seed = None,
    ) -> None:
        self.groups = integer("GroupedLinear: groups", groups, 1)
        if integer("GroupedLinear: out_features", out_features, 1) % self.groups:
            raise ValueError(
                f"GroupedLinear: groups must divide out_features, got {groups} and {out_features}"
            )
        super().__init__(in_features, out_features, bias, dtype=dtype, rng=rng)

    def _add_weights(self, neurons: int, bias: bool) -> None:
        super()._add_weights(self.groups, bias)

    def flops(self, input_shape: Shape) -> int:
        """A multiplication and an addition per weight of each group: its neurons agree."""
        return super().flops(input_shape) * self.groups // self.out_features

    def _forward(self, input: Array) -> Array:
        return np.repeat(super()._forward(input), self.out_features // self.groups, axis=-1)

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        shape = (*grad_output.shape[:-1], self.groups, self.out_features // self.groups)
        return super()._backward(grad_output.reshape(shape).sum(-1), to_input)

    def _described(self) -> str:
        return f"{super()._described()}, groups={self.groups}"
