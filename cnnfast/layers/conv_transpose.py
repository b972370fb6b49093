"""Transposed convolutions as layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast import grad
from cnnfast._core.arguments import axis_letters, flag, integer, per_axis
from cnnfast._core.arrays import Array
from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.operand import CANONICAL_DATA, Shape

from .parameters import Seed, uniform
from .reach import Reach, transposed
from .windowed import Windowed


class _ConvTranspose(Windowed):
    """A transposed convolution of ``rank`` spatial axes; ``ConvTranspose2d`` says the rest."""

    function = "conv_transpose"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        layout: str | None = None,
        weight_layout: str | None = None,
        dtype: Any = np.float32,
        rng: Seed = None,
    ) -> None:
        super().__init__(dtype, rng)
        name, rank = type(self).__name__, self.rank
        self.in_channels = integer(f"{name}: in_channels", in_channels, 1)
        self.out_channels = integer(f"{name}: out_channels", out_channels, 1)
        self.groups = integer(f"{name}: groups", groups, 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{name}: groups must divide the channels, got groups {groups}, "
                f"{in_channels} in-channels and {out_channels} out-channels"
            )
        if isinstance(padding, str):
            raise ValueError(f"{name}: padding must be numbers, got {padding!r}")
        self.kernel_size = per_axis(f"{name}: kernel_size", kernel_size, rank, 1)
        self.arguments = {
            "stride": per_axis(f"{name}: stride", stride, rank, 1),
            "padding": padding,
            "output_padding": output_padding,
            "groups": self.groups,
            "dilation": per_axis(f"{name}: dilation", dilation, rank, 1),
            "layout": layout,
            "weight_layout": weight_layout,
        }
        channels_first = axis_letters(name, layout, rank, "NC")[1] == "C"
        # The letters of the convolution that this is adjoint to, unless the caller names its own.
        letters = axis_letters(name, weight_layout, rank, "OI", channels_first)
        per_group = self.out_channels // self.groups
        outer, inner = "IO" if weight_layout is not None else "OI"
        extents = dict(zip(CANONICAL_DATA[-rank:], self.kernel_size, strict=True))
        extents |= {outer: self.in_channels, inner: per_group}
        fan_in = per_group * math.prod(self.kernel_size)
        self._add("weight", tuple(extents[letter] for letter in letters), uniform(fan_in))
        if flag(f"{name}: bias", bias):
            self._add("bias", (self.out_channels,), uniform(fan_in))

    def geometry(self, input_shape: Shape) -> ConvGeometry:
        """The convolution that this is adjoint to: its output is this layer's input."""
        return ConvGeometry.of_transpose(
            tuple(input_shape), self._parameters["weight"].shape, rank=self.rank, dtype=self.dtype,
            **self.arguments,
        )  # fmt: skip

    def reach(self, input_shape: Shape) -> tuple[Reach, ...]:
        """The inputs that are spread over an output."""
        return transposed(self.geometry(input_shape))

    def _shape(self, input_shape: Shape) -> Shape:
        """(N, K, P, Q) in the layer's layout."""
        return self.geometry(input_shape).input.shape

    def flops(self, input_shape: Shape) -> int:
        """A multiplication and an addition per tap, channel and input."""
        return self.geometry(input_shape).flops

    def _bias_grad(self, grad_output: Array) -> Array:
        return grad.conv_transpose_bias(grad_output, layout=self.arguments["layout"])

    def _described(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over one axis; as ``ConvTranspose2d``.

    Examples
    --------
    >>> ConvTranspose1d(2, 4, 2, stride=2).output_shape((1, 2, 9))
    (1, 4, 18)
    """

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution over two axes, as ``torch.nn.ConvTranspose2d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, output_padding, groups, dilation, layout, weight_layout
        As for ``cnnfast.conv_transpose2d``; padding in numbers. The weight is
        (C, K / groups, R, S) beside NCHW.
    bias : bool
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with, uniform as torch draws them.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> ConvTranspose2d(8, 4, 2, stride=2).output_shape((1, 8, 7, 7))
    (1, 4, 14, 14)
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution over volumes; as ``ConvTranspose2d``.

    Examples
    --------
    >>> ConvTranspose3d(2, 1, 2, stride=2).output_shape((1, 2, 3, 3, 3))
    (1, 1, 6, 6, 6)
    """

    rank = 3
