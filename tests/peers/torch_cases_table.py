"""Every function that tests/test_torch.py compares: how many cases, and what torch says to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .torch_cases import (
    COMPLEX,
    FLOATS,
    INTEGERS,
    VIEWS,
    Array,
    Case,
    Draw,
    conv_case,
    linear_case,
    local_case,
    transpose_case,
    values,
)
from .torch_cases_pools import adaptive_case, lp_case, max_case, mean_case
from .torch_cases_reference import (
    EPS,
    EPS64,
    Expected,
    Function,
    by_parts,
    convolution,
    expected_max,
    expected_power,
    expected_power_gradient,
    expected_sum,
    floating,
    gradient,
    locally_connected,
    quietly,
    rounding,
    sum_dtype,
    transposed,
    wide,
)
from .torch_cases_unfolding import columns_case, expect_columns, expect_unpool, unpool_case


class Entry(NamedTuple):
    """A function: how many cases, a case by its number, and what torch says to it: sums within a
    tolerance, or maxima and their indices."""

    cases: int
    make: Callable[[str, int], Case]
    expect: Callable[[Case], Expected | tuple[Array, Array]]


def _length(case: Case, key: str = "weight", skip: int = 1) -> int:
    return math.prod(case.arrays[key].shape[skip:])


def _conv(case: Case) -> Expected:
    return expected_sum(case, convolution(case), _length(case))


def _separable(case: Case) -> Expected:
    """Between the two stages the dtype is that of sums: one more rounding for each channel."""
    length = _length(case, "depthwise_weight") + _length(case, "pointwise_weight") + 2
    forward = convolution(case)
    found = expected_sum(case, forward, length, exact=case.dtype not in ("float16", "bfloat16"))
    if case.dtype in INTEGERS:
        return found._replace(dtype="int64")
    if case.tier == "exact" and not found.tolerance.any():
        return found
    absolute = quietly(forward, *[wide(array).abs() for array in case.arrays.values()]).numpy()
    return found._replace(tolerance=found.tolerance + EPS[case.dtype] * absolute)


def _transposed(case: Case) -> Expected:
    weight = case.arrays["weight"].shape
    length = weight[0] // case.arguments.get("groups", 1) * math.prod(weight[2:])
    return expected_sum(case, transposed(case), length)


def _linear(case: Case) -> Expected:
    return expected_sum(case, F.linear, case.arrays["weight"].shape[-1])


def _local(case: Case) -> Expected:
    return expected_sum(case, locally_connected(case), _length(case, skip=2))


def _torch_max(case: Case) -> Function:
    prefix = "adaptive_" if "output_size" in case.arguments else ""
    function = getattr(F, f"{prefix}max_pool{case.rank}d")
    return partial(function, **case.arguments, return_indices=True)


def _max(case: Case) -> tuple[Array, Array]:
    return expected_max(case, _torch_max(case))


def _torch_mean(case: Case) -> Function:
    prefix = "adaptive_" if "output_size" in case.arguments else ""
    return partial(getattr(F, f"{prefix}avg_pool{case.rank}d"), **case.arguments)


def _mean_taps(case: Case, key: str = "input") -> int:
    if "kernel_size" in case.arguments:
        return math.prod(np.broadcast_to(case.arguments["kernel_size"], case.rank).tolist())
    return math.prod(case.arrays[key].shape[-case.rank :])


def _mean(case: Case) -> Expected:
    function = _torch_mean(case)
    if case.dtype in INTEGERS and "output_size" in case.arguments:
        # torch has no integers here; a sum divided by the extents in turn is whole where it should.
        whole = partial(_truncated, function)
        return expected_sum(case, whole, 0)
    return expected_sum(case, by_parts(function), _mean_taps(case), exact=False)


def _truncated(function: Function, x: Any) -> Any:
    return function(x.double()).trunc().long()


def _power(case: Case) -> Expected:
    return expected_power(case, partial(getattr(F, f"lp_pool{case.rank}d"), **case.arguments))


def wrapped(case: Case) -> Array | None:
    """Torch's result in the inputs' own integer dtype, which wraps around; None for other cases and
    where torch has no kernel."""
    forward: dict[str, Callable[[Case], Function]] = {
        "conv": convolution, "conv_transpose": transposed, "linear": _linear_forward
    }  # fmt: skip
    made = forward.get(case.name.rstrip("d123"))
    if made is None or case.dtype not in INTEGERS:
        return None
    tensors = [torch.from_numpy(array.copy()) for array in case.arrays.values()]
    try:
        found: Array = quietly(made(case), *tensors).numpy()
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented" not in str(error):
            raise
        return None
    return found


def gradient_case(
    make: Callable[..., Case],
    forward: Callable[[Case], Function],
    target: str,
    name: str,
    index: int,
) -> Case:
    """From a forward case: ``target`` becomes a size, and the output's gradient is added."""
    case = make(name, index, gradient=True)
    tensors = [wide(array) for array in case.arrays.values()]
    shape = tuple(quietly(floating(forward(case)), *tensors).shape)
    draw = Draw(f"{name} gradient", index)
    case.arrays["grad_output"] = values(draw, shape, case.dtype, case.tier)
    if draw.chance(0.4) and case.dtype != "bfloat16":
        case.views["grad_output"] = draw.pick(VIEWS)
    if target:
        case.own["size"] = case.arrays.pop(target).shape
    return case


