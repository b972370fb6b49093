"""What the convolution functions share, in every rank: arguments -> geometry -> run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from . import device_calls
from .activations import Activation
from .arguments import axis_letters, integer
from .arrays import Array, as_array, as_arrays, check_apart, check_out, on_gpu
from .conv_geometry import ConvGeometry
from .device_arrays import DeviceArray
from .dtypes import promote
from .execute import prepare_conv
from .operand import data_operand
from .packed import PackedWeight
from .padding import needs_copy, pad_input
from .recall import Make, again, find, prepare
from .recording import recorded_steps


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
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """A convolution of any rank; ``name`` is what errors say."""
    packed = isinstance(weight, PackedWeight)
    arguments = (
        rank, stride, padding, dilation, groups, padding_mode, padding_value, layout, weight_layout,
        activation, out_dtype, backend, packed,
    )  # fmt: skip
    arrays = input, weight, bias, out
    if packed:
        return _run_packed(_convolution, name, arrays, arguments)
    result = again(_convolution, name, arrays, arguments)
    return _run(_convolution, name, arrays, arguments) if result is None else result


def _run(make: Make, name: str, arrays: tuple[Any, ...], arguments: tuple[Any, ...]) -> Array:
    """Prepare a call of input, weight, bias and ``out``, and run it."""
    if on_gpu(*arrays):
        result: Array = device_calls.run(make, name, arrays, arguments)
        return result
    input, weight, bias, out = arrays
    given = *as_arrays(name, input=input, weight=weight, bias=bias), out
    result = prepare(make, name, given, arguments)(*given)
    return result


def _run_packed(
    make: Make, name: str, arrays: tuple[Any, ...], arguments: tuple[Any, ...]
) -> Array:
    """The same with a ``PackedWeight``, whose array stands for it in what is remembered."""
    input, weight, bias, out = arrays
    call = find(make, name, (input, weight.array, bias, out), arguments)
    if call is None:
        if on_gpu(input, bias, out):
            raise TypeError(
                f"{name}: a packed weight is the host's: give the weight itself on GPUs"
            )
        input, plain, bias = as_arrays(name, input=input, weight=weight.array, bias=bias)
        call = prepare(make, name, (input, plain, bias, out), arguments)
    result: Array = call(input, weight, bias, out)
    return result


def _convolution(
    name: str,
    arrays: tuple[Array, Array, Array | None, Array | None],
    rank: int,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: str,
    padding_value: complex,
    layout: str | None,
    weight_layout: str | None,
    activation: Activation,
    out_dtype: Any,
    backend: str | None,
    packed: bool,
) -> Callable[..., Array]:
    x, w, b, out = arrays
    arithmetic = promote(name, (x, w, b), out_dtype)
    geometry = ConvGeometry.of(
        x, w, stride, padding, dilation, groups, rank=rank, layout=layout,
        weight_layout=weight_layout, name=name, dtype=np.float32,
    )  # fmt: skip
    geometry = replace(geometry, prepared=packed)
    if not needs_copy(name, padding_mode, padding_value, arithmetic):
        return prepare_conv("fprop", arrays, geometry, arithmetic, activation, backend)
    if isinstance(x, DeviceArray):
        raise ValueError(
            f"{name}: arrays on a GPU are padded with zeros alone, got padding_mode "
            f"{padding_mode!r} and padding_value {padding_value!r}: pad them before"
        )
    # The user's ``out`` must not overlap the input itself, of which the kernel sees a copy.
    if out is not None:
        check_out(name, out, geometry.out_shape, arithmetic.result, [x])

    def padded(x: Array, w: Any, b: Array | None, out: Array | None) -> Array:
        if out is not None:
            check_apart(name, out, [x])
        wider = pad_input(x.astype(arithmetic.common), geometry, padding_mode, padding_value)
        return convolve(
            name, rank, wider, w, b, stride, 0, dilation, groups, layout=layout,
            weight_layout=weight_layout, activation=activation, out_dtype=out_dtype, out=out,
            backend=backend,
        )  # fmt: skip

    return padded


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
    x = device_calls.wrapped(input) if on_gpu(input) else as_array(f"{name}: input", input)
    channels = data_operand(name, x, rank, layout).extent("C")
    if groups is not None and integer(f"{name}: groups", groups, 1) != channels:
        raise ValueError(
            f"{name}: groups must be None or the number of channels {channels}, got {groups}"
        )
    return convolve(
        name,
        rank,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        channels,
        layout=layout,
        **keywords,
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
    activation: Activation,
    out_dtype: Any,
    out: Array | None,
    backend: str | None,
) -> Array:
    """A depthwise convolution, then one of a single tap with bias and activation."""
    if on_gpu(pointwise_weight):
        pointwise: Array = device_calls.wrapped(pointwise_weight)
    else:
        pointwise = as_array(f"{name}: pointwise_weight", pointwise_weight)
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
            name, rank, between, pointwise_weight, bias, 1, 0, 1, 1, activation=activation,
            out_dtype=out_dtype, out=out, **shared,
        )  # fmt: skip

    # Without kernels first: what is wrong with the second step shows before the first one runs,
    # of which ``out`` must be apart as well.
    with recorded_steps():
        both_steps()
    if out is not None and on_gpu(out):
        inputs = device_calls.wrapped(input), device_calls.wrapped(depthwise_weight)
        check_apart(name, device_calls.wrapped(out), inputs)
    elif out is not None:
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
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """A transposed convolution of any rank: dgrad of the convolution it is adjoint to."""
    arguments = (
        rank, stride, padding, output_padding, groups, dilation, layout, weight_layout, activation,
        out_dtype, backend,
    )  # fmt: skip
    arrays = input, weight, bias, out
    result = again(_transposed, name, arrays, arguments)
    return _run(_transposed, name, arrays, arguments) if result is None else result


def _transposed(
    name: str,
    arrays: tuple[Array, Array, Array | None, Array | None],
    rank: int,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    layout: str | None,
    weight_layout: str | None,
    activation: Activation,
    out_dtype: Any,
    backend: str | None,
) -> Callable[..., Array]:
    x, w, b, _ = arrays
    arithmetic = promote(name, (x, w, b), out_dtype)
    geometry = ConvGeometry.of_transpose(
        x, w, stride, padding, output_padding, groups, dilation, rank=rank, layout=layout,
        weight_layout=weight_layout, name=name, dtype=np.float32,
    )  # fmt: skip
    call = prepare_conv("dgrad", arrays, geometry, arithmetic, activation, backend)
    if arithmetic.kind != "complex":
        return call
    # dgrad conjugates, and a transposed convolution doesn't.
    return lambda x, w, b, out: call(x, w.conj(), b, out)


def multiply_rows(
    name: str,
    rows: Any,
    weight: Any,
    bias: Any = None,
    activation: Activation = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """``rows @ weight.T + bias``: the rows are the pixels of a 1x1 convolution, channels last."""
    packed = isinstance(weight, PackedWeight)
    arrays, arguments = (rows, weight, bias, out), (activation, backend, packed)
    if packed:
        return _run_packed(_product, name, arrays, arguments)
    result = again(_product, name, arrays, arguments)
    return _run(_product, name, arrays, arguments) if result is None else result


def _product(
    name: str,
    arrays: tuple[Array, Array, Array | None, Array | None],
    activation: Activation,
    backend: str | None,
    packed: bool,
) -> Callable[..., Array]:
    rows, weight, bias, _ = arrays
    if weight.ndim == 1:
        return _neuron(name, arrays, activation, backend)
    arithmetic = promote(name, (rows, weight, bias))
    geometry = ConvGeometry.of_linear(rows.shape, weight.shape, np.float32, name)
    geometry = replace(geometry, prepared=packed)
    one, two, three = (operand.shape for operand in geometry.operands("fprop"))
    shaped = (*rows.shape[:-1], weight.shape[0]), (one, two, three)
    return prepare_conv("fprop", arrays, geometry, arithmetic, activation, backend, shaped)


def _neuron(
    name: str,
    arrays: tuple[Array, Array, Array | None, Array | None],
    activation: Activation,
    backend: str | None,
) -> Callable[..., Array]:
    """One neuron's output for every row: a layer of one, without its axis."""
    rows, weight, bias, out = arrays
    arithmetic = promote(name, (rows, weight, bias))
    if rows.shape[-1:] != weight.shape or not weight.size:
        raise ValueError(
            f"{name}: input (..., in_features) and weight (in_features,) must agree in "
            f"in_features, which isn't 0, got shapes {rows.shape} and {weight.shape}"
        )
    if bias is not None and bias.shape != ():
        raise ValueError(
            f"{name}: bias must have shape () beside a weight of one axis, got shape {bias.shape}"
        )
    if out is not None:
        inputs = [array for array in (rows, weight, bias) if array is not None]
        check_out(name, out, rows.shape[:-1], arithmetic.result, inputs)

    def call(rows: Array, weight: Array, bias: Array | None, out: Array | None) -> Array:
        result = multiply_rows(
            name, rows, weight[None], None if bias is None else bias[None], activation,
            None if out is None else out[..., None], backend,
        )  # fmt: skip
        return result.reshape(result.shape[:-1]) if out is None else out

    return call
