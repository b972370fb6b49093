"""Gradients of unfold, fold and maximum unpooling, for tests/test_torch.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .torch_cases import (
    CONV_DTYPES,
    INTEGERS,
    VIEWS,
    Array,
    Case,
    Draw,
    drawn_dtype,
    values,
    window,
)
from .torch_cases_reference import Expected, expected_sum, floating, gradient, same

ORDER = ("kernel_size", "dilation", "padding", "stride")


def columns_case(name: str, index: int) -> Case:
    """Of unfold, whose gradient is columns, or of fold, whose gradient is images."""
    draw = Draw(name, index)
    dtype, tier = drawn_dtype(draw, CONV_DTYPES)
    if tier == "special" or dtype in INTEGERS:
        tier = "exact"
    parts = window(draw, 2, 3)
    arguments = {
        key: draw.spelled(parts["kernel" if key == "kernel_size" else key]) for key in ORDER
    }
    size = (draw.between(1, 2), draw.between(1, 3), *parts["size"])
    shape: tuple[int, ...] = size
    if name == "unfold_backward":
        shape = tuple(F.unfold(torch.zeros(size), **arguments).shape)
    arrays = {"grad_output": values(draw, shape, dtype, tier)}
    case = Case(name, index, 0, dtype, tier, arrays, arguments)
    if name == "unfold_backward":
        case.arguments = {"input_size": size, **arguments}
    if draw.chance(0.4) and dtype != "bfloat16":
        case.views["grad_output"] = draw.pick(VIEWS)
    return case


def expect_columns(case: Case) -> Expected:
    """Torch's gradient by autograd; sums of at most a kernel's taps, in the input's own dtype."""
    window = {key: case.arguments[key] for key in ORDER}
    taps = math.prod(np.broadcast_to(window["kernel_size"], 2).tolist())

    def applied(grad: Any) -> Any:
        if case.name == "unfold_backward":
            zeros = torch.zeros(case.arguments["input_size"], dtype=grad.dtype)
            return gradient(lambda x: F.unfold(x, **window), zeros, grad)
        zeros = torch.zeros_like(F.unfold(grad, **window))
        return gradient(lambda x: F.fold(x, grad.shape[2:], **window), zeros, grad)

    found = expected_sum(case, floating(applied), taps)
    if case.dtype in INTEGERS:
        wrapping = found.values.astype(case.dtype).astype(np.int64)
        return Expected(wrapping, found.tolerance, case.dtype)
    return found


def unpool_case(name: str, index: int) -> Case:
    """Indices of a pooling of distinct values, so that torch's unpooling is determined."""
    draw = Draw(name, index)
    rank = int(name[len("max_unpool")])
    dtype = draw.pick(draw.pick((("float32",), ("float64",))))
    size, kernel = draw.per_axis(rank, 2, 7), draw.between(1, 2)
    shape = (draw.between(1, 2), draw.between(1, 3), *size)
    x = torch.from_numpy(draw.rng.permutation(math.prod(shape)).reshape(shape)).double()
    _, indices = getattr(F, f"max_pool{rank}d")(x, kernel, return_indices=True)
    arrays = {"grad_output": values(draw, shape, dtype, "random"), "indices": indices.numpy()}
    case = Case(name, index, rank, dtype, "random", arrays, {})
    case.own["kernel"] = kernel
    if draw.chance(0.4):
        case.own["layout"] = f"N{'DHW'[3 - rank :]}C"
    for key in arrays:
        if draw.chance(0.4):
            case.views[key] = draw.pick([view for view in VIEWS if view != "big-endian"])
    return case


def expect_unpool(case: Case) -> tuple[Array, Array]:
    """Torch's gradient of unpooling, which moves values; the indices once more."""
    grad, indices = same(case.arrays["grad_output"]), torch.from_numpy(case.arrays["indices"])
    function, kernel = getattr(F, f"max_unpool{case.rank}d"), case.own["kernel"]
    zeros = torch.zeros(indices.shape, dtype=grad.dtype)
    size = list(grad.shape)
    found = gradient(lambda x: function(x, indices, kernel, output_size=size), zeros, grad)
    return found.numpy(), case.arrays["indices"]
