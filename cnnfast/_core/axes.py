"""The spatial axes of a sliding window, validated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cnnfast.kernels import shapes

from .arguments import STRING_PADDINGS, Pairs, Triple, lift, padding_pairs, per_axis


class Axes(NamedTuple):
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
        partial: bool = False,
    ) -> Axes:
        """Validate stride, padding and dilation and compute the output's extents. Where a window
        may be ``partial``, the kernel may pass the padded input.
        """
        rank = len(kernels)
        steps = per_axis(f"{name}: stride", stride, rank, 1)
        spread = per_axis(f"{name}: dilation", dilation, rank, 1)
        pairs = padding_pairs(name, padding, sizes, kernels, steps, spread)
        rows = zip(sizes, kernels, steps, spread, pairs, strict=True)
        outputs = [output_size(*row, *pair) for *row, pair in rows]
        for axis, extent in enumerate(outputs):
            padded = sizes[axis] + sum(pairs[axis])
            spans = shapes.effective_kernel(kernels[axis], spread[axis])
            if extent < 1 or (spans > padded and not partial):
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

    @classmethod
    def of_transpose(
        cls,
        name: str,
        sizes: Sequence[int],
        kernels: Sequence[int],
        stride: Any,
        padding: Any,
        output_padding: Any,
        dilation: Any,
    ) -> Axes:
        """The axes of the convolution that a transposed one of inputs ``sizes`` is adjoint to."""
        rank = len(kernels)
        steps = per_axis(f"{name}: stride", stride, rank, 1)
        spread = per_axis(f"{name}: dilation", dilation, rank, 1)
        extra = per_axis(f"{name}: output_padding", output_padding, rank, 0)
        for step, gap, more in zip(steps, spread, extra, strict=True):
            if more >= max(step, gap):
                raise ValueError(
                    f"{name}: output_padding must be smaller than stride or dilation, got "
                    f"output_padding {more}, stride {step} and dilation {gap}"
                )
        pairs, extra = _transposed_padding(name, padding, kernels, steps, spread, extra)
        outputs = [
            shapes.transposed_output_size(size, kernel, step, gap, before, after, more)
            for size, kernel, step, gap, (before, after), more in zip(
                sizes, kernels, steps, spread, pairs, extra, strict=True
            )
        ]
        if min(outputs) < 1:
            raise ValueError(
                f"{name}: the output must not be empty, got size {tuple(outputs)} from input "
                f"{tuple(sizes)}, kernel {tuple(kernels)}, stride {steps}, dilation {spread}, "
                f"padding {pairs} and output_padding {extra}"
            )
        return cls(
            lift(outputs, 1),
            lift(kernels, 1),
            lift(steps, 1),
            lift(spread, 1),
            lift(pairs, (0, 0)),
            lift(sizes, 1),
        )

    @property
    def padded_size(self) -> int:
        """Positions of the padded input."""
        return math.prod(
            size + sum(pair) for size, pair in zip(self.size, self.padding, strict=True)
        )


def _transposed_padding(
    name: str,
    padding: Any,
    kernels: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    extra: tuple[int, ...],
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Padding and output padding; names give what makes ``size * stride`` outputs."""
    if not isinstance(padding, str) or padding not in STRING_PADDINGS or padding == "valid":
        return padding_pairs(name, padding, (), kernels, stride, dilation), extra
    if any(extra):
        raise ValueError(
            f"{name}: padding={padding!r} decides the output padding, got output_padding {extra}"
        )
    # One output for each input and stride: as the convolution over that many inputs is padded.
    pairs = padding_pairs(name, padding, tuple(stride), kernels, stride, dilation)
    spans = [shapes.effective_kernel(*axis) for axis in zip(kernels, dilation, strict=True)]
    missing = tuple(max(step - span, 0) for step, span in zip(stride, spans, strict=True))
    return pairs, missing