def _conv_gradient(case: Case, forward: Function, target: str, length: int) -> Expected:
    """By torch.nn.grad where it has the function (every other case), else by autograd."""
    size = case.own["size"]

    def applied(first: Any, grad: Any) -> Any:
        zeros = torch.zeros(size, dtype=grad.dtype)
        if target == "input":
            return gradient(lambda x: forward(x, first), zeros, grad)
        return gradient(lambda w: forward(first, w), zeros, grad)

    def named(first: Any, grad: Any) -> Any:
        ordered = (size, first) if target == "input" else (first, size)
        return getattr(torch.nn.grad, case.name)(*ordered, grad, **case.arguments)

    known = hasattr(torch.nn.grad, case.name) and case.dtype not in COMPLEX
    return expected_sum(case, floating(named if known and case.index % 2 else applied), length)


def _sum_length(case: Case) -> int:
    """Products in a value of the gradient."""
    grad: tuple[int, ...] = case.arrays["grad_output"].shape
    local, trans = case.name.startswith("locally"), "transpose" in case.name
    if "input" in case.arrays:
        data: tuple[int, ...] = case.arrays["input"].shape if trans else grad
        return data[0] if local else data[0] * math.prod(data[2:])
    weight: tuple[int, ...] = case.arrays["weight"].shape[local:]
    if trans:
        return math.prod(weight[1:])
    return weight[0] // int(case.arguments.get("groups", 1)) * math.prod(weight[2:])


def _expect_gradient(forward: Callable[[Case], Function], target: str, case: Case) -> Expected:
    return _conv_gradient(case, forward(case), target, _sum_length(case))


def _expect_linear(target: str, case: Case) -> Expected:
    grad = case.arrays["grad_output"].shape
    length = grad[-1] if target == "input" else math.prod(grad[:-1])
    return _conv_gradient(case, F.linear, target, length)


def _linear_forward(case: Case) -> Function:
    return partial(F.linear)


def bias_case(name: str, index: int) -> Case:
    """A gradient of any rank whose sums are taken."""
    draw = Draw(name, index)
    dtype = draw.pick((*FLOATS, *INTEGERS, *COMPLEX))
    rank = draw.between(1, 2 if name.startswith("local") else 3)
    spatial = [draw.between(1, 9) for _ in range(rank)]
    shape: tuple[int, ...] = (draw.between(0, 3), draw.between(1, 7), *spatial)
    if name == "linear_bias":
        shape = shape[: draw.between(1, 4)]
    tier = draw.pick(("exact", "random")) if dtype != "int64" else "exact"
    case = Case(
        name, index, rank, dtype, tier, {"grad_output": values(draw, shape, dtype, tier)}, {}
    )
    if name != "linear_bias" and draw.chance(0.4):
        case.own["layout"] = f"N{'DHW'[3 - rank :]}C"
    if name.startswith("local") and draw.chance(0.5):
        case.arguments["per_position"] = True
    if draw.chance(0.5) and dtype != "bfloat16":
        case.views["grad_output"] = draw.pick(("reversed", "sliced", "big-endian", "fortran"))
    return case


def _bias(case: Case) -> Expected:
    """Torch's gradient of ``+ b``, summed in float64 by both sides."""
    grad = case.arrays["grad_output"]
    kept: tuple[int, ...] = (-1,) if case.name == "linear_bias" else (1,)
    if case.arguments.get("per_position"):
        kept = tuple(range(1, grad.ndim))
    kept = tuple(axis % grad.ndim for axis in kept)

    def applied(g: Any) -> Any:
        shape = [extent if axis in kept else 1 for axis, extent in enumerate(g.shape)]
        b = torch.zeros(shape, dtype=g.dtype)
        found = gradient(lambda b: b.expand(g.shape), b, g)
        return found.reshape([g.shape[axis] for axis in kept])

    x, length = wide(grad), grad.size
    reference = floating(applied)(x).numpy()
    absolute = applied(x.abs().double()).numpy()
    dtype = sum_dtype(case.dtype)
    if case.dtype in INTEGERS or not grad.size:
        return Expected(reference, np.zeros(reference.shape), dtype)
    error = rounding(dtype, reference) + 2 * (length + 2) * EPS64 * absolute
    return Expected(reference, error, dtype)


