"""What the pooling functions share, in every rank: arguments -> geometry -> run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .arguments import flag, shown
from .arrays import Array, as_array, check_out
from .dtypes import Arithmetic, converted, promote
from .execute import deliver, run_pool
from .pool_geometry import PoolGeometry
from .reals import real

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
    wanted = flag(f"{name}: return_indices", return_indices)
    x = as_array(f"{name}: input", input)
    arithmetic = promote(name, (x,), kinds=TAKES[reduction])
    made = PoolGeometry.of_adaptive if "output_size" in window else PoolGeometry.of
    geometry = made(
        x, reduction, **window, rank=rank, layout=layout, dtype=computing_dtype(arithmetic),
        name=name,
    )  # fmt: skip
    result_type = result_dtype(arithmetic, reduction)
    result, indices = run_pool(x, geometry, wanted, result_type, out, backend)
    return result if indices is None else (result, indices)


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
    x = as_array(f"{name}: input", input)
    arithmetic = promote(name, (x,), kinds=("float",))
    power = power_of(name, norm_type)
    reduction = "max" if math.isinf(power) else "mean"
    geometry = PoolGeometry.of(
        x, reduction, **window, rank=rank, layout=layout, dtype=arithmetic.computing(1), name=name
    )
    if out is not None:
        check_out(name, out, geometry.out_shape, arithmetic.result, [x])
    values = converted(x, geometry.dtype)
    if reduction == "max":
        sign = math.copysign(1, power)
        result, _ = run_pool(np.abs(values) * sign, geometry, False, geometry.dtype, None, backend)
        result *= sign
    else:
        result, _ = run_pool(values**power, geometry, False, geometry.dtype, None, backend)
        result *= math.prod(geometry.kernel)
        result **= 1 / power
    return deliver(result, out, arithmetic.result)
