"""What the adjoints of convolutions share, in every rank: arguments -> geometry -> run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import device_calls
from .arguments import flag, integer, shown
from .arrays import Array, as_arrays, check_apart, check_out, on_gpu
from .calls import multiply_rows
from .conv_geometry import ConvGeometry
from .device_arrays import DeviceArray
from .dtypes import Arithmetic, converted, promote
from .execute import deliver, prepare_conv, run_conv
from .local import LocalGeometry, at_least_one
from .operand import Shape, data_operand
from .recall import Make, again, prepare


def shape_from(name: str, value: Any) -> Shape:
    """A shape that was given as one: a sequence of integers.

    >>> shape_from("input_size", [1, 2])
    (1, 2)
    """
    try:
        extents = tuple(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a shape, a sequence of integers, got {shown(value)}"
        ) from None
    return tuple(integer(name, extent, 0) for extent in extents)


def _geometry(
    name: str, rank: int, transposed: bool, input: Any, weight: Any, padding: Any, **rest: Any
) -> ConvGeometry:
    """The convolution's geometry."""
    check_batched(name, rank, input, padding)
    made = ConvGeometry.of_transpose if transposed else ConvGeometry.of
    keywords: dict[str, Any] = {"rank": rank, "name": name, "dtype": np.float32, **rest}
    return made(input, weight, padding=padding, **keywords)


def check_batched(name: str, rank: int, input: Any, padding: Any) -> None:
    """ValueError unless ``input``, an array or a shape, has a batch axis and ``padding`` is
    numbers: gradients take nothing else."""
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding must be numbers, got {shown(padding)}")
    shape = input if isinstance(input, tuple) else input.shape
    if len(shape) != rank + 2:
        raise ValueError(f"{name}: input must have {rank + 2} axes, got shape {shape}")


def check_gradient(name: str, grad_output: Array, shape: Shape) -> None:
    """ValueError unless the gradient has the forward result's shape."""
    if grad_output.shape != shape:
        raise ValueError(
            f"{name}: grad_output must have the output's shape {shape}, got {grad_output.shape}"
        )


def conv_input(
    name: str, rank: int, input_size: Any, weight: Any, grad_output: Any, *,
    transposed: bool = False, out: Array | None, backend: str | None, **rest: Any,
) -> Array:  # fmt: skip
    """The gradient of a (transposed) convolution in its input."""
    arguments = rank, transposed, input_size, backend, tuple(rest), *rest.values()
    given = {"grad_output": grad_output, "weight": weight}
    return _recalled(_of_input, name, given, out, arguments)


def _recalled(
    make: Make, name: str, given: dict[str, Any], out: Array | None, arguments: tuple[Any, ...]
) -> Array:
    """A call of two arrays by name, in the order that ``make`` takes them: as remembered, or
    prepared now."""
    result: Array | None = again(make, name, (*given.values(), None, out), arguments)
    if result is None:
        if on_gpu(*given.values(), out):
            gradient: Array = device_calls.run(make, name, (*given.values(), None, out), arguments)
            return gradient
        arrays = *as_arrays(name, **given), None, out
        result = prepare(make, name, arrays, arguments)(*arrays)
    return result


def _of_input(
    name: str, arrays: tuple[Array, Array, None, Array | None], rank: int, transposed: bool,
    input_size: Any, backend: str | None, names: tuple[str, ...], *values: Any,
) -> Callable[..., Array]:  # fmt: skip
    grad, w, *_ = arrays
    arithmetic = promote(name, (w, grad))
    size = shape_from(f"{name}: input_size", input_size)
    rest = dict(zip(names, values, strict=True))
    geometry = _geometry(name, rank, transposed, size, w, **rest)
    family = "fprop" if transposed else "dgrad"
    check_gradient(name, grad, geometry.operands(family)[0].shape)
    call = prepare_conv(family, arrays, geometry, arithmetic, None, backend)
    if not transposed or arithmetic.kind != "complex":
        return call
    return lambda grad, w, bias, out: call(grad, w.conj(), bias, out)


