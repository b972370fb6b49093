"""What the adjoints of poolings share, in every rank: arguments -> geometry -> run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arrays import Array, as_arrays, check_out
from .dtypes import Arithmetic, converted, promote
from .execute import deliver, run_pool, run_pool_grad
from .gradients import check_batched, check_gradient
from .operand import data_operand
from .pool_geometry import PoolGeometry
from .pools import power_of


def _prepare(
    name: str, rank: int, reduction: str, grad_output: Any, input: Any, layout: str | None,
    kinds: tuple[str, ...] = ("float",), **window: Any,
) -> tuple[Array, Array, Arithmetic, PoolGeometry]:  # fmt: skip
    """Both arrays, their arithmetic and the forward pooling's geometry."""
    grad, x = as_arrays(name, grad_output=grad_output, input=input)
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
    return grad, x, arithmetic, geometry


def max_backward(
    name: str, rank: int, grad_output: Any, input: Any, layout: str | None, out: Array | None,
    backend: str | None, **window: Any,
) -> Array:  # fmt: skip
    """The gradient of maximum pooling: to where each window's maximum was."""
    grad, x, arithmetic, geometry = _prepare(
        name, rank, "max", grad_output, input, layout, **window
    )
    if out is not None:
        check_out(name, out, x.shape, arithmetic.result, [grad, x])
    _, indices = run_pool(x, geometry, True, geometry.dtype, None, backend)
    return run_pool_grad(grad, indices, geometry, arithmetic.result, out, [grad, x], backend)


def mean_backward(
    name: str, rank: int, grad_output: Any, input: Any, layout: str | None, out: Array | None,
    backend: str | None, **window: Any,
) -> Array:  # fmt: skip
    """The gradient of average pooling: shared by each window."""
    grad, x, arithmetic, geometry = _prepare(
        name, rank, "mean", grad_output, input, layout, ("float", "complex"), **window
    )
    return run_pool_grad(grad, None, geometry, arithmetic.result, out, [grad, x], backend)


@np.errstate(all="ignore")
def power_backward(
    name: str, rank: int, grad_output: Any, input: Any, norm_type: Any, layout: str | None,
    out: Array | None, backend: str | None, **window: Any,
) -> Array:  # fmt: skip
    """The gradient of power-average pooling; nothing flows from a window whose sum is 0 (for a p
    below 1 that is NaN at zeros, as in torch)."""
    power = power_of(name, norm_type)
    reduction = "max" if math.isinf(power) else "mean"
    grad, x, arithmetic, geometry = _prepare(
        name, rank, reduction, grad_output, input, layout, **window
    )
    if out is not None:
        check_out(name, out, x.shape, arithmetic.result, [grad, x])
    values, wide = converted(x, geometry.dtype), geometry.dtype
    if reduction == "max":
        sizes = np.abs(values) * math.copysign(1, power)
        _, indices = run_pool(sizes, geometry, True, wide, None, backend)
        result = run_pool_grad(grad, indices, geometry, wide, None, [], backend)
        result *= np.sign(values)
    else:
        means, _ = run_pool(values**power, geometry, False, wide, None, backend)
        taps = math.prod(geometry.kernel)
        # d out / d mean = (1 / p) (taps mean) ** (1 / p - 1) taps, d mean / d x = p x ** (p - 1).
        slope = (means * taps) ** (1 / power - 1) * taps
        shares = np.where(means == 0, 0, converted(grad, wide) * slope)
        result = run_pool_grad(shares, None, geometry, wide, None, [], backend)
        result *= values ** (power - 1)
    return deliver(result, out, arithmetic.result)
