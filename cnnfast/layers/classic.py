"""What LeNet-5 of 1998 has that networks of today don't: trainable subsampling, convolution by a
table of connections, and radial basis functions with fixed centres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cnnfast import functional, grad
from cnnfast._core.arguments import integer, per_axis
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.operand import Shape

from .conv import Conv2d
from .layer import Layer
from .parameters import Parameter, Seed, constant, uniform
from .reach import Reach


class Subsampling2d(Layer):
    """The sum of each window times a coefficient plus a bias, one of each per channel: (N, C, H, W)
    to (N, C, H // size, W // size).

    Parameters
    ----------
    channels : int
    kernel_size : int or (int, int)
        Also the stride.
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with: uniform within 1 / sqrt(elements of a window).

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: LeCun et al. 1998.

    Examples
    --------
    >>> layer = Subsampling2d(6)
    >>> layer.output_shape((1, 6, 28, 28)), layer.parameter_shapes()
    ((1, 6, 14, 14), {'weight': (6,), 'bias': (6,)})
    """

    def __init__(
        self, channels: int, kernel_size: Any = 2, *, dtype: Any = np.float32, rng: Seed = None
    ) -> None:
        super().__init__(dtype, rng)
        self.channels = integer("Subsampling2d: channels", channels, 1)
        self.kernel_size = per_axis("Subsampling2d: kernel_size", kernel_size, 2, 1)
        #: It is a convolution of each channel with a kernel whose elements are all the same.
        self._alike = Conv2d(
            self.channels, self.channels, self.kernel_size, self.kernel_size,
            groups=self.channels, dtype=dtype, rng=0,
        )  # fmt: skip
        between = uniform(self.kernel_size[0] * self.kernel_size[1])
        self._add("weight", (self.channels,), between)
        self._add("bias", (self.channels,), between)

    def geometry(self, input_shape: Shape) -> ConvGeometry:
        """The convolution that it is."""
        return self._alike.geometry(input_shape)

    def _shape(self, input_shape: Shape) -> Shape:
        """(N, C, H // size, W // size)."""
        return self.geometry(input_shape).out_shape

    def flops(self, input_shape: Shape) -> int:
        """An addition per element of a window, a multiplication per result."""
        taps = self.kernel_size[0] * self.kernel_size[1]
        return self.geometry(input_shape).flops // (2 * taps) * (taps + 1)

    @property
    def fuses(self) -> bool:
        """Yes."""
        return True

    def _kernel(self) -> Array:
        coefficients = self._array("weight")[:, None, None, None]
        return np.broadcast_to(coefficients, (self.channels, 1, *self.kernel_size))

    def _forward(self, input: Array) -> Array:
        return self._fused(input, None)

    def _fused(self, input: Array, activation: str | None) -> Array:
        self._keep(input)
        arguments: dict[str, Any] = {"stride": self.kernel_size, "groups": self.channels}
        weight = self._weight(input_shape=input.shape, **arguments)
        return functional.conv2d(input, weight, self._bias(), activation=activation, **arguments)

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (input,) = self._saved
        size = self.kernel_size
        sums = functional.avg_pool2d(input, size, divisor_override=1)
        self._grads["weight"] = np.einsum("nchw,nchw->c", sums, grad_output)
        self._grads["bias"] = grad.conv_bias(grad_output)
        if not to_input:
            return None
        scaled = grad_output * self._array("weight")[:, None, None]
        return grad.avg_pool2d_backward(scaled, input, size, divisor_override=1)

    def _described(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"


class TableConv2d(Conv2d):
    """A convolution in which each out-channel reads the in-channels that a table names.

    The weight holds a kernel per connection, (connections, R, S), in the order of the table.

    Parameters
    ----------
    in_channels : int
    table : sequence of sequences of int
        For each out-channel, the in-channels that it reads.
    kernel_size
    arguments
        Stride, padding, bias, dtype, rng and the rest, as for ``Conv2d`` without groups.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: LeCun et al. 1998.

    Examples
    --------
    >>> TableConv2d(3, [[0, 1], [1, 2], [0, 1, 2]], 5).parameter_shapes()
    {'weight': (7, 5, 5), 'bias': (3,)}
    """

    def __init__(
        self, in_channels: int, table: Sequence[Iterable[int]], kernel_size: Any, **arguments: Any
    ) -> None:
        for name in ("groups", "layout", "weight_layout"):
            if name in arguments:
                raise TypeError(f"TableConv2d: {name} isn't an argument")
        super().__init__(in_channels, max(len(table), 1), kernel_size, **arguments)
        name = "TableConv2d: an in-channel of table"
        self.table = tuple(tuple(integer(name, c, 0) for c in row) for row in table)
        if not table or any(
            not row or len(set(row)) < len(row) or max(row) >= self.in_channels
            for row in self.table
        ):
            raise ValueError(
                f"TableConv2d: table must name for each out-channel different in-channels below "
                f"{self.in_channels}, got {self.table}"
            )
        pairs = [(k, c) for k, row in enumerate(self.table) for c in row]
        self._places = tuple(np.array(pairs, np.intp).T)
        taps = self.kernel_size[0] * self.kernel_size[1]
        between = uniform(max(map(len, self.table)) * taps)
        for name, parameter in self._parameters.items():
            self._parameters[name] = parameter._replace(between=between)
        self._parameters["weight"] = Parameter((len(pairs), *self.kernel_size), between, self.dtype)

    def flops(self, input_shape: Shape) -> int:
        """A multiplication and an addition per tap, connection and position."""
        pairs = self.in_channels * self.out_channels
        return super().flops(input_shape) // pairs * len(self._places[0])

    def _kernel(self) -> Array:
        kernel = np.zeros(self._kernel_shape, self.dtype)
        kernel[self._places] = self._array("weight")
        return kernel

    def _kernel_grad(self, grad: Array) -> Array:
        found: Array = grad[self._places]
        return found


class RadialBasis(Layer):
    """Squared distances from fixed centres: (N, features) to (N, centres). No parameters; the
    nearest centre is the class.

    Parameters
    ----------
    centres : (centres, features) array
    dtype : float dtype

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: LeCun et al. 1998.

    Examples
    --------
    >>> layer = RadialBasis([[1, 1], [-1, 1]])
    >>> layer(np.array([[1, 0]], np.float32))
    array([[1., 5.]], dtype=float32)
    """

    def __init__(self, centres: Any, *, dtype: Any = np.float32) -> None:
        super().__init__(dtype, 0)
        values = as_array("RadialBasis: centres", centres)
        if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "iuf":
            raise ValueError(
                f"RadialBasis: centres must be real numbers of shape (centres, features), got "
                f"{values.dtype} of shape {values.shape}"
            )
        self._buffers["centres"] = Parameter(values.shape, constant(0), self.dtype)
        self._arrays["centres"] = values.astype(self.dtype)

    def _shape(self, input_shape: Shape) -> Shape:
        """(N, centres)."""
        centres, features = self._buffers["centres"].shape
        if len(input_shape) != 2 or input_shape[1] != features:
            raise ValueError(
                f"the input must have shape (N, {features}), got shape {tuple(input_shape)}"
            )
        return (input_shape[0], centres)

    def reach(self, input_shape: Shape) -> tuple[Reach, ...]:
        """Everything."""
        return ()

    def flops(self, input_shape: Shape) -> int:
        """A difference, a square and an addition per feature and centre."""
        rows, centres = self.output_shape(input_shape)
        return 3 * rows * centres * int(input_shape[1])

    def _forward(self, input: Array) -> Array:
        self.output_shape(input.shape)
        self._keep(input)
        distances: Array = np.square(input[:, None] - self._array("centres")).sum(-1)
        return distances

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (input,) = self._saved
        if not to_input:
            return None
        away = input[:, None] - self._array("centres")
        back: Array = (2 * grad_output[:, :, None] * away).sum(1)
        return back

    def _described(self) -> str:
        return "{}, {}".format(*self._buffers["centres"].shape)
