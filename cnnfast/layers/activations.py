"""Activations as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.dtypes import kind_of
from cnnfast._core.normal import normal_cdf
from cnnfast._core.reals import finite

from .layer import Layer


class Activation(Layer):
    """A function of each element. Takes any float dtype."""

    #: Its name in ``cnnfast.functional``.
    function: str
    #: Whether the slope follows from the result, so that the input needn't be kept.
    slope_from_result = True

    def __init__(self) -> None:
        super().__init__(np.float32, 0)

    def _slope(self, x: Array) -> Array:
        """The derivative, from the result or (``slope_from_result`` false) the input."""
        raise NotImplementedError

    def fused_name(self) -> str | None:
        """The name that kernels know it by; None where they can't apply it now."""
        return self.function if self.slope_from_result or not self.training else None

    def follow(self, result: Array) -> None:
        """Take note of a result that the kernel before this layer made."""
        self._keep(result)
        self._result(result)

    def forward_in_place(self, x: Array) -> Array:
        """The result in the memory of ``x``; in evaluation."""
        x[...] = self.forward(x)
        return x

    def _checked(self, input: Any) -> Array:
        return as_array("input", input)

    def _forward(self, input: Array) -> Array:
        function: Callable[[Array], Array] = getattr(functional, self.function)
        result = function(input)
        self._keep(result if self.slope_from_result else input)
        return result

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (x,) = self._saved
        back: Array = grad_output * self._slope(x)
        return back


class ReLU(Activation):
    """``max(x, 0)``.

    Examples
    --------
    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    function = "relu"

    def _forward(self, input: Array) -> Array:
        result: Array
        if kind_of(input.dtype) == "float":
            # functional.relu, which keeps the sign of a zero, takes eight times as long.
            result = np.maximum(input, input.dtype.type(0), order="C")
        else:
            result = functional.relu(input)
        self._keep(result)
        return result

    def forward_in_place(self, x: Array) -> Array:
        """The result in the memory of ``x``; in evaluation."""
        return np.maximum(x, 0, out=x)

    def _slope(self, x: Array) -> Array:
        slope: Array = x > 0
        return slope


class ReLU6(Activation):
    """``min(max(x, 0), 6)``.

    Examples
    --------
    >>> ReLU6()(np.array([-1.0, 2.0, 8.0]))
    array([0., 2., 6.])
    """

    function = "relu6"

    def _slope(self, x: Array) -> Array:
        slope: Array = (x > 0) & (x < 6)
        return slope


class LeakyReLU(Activation):
    """``x`` where that is positive, ``negative_slope * x`` elsewhere.

    Examples
    --------
    >>> LeakyReLU()(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """

    function = "leaky_relu"
    slope_from_result = False

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = float(negative_slope)

    def fused_name(self) -> str | None:
        """Kernels know the default slope alone."""
        return super().fused_name() if self.negative_slope == 0.01 else None

    def _forward(self, input: Array) -> Array:
        self._keep(input)
        return functional.leaky_relu(input, self.negative_slope)

    def _slope(self, x: Array) -> Array:
        slope: Array = np.where(x > 0, x.dtype.type(1), x.dtype.type(self.negative_slope))
        return slope


class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> Sigmoid()(np.array([0.0]))
    array([0.5])
    """

    function = "sigmoid"

    def _slope(self, x: Array) -> Array:
        slope: Array = x * (1 - x)
        return slope


class Tanh(Activation):
    """The hyperbolic tangent.

    Examples
    --------
    >>> Tanh()(np.array([0.0]))
    array([0.])
    """

    function = "tanh"

    def _slope(self, x: Array) -> Array:
        slope: Array = 1 - x * x
        return slope


class ScaledTanh(Activation):
    """``amplitude * tanh(slope * x)``; by default 1 at 1 and -1 at -1, far from where it is flat.

    Source: LeCun et al. 1998.

    Examples
    --------
    >>> ScaledTanh()(np.array([-1.0, 1.0])).round(4)
    array([-1.,  1.])
    """

    def __init__(self, amplitude: float = 1.7159, slope: float = 2 / 3) -> None:
        super().__init__()
        self.amplitude = finite("ScaledTanh: amplitude", amplitude)
        self.slope = finite("ScaledTanh: slope", slope)
        if not self.amplitude:
            raise ValueError(f"ScaledTanh: amplitude must not be 0, got {amplitude}")

    def fused_name(self) -> str | None:
        """Kernels don't know it."""
        return None

    def _forward(self, input: Array) -> Array:
        result: Array = functional.tanh(input * input.dtype.type(self.slope))
        result *= self.amplitude
        self._keep(result)
        return result

    def _slope(self, x: Array) -> Array:
        part = x / x.dtype.type(self.amplitude)
        slope: Array = (1 - part * part) * x.dtype.type(self.amplitude * self.slope)
        return slope

    def _described(self) -> str:
        return f"{self.amplitude}, {self.slope:.4g}"


class SiLU(Activation):
    """``x * sigmoid(x)``.

    Examples
    --------
    >>> SiLU()(np.array([0.0]))
    array([0.])
    """

    function = "silu"
    slope_from_result = False

    def _slope(self, x: Array) -> Array:
        gate = functional.sigmoid(x)
        slope: Array = gate * (1 + x * (1 - gate))
        return slope


class GELU(Activation):
    """``x`` times the normal distribution function of ``x``.

    Examples
    --------
    >>> GELU()(np.array([0.0]))
    array([0.])
    """

    function = "gelu"
    slope_from_result = False

    def _slope(self, x: Array) -> Array:
        wide = x.astype(np.float64)
        density = np.exp(-wide * wide / 2) / np.sqrt(2 * np.pi)
        slope: Array = normal_cdf(wide) + wide * density
        return slope.astype(x.dtype)
