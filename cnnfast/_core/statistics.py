"""Batch normalisation: its arguments, validated, and what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arguments import axis_letters, flag, shown
from .arrays import Array, Dtype, as_array, overlap, strides_nest
from .dtypes import Arithmetic, converted, promote
from .reals import finite

NAME = "batch_norm"
FLOATS = ("float",)


@dataclass(frozen=True)
class BatchNorm:
    """The validated arguments of a batch normalisation; ``axis`` is that of the channels."""

    x: Array
    axis: int
    arithmetic: Arithmetic
    mean: Array | None
    var: Array | None
    weight: Array | None
    bias: Array | None
    training: bool
    momentum: float
    eps: float

    @classmethod
    def of(
        cls,
        input: Any,
        running_mean: Any,
        running_var: Any,
        weight: Any,
        bias: Any,
        training: Any,
        momentum: Any,
        eps: Any,
        layout: str | None,
    ) -> BatchNorm:
        """ValueError or TypeError with the rule and the values."""
        x = as_array(f"{NAME}: input", input)
        arithmetic = promote(NAME, (x,), kinds=FLOATS)
        axis = _channel_axis(x, layout)
        wanted = flag(f"{NAME}: training", training)
        given = {
            "running_mean": running_mean,
            "running_var": running_var,
            "weight": weight,
            "bias": bias,
        }
        arrays = {
            name: None if value is None else _per_channel(name, value, x, axis)
            for name, value in given.items()
        }
        share, least = finite(f"{NAME}: momentum", momentum), finite(f"{NAME}: eps", eps)
        if least < 0 or (wanted and not least):
            rule = "positive in training" if wanted else "non-negative"
            raise ValueError(f"{NAME}: eps must be {rule}, got {shown(eps)}")
        norm = cls(
            x,
            axis,
            arithmetic,
            arrays["running_mean"],
            arrays["running_var"],
            arrays["weight"],
            arrays["bias"],
            wanted,
            share,
            least,
        )
        norm._check_statistics(running_mean, running_var)
        return norm

    def _check_statistics(self, *given: Any) -> None:
        if (self.mean is None) != (self.var is None) or (self.mean is None and not self.training):
            rule = "both be given or both be None" if self.training else "be given in inference"
            what = [None if array is None else array.shape for array in (self.mean, self.var)]
            raise ValueError(
                f"{NAME}: running_mean and running_var must {rule}, got {what[0]} and {what[1]}"
            )
        if not self.training:
            return
        count = self.x.size // self.x.shape[self.axis]
        if count == 1:
            raise ValueError(
                f"{NAME}: training needs more than one value per channel, got shape {self.x.shape}"
            )
        if self.mean is None:
            return
        others = [self.x, *(array for array in (self.weight, self.bias) if array is not None)]
        for name, source in zip(("running_mean", "running_var"), given, strict=True):
            if not isinstance(source, np.ndarray):
                raise TypeError(
                    f"{NAME}: {name} must be a numpy.ndarray to be updated in place, "
                    f"got {type(source).__qualname__}"
                )
            if not source.flags.writeable or not strides_nest(source):
                raise ValueError(
                    f"{NAME}: {name} must be writeable and not overlap itself to be updated in "
                    f"place, got strides {source.strides}, writeable {source.flags.writeable}"
                )
            if any(overlap(source, other) for other in others):
                raise ValueError(f"{NAME}: {name} must not share memory with another argument")
            others.append(source)

    def infer(self) -> Array:
        """With the running statistics."""
        assert self.mean is not None
        assert self.var is not None
        dtype = self._computing(self.mean)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = self._across(self.mean, dtype)
            centred = np.subtract(self.x, mean, order="C", dtype=dtype)
        return self._scaled(centred, self.var)

    def train(self) -> Array:
        """With the batch's statistics; updates the running ones."""
        if not self.x.size:
            return self.x.astype(self.arithmetic.common, order="C")
        channels = self.x.shape[self.axis]
        axes = tuple(axis for axis in range(self.x.ndim) if axis != self.axis)
        centred = self.x.astype(self._computing(), order="C")
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            mean = centred.mean(axis=axes, dtype=np.float64)
            centred -= self._across(mean, centred.dtype)
            # What rounding the mean left.
            centred -= self._across(centred.mean(axis=axes, dtype=np.float64), centred.dtype)
            var = np.square(centred).mean(axis=axes, dtype=np.float64)
        result = self._scaled(centred, var)
        count = self.x.size // channels
        self._move(self.mean, mean)
        self._move(self.var, var * (count / (count - 1)))
        return result

    def _move(self, running: Array | None, batch: Array) -> None:
        if running is not None:
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                old = running.astype(np.float64) * (1 - self.momentum)
                running[...] = (old + batch * self.momentum).astype(running.dtype)

    def _scaled(self, centred: Array, var: Array) -> Array:
        with np.errstate(all="ignore"):
            scale = 1 / np.sqrt(var.astype(np.float64) + self.eps)
            if self.weight is not None:
                scale *= self.weight.astype(np.float64)
            centred *= self._across(scale, centred.dtype)
            if self.bias is not None:
                centred += self._across(self.bias, centred.dtype)
            return converted(centred, self.arithmetic.common)

    def _computing(self, *others: Array) -> Dtype:
        """float32, or float64 where the input or what is subtracted from it is."""
        wide = any(array.dtype.itemsize == 8 for array in (self.x, *others))
        return np.dtype(np.float64 if wide else np.float32)

    def _across(self, values: Array, dtype: Dtype) -> Array:
        shape = [1] * self.x.ndim
        shape[self.axis] = -1
        return values.astype(dtype).reshape(shape)


def _channel_axis(x: Array, layout: Any) -> int:
    rank = x.ndim - 2
    if rank < 0:
        raise ValueError(f"{NAME}: input must have axes N and C at least, got shape {x.shape}")
    axis = 1
    if layout is not None:
        if rank not in (1, 2, 3):
            raise ValueError(
                f"{NAME}: a layout is for 1 to 3 spatial axes, got layout {layout!r} for an input "
                f"of shape {x.shape}"
            )
        axis = axis_letters(NAME, layout, rank, "NC").index("C")
    if 0 in x.shape[1:]:
        raise ValueError(f"{NAME}: no axis but the batch may be empty, got shape {x.shape}")
    return axis


def _per_channel(name: str, value: Any, x: Array, axis: int) -> Array:
    array = as_array(f"{NAME}: {name}", value)
    promote(f"{NAME}: {name}", (array,), kinds=FLOATS)
    channels = x.shape[axis]
    if array.shape != (channels,):
        raise ValueError(
            f"{NAME}: {name} must have shape ({channels},), one value per channel, "
            f"got {array.shape}"
        )
    return array
