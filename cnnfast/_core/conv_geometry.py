"""Convolutions in canonical form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cnnfast.kernels.problem import ConvProblem
from cnnfast.kernels.storage import result_dtype

from .arguments import axis_letters, integer
from .axes import Axes
from .geometry import Geometry, dtype_of, remembered
from .operand import CANONICAL_DATA, Array, Operand, Shape, data_operand, shape_of


@dataclass(frozen=True)
class ConvGeometry(Geometry):
    """A convolution in canonical form; its weight may be ``prepared``: there as panels, too.
    ``stored`` is what the arrays hold, where a row may convert that by itself; for others they are
    converted to ``dtype``.

    >>> geometry = ConvGeometry.of((1, 64, 56, 56), (128, 64, 3, 3), stride=2, padding=1)
    >>> geometry.out_shape, geometry.flops
    ((1, 128, 28, 28), 115605504)
    """

    kind: ClassVar[str] = "conv"

    weight: Operand
    groups: int
    prepared: bool = False
    stored: np.dtype[Any] | None = None

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
        name: str | None = None,
    ) -> ConvGeometry:
        """Validate the arguments of a convolution.

        ``input`` and ``weight`` are arrays or shapes (tuples of ints, standing for C-contiguous
        arrays). ``rank`` spatial axes make a conv1d, conv2d or conv3d; by default the weight's.
        ``dtype`` defaults to the input's, float32 for shapes; ``name`` is what errors say.
        ValueError or TypeError states rule and values.
        """
        rank = len(shape_of(weight)) - 2 if rank is None else rank
        if rank not in (1, 2, 3):
            raise ValueError(f"a weight must have 3, 4 or 5 axes, got shape {shape_of(weight)}")
        name = name or f"conv{rank}d"
        if len(shape_of(weight)) != rank + 2:
            raise ValueError(
                f"{name}: weight must have {rank + 2} axes, got shape {shape_of(weight)}"
            )
        data = data_operand(name, input, rank, layout)
        letters = axis_letters(name, weight_layout, rank, "OI", data.layout[1] == "C")
        filters = Operand.of(weight, letters)
        filters.check_not_empty(name, "weight", letters)
        groups = integer(f"{name}: groups", groups, 1)
        _check_channels(name, data, filters, groups)
        spatial = CANONICAL_DATA[-rank:]
        sizes = [data.extent(letter) for letter in spatial]
        kernels = [filters.extent(letter) for letter in spatial]
        axes = Axes.of(name, sizes, kernels, stride, padding, dilation)
        geometry = cls(name, rank, dtype_of(input, dtype), data, axes, filters, groups)
        geometry._check_index()
        return geometry

    @classmethod
    def of_transpose(
        cls,
        input: Any,
        weight: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: Any = 1,
        dilation: Any = 1,
        *,
        rank: int,
        layout: str | None = None,
        weight_layout: str | None = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> ConvGeometry:
        """The convolution that a transposed one is adjoint to: its output has the shape of
        ``input``, and its input is the result. ``weight_layout`` names the channels as the
        transposed convolution sees them: "IOHW" beside NCHW by default.

        >>> ConvGeometry.of_transpose((1, 8, 7, 7), (8, 4, 3, 3), 2, 1, 1, rank=2).input.shape
        (1, 4, 14, 14)
        """
        name = name or f"conv_transpose{rank}d"
        if len(shape_of(weight)) != rank + 2:
            raise ValueError(
                f"{name}: weight must have {rank + 2} axes, got shape {shape_of(weight)}"
            )
        data = data_operand(name, input, rank, layout)
        letters = axis_letters(name, weight_layout, rank, "OI", data.layout[1] == "C")
        if weight_layout is not None:
            letters = letters.translate(_EXCHANGED)
        filters = Operand.of(weight, letters)
        filters.check_not_empty(name, "weight", letters)
        groups = integer(f"{name}: groups", groups, 1)
        channels = data.extent("C")
        if channels % groups or channels != filters.extent("O"):
            raise ValueError(
                f"{name}: the weight must have as many in-channels as the input, and groups must "
                f"divide them, got {filters.extent('O')} in a weight "
                f"{letters.translate(_EXCHANGED)} of shape {filters.shape}, {channels} in an input "
                f"{data.layout} of shape {data.shape}, and groups {groups}"
            )
        spatial = CANONICAL_DATA[-rank:]
        sizes = [data.extent(letter) for letter in spatial]
        kernels = [filters.extent(letter) for letter in spatial]
        axes = Axes.of_transpose(name, sizes, kernels, stride, padding, output_padding, dilation)
        outputs = dict(zip(spatial, axes.size[-rank:], strict=True))
        extents = {"N": data.extent("N"), "C": filters.extent("I") * groups, **outputs}
        shape = tuple(extents[letter] for letter in data.letters)
        result = Operand.of(shape, data.layout, data.batched)
        geometry = cls(name, rank, dtype_of(input, dtype), result, axes, filters, groups)
        geometry._check_index()
        return geometry

    @classmethod
    def of_linear(
        cls, input: Shape, weight: Shape, dtype: Any = np.float32, name: str = "linear"
    ) -> ConvGeometry:
        """A fully connected layer as a 1x1 convolution: the input's rows are the pixels of one
        image (1, rows, in_features), the weight is (out_features, in_features, 1). An input
        without rows counts as one row.

        >>> ConvGeometry.of_linear((5, 7), (3, 7)).out_shape
        (1, 5, 3)
        """
        if len(weight) != 2 or len(input) < 1 or input[-1] != weight[1] or 0 in weight:
            raise ValueError(
                f"{name}: input (..., in_features) and weight (out_features, in_features) must "
                f"agree in in_features, none of them 0, got shapes {input} and {weight}"
            )
        rows = max(math.prod(input[:-1]), 1)
        pixels, filters = Operand.of((1, rows, input[-1]), "NWC"), Operand.of((*weight, 1), "OIW")
        axes = Axes.of(name, [rows], [1], 1, 0, 1)
        geometry = cls(name, 1, np.dtype(dtype), pixels, axes, filters, 1)
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
        read = self.dtype if self.stored is None else self.stored
        elements = math.prod(self.input.shape) + math.prod(self.weight.shape)
        written = math.prod(self.out_shape) * result_dtype(read).itemsize
        return elements * read.itemsize + written

    @remembered
    def problem(self) -> ConvProblem:
        """The ints that kernels take; an axis of one output has stride 1, however large a stride
        was asked for."""
        stride_d, stride_h, stride_w = (
            1 if outputs == 1 else stride
            for stride, outputs in zip(self.stride, self.output, strict=True)
        )
        return ConvProblem(
            self.batch,
            self.groups,
            self.in_channels // self.groups,
            self.out_channels // self.groups,
            *self.size,
            *self.kernel,
            *self.output,
            stride_d,
            stride_h,
            stride_w,
            *self.dilation,
            *(before for before, _ in self.padding),
        )

    @property
    def result(self) -> Operand:
        """The convolution's output as an operand, C-contiguous."""
        return Operand.of(self.out_shape, self.input.layout, self.input.batched)

    def operands(self, family: str) -> tuple[Operand, Operand, Operand]:
        """What a family's kernels read, first and second, and what they write."""
        if family == "fprop":
            return self.input, self.weight, self.result
        if family == "dgrad":
            return self.result, self.weight, self.input
        return self.input, self.result, self.weight

    def canonical(
        self, first: Array, second: Array, out: Array, family: str = "fprop"
    ) -> tuple[Array, Array, Array]:
        """Five-axis views of a family's arrays, (N, C, D, H, W), (K, C/G, T, R, S) and
        (N, K, O, P, Q) in their roles; no copies.
        """
        one, two, three = self.operands(family)
        return one.canonical(first), two.canonical(second), three.canonical(out)


#: A transposed convolution's in-channels are the out-channels of the convolution.
_EXCHANGED = str.maketrans("OI", "IO")


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
