"""Poolings in canonical form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cnnfast.kernels import shapes
from cnnfast.kernels.problem import PoolProblem

from .arguments import (
    INDEX_LIMIT,
    flag,
    integer,
    is_empty_sequence,
    lift,
    per_axis,
    sequence,
    shown,
)
from .axes import Axes
from .geometry import Geometry, dtype_of, remembered
from .operand import CANONICAL_DATA, Array, Operand, data_operand

#: Reduction -> how functions are called that do it.
NAMES = {"max": "max", "mean": "avg"}


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
    adaptive: bool = False

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
        name: str | None = None,
        lenient: bool = False,
    ) -> PoolGeometry:
        """Validate the arguments of a pooling.

        ``input`` is an array or a shape; a ``stride`` of None or () is the window; ``name`` is what
        errors say. Padding by numbers is at most half the window, which fits the padded input; if
        ``lenient``, as ONNX is, padding is less than what the window spans, and a partial window
        (``ceil_mode``) may be the only one.
        """
        if reduction not in NAMES:
            raise ValueError(f"reduction must be 'max' or 'mean', got {shown(reduction)}")
        name = name or f"{NAMES[reduction]}_pool{rank}d"
        data = data_operand(name, input, rank, layout)
        window = per_axis(f"{name}: kernel_size", kernel_size, rank, 1)
        steps = window if stride is None or is_empty_sequence(stride) else stride
        sizes = [data.extent(letter) for letter in CANONICAL_DATA[-rank:]]
        ceil = flag(f"{name}: ceil_mode", ceil_mode)
        counts = flag(f"{name}: count_include_pad", count_include_pad)
        formula = shapes.ceil_output_size if ceil else shapes.output_size
        axes = Axes.of(
            name, sizes, window, steps, padding, dilation, formula, partial=ceil and lenient
        )
        if not isinstance(padding, str):
            _check_padding(name, axes, lenient)
        divisor = 0
        if divisor_override is not None:
            divisor = integer(f"{name}: divisor_override", divisor_override, -INDEX_LIMIT)
            if divisor == 0:
                raise ValueError(f"{name}: divisor_override must not be zero, got {divisor}")
        data_type = dtype_of(input, dtype)
        geometry = cls(name, rank, data_type, data, axes, reduction, counts, divisor)
        geometry._check_index()
        return geometry

    @classmethod
    def of_adaptive(
        cls,
        input: Any,
        reduction: str,
        output_size: Any,
        *,
        rank: int = 2,
        layout: str | None = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> PoolGeometry:
        """Pooling to a given size: window i of an axis is ``i * size // outputs`` up to
        ``ceil((i + 1) * size / outputs)``. An ``output_size`` of None keeps the input's.

        >>> PoolGeometry.of_adaptive((1, 8, 10, 10), "mean", (4, None)).out_shape
        (1, 8, 4, 10)
        """
        name = name or f"adaptive_{NAMES[reduction]}_pool{rank}d"
        data = data_operand(name, input, rank, layout)
        sizes = [data.extent(letter) for letter in CANONICAL_DATA[-rank:]]
        outputs = _adaptive_outputs(name, output_size, sizes)
        axes = Axes(
            size=lift(sizes, 1),
            kernel=lift([_longest_window(*axis) for axis in zip(sizes, outputs, strict=True)], 1),
            stride=(1, 1, 1),
            dilation=(1, 1, 1),
            padding=((0, 0),) * 3,
            output=lift(outputs, 1),
        )
        data_type = dtype_of(input, dtype)
        geometry = cls(name, rank, data_type, data, axes, reduction, True, 0, adaptive=True)
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

    @remembered
    def problem(self) -> PoolProblem:
        """The ints that kernels take."""
        return PoolProblem(
            self.batch, self.in_channels, *self.size, *self.output, *self.dilation, self.divisor
        )

    @remembered
    def windows(self) -> Array:
        """Per output of each axis: first tap inside the input, end, taps that a mean counts."""
        rows = [
            self._adaptive_axis(i) if self.adaptive else self._sliding_axis(i) for i in range(3)
        ]
        return np.ascontiguousarray(np.concatenate(rows), np.int64)

    def _sliding_axis(self, i: int) -> Array:
        starts = np.arange(self.output[i]) * self.stride[i] - self.padding[i][0]
        ends = starts + shapes.effective_kernel(self.kernel[i], self.dilation[i])
        # A tap before the input moves up by whole dilations, so that it stays a tap.
        first = np.where(starts < 0, starts % self.dilation[i], starts)
        last = np.maximum(np.minimum(ends, self.size[i]), first)
        padded = np.minimum(ends, self.size[i] + self.padding[i][1]) - starts
        counted = padded if self.count_include_pad else last - first
        return np.stack([first, last, -(-counted // self.dilation[i])], 1)

    def _adaptive_axis(self, i: int) -> Array:
        # The formulas' integer arithmetic serves arrays as well.
        at: Any = np.arange(self.output[i])
        first = np.asarray(shapes.adaptive_start(at, self.size[i], self.output[i]))
        last = np.asarray(shapes.adaptive_end(at, self.size[i], self.output[i]))
        return np.stack([first, last, last - first], 1)

    @property
    def result(self) -> Operand:
        """The output as an operand, C-contiguous."""
        return Operand.of(self.out_shape, self.input.layout, self.input.batched)

    def canonical(self, array: Array) -> Array:
        """A five-axis view (N, C, spatial) of an input or output array; no copy."""
        return self.input.canonical(array)


def _check_padding(name: str, axes: Axes, lenient: bool) -> None:
    for pair, extent, gap in zip(axes.padding, axes.kernel, axes.dilation, strict=True):
        most = shapes.effective_kernel(extent, gap) - 1 if lenient else extent // 2
        if max(pair) > most:
            rule = "less than the window spans" if lenient else "at most half the window"
            raise ValueError(
                f"{name}: padding must be {rule}, got padding {pair} for kernel_size {extent}"
                f"{f' with dilation {gap}' if lenient else ''}"
            )


def _adaptive_outputs(name: str, output_size: Any, sizes: list[int]) -> list[int]:
    rank, given = len(sizes), sequence(output_size)
    if given is None:
        given = (output_size,)
    if len(given) == 1:
        given = tuple(given) * rank
    if len(given) != rank:
        raise ValueError(
            f"{name}: output_size must be one integer or {rank} of them (None keeps the input's), "
            f"got {shown(output_size)}"
        )
    return [
        size if extent is None else integer(f"{name}: output_size", extent, 1)
        for extent, size in zip(given, sizes, strict=True)
    ]


def _longest_window(size: int, outputs: int) -> int:
    # Window i has ceil((r + size) / outputs) positions, r = i * size modulo outputs: a multiple of
    # their common divisor, and the last such multiple is among them.
    return -(-(outputs - math.gcd(size, outputs) + size) // outputs)
