"""What the pooling functions share, in every rank: arguments -> geometry -> run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import device_calls
from .arguments import flag, shown
from .arrays import Array, as_array, check_apart, check_out, on_gpu
from .dtypes import Arithmetic, converted, promote
from .execute import deliver, prepare_pool
from .pool_geometry import PoolGeometry
from .reals import real
from .recall import again, prepare

#: Dtypes that a reduction is defined for.
TAKES = {"max": ("integer", "float"), "mean": ("integer", "float", "complex")}


def computing_dtype(arithmetic: Arithmetic) -> Any:
    """Integers are pooled in int64, float16 and bfloat16 in float32, complex numbers by parts."""
    return np.dtype(np.int64) if arithmetic.kind == "integer" else arithmetic.computing(1)


def result_dtype(arithmetic: Arithmetic, reduction: str) -> Any:
    """A maximum has the input's dtype, a mean that of its sum."""
    return arithmetic.common if reduction == "max" else arithmetic.result


def pool(
    name: str,
    rank: int,
    reduction: str,
    input: Any,
    layout: str | None,
    out: Array | None,
    backend: str | None,
    return_indices: Any = False,
    **window: Any,
) -> Any:
    """A pooling of any rank; with ``output_size`` in place of a window an adaptive one."""
    arguments = rank, reduction, layout, backend, return_indices, tuple(window), *window.values()
    result = again(_pooling, name, (input, out), arguments)
    if result is None:
        wanted = flag(f"{name}: return_indices", return_indices)
        arguments = *arguments[:4], wanted, *arguments[5:]
        if on_gpu(input, out):
            return device_calls.run(_pooling, name, (input, out), arguments)
        arrays = as_array(f"{name}: input", input), out
        result = prepare(_pooling, name, arrays, arguments)(*arrays)
    return result


def _pooling(
    name: str, arrays: tuple[Array, Array | None], rank: int, reduction: str, layout: str | None,
    backend: str | None, return_indices: bool, names: tuple[str, ...], *values: Any,
) -> Callable[..., Any]:  # fmt: skip
    x, out = arrays
    arithmetic = promote(name, (x,), kinds=TAKES[reduction])
    window = dict(zip(names, values, strict=True))
    made = PoolGeometry.of_adaptive if "output_size" in window else PoolGeometry.of
    geometry = made(
        x, reduction, **window, rank=rank, layout=layout, dtype=computing_dtype(arithmetic),
        name=name,
    )  # fmt: skip
    result = result_dtype(arithmetic, reduction)
    return prepare_pool(x, out, geometry, return_indices, result, backend)


def power_of(name: str, norm_type: Any) -> float:
    """``norm_type`` as a float; TypeError or ValueError unless a number other than 0 and NaN."""
    power = real(f"{name}: norm_type", norm_type)
    if power == 0 or math.isnan(power):
        raise ValueError(f"{name}: norm_type must be neither 0 nor NaN, got {shown(norm_type)}")
    return power


@np.errstate(all="ignore")
def power_pool(
    name: str,
    rank: int,
    input: Any,
    norm_type: Any,
    layout: str | None,
    out: Array | None,
    backend: str | None,
    **window: Any,
) -> Array:
    """The p-norm of windows: (sum of x ** p) ** (1 / p); the maximum of |x| for p = infinity, the
    minimum for minus infinity.

    As in torch powers keep their signs, and a partial window counts as if it were whole.
    """
    arguments = rank, norm_type, layout, backend, tuple(window), *window.values()
    result: Array | None = again(_power_pooling, name, (input, out), arguments)
    if result is None:
        arrays = as_array(f"{name}: input", input), out
        result = prepare(_power_pooling, name, arrays, arguments)(*arrays)
    return result


def _power_pooling(
    name: str, arrays: tuple[Array, Array | None], rank: int, norm_type: Any, layout: str | None,
    backend: str | None, names: tuple[str, ...], *values: Any,
) -> Callable[..., Array]:  # fmt: skip
    x, out = arrays
    arithmetic = promote(name, (x,), kinds=("float",))
    power = power_of(name, norm_type)
    reduction = "max" if math.isinf(power) else "mean"
    geometry = PoolGeometry.of(
        x, reduction, **dict(zip(names, values, strict=True)), rank=rank, layout=layout,
        dtype=arithmetic.computing(1), name=name,
    )  # fmt: skip
    if out is not None:
        check_out(name, out, geometry.out_shape, arithmetic.result, [x])
    dense = np.empty(x.shape, geometry.dtype)
    call = prepare_pool(dense, None, geometry, False, geometry.dtype, backend)

    def power_of_windows(x: Array, out: Array | None) -> Array:
        if out is not None:
            check_apart(name, out, [x])
        values = converted(x, geometry.dtype)
        if reduction == "max":
            sign = math.copysign(1, power)
            result = call(np.abs(values) * sign, None)
            result *= sign
        else:
            result = call(values**power, None)
            result *= math.prod(geometry.kernel)
            result **= 1 / power
        return deliver(result, out, arithmetic.result)

    return power_of_windows
