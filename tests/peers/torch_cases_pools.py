"""Generated arguments of poolings, for tests/test_torch.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .torch_cases import (
    COMPLEX,
    FLOAT_DTYPES,
    HALVES,
    INTEGERS,
    Array,
    Case,
    Draw,
    batch,
    drawn_dtype,
    dressed,
    values,
)

MAX_DTYPES = (("float32",), ("float64",), HALVES, INTEGERS)
MEAN_DTYPES = (("float32",), ("float64",), HALVES, INTEGERS, COMPLEX)

#: Powers that every value has, that only positive ones have, and the two maxima.
WHOLE_POWERS = (1, 2, 4, 2.0)
ODD_POWERS = (3, -1, 0.5, 1.5, 2.5, -2)
LIMIT_POWERS = (math.inf, -math.inf)


def pool_window(draw: Draw, rank: int, dilated: bool = False) -> tuple[dict[str, Any], list[int]]:
    """kernel_size, stride, padding, ceil_mode (and dilation), and sizes that they fit."""
    high = 5 - (rank == 3)
    kernel = draw.per_axis(rank, 1, high)
    padding = [draw.between(0, extent // 2) for extent in kernel]
    if len(set(kernel)) == 1 and draw.chance(0.5):
        padding = [padding[0]] * rank
    dilation = draw.per_axis(rank, 1, 3) if dilated and draw.chance(0.4) else [1] * rank
    size = [
        max(1, d * (k - 1) + 1 - 2 * p) + draw.between(0, 8 if rank < 3 else 4)
        for k, p, d in zip(kernel, padding, dilation, strict=True)
    ]
    if rank < 3 and draw.chance(0.08):
        size[-1] += 70
    arguments: dict[str, Any] = {"kernel_size": draw.spelled(kernel)}
    if draw.chance(0.6):
        arguments["stride"] = draw.spelled(draw.per_axis(rank, 1, 4))
    if any(padding):
        arguments["padding"] = draw.spelled(padding)
    if any(extent > 1 for extent in dilation):
        arguments["dilation"] = draw.spelled(dilation)
    if draw.chance(0.4):
        arguments["ceil_mode"] = True
    return arguments, size


def _kernel(arguments: dict[str, Any], rank: int) -> list[int]:
    """The window's extents."""
    return [int(extent) for extent in np.broadcast_to(arguments["kernel_size"], rank)]


def data(
    draw: Draw, size: list[int], dtype: str, tier: str, gradient: bool, often: float = 0.02
) -> dict[str, Array]:
    """The input: a batch at times, some channels, ``size``."""
    shape = (*batch(draw, gradient), draw.between(1, 6), *size)
    return {"input": values(draw, shape, dtype, tier, often)}


def max_case(name: str, index: int, rank: int, gradient: bool = False) -> Case:
    """Maximum pooling; many ties in the exact tier, many NaN and infinities in the special one."""
    draw = Draw(name, index)
    dtype, tier = drawn_dtype(draw, FLOAT_DTYPES if gradient else MAX_DTYPES)
    if tier == "random" and dtype not in INTEGERS and draw.chance(0.4):
        tier = "special"
    arguments, size = pool_window(draw, rank, dilated=True)
    if gradient and "dilation" in arguments:
        # torch scatters to an index outside of the plane where a window lies in the padding.
        arguments.pop("padding", None)
        spread, taps = (
            np.broadcast_to(arguments[key], rank) for key in ("dilation", "kernel_size")
        )
        spans = [int(d * (k - 1) + 1) for d, k in zip(spread, taps, strict=True)]
        size = [max(pair) for pair in zip(size, spans, strict=True)]
    arrays = data(draw, size, dtype, tier, gradient, draw.pick((0.02, 0.4)))
    return dressed(draw, Case(name, index, rank, dtype, tier, arrays, arguments), "pool")


def mean_case(name: str, index: int, rank: int, gradient: bool = False) -> Case:
    """Average pooling."""
    draw = Draw(name, index)
    dtype, tier = drawn_dtype(draw, FLOAT_DTYPES if gradient else MEAN_DTYPES)
    tier = "random" if gradient else tier
    if dtype == "int64" and tier == "random":
        tier = "exact"
    arguments, size = pool_window(draw, rank)
    if rank == 3:
        # torch's avg_pool3d refuses an input that is smaller than the window without its padding.
        size = [max(pair) for pair in zip(size, _kernel(arguments, rank), strict=True)]
    if draw.chance(0.4):
        arguments["count_include_pad"] = False
    if rank > 1 and draw.chance(0.25):
        arguments["divisor_override"] = draw.pick((1, 2, 7, -3))
    arrays = data(draw, size, dtype, tier, gradient)
    return dressed(draw, Case(name, index, rank, dtype, tier, arrays, arguments), "pool")


def lp_case(name: str, index: int, rank: int, gradient: bool = False) -> Case:
    """Power-average pooling.

    Sums that may cancel (odd powers of both signs) are of small integers in the forward direction,
    so that their sign is certain, and of positive values in the gradient.
    """
    draw = Draw(name, index)
    dtype = draw.pick(draw.pick(FLOAT_DTYPES))
    power = draw.pick(draw.pick((WHOLE_POWERS, ODD_POWERS, LIMIT_POWERS)))
    tier = "exact" if draw.chance(0.5) else "random"
    if gradient and math.isfinite(power):
        tier = "random"
    arguments, size = pool_window(draw, rank)
    arguments.pop("padding", None)
    kernel = _kernel(arguments, rank)
    if rank == 1:
        arguments["kernel_size"] = kernel[0]  # torch multiplies by it
    size = [max(pair) for pair in zip(size, kernel, strict=True)]
    arguments = {"norm_type": power, **arguments}
    arrays = data(draw, size, dtype, tier, gradient)
    cancels = power in ODD_POWERS or power == 1
    if cancels and (tier == "random" or power not in (1, 3)):
        arrays["input"] = np.abs(arrays["input"])
    if gradient and power in ODD_POWERS:
        arrays["input"] = (arrays["input"] + 0.125).astype(arrays["input"].dtype)
    return dressed(draw, Case(name, index, rank, dtype, tier, arrays, arguments), "pool")


def adaptive_case(name: str, index: int, rank: int, reduction: str, gradient: bool = False) -> Case:
    """Adaptive pooling, to fewer and to more outputs than inputs."""
    draw = Draw(name, index)
    forward = MAX_DTYPES if reduction == "max" else MEAN_DTYPES
    dtype, tier = drawn_dtype(draw, FLOAT_DTYPES if gradient else forward)
    if reduction == "max" and tier == "random" and dtype not in INTEGERS and draw.chance(0.4):
        tier = "special"
    if dtype == "int64" or (gradient and reduction != "max"):
        tier = "exact"
    size = draw.per_axis(rank, 1, 13 if rank < 3 else 6)
    outputs: Any = draw.per_axis(rank, 1, 8 if rank < 3 else 4)
    spelled = draw.spelled(outputs)
    if rank > 1 and not gradient and draw.chance(0.3):
        outputs[draw.between(0, rank - 1)] = None
        spelled = tuple(outputs)
    arrays = data(draw, size, dtype, tier, gradient, draw.pick((0.02, 0.4)))
    case = Case(name, index, rank, dtype, tier, arrays, {"output_size": spelled})
    return dressed(draw, case, "pool")
