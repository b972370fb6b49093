"""The canonical problems: every public call becomes one of these, validated in the making."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from cnnfast.kernels import shapes
from cnnfast.kernels.problem import ConvProblem, PoolProblem

from .arguments import (
    INDEX_LIMIT,
    Pairs,
    Triple,
    axis_letters,
    integer,
    is_empty_sequence,
    per_axis,
)
from .axes import Axes
from .operand import CANONICAL_DATA, CANONICAL_WEIGHT, Array, Operand, Shape, data_operand, shape_of


@dataclass(frozen=True)
class Geometry(ABC):
    """What convolution and pooling share: an input, its windows and a dtype.

    The spatial tuples ``size``, ``kernel``, ``stride``, ``dilation``, ``padding`` and ``output``
    are in canonical order (depth, height, width).
    """

    name: str
    rank: int
    dtype: np.dtype[Any]
    input: Operand
    axes: Axes

    @property
    def size(self) -> Triple:
        """Input extents."""
        return self.axes.size

    @property
    def kernel(self) -> Triple:
        """Taps."""
        return self.axes.kernel

    @property
    def stride(self) -> Triple:
        """Input positions from one output to the next."""
        return self.axes.stride

    @property
    def dilation(self) -> Triple:
        """Input positions from one tap to the next."""
        return self.axes.dilation

    @property
    def padding(self) -> Pairs:
        """Zeros before and after."""
        return self.axes.padding

    @property
    def output(self) -> Triple:
        """Output extents."""
        return self.axes.output

    @property
    def batch(self) -> int:
        """Images in the batch (1 for an input without the batch axis)."""
        return self.input.extent("N")

    @property
    def in_channels(self) -> int:
        """Channels of the input, all groups together."""
        return self.input.extent("C")

    @property
    def out_channels(self) -> int:
        """Channels of the output, all groups together."""
        return self.in_channels

    @property
    def out_shape(self) -> Shape:
        """Shape of the result in the user's layout."""
        extents = dict(zip("NCDHW", (self.batch, self.out_channels, *self.output), strict=True))
        return tuple(extents[letter] for letter in self.input.letters)

    @property
    @abstractmethod
    def flops(self) -> int:
        """Floating-point operations."""

    def _check_index(self) -> None:
        counts = {
            "the count of operations": self.flops,
            "the padded input's size": self.batch * self.in_channels * self.axes.padded_size,
        }
        for what, count in counts.items():
            if count >= INDEX_LIMIT:
                raise ValueError(f"{self.name}: {what} must be below 2**62, got {count}")


def _dtype_of(source: Any, dtype: Any) -> np.dtype[Any]:
    if dtype is None and not isinstance(source, tuple):
        dtype = source.dtype
    return np.dtype(np.float32 if dtype is None else dtype)


