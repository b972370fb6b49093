"""Activations as functions: values in high precision, special values, dtypes, views, errors."""

# ruff: noqa: E501 (tables: a case is a line)
from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from cnnfast._core.activations import FOLLOWING, split_activation
from cnnfast._core.normal import normal_cdf
from cnnfast.functional.elementwise import gelu, leaky_relu, relu, relu6, sigmoid, silu, tanh

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

Array = np.ndarray[Any, Any]
FUNCTIONS: list[Callable[..., Array]] = [relu, relu6, leaky_relu, sigmoid, tanh, gelu, silu]
INTEGERS = ["int8", "uint8", "int16", "int32", "int64"]

needs_bfloat16 = pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes isn't installed")
HALVES = [
    pytest.param(np.dtype(np.float16), id="float16"),
    pytest.param(bfloat16, id="bfloat16", marks=needs_bfloat16),
]


def exact_gelu(x: float) -> Decimal:
    """The product x * erfc(-x / sqrt(2)) / 2, with what rounding the argument loses put back."""
    argument = -Decimal(x) / Decimal(2).sqrt()
    near = float(argument)
    lost = argument - Decimal(near)
    slope = Decimal(-2 / math.sqrt(math.pi) * math.exp(-near * near))
    return Decimal(x) * (Decimal(math.erfc(near)) + slope * lost) / 2


def exact_sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def exact_gelu_tanh(x: float) -> Decimal:
    wide = Decimal(x)
    return wide * exact_sigmoid(2 * (2 / PI).sqrt() * (wide + Decimal("0.044715") * wide**3))


PI = Decimal("3.14159265358979323846264338327950288419716939937510")
EXACT: dict[str, Callable[[float], Decimal]] = {
    "relu": lambda x: max(Decimal(x), Decimal(0)),
    "relu6": lambda x: min(max(Decimal(x), Decimal(0)), Decimal(6)),
    "leaky_relu": lambda x: Decimal(x) * (1 if x > 0 else Decimal("0.01")),
    "sigmoid": lambda x: exact_sigmoid(Decimal(x)),
    "tanh": lambda x: 2 * exact_sigmoid(2 * Decimal(x)) - 1,
    "gelu": exact_gelu,
    "silu": lambda x: Decimal(x) * exact_sigmoid(Decimal(x)),
}


def samples(dtype: Any) -> Array:
    random = np.random.default_rng(5)
    parts = [random.normal(size=300), random.uniform(-30, 30, 300), random.normal(size=50) * 1e-9]
    edges = [0.66291, math.sqrt(32), 36.9, 1e-30, 6.0]
    return np.concatenate([*parts, edges, np.negative(edges)]).astype(dtype)


