"""Layers that hand an input, a weight and a bias to a function of their own name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnfast import functional, grad
from cnnfast._core.arrays import Array

from .layer import Layer


class Fusing(Layer):
    """A layer whose kernel can apply an activation: it defines ``_fused``."""

    @property
    def fuses(self) -> bool:
        """Yes."""
        return True

    def _forward(self, input: Array) -> Array:
        return self._fused(input, None)


class Windowed(Fusing):
    """Windows over ``rank`` spatial axes, by a function of this name and rank in
    ``cnnfast.functional`` and its adjoints in ``cnnfast.grad``, with ``arguments``."""

    rank: int
    function: str
    arguments: dict[str, Any]

    def _call(self, module: Any, suffix: str = "") -> Callable[..., Array]:
        found: Callable[..., Array] = getattr(module, f"{self.function}{self.rank}d{suffix}")
        return found

    def _bias_grad(self, grad_output: Array) -> Array:
        raise NotImplementedError

    def _fused(self, input: Array, activation: str | None) -> Array:
        self._keep(input)
        weight, bias = self._array("weight"), self._bias()
        return self._call(functional)(input, weight, bias, activation=activation, **self.arguments)

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (input,) = self._saved
        weight = self._array("weight")
        self._grads["weight"] = self._call(grad, "_weight")(
            input, weight.shape, grad_output, **self.arguments
        )
        if "bias" in self._parameters:
            self._grads["bias"] = self._bias_grad(grad_output)
        if not to_input:
            return None
        return self._call(grad, "_input")(input.shape, weight, grad_output, **self.arguments)