def pool_gradient_case(make: Callable[..., Case], forward: Any, name: str, index: int) -> Case:
    """A pooling's case and a gradient of its output; adaptive ones have the size from it."""
    case = gradient_case(make, forward, "", name, index)
    case.arrays = {key: case.arrays[key] for key in ("grad_output", "input")}
    return case


def _max_forward(case: Case) -> Function:
    return lambda x: _torch_max(case)(x)[0]


def _lp_forward(case: Case) -> Function:
    return partial(getattr(F, f"lp_pool{case.rank}d"), **case.arguments)


def _expect_pool(forward: Callable[[Case], Function], case: Case) -> Expected:
    """The gradient is linear in grad_output alone; every window may add to a value."""
    x = wide(case.arrays["input"])
    grad = case.arrays["grad_output"]
    only = Case(
        case.name, case.index, case.rank, case.dtype, case.tier, {"g": grad}, case.arguments
    )
    windows = min(math.prod(grad.shape[-case.rank :]), 256)
    return expected_sum(
        only, lambda g: gradient(forward(case), x, g), windows, exact="max" in case.name
    )


def _expect_lp(case: Case) -> Expected:
    return expected_power_gradient(case, _lp_forward(case))


def _entries() -> dict[str, Entry]:
    table: dict[str, Entry] = {}
    for rank, (conv, trans, pool, small) in enumerate(
        ((220, 160, 160, 110), (420, 260, 240, 140), (180, 120, 130, 80)), 1
    ):
        r = f"{rank}d"
        table[f"conv{r}"] = Entry(conv, partial(conv_case, rank=rank, kind="conv"), _conv)
        table[f"conv_transpose{r}"] = Entry(trans, partial(transpose_case, rank=rank), _transposed)
        table[f"max_pool{r}"] = Entry(pool, partial(max_case, rank=rank), _max)
        table[f"avg_pool{r}"] = Entry(pool, partial(mean_case, rank=rank), _mean)
        table[f"lp_pool{r}"] = Entry(small, partial(lp_case, rank=rank), _power)
        for reduction, expect in (("max", _max), ("avg", _mean)):
            make = partial(adaptive_case, rank=rank, reduction=reduction)
            table[f"adaptive_{reduction}_pool{r}"] = Entry(small, make, expect)
        table |= _conv_gradients(rank, small) | _pool_gradients(rank, small)
        if rank < 3:
            for kind, expect in (("depthwise", _conv), ("separable", _separable)):
                make = partial(conv_case, rank=rank, kind=kind)
                table[f"{kind}_conv{r}"] = Entry(small, make, expect)
            table[f"locally_connected{r}"] = Entry(small, partial(local_case, rank=rank), _local)
    table["linear"] = Entry(200, linear_case, _linear)
    for target in ("input", "weight"):
        make = partial(gradient_case, linear_case, _linear_forward, target)
        table[f"linear_{target}"] = Entry(90, make, partial(_expect_linear, target))
    for name in ("conv_bias", "conv_transpose_bias", "linear_bias", "locally_connected_bias"):
        table[name] = Entry(60, bias_case, _bias)
    for name in ("unfold_backward", "fold_backward"):
        table[name] = Entry(90, columns_case, expect_columns)
    for rank in (1, 2, 3):
        table[f"max_unpool{rank}d_backward"] = Entry(60, unpool_case, expect_unpool)
    return table


def _conv_gradients(rank: int, count: int) -> dict[str, Entry]:
    makers: dict[str, tuple[Any, Any]] = {
        "conv": (partial(conv_case, rank=rank, kind="conv"), convolution),
        "conv_transpose": (partial(transpose_case, rank=rank), transposed),
        "locally_connected": (partial(local_case, rank=rank), locally_connected),
    }
    return {
        f"{name}{rank}d_{target}": Entry(
            count,
            partial(gradient_case, make, forward, target),
            partial(_expect_gradient, forward, target),
        )
        for name, (make, forward) in makers.items()
        for target in ("input", "weight")
        if rank < 3 or name != "locally_connected"
    }


def _pool_gradients(rank: int, count: int) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    makers: dict[str, tuple[Any, Any]] = {
        "max_pool": (max_case, _max_forward),
        "avg_pool": (mean_case, _torch_mean),
        "adaptive_max_pool": (partial(adaptive_case, reduction="max"), _max_forward),
        "adaptive_avg_pool": (partial(adaptive_case, reduction="avg"), _torch_mean),
    }
    for name, (make, forward) in makers.items():
        maker = partial(pool_gradient_case, partial(make, rank=rank), forward)
        found[f"{name}{rank}d_backward"] = Entry(count, maker, partial(_expect_pool, forward))
    make = partial(pool_gradient_case, partial(lp_case, rank=rank), _lp_forward)
    found[f"lp_pool{rank}d_backward"] = Entry(count, make, _expect_lp)
    return found


TABLE = _entries()
