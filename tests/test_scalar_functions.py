"""A user's own njit function as activation: in every kernel, the same as applied afterwards."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels.registry import KERNELS, engine_missing

numba = pytest.importorskip("numba", reason="numba is not installed")

ROWS = [row for row in KERNELS if engine_missing(row.engine) is None]


@numba.njit
def softsign(x: float) -> float:
    return x / (1 + abs(x))


@numba.njit
def hard(x: float) -> int:
    """Branches, and an integer as result."""
    if x > 1:
        return 1
    return -1 if x < -1 else 0


def adding(number: int) -> Any:
    return numba.njit(lambda x: x + number)


def random(*shape: int, dtype: Any = np.float32) -> Any:
    return (3 * np.random.default_rng(shape).standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("row", [r for r in ROWS if r.family == "fprop"], ids=lambda r: r.name)
@pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")
def test_every_fprop_row(row: Any, dtype: str) -> None:
    for shape, size, keywords in (
        ((2, 5, 13, 18), (19, 5, 3, 3), {"padding": 1}),
        ((1, 6, 9, 33), (6, 1, 3, 3), {"groups": 6, "stride": 2}),
        ((1, 1, 20, 40), (1, 1, 5, 5), {}),
        ((1, 40, 7, 7), (33, 40, 1, 1), {}),
    ):
        x, w = random(*shape, dtype=dtype), random(*size, dtype=dtype)
        bias = random(size[0], dtype=dtype)
        arguments: dict[str, Any] = {**keywords, "backend": row.name}
        wide, rtol = ("float32", 1e-3) if dtype == "float16" else (dtype, 1e-6)
        for layout in ("NCHW", "NHWC"):
            if layout == "NHWC":
                x, w = x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0)
            plain = cnnfast.conv2d(x, w, bias, layout=layout, out_dtype=wide, **arguments)
            for function in (softsign, hard):
                found = cnnfast.conv2d(x, w, bias, layout=layout, activation=function, **arguments)
                expected = numba.vectorize(function.py_func)(plain).astype(dtype)
                np.testing.assert_allclose(found, expected, rtol=rtol)


@pytest.mark.parametrize("row", [r for r in ROWS if r.family == "dgrad"], ids=lambda r: r.name)
@pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")
def test_every_dgrad_row(row: Any) -> None:
    x, w = random(1, 4, 6, 7), random(4, 3, 2, 2)
    for stride in (1, 2, 3):
        plain = cnnfast.conv_transpose2d(x, w, stride=stride, backend=row.name)
        found = cnnfast.conv_transpose2d(x, w, stride=stride, activation=softsign, backend=row.name)
        np.testing.assert_allclose(found, plain / (1 + abs(plain)), rtol=1e-6)


def test_division_by_zero_is_as_in_the_kernels() -> None:
    inverse = numba.njit(lambda x: 1 / x)
    y = cnnfast.conv2d(np.zeros((1, 1, 3, 3)), np.ones((1, 1, 1, 1)), activation=inverse)
    assert np.isposinf(y).all()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x + 1, "name or a function compiled by numba.njit"),
        (math.tanh, "name or a function compiled by numba.njit"),
        (np.tanh, "name or a function compiled by numba.njit"),
        (numba.njit(lambda x, y: x), "must compile as a function of one float64"),
        (numba.njit(lambda x: "no"), "must return a real number"),
        (numba.njit(lambda x: 1j * x), "must return a real number"),
        (numba.njit(lambda x: x.shape), "must compile as a function of one float64"),
    ],
)
def test_what_is_no_activation(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        cnnfast.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 1, 1)), activation=function)


@pytest.mark.parametrize("dtype", ["int8", "complex64"])
def test_numbers_that_have_none(dtype: str) -> None:
    x, w = np.ones((1, 1, 3, 3), dtype), np.ones((1, 1, 1, 1), dtype)
    with pytest.raises(TypeError, match="softsign isn't defined for"):
        cnnfast.conv2d(x, w, activation=softsign)


def test_functions_that_are_gone_leave_no_address_behind() -> None:
    """A remembered call keeps its function; another function of the same name is another one."""
    x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 1, 1))
    for number in range(600):
        function, expected = softsign, 0.5
        if number % 100 == 0:
            function, expected = adding(number), 1.0 + number
        assert cnnfast.conv2d(x, w, activation=function)[0, 0, 0, 0] == expected


def test_the_function_is_compiled_once() -> None:
    function = numba.njit(lambda x: 2 * x)
    x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 1, 1))
    cnnfast.conv2d(x, w, activation=function)
    from cnnfast._core import scalar_functions

    made = scalar_functions._compiled[function]
    cnnfast.conv2d(x[:, :, 1:], w, activation=function)
    assert scalar_functions._compiled[function] is made
    assert len(made) == 1
    gone = weakref.ref(function)
    from cnnfast._core import recall

    recall._calls.clear()
    del function, made
    gc.collect()
    assert gone() is None
