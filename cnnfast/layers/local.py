"""Locally connected layers: windows as a convolution's, weights of its own at each position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast import grad
from cnnfast._core.arguments import flag, integer, per_axis
from cnnfast._core.arrays import Array
from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.operand import Shape

from .conv import Conv1d, Conv2d
from .parameters import Seed, uniform
from .reach import Reach, windows
from .windowed import Windowed


class _LocallyConnected(Windowed):
    """``rank`` spatial axes; ``LocallyConnected2d`` says the rest."""

    function = "locally_connected"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        input_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
        rng: Seed = None,
    ) -> None:
        super().__init__(dtype, rng)
        name = type(self).__name__
        channels = integer(f"{name}: in_channels", in_channels, 1)
        size = per_axis(f"{name}: input_size", input_size, self.rank, 1)
        alike = (Conv1d, Conv2d)[self.rank - 1](
            channels, out_channels, kernel_size, stride, padding, dilation, groups, rng=0
        )
        self.windows: ConvGeometry = alike.geometry((1, channels, *size))
        self.arguments = {
            "stride": stride,
            "padding": self.windows.padding[-self.rank :],
            "dilation": dilation,
            "groups": groups,
        }
        positions = math.prod(self.windows.output)
        between = uniform(math.prod(self.windows.weight.shape[1:]))
        self._add("weight", (positions, *self.windows.weight.shape), between)
        if flag(f"{name}: bias", bias):
            # A neuron has a bias of its own, as it has weights of its own.
            self._add("bias", self.windows.out_shape[1:], between)

    def _shape(self, input_shape: Shape) -> Shape:
        """(N, K, P, Q); ValueError for an input of other extents than the layer's."""
        if tuple(input_shape[1:]) != self.windows.input.shape[1:]:
            raise ValueError(
                f"the input must have shape (N, {str(self.windows.input.shape[1:])[1:]}, "
                f"got {tuple(input_shape)}"
            )
        return (input_shape[0], *self.windows.out_shape[1:])

    def reach(self, input_shape: Shape) -> tuple[Reach, ...]:
        """A convolution's."""
        return windows(self.windows)

    def flops(self, input_shape: Shape) -> int:
        """Those of the convolution with the same windows."""
        return self.windows.flops * self.output_shape(input_shape)[0]

    def _fused(self, input: Array, activation: str | None) -> Array:
        self.output_shape(input.shape)
        return super()._fused(input, activation)

    def _bias_grad(self, grad_output: Array) -> Array:
        return grad.locally_connected_bias(grad_output, True)

    def _described(self) -> str:
        channels, *size = self.windows.input.shape[1:]
        kernels, _, *taps = self.windows.weight.shape
        return f"{channels}, {kernels}, kernel_size={tuple(taps)}, input_size={tuple(size)}"


class LocallyConnected1d(_LocallyConnected):
    """Over one axis; as ``LocallyConnected2d``.

    Examples
    --------
    >>> LocallyConnected1d(1, 2, 3, input_size=9).parameter_shapes()
    {'weight': (7, 2, 1, 3), 'bias': (2, 7)}
    """

    rank = 1


class LocallyConnected2d(_LocallyConnected):
    """Neurons that see a window each and share nothing: (N, C, H, W) to (N, K, P, Q).

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        As for ``Conv2d``.
    input_size : int or (H, W)
        There are weights for each output position, so the input's extents are the layer's.
    bias : bool
        One per neuron.
    dtype, rng
        As for ``Conv2d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: LeCun 1989.

    Examples
    --------
    >>> LocallyConnected2d(1, 4, 2, input_size=3, bias=False).parameter_shapes()
    {'weight': (4, 4, 1, 2, 2)}
    """

    rank = 2
