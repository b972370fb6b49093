"""The spatial axes of a sliding window, validated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cnnfast.kernels import shapes

from .arguments import Pairs, Triple, lift, padding_pairs, per_axis


@dataclass(frozen=True)
class Axes:
    """The three spatial axes (depth, height, width; unit axes in front) of a sliding window."""

    size: Triple
    kernel: Triple
    stride: Triple
    dilation: Triple
    padding: Pairs
    output: Triple

    @classmethod
    def of(
        cls,
        name: str,
        sizes: Sequence[int],
        kernels: Sequence[int],
        stride: Any,
        padding: Any,
        dilation: Any,
        output_size: Callable[..., int] = shapes.output_size,
    ) -> Axes:
        """Validate stride, padding and dilation and compute the output's extents."""
        rank = len(kernels)
        steps = per_axis(f"{name}: stride", stride, rank, 1)
        spread = per_axis(f"{name}: dilation", dilation, rank, 1)
        pairs = padding_pairs(name, padding, sizes, kernels, steps, spread)
        rows = zip(sizes, kernels, steps, spread, pairs, strict=True)
        outputs = [output_size(*row, *pair) for *row, pair in rows]
        for axis, extent in enumerate(outputs):
            padded = sizes[axis] + sum(pairs[axis])
            spans = shapes.effective_kernel(kernels[axis], spread[axis])
            if extent < 1 or spans > padded:
                raise ValueError(
                    f"{name}: the kernel must fit the padded input on every axis, but kernel "
                    f"{kernels[axis]} with dilation {spread[axis]} spans {spans} and input "
                    f"{sizes[axis]} with padding {pairs[axis]} has {padded}"
                )
        return cls(
            lift(sizes, 1),
            lift(kernels, 1),
            lift(steps, 1),
            lift(spread, 1),
            lift(pairs, (0, 0)),
            lift(outputs, 1),
        )

    @property
    def padded_size(self) -> int:
        """Positions of the padded input."""
        return math.prod(
            size + sum(pair) for size, pair in zip(self.size, self.padding, strict=True)
        )