@dataclass(frozen=True)
class ConvGeometry(Geometry):
    """A convolution in canonical form.

    >>> geometry = ConvGeometry.of((1, 64, 56, 56), (128, 64, 3, 3), stride=2, padding=1)
    >>> geometry.out_shape, geometry.flops
    ((1, 128, 28, 28), 115605504)
    """

    kind: ClassVar[str] = "conv"

    weight: Operand
    groups: int

    @classmethod
    def of(
        cls,
        input: Any,
        weight: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
        *,
        layout: str | None = None,
        weight_layout: str | None = None,
        rank: int | None = None,
        dtype: Any = None,
    ) -> ConvGeometry:
        """Validate the arguments of a convolution.

        ``input`` and ``weight`` are arrays or shapes (tuples of ints, standing for C-contiguous
        arrays). ``rank`` spatial axes make a conv1d, conv2d or conv3d; by default the weight's.
        ``dtype`` defaults to the input's, float32 for shapes. ValueError or TypeError states rule
        and values.
        """
        rank = len(shape_of(weight)) - 2 if rank is None else rank
        if rank not in (1, 2, 3):
            raise ValueError(f"a weight must have 3, 4 or 5 axes, got shape {shape_of(weight)}")
        name = f"conv{rank}d"
        if len(shape_of(weight)) != rank + 2:
            raise ValueError(
                f"{name}: weight must have {rank + 2} axes, got shape {shape_of(weight)}"
            )
        data = data_operand(name, input, rank, layout)
        letters = axis_letters(weight_layout, rank, "OI", data.layout[1] == "C")
        filters = Operand.of(weight, letters)
        filters.check_not_empty(name, "weight", letters)
        groups = integer(f"{name}: groups", groups, 1)
        _check_channels(name, data, filters, groups)
        spatial = CANONICAL_DATA[-rank:]
        sizes = [data.extent(letter) for letter in spatial]
        kernels = [filters.extent(letter) for letter in spatial]
        axes = Axes.of(name, sizes, kernels, stride, padding, dilation)
        geometry = cls(name, rank, _dtype_of(input, dtype), data, axes, filters, groups)
        geometry._check_index()
        return geometry

    @classmethod
    def of_linear(cls, input: Shape, weight: Shape, dtype: Any = np.float32) -> ConvGeometry:
        """A fully connected layer as a 1x1 convolution: the input's rows are the pixels of one
        image (1, rows, in_features), the weight is (out_features, in_features, 1). An input
        without rows counts as one row.

        >>> ConvGeometry.of_linear((5, 7), (3, 7)).out_shape
        (1, 5, 3)
        """
        if len(weight) != 2 or len(input) < 1 or input[-1] != weight[1] or 0 in weight:
            raise ValueError(
                "linear: input (..., in_features) and weight (out_features, in_features) must "
                f"agree in in_features, none of them 0, got shapes {input} and {weight}"
            )
        rows = max(math.prod(input[:-1]), 1)
        pixels, filters = Operand.of((1, rows, input[-1]), "NWC"), Operand.of((*weight, 1), "OIW")
        axes = Axes.of("linear", [rows], [1], 1, 0, 1)
        geometry = cls("linear", 1, np.dtype(dtype), pixels, axes, filters, 1)
        geometry._check_index()
        return geometry

    @property
    def out_channels(self) -> int:
        """Channels of the output, all groups together."""
        return self.weight.extent("O")

    @property
    def flops(self) -> int:
        """Floating-point operations, a multiply and an add per tap, padding counted."""
        outputs = self.batch * self.out_channels * math.prod(self.output)
        return 2 * outputs * (self.in_channels // self.groups) * math.prod(self.kernel)

    @property
    def bytes_moved(self) -> int:
        """Least bytes to and from memory: input, weight and output once each."""
        shapes_moved = (self.input.shape, self.weight.shape, self.out_shape)
        return sum(map(math.prod, shapes_moved)) * self.dtype.itemsize

    @cached_property
    def problem(self) -> ConvProblem:
        """The ints that kernels take."""
        return ConvProblem(
            self.batch,
            self.groups,
            self.in_channels // self.groups,
            self.out_channels // self.groups,
            *self.size,
            *self.kernel,
            *self.output,
            *self.stride,
            *self.dilation,
            *(before for before, _ in self.padding),
        )

    @cached_property
    def taps(self) -> Array:
        """Per tap of each axis the outputs ``low .. high - 1`` that read inside the input."""
        rows = []
        for i in range(3):
            steps = self.stride[i], self.dilation[i], self.padding[i][0], self.output[i]
            for tap in range(self.kernel[i]):
                low = shapes.tap_low(tap, *steps)
                rows.append((low, max(shapes.tap_high(tap, self.size[i], *steps), low)))
        return np.array(rows, np.int64)

    def canonical(self, x: Array, weight: Array, out: Array) -> tuple[Array, Array, Array]:
        """Five-axis views (N, C, D, H, W), (K, C/G, T, R, S), (N, K, O, P, Q); no copies."""
        return (
            self.input.canonical(x, CANONICAL_DATA),
            self.weight.canonical(weight, CANONICAL_WEIGHT),
            self.input.canonical(out, CANONICAL_DATA),
        )


def _check_channels(name: str, data: Operand, filters: Operand, groups: int) -> None:
    channels, per_group, out_channels = data.extent("C"), filters.extent("I"), filters.extent("O")
    if channels % groups or out_channels % groups:
        raise ValueError(
            f"{name}: groups must divide the channels, got groups {groups}, "
            f"{channels} in-channels and {out_channels} out-channels"
        )
    if channels // groups != per_group:
        raise ValueError(
            f"{name}: the weight must have in-channels / groups = {channels} / {groups} = "
            f"{channels // groups} channels, got {per_group} in a weight {filters.layout} of shape "
            f"{filters.shape} for an input {data.layout} of shape {data.shape}"
        )


def pool_name(reduction: str, rank: int) -> str:
    """The function that pools so.

    >>> pool_name("mean", 2)
    'avg_pool2d'
    """
    return f"{'max' if reduction == 'max' else 'avg'}_pool{rank}d"


@dataclass(frozen=True)
class PoolGeometry(Geometry):
    """A pooling in canonical form: a reduction, "max" or "mean", over windows.

    >>> geometry = PoolGeometry.of((1, 64, 112, 112), "max", 3, stride=2, padding=1)
    >>> geometry.out_shape
    (1, 64, 56, 56)
    """

    kind: ClassVar[str] = "pool"

    reduction: str
    count_include_pad: bool
    divisor: int

    @classmethod
    def of(
        cls,
        input: Any,
        reduction: str,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
        *,
        rank: int = 2,
        layout: str | None = None,
        dtype: Any = None,
    ) -> PoolGeometry:
        """Validate the arguments of a pooling.

        ``input`` is an array or a shape; a ``stride`` of None or () is the window.
        """
        if reduction not in ("max", "mean"):
            raise ValueError(f"reduction must be 'max' or 'mean', got {reduction!r}")
        name = pool_name(reduction, rank)
        data = data_operand(name, input, rank, layout)
        window = per_axis(f"{name}: kernel_size", kernel_size, rank, 1)
        steps = window if stride is None or is_empty_sequence(stride) else stride
        sizes = [data.extent(letter) for letter in CANONICAL_DATA[-rank:]]
        formula = shapes.ceil_output_size if ceil_mode else shapes.output_size
        axes = Axes.of(name, sizes, window, steps, padding, dilation, formula)
        if not isinstance(padding, str):
            for pair, extent in zip(axes.padding, axes.kernel, strict=True):
                if max(pair) > extent // 2:
                    raise ValueError(
                        f"{name}: padding must be at most half the window, got padding {pair} "
                        f"for kernel_size {extent}"
                    )
        divisor = 0
        if divisor_override is not None:
            divisor = integer(f"{name}: divisor_override", divisor_override, -INDEX_LIMIT)
            if divisor == 0:
                raise ValueError(f"{name}: divisor_override must not be zero, got {divisor}")
        geometry = cls(
            name,
            rank,
            _dtype_of(input, dtype),
            data,
            axes,
            reduction,
            bool(count_include_pad),
            divisor,
        )
        geometry._check_index()
        return geometry

    @property
    def flops(self) -> int:
        """Comparisons or additions: one per tap of every window."""
        return self.batch * self.in_channels * math.prod(self.output) * math.prod(self.kernel)

    @property
    def bytes_moved(self) -> int:
        """Least bytes to and from memory: input and output once each."""
        return (math.prod(self.input.shape) + math.prod(self.out_shape)) * self.dtype.itemsize

    @cached_property
    def problem(self) -> PoolProblem:
        """The ints that kernels take."""
        return PoolProblem(
            self.batch, self.in_channels, *self.size, *self.output, *self.dilation, self.divisor
        )

    @cached_property
    def windows(self) -> Array:
        """Per output of each axis: first tap inside the input, end, extent for a mean."""
        rows = []
        for i in range(3):
            starts = np.arange(self.output[i]) * self.stride[i] - self.padding[i][0]
            ends = starts + shapes.effective_kernel(self.kernel[i], self.dilation[i])
            # A tap before the input moves up by whole dilations, so that it stays a tap.
            first = np.where(starts < 0, starts % self.dilation[i], starts)
            last = np.maximum(np.minimum(ends, self.size[i]), first)
            padded = np.minimum(ends, self.size[i] + self.padding[i][1]) - starts
            rows.append(
                np.stack([first, last, padded if self.count_include_pad else last - first], 1)
            )
        return np.ascontiguousarray(np.concatenate(rows), np.int64)

    def canonical(self, array: Array) -> Array:
        """A five-axis view (N, C, spatial) of an input or output array; no copy."""
        return self.input.canonical(array, CANONICAL_DATA)
