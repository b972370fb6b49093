"""What the convolution functions share, in every rank: arguments -> geometry -> run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arguments import axis_letters, integer
from .arrays import Array, as_arrays, check_apart, check_out
from .conv_geometry import ConvGeometry
from .dtypes import promote
from .execute import check_bias, deliver, recorded_steps, run_conv
from .operand import data_operand
from .padding import needs_copy, pad_input


def convolve(
    name: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: str | None = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """A convolution of any rank; ``name`` is what errors say."""
    x, w, b = as_arrays(name, input=input, weight=weight, bias=bias)
    arithmetic = promote(name, (x, w, b), out_dtype)
    keywords: dict[str, Any] = {
        "rank": rank, "layout": layout, "weight_layout": weight_layout, "name": name,
        "dtype": np.float32,
    }  # fmt: skip
    geometry = ConvGeometry.of(x, w, stride, padding, dilation, groups, **keywords)
    if needs_copy(name, padding_mode, padding_value, arithmetic):
        # The user's ``out`` must not overlap the input itself, of which the kernel sees a copy.
        if out is not None:
            check_out(name, out, geometry.out_shape, arithmetic.result, [x])
        x = pad_input(x.astype(arithmetic.common), geometry, padding_mode, padding_value)
        geometry = ConvGeometry.of(x, w, stride, 0, dilation, groups, **keywords)
    return run_conv("fprop", x, w, b, geometry, arithmetic, activation, out, backend)


def convolve_depthwise(
    name: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    layout: str | None = None,
    **keywords: Any,
) -> Array:
    """A convolution with as many groups as channels."""
    (x,) = as_arrays(name, input=input)
    channels = data_operand(name, x, rank, layout).extent("C")
    if groups is not None and integer(f"{name}: groups", groups, 1) != channels:
        raise ValueError(
            f"{name}: groups must be None or the number of channels {channels}, got {groups}"
        )
    return convolve(
        name, rank, x, weight, bias, stride, padding, dilation, channels, layout=layout, **keywords
    )


def convolve_separable(
    name: str,
    rank: int,
    input: Any,
    depthwise_weight: Any,
    pointwise_weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    padding_mode: str,
    padding_value: complex,
    layout: str | None,
    weight_layout: str | None,
    activation: str | None,
    out_dtype: Any,
    out: Array | None,
    backend: str | None,
) -> Array:
    """A depthwise convolution, then one of a single tap with bias and activation."""
    (pointwise,) = as_arrays(name, pointwise_weight=pointwise_weight)
    first = axis_letters(name, layout, rank, "NC")[1] == "C"
    letters = axis_letters(name, weight_layout, rank, "OI", first)
    if pointwise.ndim != rank + 2 or any(
        extent != 1
        for letter, extent in zip(letters, pointwise.shape, strict=True)
        if letter not in "OI"
    ):
        raise ValueError(
            f"{name}: pointwise_weight must have axes {letters} and a kernel of one tap, "
            f"got shape {pointwise.shape}"
        )
    shared: dict[str, Any] = {"layout": layout, "weight_layout": weight_layout, "backend": backend}

    def both_steps() -> Array:
        between = convolve_depthwise(
            name, rank, input, depthwise_weight, None, stride, padding, dilation, groups,
            padding_mode=padding_mode, padding_value=padding_value, **shared,
        )  # fmt: skip
        return convolve(
            name, rank, between, pointwise, bias, 1, 0, 1, 1, activation=activation,
            out_dtype=out_dtype, out=out, **shared,
        )  # fmt: skip

    # Without kernels first: what is wrong with the second step shows before the first one runs,
    # of which ``out`` must be apart as well.
    with recorded_steps():
        both_steps()
    if out is not None:
        check_apart(name, out, as_arrays(name, input=input, depthwise_weight=depthwise_weight))
    return both_steps()


def convolve_transpose(
    name: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: str | None = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """A transposed convolution of any rank: dgrad of the convolution it is adjoint to."""
    x, w, b = as_arrays(name, input=input, weight=weight, bias=bias)
    arithmetic = promote(name, (x, w, b), out_dtype)
    geometry = ConvGeometry.of_transpose(
        x, w, stride, padding, output_padding, groups, dilation, rank=rank, layout=layout,
        weight_layout=weight_layout, name=name, dtype=np.float32,
    )  # fmt: skip
    if arithmetic.kind == "complex":
        # dgrad conjugates, and a transposed convolution doesn't.
        w = w.conj()
    return run_conv("dgrad", x, w, b, geometry, arithmetic, activation, out, backend)


def multiply_rows(
    name: str,
    rows: Array,
    weight: Array,
    bias: Array | None = None,
    activation: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """``rows @ weight.T + bias``: the rows are the pixels of a 1x1 convolution, channels last."""
    arithmetic = promote(name, (rows, weight, bias))
    geometry = ConvGeometry.of_linear(rows.shape, weight.shape, np.float32, name)
    check_bias(name, bias, weight.shape[0])
    shape = (*rows.shape[:-1], weight.shape[0])
    if out is not None:
        inputs = [array for array in (rows, weight, bias) if array is not None]
        check_out(name, out, shape, arithmetic.result, inputs)
    count = math.prod(rows.shape[:-1])
    pixels = rows.reshape(1, count, weight.shape[1])
    if count == 0:
        pixels = np.zeros((1, 1, weight.shape[1]), rows.dtype)
    result = run_conv(
        "fprop", pixels, weight[:, :, None], bias, geometry, arithmetic, activation, None, backend
    )
    return deliver(result[:, :count].reshape(shape), out, arithmetic.result)
