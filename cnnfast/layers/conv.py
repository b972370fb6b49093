"""Convolutional layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast import functional, grad
from cnnfast._core.arguments import axis_letters, flag, integer, padding_pairs, per_axis
from cnnfast._core.arrays import Array
from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.operand import CANONICAL_DATA, Shape
from cnnfast._core.packed import PackedWeight, pack_weight
from cnnfast._core.padding import MODES, pad_input, padding_widths
from cnnfast.kernels.shapes import effective_kernel

from .composite import Composite
from .layer import Layer
from .norm import _BatchNorm
from .padded import unpad
from .parameters import Seed, uniform
from .windowed import Fusing


class _Conv(Fusing):
    """A convolution of ``rank`` spatial axes; ``Conv2d`` says the rest."""

    rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "constant",
        padding_value: float = 0,
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
        self.kernel_size = per_axis(f"{name}: kernel_size", kernel_size, rank, 1)
        self.stride = per_axis(f"{name}: stride", stride, rank, 1)
        self.dilation = per_axis(f"{name}: dilation", dilation, rank, 1)
        spans = tuple(map(effective_kernel, self.kernel_size, self.dilation))
        padding_pairs(name, padding, spans, self.kernel_size, self.stride, self.dilation)
        self.padding, self.padding_value = padding, padding_value
        # torch.nn's own name for its default.
        self.padding_mode = "constant" if padding_mode == "zeros" else padding_mode
        if self.padding_mode not in ("constant", *MODES):
            raise ValueError(
                f"{name}: padding_mode must be 'constant' (or 'zeros'), "
                f"{', '.join(map(repr, MODES))}, got {padding_mode!r}"
            )
        self.layout, self.weight_layout = layout, weight_layout
        self._channel_axis = axis_letters(name, layout, rank, "NC").index("C")
        letters = axis_letters(name, weight_layout, rank, "OI", self._channel_axis == 1)
        self._kernel_axis = letters.index("O")
        extents = dict(zip(CANONICAL_DATA[-rank:], self.kernel_size, strict=True))
        extents |= {"O": self.out_channels, "I": self.in_channels // self.groups}
        fan_in = extents["I"] * math.prod(self.kernel_size)
        self._kernel_shape = tuple(extents[letter] for letter in letters)
        self._add("weight", self._kernel_shape, uniform(fan_in))
        if flag(f"{name}: bias", bias):
            self._add("bias", (self.out_channels,), uniform(fan_in))

    @property
    def _pads(self) -> bool:
        """Whether padding is other than the kernels' zeros."""
        return bool(self.padding_mode != "constant" or self.padding_value != 0)

    def geometry(self, input_shape: Shape) -> ConvGeometry:
        """The convolution of an input of this shape."""
        return ConvGeometry.of(
            tuple(input_shape), self._kernel_shape, self.stride, self.padding,
            self.dilation, self.groups, layout=self.layout, weight_layout=self.weight_layout,
            rank=self.rank, dtype=self.dtype, name=f"conv{self.rank}d",
        )  # fmt: skip

    def _shape(self, input_shape: Shape) -> Shape:
        """(N, K, P, Q) in the layer's layout."""
        return self.geometry(input_shape).out_shape

    def flops(self, input_shape: Shape) -> int:
        """A multiplication and an addition per tap, channel and output."""
        return self.geometry(input_shape).flops

    def _arguments(self, padding: Any) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "layout": self.layout,
            "weight_layout": self.weight_layout,
        }

    def folds(self, norm: Layer, axes: int) -> bool:
        """Yes, a norm of its channels, in float32 and float64."""
        return (
            isinstance(norm, _BatchNorm)
            and not (self.training or norm.training)
            and axes == self.rank + 2 == norm.axes[-1]
            and (norm.num_features, norm.channel_axis) == (self.out_channels, self._channel_axis)
            and norm.dtype == self.dtype
            and self.dtype.itemsize >= 4
        )

    def _fused(self, input: Array, activation: str | None) -> Array:
        return self._convolved(input, activation, None)

    def _folding(self, input: Array, activation: str | None, norm: Layer) -> Array:
        return self._convolved(input, activation, norm)

    def _convolved(self, input: Array, activation: str | None, norm: Layer | None) -> Array:
        padding, widths = self.padding, None
        if self._pads or (self.training and isinstance(padding, str)):
            geometry = self.geometry(input.shape)
            padding = geometry.padding[-self.rank :]
            if self._pads:
                widths, padding = padding_widths(geometry, self.padding_mode), 0
                input = pad_input(input, geometry, self.padding_mode, self.padding_value)
        self._keep(input, padding, widths)
        arguments = self._arguments(padding)
        weight: Array | PackedWeight
        bias: Array | None
        if isinstance(norm, _BatchNorm):
            weight, bias = self._folded(norm, input_shape=input.shape, **arguments)
        else:
            weight, bias = self._weight(input_shape=input.shape, **arguments), self._bias()
        return self._function(functional)(input, weight, bias, activation=activation, **arguments)

    def _folded(self, norm: _BatchNorm, **arguments: Any) -> tuple[PackedWeight, Array]:
        """Prepared weight and bias of the convolution and the norm behind it."""
        line = norm.line()
        prepared: tuple[Any, PackedWeight, Array] | None = self._prepared
        # The line is the norm's until its parameters change.
        if prepared is None or prepared[0] is not line:
            self._freeze(*self._parameters)
            scale, shift = line
            across = [1] * (self.rank + 2)
            across[self._kernel_axis] = -1
            bias = self._bias()
            with np.errstate(all="ignore"):
                kernel = (self._kernel() * scale.reshape(across)).astype(self.dtype)
                moved = (shift if bias is None else shift + scale * bias).astype(self.dtype)
            prepared = self._prepared = line, pack_weight(kernel, **arguments), moved
        return prepared[1:]

    def _function(self, module: Any, suffix: str = "") -> Callable[..., Array]:
        found: Callable[..., Array] = getattr(module, f"conv{self.rank}d{suffix}")
        return found

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        input, padding, widths = self._saved
        arguments = self._arguments(padding)
        weight = self._kernel()
        self._grads["weight"] = self._kernel_grad(
            self._function(grad, "_weight")(input, weight.shape, grad_output, **arguments)
        )
        if "bias" in self._parameters:
            self._grads["bias"] = grad.conv_bias(grad_output, layout=self.layout)
        if not to_input:
            return None
        back = self._function(grad, "_input")(input.shape, weight, grad_output, **arguments)
        return back if widths is None else unpad(back, widths, self.padding_mode)

    def _kernel_grad(self, grad: Array) -> Array:
        """The gradient in the weight, from that in ``_kernel()``."""
        return grad

    def _described(self) -> str:
        words = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        ones = (1,) * self.rank
        defaults = {
            "stride": ones, "padding": 0, "dilation": ones, "groups": 1, "padding_mode": "constant",
            "padding_value": 0, "weight_layout": None,
        }  # fmt: skip
        for name, default in defaults.items():
            value = getattr(self, name)
            words += [f"{name}={value!r}"] if value != default else []
        words += [f"layout={self.layout!r}"] if self._channel_axis > 1 else []
        words += [] if "bias" in self._parameters else ["bias=False"]
        return ", ".join(words)