def check_exact(result: Array, x: Array, exact: Callable[[float], Decimal], eps: Array) -> None:
    tiny = Decimal(float(np.finfo(x.dtype).tiny))
    with localcontext() as context:
        context.prec = 45
        for value, given, bound in zip(result, x, eps, strict=True):
            expected = exact(float(given))
            limit = Decimal(float(bound)) * abs(expected) + tiny
            assert abs(Decimal(float(value)) - expected) <= limit, (given, value, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_values(function: Callable[..., Array], dtype: Any) -> None:
    x = samples(dtype)
    result = function(x)
    assert result.dtype == dtype
    check_exact(result, x, EXACT[function.__name__], np.full(len(x), 4 * np.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_of_approximate_gelu(dtype: Any) -> None:
    x = samples(dtype)
    x = x[np.abs(x) < 8]
    # In float64 the argument u of tanh is rounded, which moves the left tail by a share of it.
    wide = x.astype(np.float64)
    u = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    spread = np.abs(2 * u) if dtype == np.float64 else 0 * u
    check_exact(
        gelu(x, approximate="tanh"), x, exact_gelu_tanh, 4 * np.finfo(dtype).eps * (1 + spread)
    )


def test_normal_cdf_against_erf() -> None:
    x = np.linspace(-0.7, 0.7, 401)
    expected = np.array([0.5 + 0.5 * math.erf(value / math.sqrt(2)) for value in x])
    np.testing.assert_allclose(normal_cdf(x), expected, rtol=4 * 2.0**-52, atol=0)
    assert normal_cdf(np.array([-np.inf, -40.0, 40.0, np.inf])).tolist() == [0, 0, 1, 1]


INF, NAN = math.inf, math.nan
SPECIAL: dict[str, list[float]] = {  # of NaN, -0, 0, -inf, inf
    "relu": [NAN, -0.0, 0.0, 0.0, INF],
    "relu6": [NAN, -0.0, 0.0, 0.0, 6.0],
    "leaky_relu": [NAN, -0.0, 0.0, -INF, INF],
    "sigmoid": [NAN, 0.5, 0.5, 0.0, 1.0],
    "tanh": [NAN, -0.0, 0.0, -1.0, 1.0],
    "gelu": [NAN, -0.0, 0.0, NAN, INF],
    "silu": [NAN, -0.0, 0.0, NAN, INF],
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_special_values(function: Callable[..., Array], dtype: str) -> None:
    result = function(np.array([NAN, -0.0, 0.0, -INF, INF], dtype))
    expected = np.array(SPECIAL[function.__name__], dtype)
    np.testing.assert_array_equal(result, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])


def test_approximate_gelu_of_special_values() -> None:
    result = gelu(np.array([NAN, -0.0, 0.0, -INF, INF, -1e300, 1e300]), "tanh")
    np.testing.assert_array_equal(result, [NAN, -0.0, 0.0, NAN, INF, -0.0, 1e300])
    np.testing.assert_array_equal(np.signbit(result[[1, 2, 5]]), [True, False, True])


@pytest.mark.parametrize(
    ("slope", "expected"),
    [(0, [-0.0, 0.0, -0.0, 2.0]), (-0.5, [0.0, -0.0, 0.5, 2.0]), (np.float32(2), [-0.0, 0, -2, 2])],
)
def test_negative_slopes(slope: Any, expected: list[float]) -> None:
    result = leaky_relu(np.array([-0.0, 0.0, -1.0, 2.0]), slope)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(np.signbit(result), np.signbit(expected))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_half_precision_is_rounded_once(function: Callable[..., Array], dtype: Any) -> None:
    x = np.random.default_rng(1).normal(size=(40, 7), scale=4).astype(dtype)
    result = function(x)
    assert result.dtype == dtype
    wide = function(x.astype(np.float32)).astype(dtype)
    np.testing.assert_array_equal(result.view(np.uint16), wide.view(np.uint16))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str) -> None:
    x = np.array([np.iinfo(dtype).min, 0, 3, 6, 7, np.iinfo(dtype).max], dtype)
    for function, top in ((relu, np.iinfo(dtype).max), (relu6, 6)):
        result = function(x)
        assert result.dtype == dtype
        assert result.tolist() == [min(max(int(value), 0), top) for value in x]


def views() -> list[Array]:
    base = np.random.default_rng(2).normal(size=(6, 10)).astype(np.float32)
    read_only = base.copy()
    read_only.flags.writeable = False
    return [
        base.T, base[::-2, 1::3], read_only, base.astype(">f4"), np.broadcast_to(base[0], (3, 10)),
        base[:0], base[0, 0], np.array(1.5, np.float32), np.asfortranarray(base),
    ]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_any_view_gives_a_new_contiguous_array(function: Callable[..., Array]) -> None:
    for view in views():
        before = np.array(view)
        result = function(view)
        assert isinstance(result, np.ndarray)
        assert (result.shape, result.dtype) == (view.shape, np.float32)
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert not np.shares_memory(result, view)
        np.testing.assert_array_equal(view, before)
        np.testing.assert_array_equal(result, function(np.array(view, np.float32, order="C")))


def test_lists_are_arrays() -> None:
    np.testing.assert_array_equal(relu([[-1, 2]]), [[0, 2]])


@pytest.mark.parametrize("name", FOLLOWING)
def test_fused_activations_are_these(name: str) -> None:
    """What follows a kernel changes an array in place, whatever its strides."""
    code, following = split_activation("conv2d", name, "float", np.dtype(np.float32))
    assert code == 0
    assert following is not None
    x = np.random.default_rng(3).normal(size=(300, 70, 2))[::2].transpose(2, 0, 1)
    expected = next(f for f in FUNCTIONS if f.__name__ == name)(x)
    following(x)
    np.testing.assert_array_equal(x, expected)


#: What torch has in place, too.
IN_PLACE: tuple[Callable[..., Any], ...] = (relu, relu6, leaky_relu, silu)


@pytest.mark.parametrize("function", IN_PLACE, ids=lambda function: function.__name__)
def test_inplace_may_be_false(function: Callable[..., Array]) -> None:
    x = np.array([-1.0, 2.0])
    np.testing.assert_array_equal(function(x, inplace=False), function(x))


ERRORS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("bool", lambda: relu(np.array([True])), TypeError, "relu takes float16, bfloat16, float32, float64, int8, uint8, int16, int32, int64, got dtype bool"),
    ("unsigned", lambda: relu6(np.ones(2, np.uint16)), TypeError, "got dtype uint16"),
    ("complex", lambda: relu(np.ones(2, complex)), TypeError, "got dtype complex128"),
    ("strings", lambda: relu(np.array(["1"])), TypeError, "got dtype <U1"),
    ("objects", lambda: tanh(np.array([None])), TypeError, "got dtype object"),
    ("integers", lambda: sigmoid(np.ones(2, np.int32)), TypeError, "sigmoid takes float16, bfloat16, float32, float64, got dtype int32"),
    ("integers in leaky_relu", lambda: leaky_relu(np.ones(2, int)), TypeError, "leaky_relu takes float16"),
    ("integers in gelu", lambda: gelu(np.ones(2, np.uint8)), TypeError, "gelu takes float16"),
    ("complex silu", lambda: silu(np.ones(2, np.complex64)), TypeError, "silu takes float16"),
    ("longdouble", lambda: silu(np.ones(2, np.longdouble)), TypeError, "got dtype"),
    ("masked", lambda: relu(np.ma.array([1.0])), TypeError, "relu: input must not be a masked array"),
    ("ragged", lambda: relu([[1.0], [1.0, 2.0]]), ValueError, "relu: input must be an array of one shape"),
    ("approximate", lambda: gelu(np.ones(2), "erf"), ValueError, "gelu: approximate must be 'none' or 'tanh', got 'erf'"),
    ("no approximate", lambda: gelu(np.ones(2), None), ValueError, "'none' or 'tanh', got None"),
    ("unhashable approximate", lambda: gelu(np.ones(2), ["none"]), ValueError, "'none' or 'tanh', got ['none']"),
    ("slope", lambda: leaky_relu(np.ones(2), "a"), TypeError, "leaky_relu: negative_slope must be a real number, got 'a'"),
    ("complex slope", lambda: leaky_relu(np.ones(2), 1j), TypeError, "must be a real number, got 1j"),
    ("huge slope", lambda: leaky_relu(np.ones(2, np.float32), 1e300), ValueError, "negative_slope must fit float32, got 1e+300"),
    ("huge integer slope", lambda: leaky_relu(np.ones(2), 10**400), ValueError, "negative_slope must fit a float, got 1000"),
    *((f"{f.__name__} in place", lambda f=f: f(np.ones(2), inplace=True), ValueError, f"{f.__name__}: inplace must be False, got True: inputs are never modified") for f in IN_PLACE),
    *((f"{f.__name__} in 1 place", lambda f=f: f(np.ones(2), inplace=1), TypeError, f"{f.__name__}: inplace must be a bool, got 1") for f in IN_PLACE),
    ("timedelta slope", lambda: leaky_relu(np.ones(2), np.timedelta64(1, "s")), TypeError, "must be a real number"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS]
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
