"""Every function that runs a kernel, in every rank, layout, dtype and engine.

Small integers as values, so that results are exact in every dtype: what comes back must equal the
reference's result in float64 (int64 for integers), rounded once. Complex functions are linear or
bilinear and are put together from real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import grad
from cnnfast.kernels.registry import ENGINES, KERNELS, engine_missing

import conformance as suite

Array = np.ndarray[Any, Any]

INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
SUMS = {"int8": "int32", "uint8": "int32", "int16": "int64", "int32": "int64", "int64": "int64"}

pytestmark = pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")


def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype; skips where ml_dtypes isn't there to give bfloat16."""
    if name != "bfloat16":
        return np.dtype(name)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes isn't installed: no bfloat16")
    return np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Function:
    """A function with its arrays' shapes (data axes in NC.. order) and other arguments.

    ``conjugated`` names the arrays that an adjoint of a complex function conjugates.
    """

    name: str
    rank: int
    arrays: dict[str, tuple[int, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = (*INTEGERS, *FLOATS, *COMPLEX)
    conjugated: tuple[str, ...] = ()
    keeps_integers: bool = False
    layouts: bool = True

    @property
    def call(self) -> Callable[..., Any]:
        """The function itself."""
        return getattr(cnnfast if hasattr(cnnfast, self.name) else grad, self.name)


def spatial(rank: int, *extents: int) -> tuple[int, ...]:
    return extents[:rank]


def convolutions(rank: int) -> list[Function]:
    x, w = (2, 4, *spatial(rank, 7, 6, 5)), (6, 2, *spatial(rank, 3, 2, 3))
    y, b = (2, 6, *spatial(rank, 4, 5, 3)), (6,)
    u, v = (2, 6, *spatial(rank, 3, 4, 2)), (6, 2, *spatial(rank, 3, 2, 3))
    z = (2, 4, *spatial(rank, 6, 5, 3))
    window = {"stride": spatial(rank, 2, 1, 2), "padding": spatial(rank, 1, 0, 1), "groups": 2}
    back = {**window, "output_padding": spatial(rank, 1, 0, 0)}
    name, transposed = f"conv{rank}d", f"conv_transpose{rank}d"
    return [
        Function(name, rank, {"input": x, "weight": w, "bias": b}, window),
        Function(f"{name}_input", rank, {"weight": w, "grad_output": y}, {**window, "input_size": x}, conjugated=("weight",)),
        Function(f"{name}_weight", rank, {"input": x, "grad_output": y}, {**window, "weight_size": w}, conjugated=("input",)),
        Function(transposed, rank, {"input": u, "weight": v, "bias": (4,)}, back),
        Function(f"{transposed}_input", rank, {"weight": v, "grad_output": z}, {**back, "input_size": u}, conjugated=("weight",)),
        Function(f"{transposed}_weight", rank, {"input": u, "grad_output": z}, {**back, "weight_size": v}, conjugated=("input",)),
    ]  # fmt: skip


def special_convolutions(rank: int) -> list[Function]:
    x, taps = (2, 3, *spatial(rank, 5, 4)), spatial(rank, 2, 3)
    deep = (6, 1, *taps)
    name = f"locally_connected{rank}d"
    positions = {1: 4, 2: 8}[rank]
    w, y = (positions, 4, 3, *taps), (2, 4, *spatial(rank, 4, 2))
    return [
        Function(f"depthwise_conv{rank}d", rank, {"input": x, "weight": deep, "bias": (6,)}),
        Function(name, rank, {"input": x, "weight": w, "bias": (4,)}),
        Function(f"{name}_input", rank, {"weight": w, "grad_output": y}, {"input_size": x}, conjugated=("weight",)),
        Function(f"{name}_weight", rank, {"input": x, "grad_output": y}, {"weight_size": w}, conjugated=("input",)),
    ]  # fmt: skip


def poolings(rank: int) -> list[Function]:
    x, y = (2, 3, *spatial(rank, 7, 6, 5)), (2, 3, *spatial(rank, 4, 3, 3))
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    size = {"output_size": spatial(rank, 4, 3, 3)}
    real, both = (*INTEGERS, *FLOATS), {"input": x, "grad_output": y}
    return [
        Function(f"max_pool{rank}d", rank, {"input": x}, window, real, keeps_integers=True),
        Function(f"adaptive_max_pool{rank}d", rank, {"input": x}, size, real, keeps_integers=True),
        Function(f"avg_pool{rank}d", rank, {"input": x}, window),
        Function(f"adaptive_avg_pool{rank}d", rank, {"input": x}, size),
        Function(f"lp_pool{rank}d", rank, {"input": x}, {"norm_type": float("inf"), "kernel_size": 2}, FLOATS),
        Function(f"max_pool{rank}d_backward", rank, both, window, FLOATS),
        Function(f"avg_pool{rank}d_backward", rank, both, {**window, "count_include_pad": False}, FLOATS),
        Function(f"adaptive_max_pool{rank}d_backward", rank, both, {}, FLOATS),
        Function(f"adaptive_avg_pool{rank}d_backward", rank, both, {}, FLOATS),
        Function(f"lp_pool{rank}d_backward", rank, {"input": x, "grad_output": (2, 3, *spatial(rank, 3, 3, 2))}, {"norm_type": float("inf"), "kernel_size": 2}, FLOATS),
    ]  # fmt: skip


def dense() -> list[Function]:
    x, w, y = (2, 3, 7), (5, 7), (2, 3, 5)
    return [
        Function("linear", 0, {"input": x, "weight": w, "bias": (5,)}, layouts=False),
        Function("linear_input", 0, {"weight": w, "grad_output": y}, {"input_size": x}, conjugated=("weight",), layouts=False),
        Function("linear_weight", 0, {"input": x, "grad_output": y}, {"weight_size": w}, conjugated=("input",), layouts=False),
    ]  # fmt: skip


FUNCTIONS = [
    *(function for rank in (1, 2, 3) for function in (*convolutions(rank), *poolings(rank))),
    *(function for rank in (1, 2) for function in special_convolutions(rank)),
    *dense(),
]
LAYOUTS = [
    pytest.param(function, last, id=f"{function.name} {'last' if last else 'first'}")
    for function in FUNCTIONS
    for last in (False, True)[: 1 + function.layouts]
]
BACKENDS = [
    pytest.param(
        engine.name,
        marks=pytest.mark.skipif(
            engine_missing(folder) is not None, reason=f"{engine.name}: {engine_missing(folder)}"
        ),
    )
    for folder, engine in ENGINES.items()
    if any(row.engine == folder for row in KERNELS)
] + [None]

DATA = ("input", "grad_output", "input_size")


def placed(which: str, shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    """Data axes in the layout's order; weights are given in theirs by ``weight_layout``."""
    return (shape[0], *shape[2:], shape[1]) if last and which in DATA else shape


def arguments_of(function: Function, last: bool) -> dict[str, Any]:
    options = {
        which: placed(which, value, last) if which.endswith("_size") and which in DATA else value
        for which, value in function.options.items()
    }
    if function.layouts:
        options["layout"] = suite.layout_names(function.rank, last)
        if "conv" in function.name or "connected" in function.name:
            letters = "IO" if "transpose" in function.name else "OI"
            options["weight_layout"] = letters + "DHW"[3 - function.rank :]
    return options


def values(function: Function, dtype: np.dtype[Any], last: bool) -> dict[str, Array]:
    """Integers from -2 to 2 (0 to 4 unsigned)."""
    random = np.random.default_rng(7)
    low = 0 if dtype.kind == "u" else -2
    made = {}
    for which, shape in function.arrays.items():
        parts = random.integers(low, low + 5, placed(which, shape, last)).astype(np.float64)
        if dtype.kind == "c":
            parts = parts + 1j * random.integers(-2, 3, parts.shape)
        made[which] = parts.astype(dtype)
    return made


def reference(function: Function, arrays: dict[str, Array], options: dict[str, Any]) -> Array:
    """The reference's result in the widest dtype."""
    kind = next(iter(arrays.values())).dtype.kind
    if kind != "c":
        wide = np.int64 if kind in "iu" else np.float64
        exact = {which: array.astype(wide) for which, array in arrays.items()}
        result: Array = function.call(**exact, **options, backend="reference")
        return result
    factors = [which for which in arrays if which != "bias"]
    signs = {which: -1 if which in function.conjugated else 1 for which in factors}
    parts = {which: (arrays[which].real, signs[which] * arrays[which].imag) for which in factors}
    bias = arrays.get("bias")
    total = np.zeros((), complex)
    for index in np.ndindex(*(2,) * len(factors)):
        chosen = {which: parts[which][i] for which, i in zip(factors, index, strict=True)}
        exact = {which: array.astype(np.float64) for which, array in chosen.items()}
        total = total + 1j ** sum(index) * function.call(**exact, **options, backend="reference")
    if bias is not None:
        last = not function.layouts or options["layout"][1] != "C"
        total = total + (bias if last else bias.reshape(-1, *(1,) * function.rank))
    return total


def expected_dtype(function: Function, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.name in INTEGERS and not function.keeps_integers:
        return np.dtype(SUMS[dtype.name])
    return dtype


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype_name", [*INTEGERS, *FLOATS, *COMPLEX])
@pytest.mark.parametrize(("function", "last"), LAYOUTS)
def test_function(function: Function, last: bool, dtype_name: str, backend: str | None) -> None:
    dtype, options = dtype_of(dtype_name), arguments_of(function, last)
    arrays = values(function, dtype, last)
    before = {which: array.copy() for which, array in arrays.items()}
    if dtype_name not in function.dtypes:
        with pytest.raises(TypeError, match=f"{function.name} takes .*, got dtype {dtype_name}"):
            function.call(**arrays, **options, backend=backend)
        return
    result = function.call(**arrays, **options, backend=backend)
    expected = reference(function, arrays, options)
    assert result.dtype == expected_dtype(function, dtype)
    assert result.flags.c_contiguous
    assert result.flags.writeable
    if function.name.startswith(("avg_pool", "adaptive_avg")) and dtype.kind not in "iu":
        precise = np.float64 if dtype.kind != "c" else np.complex128
        eps = 2**-8 if dtype_name == "bfloat16" else np.finfo(dtype).eps
        np.testing.assert_allclose(result.astype(precise), expected, rtol=2 * eps, atol=16 * eps)
    else:
        np.testing.assert_array_equal(result, expected.astype(result.dtype))
    for which, array in arrays.items():
        np.testing.assert_array_equal(array, before[which], f"{which} was changed")


def test_every_function_with_a_kernel_is_here() -> None:
    from cnnfast.inspection import operations

    composed = {"separable_conv1d", "separable_conv2d"}
    assert {function.name for function in FUNCTIONS} == operations().keys() - composed


@pytest.mark.parametrize("rank", [1, 2])
def test_a_separable_convolution_is_two(rank: int) -> None:
    random = np.random.default_rng(0)
    x = random.integers(-3, 4, (2, 3, *spatial(rank, 8, 7))).astype(np.float32)
    deep = random.integers(-3, 4, (6, 1, *spatial(rank, 3, 2))).astype(np.float32)
    point = random.integers(-3, 4, (4, 6, *(1,) * rank)).astype(np.float32)
    window = {"stride": 2, "padding": 1, "dilation": 2}
    function = getattr(cnnfast, f"separable_conv{rank}d")
    result = function(x, deep, point, np.ones(4, np.float32), **window, activation="relu")
    conv = getattr(cnnfast, f"conv{rank}d")
    between = conv(x, deep, groups=3, **window)
    expected = conv(between, point, np.ones(4, np.float32), activation="relu")
    np.testing.assert_array_equal(result, expected)
    with pytest.raises(ValueError, match=rf"separable_conv{rank}d: bias must have shape \(4,\)"):
        function(x, deep, point, np.ones(5, np.float32))
    with pytest.raises(ValueError, match="kernel of one tap"):
        function(x, deep, deep)