def conv_weight(
    name: str, rank: int, input: Any, weight_size: Any, grad_output: Any, *,
    transposed: bool = False, out: Array | None, backend: str | None, **rest: Any,
) -> Array:  # fmt: skip
    """The gradient of a (transposed) convolution in its weight."""
    arguments = rank, transposed, weight_size, backend, tuple(rest), *rest.values()
    given = {"input": input, "grad_output": grad_output}
    if transposed:
        given = dict(reversed(given.items()))
    return _recalled(_of_weight, name, given, out, arguments)


def _of_weight(
    name: str, arrays: tuple[Array, Array, None, Array | None], rank: int, transposed: bool,
    weight_size: Any, backend: str | None, names: tuple[str, ...], *values: Any,
) -> Callable[..., Array]:  # fmt: skip
    first, second, *_ = arrays
    x, grad = (second, first) if transposed else (first, second)
    arithmetic = promote(name, (x, grad))
    size = shape_from(f"{name}: weight_size", weight_size)
    rest = dict(zip(names, values, strict=True))
    geometry = _geometry(name, rank, transposed, x, size, **rest)
    check_gradient(name, grad, geometry.input.shape if transposed else geometry.out_shape)
    call = prepare_conv("wgrad", arrays, geometry, arithmetic, None, backend)
    if not transposed or arithmetic.kind != "complex":
        return call
    return lambda first, second, bias, out: call(first.conj(), second.conj(), bias, out)


@np.errstate(invalid="ignore", over="ignore")
def _summed(name: str, grad: Array, axes: tuple[int, ...]) -> Array:
    """The sum over some axes, in float64 or int64, rounded once."""
    arithmetic = promote(name, (grad,))
    wide = {"integer": np.int64, "float": np.float64, "complex": np.complex128}[arithmetic.kind]
    # bfloat16 has no reduction in another dtype of its own.
    grad = grad.astype(wide) if grad.dtype.kind == "V" else grad
    return converted(np.asarray(grad.sum(axis=axes, dtype=wide)), arithmetic.result)


def channel_sums(
    name: str, grad_output: Any, layout: str | None, per_position: Any = False
) -> Array:
    """The gradient of a bias: a batched array, channels first unless ``layout`` says otherwise,
    summed over all axes but the channels', or but that and positions; channels come first in the
    result."""
    kept = "CDHW" if flag(f"{name}: per_position", per_position) else "C"
    (grad,) = as_arrays(name, grad_output=grad_output)
    rank = grad.ndim - 2
    if rank not in (1, 2, 3):
        raise ValueError(f"{name}: grad_output must have 3, 4 or 5 axes, got shape {grad.shape}")
    operand = data_operand(name, grad, rank, layout)
    axes = tuple(axis for axis, letter in enumerate(operand.letters) if letter not in kept)
    sums = _summed(name, grad, axes)
    if len(kept) > 1 and operand.layout[1] != "C":
        sums = np.moveaxis(sums, -1, 0)
    return np.ascontiguousarray(sums)


def row_sums(name: str, grad_output: Any) -> Array:
    """The gradient of a fully connected layer's bias: rows (..., out_features) summed."""
    (grad,) = as_arrays(name, grad_output=grad_output)
    if grad.ndim == 0:
        raise ValueError(f"{name}: grad_output must have one axis or more, got shape ()")
    return _summed(name, grad, tuple(range(grad.ndim - 1)))


def linear_input(
    name: str, input_size: Any, weight: Any, grad_output: Any, out: Array | None,
    backend: str | None,
) -> Array:  # fmt: skip
    """``grad_output @ weight``."""
    given = {"grad_output": grad_output, "weight": weight}
    return _recalled(_of_rows, name, given, out, (input_size, backend))


def _of_rows(
    name: str, arrays: tuple[Array, Array, None, Array | None], input_size: Any,
    backend: str | None,
) -> Callable[..., Array]:  # fmt: skip
    grad, w, *_ = arrays
    size = shape_from(f"{name}: input_size", input_size)
    ConvGeometry.of_linear(size, w.shape, name=name)
    check_gradient(name, grad, (*size[:-1], w.shape[0]))

    def call(grad: Array, w: Array, bias: None, out: Array | None) -> Array:
        filters = w.conj().T if w.dtype.kind == "c" else w.T
        return multiply_rows(name, grad, filters, out=out, backend=backend)

    return call


