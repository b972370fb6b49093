"""What the adjoints of poolings share, in every rank: arguments -> geometry -> run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import device_calls
from .arrays import Array, as_arrays, check_apart, check_out, on_gpu
from .device_arrays import DeviceArray
from .dtypes import Arithmetic, converted, promote
from .execute import deliver, finds_maxima, prepare_pool, prepare_pool_grad
from .gradients import check_batched, check_gradient
from .operand import data_operand
from .pool_geometry import PoolGeometry
from .pools import power_of
from .recall import Make, again, prepare


def _validated(
    name: str, rank: int, reduction: str, arrays: tuple[Array, Array], layout: str | None,
    window: dict[str, Any], kinds: tuple[str, ...] = ("float",),
) -> tuple[Arithmetic, PoolGeometry]:  # fmt: skip
    """The arithmetic of a gradient and an input, and the forward pooling's geometry."""
    grad, x = arrays
    arithmetic = promote(name, (grad, x), kinds=kinds)
    check_batched(name, rank, x, window.get("padding"))
    keywords: dict[str, Any] = {
        "rank": rank, "layout": layout, "dtype": arithmetic.computing(1), "name": name,
    }  # fmt: skip
    if window:
        geometry = PoolGeometry.of(x, reduction, **window, **keywords)
    else:
        if grad.ndim != x.ndim:
            raise ValueError(
                f"{name}: grad_output must have {x.ndim} axes as the input, got {grad.shape}"
            )
        first = data_operand(name, x, rank, layout).letters.index("DHW"[3 - rank])
        size = grad.shape[first : first + rank]
        geometry = PoolGeometry.of_adaptive(x, reduction, size, **keywords)
    check_gradient(name, grad, geometry.out_shape)
    return arithmetic, geometry


def _call(
    make: Make, name: str, grad_output: Any, input: Any, out: Array | None, *arguments: Any
) -> Array:
    """Prepare, or remember, a call of gradient, input and ``out``, and run it."""
    result: Array | None = again(make, name, (grad_output, input, out), arguments)
    if result is None:
        if on_gpu(grad_output, input, out) and make is not _of_power:
            gradient: Array = device_calls.run(make, name, (grad_output, input, out), arguments)
            return gradient
        grad, x = as_arrays(name, grad_output=grad_output, input=input)
        result = prepare(make, name, (grad, x, out), arguments)(grad, x, out)
    return result


def max_backward(
    name: str, rank: int, grad_output: Any, input: Any, layout: str | None, out: Array | None,
    backend: str | None, **window: Any,
) -> Array:  # fmt: skip
    """The gradient of maximum pooling: to where each window's maximum was."""
    given = rank, layout, backend, tuple(window), *window.values()
    return _call(_of_max, name, grad_output, input, out, *given)


def _of_max(
    name: str, arrays: tuple[Array, Array, Array | None], rank: int, layout: str | None,
    backend: str | None, names: tuple[str, ...], *values: Any,
) -> Callable[..., Array]:  # fmt: skip
    grad, x, out = arrays
    window = dict(zip(names, values, strict=True))
    arithmetic, geometry = _validated(name, rank, "max", (grad, x), layout, window)
    if out is not None:
        check_out(name, out, x.shape, arithmetic.result, [grad, x])
    finds = finds_maxima(geometry, backend, isinstance(x, DeviceArray))
    if not finds:
        # Of its values nothing is used; kernels on a GPU give the input's dtype alone.
        maxima = x.dtype if isinstance(x, DeviceArray) else geometry.dtype
        forward = prepare_pool(x, None, geometry, True, maxima, backend)
    backward = prepare_pool_grad(out, geometry, arithmetic.result, [grad, x], backend, finds)

    def call(grad: Array, x: Array, out: Array | None) -> Array:
        if out is not None:
            check_apart(name, out, [grad, x])
        return backward(grad, x if finds else forward(x, None)[1], out)

    return call


def mean_backward(
    name: str, rank: int, grad_output: Any, input: Any, layout: str | None, out: Array | None,
    backend: str | None, **window: Any,
) -> Array:  # fmt: skip
    """The gradient of average pooling: shared by each window."""
    given = rank, layout, backend, tuple(window), *window.values()
    return _call(_of_mean, name, grad_output, input, out, *given)


def _of_mean(
    name: str, arrays: tuple[Array, Array, Array | None], rank: int, layout: str | None,
    backend: str | None, names: tuple[str, ...], *values: Any,
) -> Callable[..., Array]:  # fmt: skip
    grad, x, out = arrays
    window, kinds = dict(zip(names, values, strict=True)), ("float", "complex")
    arithmetic, geometry = _validated(name, rank, "mean", (grad, x), layout, window, kinds)
    backward = prepare_pool_grad(out, geometry, arithmetic.result, [grad, x], backend)

    def call(grad: Array, x: Array, out: Array | None) -> Array:
        if out is not None:
            check_apart(name, out, [grad, x])
        return backward(grad, None, out)

    return call


@np.errstate(all="ignore")
def power_backward(
    name: str, rank: int, grad_output: Any, input: Any, norm_type: Any, layout: str | None,
    out: Array | None, backend: str | None, **window: Any,
) -> Array:  # fmt: skip
    """The gradient of power-average pooling; nothing flows from a window whose sum is 0 (for a p
    below 1 that is NaN at zeros, as in torch)."""
    given = rank, norm_type, layout, backend, tuple(window), *window.values()
    return _call(_of_power, name, grad_output, input, out, *given)


def _of_power(
    name: str, arrays: tuple[Array, Array, Array | None], rank: int, norm_type: Any,
    layout: str | None, backend: str | None, names: tuple[str, ...], *values: Any,
) -> Callable[..., Array]:  # fmt: skip
    grad, x, out = arrays
    window = dict(zip(names, values, strict=True))
    power = power_of(name, norm_type)
    reduction = "max" if math.isinf(power) else "mean"
    arithmetic, geometry = _validated(name, rank, reduction, (grad, x), layout, window)
    if out is not None:
        check_out(name, out, x.shape, arithmetic.result, [grad, x])
    wide = geometry.dtype
    forward = prepare_pool(x, None, geometry, reduction == "max", wide, backend)
    backward = prepare_pool_grad(None, geometry, wide, [], backend)

    def call(grad: Array, x: Array, out: Array | None) -> Array:
        if out is not None:
            check_apart(name, out, [grad, x])
        values = converted(x, wide)
        if reduction == "max":
            _, indices = forward(np.abs(values) * math.copysign(1, power), None)
            result = backward(grad, indices, None)
            result *= np.sign(values)
        else:
            means = forward(values**power, None)
            taps = math.prod(geometry.kernel)
            # d out / d mean = (1 / p) (taps mean) ** (1 / p - 1) taps,
            # d mean / d x = p x ** (p - 1).
            slope = (means * taps) ** (1 / power - 1) * taps
            shares = np.where(means == 0, 0, converted(grad, wide) * slope)
            result = backward(shares, None, None)
            result *= values ** (power - 1)
        return deliver(result, out, arithmetic.result)

    return call
