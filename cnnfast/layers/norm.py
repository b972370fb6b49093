"""Batch normalisation and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arguments import axis_letters, integer
from cnnfast._core.arrays import Array
from cnnfast._core.operand import Shape
from cnnfast._core.reals import finite

from .layer import Layer
from .parameters import Seed, constant, drawn_seed


class _BatchNorm(Layer):
    """For inputs of some numbers of axes; ``BatchNorm2d`` says the rest."""

    #: Numbers of axes that an input may have.
    axes: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        layout: str | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(dtype, 0)
        name = type(self).__name__
        self.num_features = integer(f"{name}: num_features", num_features, 1)
        self.eps, self.momentum = finite(f"{name}: eps", eps), finite(f"{name}: momentum", momentum)
        self.layout = layout
        rank = self.axes[-1] - 2
        self.channel_axis = axis_letters(name, layout, rank, "NC").index("C")
        if affine:
            self._add("weight", (self.num_features,), constant(1))
            self._add("bias", (self.num_features,), constant(0))
        self._add_buffer("running_mean", (self.num_features,), 0)
        self._add_buffer("running_var", (self.num_features,), 1)
        self._add_buffer("num_batches_tracked", (), 0, np.int64)

    def _shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        if len(input_shape) not in self.axes or self._channels(input_shape) != self.num_features:
            counts = " or ".join(map(str, self.axes))
            raise ValueError(
                f"the input must have {counts} axes and {self.num_features} channels, "
                f"got shape {tuple(input_shape)}"
            )
        return tuple(input_shape)

    def _channels(self, shape: Shape) -> int:
        return shape[self.channel_axis if len(shape) == self.axes[-1] else 1]

    def _affine(self) -> tuple[Array | None, Array | None]:
        if "weight" not in self._parameters:
            return None, None
        return self._array("weight"), self._array("bias")

    def line(self) -> tuple[Array, Array]:
        """In evaluation it is ``scale * x + shift``: both, one of each per channel, in float64."""
        line: tuple[Array, Array] | None = self._prepared
        if line is None:
            self._freeze(*self._parameters, *self._buffers)
            mean, var = self._array("running_mean"), self._array("running_var")
            weight, bias = self._affine()
            with np.errstate(all="ignore"):
                scale = 1 / np.sqrt(var.astype(np.float64) + self.eps)
                if weight is not None:
                    scale *= weight
                shift = -mean * scale if bias is None else bias - mean * scale
            line = self._prepared = scale, shift
        return line

    def _forward(self, input: Array) -> Array:
        self.output_shape(input.shape)
        if self.training:
            self._array("num_batches_tracked")[...] += 1
        self._keep(input)
        mean, var = self._array("running_mean"), self._array("running_var")
        layout = self.layout if input.ndim == self.axes[-1] else None
        return functional.batch_norm(
            input, mean, var, *self._affine(), self.training, self.momentum, self.eps,
            layout=layout,
        )  # fmt: skip

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (input,) = self._saved
        channel = self.channel_axis if input.ndim == self.axes[-1] else 1
        shape = [1] * input.ndim
        shape[channel] = -1
        count = max(input.size // self.num_features, 1)
        mean = _sums(input, channel) / count
        # A fresh array costs more than a pass over one: these two are used again.
        normal = input - mean.reshape(shape).astype(input.dtype)
        work = np.square(normal)
        scale = 1 / np.sqrt(_sums(work, channel) / count + self.eps)
        normal *= scale.reshape(shape).astype(input.dtype)
        summed = _sums(grad_output, channel)
        moved = _sums(np.multiply(grad_output, normal, out=work), channel)
        weight, _ = self._affine()
        if weight is not None:
            self._grads["weight"] = moved.astype(self.dtype)
            self._grads["bias"] = summed.astype(self.dtype)
            scale = scale * weight
        if not to_input:
            return None
        back: Array = np.multiply(grad_output, scale.reshape(shape).astype(self.dtype), out=work)
        normal *= (moved * scale / count).reshape(shape).astype(self.dtype)
        back -= normal
        back -= (summed * scale / count).reshape(shape).astype(self.dtype)
        return back

    def _described(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


def _sums(array: Array, channel: int) -> Array:
    """The sum of each channel in float64, of sums of its rows."""
    if channel == 1:
        array = array.reshape(*array.shape[:2], math.prod(array.shape[2:])).sum(-1)
        channel = array.ndim - 1
    others = tuple(axis for axis in range(array.ndim) if axis != channel)
    sums: Array = array.sum(others, np.float64)
    return sums


class BatchNorm1d(_BatchNorm):
    """For (N, C) or (N, C, W); as ``BatchNorm2d``.

    Examples
    --------
    >>> BatchNorm1d(3)(np.array([[1, 2, 3], [3, 2, 1]], np.float32)).round(2)
    array([[-1.,  0.,  1.],
           [ 1.,  0., -1.]], dtype=float32)
    """

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Each channel to mean 0 and variance 1, then scaled and moved: by the batch's statistics in
    training, by their running means in evaluation, as ``torch.nn.BatchNorm2d``.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
        Added to the variance.
    momentum : float
        Share of a batch in the running statistics.
    affine : bool
        Whether there are weights and biases.
    layout : "NCHW" or "NHWC", optional
    dtype : float dtype

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: Ioffe and Szegedy 2015.

    Examples
    --------
    >>> BatchNorm2d(3).output_shape((8, 3, 5, 5))
    (8, 3, 5, 5)
    """

    axes = (4,)


class BatchNorm3d(_BatchNorm):
    """For (N, C, D, H, W); as ``BatchNorm2d``.

    Examples
    --------
    >>> BatchNorm3d(3).output_shape((2, 3, 5, 5, 5))
    (2, 3, 5, 5, 5)
    """

    axes = (5,)


class Dropout(Layer):
    """In training, zeros with probability ``p`` and the rest divided by ``1 - p``.

    Which elements are dropped follows from the seed and the number of calls, ``calls``.

    Parameters
    ----------
    p : float
        At least 0 and below 1.
    rng : int, numpy.random.Generator or None

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Source: Srivastava et al. 2014.

    Examples
    --------
    >>> Dropout(0.5).eval()(np.ones(3, np.float32))
    array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, p: float = 0.5, *, dtype: Any = np.float32, rng: Seed = None) -> None:
        super().__init__(dtype, 0)
        self.p = finite("Dropout: p", p)
        if not 0 <= self.p < 1:
            raise ValueError(f"Dropout: p must be at least 0 and below 1, got {p}")
        self.seed, self.calls = drawn_seed(rng), 0

    def _forward(self, input: Array) -> Array:
        if not self.training or not self.p:
            self._keep(None)
            return input.copy()
        generator = np.random.default_rng([self.seed, self.calls])
        self.calls += 1
        kept = generator.random(input.shape, np.float32) >= self.p
        factor = kept * self.dtype.type(1 / (1 - self.p))
        self._keep(factor)
        dropped: Array = input * factor
        return dropped

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (factor,) = self._saved
        return grad_output if factor is None else grad_output * factor

    def _described(self) -> str:
        return f"p={self.p}"
