"""Every function that runs a kernel, in every rank, layout, dtype and engine.

Small integers as values, so that results are exact in every dtype: what comes back must equal the
reference's result in float64 (int64 for integers), rounded once. Means and powers aren't exact and
are held to DESIGN.md's bound. Complex functions are linear or bilinear and are put together from
real ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels.registry import ENGINES, KERNELS, engine_missing

import conformance as suite
from functions import (
    COMPLEX,
    FLOATS,
    FUNCTIONS,
    INTEGERS,
    Function,
    arguments_of,
    dtype_of,
    placed,
    spatial,
    title,
    values,
)

Array = np.ndarray[Any, Any]

SUMS = {"int8": "int32", "uint8": "int32", "int16": "int64", "int32": "int64", "int64": "int64"}

pytestmark = pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")

LAYOUTS = [
    pytest.param(function, last, id=f"{title(function)} {'last' if last else 'first'}")
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


def reference(function: Function, arrays: dict[str, Array], options: dict[str, Any]) -> Array:
    """The reference's result in the widest dtype."""
    kind = next(iter(arrays.values())).dtype.kind
    if kind != "c":
        wide = np.int64 if kind in "iu" else np.float64
        exact = {which: array.astype(wide) for which, array in arrays.items()}
        result: Array = function.call(**exact, **options, backend="reference")
        return result
    factors = [which for which in arrays if which not in ("bias", *function.unread)]
    unread = {which: arrays[which].real.astype(np.float64) for which in function.unread}
    signs = {which: -1 if which in function.conjugated else 1 for which in factors}
    parts = {which: (arrays[which].real, signs[which] * arrays[which].imag) for which in factors}
    bias = arrays.get("bias")
    total = np.zeros((), complex)
    for index in np.ndindex(*(2,) * len(factors)):
        chosen = {which: parts[which][i] for which, i in zip(factors, index, strict=True)}
        exact = {which: array.astype(np.float64) for which, array in chosen.items()}
        part = function.call(**exact, **unread, **options, backend="reference")
        total = total + 1j ** sum(index) * part
    if bias is not None:
        last = not function.layouts or options["layout"][1] != "C"
        total = total + (bias if last else bias.reshape(-1, *(1,) * function.rank))
    return total


def expected_dtype(function: Function, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.name in INTEGERS and not function.keeps_integers:
        return np.dtype(SUMS[dtype.name])
    return dtype


def within(function: Function, result: Array, expected: Array, absolute: Array) -> None:
    """``|y - ref| <= eps |ref| + (taps + 2) eps_acc ref(|x|)``, of a reference that rounds too
    where it isn't wider than the result."""
    eps = 2.0**-8 if result.dtype.name == "bfloat16" else float(np.finfo(result.dtype).eps)
    accumulated = float(np.finfo(np.float64 if result.dtype.itemsize == 8 else np.float32).eps)
    bound = eps * abs(expected) + (function.taps + 2) * accumulated * absolute
    sides = 2 if result.dtype == np.float64 else 1
    difference = abs(result.astype(np.float64) - expected)
    assert result.shape == expected.shape
    assert (difference <= sides * bound).all(), (difference - sides * bound).max()


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
    if function.taps and dtype.kind not in "iu":
        for part in (np.real, np.imag) if dtype.kind == "c" else (np.asarray,):
            sizes = {
                which: abs(np.asarray(part(array)).astype(np.float64))
                for which, array in arrays.items()
            }
            absolute = function.call(**sizes, **options, backend="reference")
            within(function, np.asarray(part(result)), part(expected), absolute)
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


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("name", ["depthwise", "separable"])
def test_groups_of_a_depthwise_convolution_are_its_channels(name: str, rank: int) -> None:
    """So that the positional arguments of ``conv`` serve."""
    x = np.arange(2 * 3 * 5**rank, dtype=np.float32).reshape(2, 3, *(5,) * rank)
    arrays = [x, np.ones((6, 1, *(2,) * rank), np.float32)]
    if name == "separable":
        arrays.append(np.ones((4, 6, *(1,) * rank), np.float32))
    function = getattr(cnnfast, f"{name}_conv{rank}d")
    expected = function(*arrays, None, 2, 1, 1)
    for groups in (None, 3, np.int64(3)):
        np.testing.assert_array_equal(function(*arrays, None, 2, 1, 1, groups), expected)
    if name == "depthwise":
        conv = getattr(cnnfast, f"conv{rank}d")
        np.testing.assert_array_equal(conv(*arrays, None, 2, 1, 1, 3), expected)
    for groups in (1, 6):
        with pytest.raises(
            ValueError, match=f"groups must be None or the number of channels 3, got {groups}"
        ):
            function(*arrays, None, 2, 1, 1, groups)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(
    ("mode", "value"),
    [("constant", 3), ("reflect", 0), ("replicate", 0), ("circular", 0)],
)
def test_padding_modes_of_locally_connected_layers(
    mode: str, value: int, rank: int, last: bool
) -> None:
    """As a convolution whose every position has the same weights, and as a padded input."""
    random = np.random.default_rng(2)
    layout = suite.layout_names(rank, last)
    x = random.integers(-3, 4, placed("input", (2, 4, *spatial(rank, 6, 5)), last)).astype("f4")
    w = random.integers(-3, 4, (6, 2, *spatial(rank, 3, 2))).astype(np.float32)
    keywords: dict[str, Any] = {
        "stride": 2, "padding": [(2, 1), (0, 2)][:rank], "groups": 2, "layout": layout,
        "weight_layout": "OI" + "DHW"[3 - rank :], "padding_mode": mode, "padding_value": value,
        "activation": "relu", "out_dtype": np.float64,
    }  # fmt: skip
    expected = getattr(cnnfast, f"conv{rank}d")(x, w, **keywords)
    positions = np.prod(expected.shape) // (2 * 6)
    same = np.broadcast_to(w, (positions, *w.shape))
    function = getattr(cnnfast, f"locally_connected{rank}d")
    result = function(x, same, **keywords)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, expected)
    out = np.full_like(expected, 77)
    assert function(x, same, **keywords, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert function(x[:0], same, **keywords).shape == (0, *expected.shape[1:])


def test_a_neuron_is_a_layer_without_its_axis() -> None:
    x = np.arange(12.0).reshape(2, 2, 3)
    w, out = np.array([1.0, -2.0, 4.0]), np.empty((2, 2))
    expected = cnnfast.linear(x, w[None], np.ones(1), activation="relu")[..., 0]
    result = cnnfast.linear(x, w, 1.0, activation="relu", out=out)
    assert result is out
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(cnnfast.linear(x, w), x @ w)
    assert cnnfast.linear(x[0, 0], w).shape == ()
    assert cnnfast.linear(x[:0], w).shape == (0, 2)
    scalar = np.zeros(())
    assert cnnfast.linear(x[0, 0], w, out=scalar) is scalar
    assert scalar == x[0, 0] @ w
    assert cnnfast.linear(x.astype(np.int8), w.astype(np.int8)).dtype == np.int32