class Conv1d(_Conv):
    """Convolution over one axis, (N, C, W) to (N, K, Q); parameters as those of ``Conv2d``.

    Examples
    --------
    >>> Conv1d(2, 4, 3, padding=1).output_shape((1, 2, 9))
    (1, 4, 9)
    """

    rank = 1


class Conv2d(_Conv):
    """Convolution over two axes, (N, C, H, W) to (N, K, P, Q), as ``torch.nn.Conv2d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation, groups, padding_mode, padding_value
        As for ``cnnfast.conv2d``.
    bias : bool
    layout, weight_layout : str, optional
        "NHWC" for channels last, and the order of the weight's axes: "OIHW" beside NCHW and
        "HWIO" beside NHWC by default, any permutation of these letters otherwise.
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with: uniform within ``1 / sqrt(C / groups * R * S)``, as
        torch draws them.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: LeCun et al. 1998.

    Examples
    --------
    >>> layer = Conv2d(3, 8, 3, padding=1, rng=0)
    >>> layer(np.ones((1, 3, 5, 5), np.float32)).shape
    (1, 8, 5, 5)
    >>> layer.parameter_shapes()
    {'weight': (8, 3, 3, 3), 'bias': (8,)}
    """

    rank = 2


class Conv3d(_Conv):
    """Convolution over volumes, (N, C, D, H, W) to (N, K, O, P, Q); as ``Conv2d``.

    Examples
    --------
    >>> Conv3d(1, 4, 3).output_shape((1, 1, 9, 9, 9))
    (1, 4, 7, 7, 7)
    """

    rank = 3


class DepthwiseConv2d(Conv2d):
    """Each channel convolved alone, with ``multiplier`` kernels of its own.

    ``kernel_size`` and the rest as for ``Conv2d``.

    Examples
    --------
    >>> DepthwiseConv2d(3, 3, bias=False).parameter_shapes()
    {'weight': (3, 1, 3, 3)}
    """

    def __init__(
        self, in_channels: int, kernel_size: Any, multiplier: int = 1, **arguments: Any
    ) -> None:
        channels = integer(f"{type(self).__name__}: in_channels", in_channels, 1)
        kernels = channels * integer(f"{type(self).__name__}: multiplier", multiplier, 1)
        super().__init__(channels, kernels, kernel_size, groups=channels, **arguments)


class PointwiseConv2d(Conv2d):
    """1x1 convolution: a dense layer at every pixel; arguments as ``Conv2d``'s.

    Examples
    --------
    >>> PointwiseConv2d(3, 4, bias=False).parameter_shapes()
    {'weight': (4, 3, 1, 1)}
    """

    def __init__(self, in_channels: int, out_channels: int, **arguments: Any) -> None:
        super().__init__(in_channels, out_channels, 1, **arguments)


class SeparableConv2d(Composite):
    """A depthwise convolution, then a pointwise one, which has the bias.

    Parameters
    ----------
    in_channels, out_channels, kernel_size
    multiplier : int
        Depthwise kernels per channel.
    bias : bool
    layout, dtype, rng
        Of both.
    arguments
        Stride, padding and the rest, of the depthwise one.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: Chollet 2017.

    Examples
    --------
    >>> SeparableConv2d(3, 4, 3, bias=False).parameter_shapes()
    {'depthwise.weight': (3, 1, 3, 3), 'pointwise.weight': (4, 3, 1, 1)}
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        multiplier: int = 1,
        bias: bool = True,
        *,
        layout: str | None = None,
        dtype: Any = np.float32,
        rng: Seed = None,
        **arguments: Any,
    ) -> None:
        shared: dict[str, Any] = {"layout": layout, "dtype": dtype}
        generator = np.random.default_rng(rng)
        depthwise = DepthwiseConv2d(
            in_channels, kernel_size, multiplier, bias=False, rng=generator, **shared, **arguments
        )
        pointwise = PointwiseConv2d(
            depthwise.out_channels, out_channels, bias=bias, rng=generator, **shared
        )
        super().__init__({"depthwise": depthwise, "pointwise": pointwise})

    def folds(self, norm: Layer, axes: int) -> bool:
        """As the pointwise one does."""
        return self._layers["pointwise"].folds(norm, axes)
