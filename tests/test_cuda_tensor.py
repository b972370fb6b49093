"""Convolution on tensor cores, run without a GPU (``gpu_rows``) on the named cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

numba_cuda = pytest.importorskip("numba_cuda")

from cnnfast import ConvGeometry
from cnnfast.kernels import reference
from cnnfast.kernels.numba_cuda import tensor
from cnnfast.kernels.problem import ACTIVATION_CODES

from cases import CONV_CASES, ConvCase
from conformance import channels_last, layout_names
from gpu_rows import conv_call, run, simulated

Array = np.ndarray[Any, Any]

#: Bits that an operand and a result have.
OPERAND_BITS = {"float16": 11, "bfloat16": 8, "float32": 11}
RESULT_BITS = {"float16": 11, "bfloat16": 8, "float32": 24}


def stored(values: Array, dtype: str) -> Array:
    """float64 values as they are stored: bfloat16 as its bits."""
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)


def numbers(values: Array, dtype: str) -> Array:
    """What stored values stand for, in float64."""
    if dtype != "bfloat16":
        return values.astype(np.float64)
    return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def random(shape: tuple[int, ...], exact: bool, seed: int) -> Array:
    generator = np.random.default_rng([seed, *shape])
    if exact:
        return generator.integers(-4, 5, shape).astype(np.float64)
    return generator.standard_normal(shape)


def check(
    case: ConvCase,
    dtype: str,
    exact: bool,
    last: bool,
    family: str = "fprop",
    infinite: bool = False,
) -> Any:
    """Assert that the row computes a case: exactly, or as well as float32 sums can."""
    x = stored(random(case.input, exact, 1), dtype)
    weight = stored(random(case.weight, exact, 2), dtype)
    if infinite:
        weight.flat[:: weight.size // 3 + 1] = stored(np.array(np.inf), dtype)
    if last:
        x = channels_last(x)
    layout = layout_names(len(case.weight) - 2, last)
    like = np.lib.stride_tricks.as_strided(np.float32(0), x.shape, (0,) * x.ndim)
    flat = np.lib.stride_tricks.as_strided(np.float32(0), case.weight, (0,) * weight.ndim)
    shape = [0, 1, *range(2, weight.ndim)]
    if last:
        weight, flat = np.moveaxis(weight, (0, 1), (-1, -2)), np.moveaxis(flat, (0, 1), (-1, -2))
    geometry = ConvGeometry.of(like, flat, layout=layout, **case.arguments)
    if family == "dgrad":
        first = stored(random(geometry.out_shape, exact, 6), dtype)
        made, channels = x.shape, geometry.in_channels
    else:
        first, made, channels = x, geometry.out_shape, geometry.out_channels
    bias = stored(random((channels,), exact, 3), dtype)
    out = stored(np.full(made, np.nan), dtype)
    views = geometry.canonical(first, weight, out, family)
    call = conv_call(
        geometry.problem, *views, bias=case.bias, activation=case.activation
    )._replace(dtype=dtype)
    program = getattr(tensor, family)(call)
    assert program.scratch_bytes <= tensor.scratch_bound(geometry.problem, dtype) or (
        family == "dgrad"
    )
    counts = run(program, first=views[0], second=views[1], bias=bias, out=views[2])
    expected, tolerance = _expected(geometry, first, weight, bias, case, dtype, exact, family)
    result = numbers(out, dtype)
    with np.errstate(invalid="ignore"):
        wrong = ~(abs(result - expected) <= tolerance) & (result != expected)
    wrong &= ~(np.isnan(result) & np.isnan(expected))
    assert not wrong.any(), (
        f"{int(wrong.sum())} of {wrong.size} values are wrong, the first at "
        f"{np.argwhere(wrong)[0]}: {result[wrong][0]} instead of {expected[wrong][0]}"
    )
    return counts


def _expected(
    geometry: ConvGeometry, first: Array, weight: Array, bias: Array, case: ConvCase,
    dtype: str, exact: bool, family: str,
) -> tuple[Array, Array]:  # fmt: skip
    """The reference's result and how far from it a sum in float32 may be: operands are off by
    their bits (tf32 cuts one of them off), each addition of products by 2**-23 of the sum of
    absolute values (tensor cores don't round to nearest), the result by its own bits."""
    values, filters = numbers(first, dtype), numbers(weight, dtype)
    added = numbers(bias, dtype)[: None if case.bias else 0]
    code = ACTIVATION_CODES[case.activation]

    def of(one: Array, two: Array, three: Array, activation: int) -> Array:
        out = np.empty(geometry.operands(family)[2].shape)
        views = geometry.canonical(one, two, out, family)
        function = getattr(reference, family)
        function(views[0], views[1], three, views[2], geometry.problem, None, activation, 1)
        return out

    expected = of(values, filters, added, code)
    if exact:
        rounded = numbers(stored(expected, dtype), dtype)
        return rounded, np.zeros(expected.shape)
    absolute = of(abs(values), abs(filters), abs(added), 0)
    problem = geometry.problem
    length = (problem.k if family == "dgrad" else problem.c) * math.prod(problem.kernel)
    operands = 2.0**-11 + 2.0**-10 if dtype == "float32" else 0.0
    return expected, (
        2.0 ** -RESULT_BITS[dtype] * abs(expected) + (operands + (length + 2) * 2.0**-23) * absolute
    )


#: Cases that the simulator is quick enough for.
SMALL = [
    case
    for case in CONV_CASES
    if math.prod(case.input) * case.weight[0] <= 4000 and math.prod(case.weight) < 2000
]


@pytest.mark.skipif(not simulated(), reason="needs Numba's simulator")
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_fprop_in_the_simulator(case: ConvCase, last: bool) -> None:
    check(case, "float16", True, last)