def linear_weight(
    name: str, input: Any, weight_size: Any, grad_output: Any, out: Array | None,
    backend: str | None,
) -> Array:  # fmt: skip
    """``grad_output.T @ input``."""
    given = {"input": input, "grad_output": grad_output}
    return _recalled(_of_filters, name, given, out, (weight_size, backend))


def _of_filters(
    name: str, arrays: tuple[Array, Array, None, Array | None], weight_size: Any,
    backend: str | None,
) -> Callable[..., Array]:  # fmt: skip
    x, grad, _, out = arrays
    arithmetic = promote(name, (x, grad))
    size = shape_from(f"{name}: weight_size", weight_size)
    ConvGeometry.of_linear(x.shape, size, name=name)
    check_gradient(name, grad, (*x.shape[:-1], size[0]))
    rows = math.prod(x.shape[:-1])
    if rows == 0 and isinstance(x, DeviceArray):
        raise ValueError(f"{name}: input on a GPU must have a row or more, got shape {x.shape}")
    if out is not None:
        check_out(name, out, size, arithmetic.result, [x, grad])

    def call(x: Array, grad: Array, bias: None, out: Array | None) -> Array:
        # Rows that don't lie in order are copied, and then the product doesn't see their memory.
        if out is not None:
            check_apart(name, out, [x, grad])
        columns = at_least_one(x.reshape(rows, size[1]).T)
        if arithmetic.kind == "complex":
            columns = columns.conj()
        rows_of_grad = at_least_one(grad.reshape(rows, size[0]).T)
        return multiply_rows(name, rows_of_grad, columns, out=out, backend=backend)

    return call


def local_input(
    name: str, rank: int, input_size: Any, weight: Any, grad_output: Any, *, out: Array | None,
    backend: str | None, **arguments: Any,
) -> Array:  # fmt: skip
    """The gradient of a locally connected layer in its input."""
    w, grad = as_arrays(name, weight=weight, grad_output=grad_output)
    arithmetic = promote(name, (w, grad))
    size = shape_from(f"{name}: input_size", input_size)
    local = _local(name, rank, size, w.shape, grad, **arguments)
    if out is not None:
        check_out(name, out, size, arithmetic.result, [w, grad])
    flat = run_conv(
        "dgrad", at_least_one(local.flat_output(grad)), local.flat_weight(w), None, local.grouped,
        _summing(arithmetic), None, backend,
    )  # fmt: skip
    folded = np.empty(size, flat.dtype)
    local.add_columns(flat[..., : local.windows.batch], folded)
    return deliver(folded, out, arithmetic.result)


def local_weight(
    name: str, rank: int, input: Any, weight_size: Any, grad_output: Any, *, out: Array | None,
    backend: str | None, **arguments: Any,
) -> Array:  # fmt: skip
    """The gradient of a locally connected layer in its weight."""
    x, grad = as_arrays(name, input=input, grad_output=grad_output)
    arithmetic = promote(name, (x, grad))
    size = shape_from(f"{name}: weight_size", weight_size)
    local = _local(name, rank, x, size, grad, **arguments)
    if out is not None:
        check_out(name, out, size, arithmetic.result, [x, grad])
    flat = run_conv(
        "wgrad", at_least_one(local.read_columns(x)), at_least_one(local.flat_output(grad)), None,
        local.grouped, arithmetic, None, backend,
    )  # fmt: skip
    return deliver(local.shaped_weight(flat), out, arithmetic.result)


def _local(
    name: str, rank: int, input: Any, weight: Shape, grad: Array, *, stride: Any, padding: Any,
    dilation: Any, groups: Any, layout: str | None, weight_layout: str | None,
) -> LocalGeometry:  # fmt: skip
    check_batched(name, rank, input, padding)
    local = LocalGeometry.of(
        name, rank, input, weight, stride, padding, dilation, groups, layout, weight_layout
    )
    check_gradient(name, grad, local.windows.out_shape)
    return local


def _summing(arithmetic: Arithmetic) -> Arithmetic:
    """The same with a result that can be summed on: float16 and bfloat16 stay float32."""
    if arithmetic.kind == "float" and arithmetic.result.itemsize == 2:
        return arithmetic._replace(result=np.dtype(np.float32))
    return arithmetic
