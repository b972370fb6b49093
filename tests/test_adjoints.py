"""Every adjoint against its function: inner products, and finite differences.

A linear function f and its adjoint f* satisfy ``<f(x), y> == <x, f*(y)>`` for any x and y; the two
sides are sums of the same products, so in float64 they agree to 1e-12 of their size. What isn't
linear (maxima, norms) is compared with ``(f(x + h v) - f(x - h v)) / 2 h``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import grad
from cnnfast.kernels.registry import ENGINES, engine_missing

import conformance as suite

Array = np.ndarray[Any, Any]
Call = Callable[..., Array]

TOLERANCE = 1e-12
BACKENDS = [
    pytest.param(
        engine.name,
        marks=pytest.mark.skipif(
            engine_missing(folder) is not None, reason=f"{engine.name}: {engine_missing(folder)}"
        ),
    )
    for folder, engine in ENGINES.items()
    if folder != "numba_cuda"
] + ["reference", None]


def random(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Array:
    generator = np.random.default_rng([seed, *shape])
    values = generator.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        return values + 1j * generator.standard_normal(shape)
    return values


@dataclass(frozen=True)
class Pair:
    """A function, linear in its first argument, and its adjoint; both take ``backend``."""

    name: str
    shape: tuple[int, ...]
    forward: Call
    adjoint: Call


def spatial(rank: int, *extents: int) -> tuple[int, ...]:
    return extents[:rank]


def placed(shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1]) if last else shape


def conv_pairs(rank: int, last: bool, dtype: str) -> Iterator[Pair]:
    """Convolutions with groups, strides, dilation and asymmetric padding, transposed ones too."""
    layout = suite.layout_names(rank, last)
    keywords: dict[str, Any] = {
        "stride": spatial(rank, 2, 1, 3), "dilation": spatial(rank, 1, 2, 2), "groups": 2,
        "layout": layout, "weight_layout": "OI" + "DHW"[3 - rank :],
        "padding": [(1, 2), (0, 1), (2, 0)][:rank],
    }  # fmt: skip
    x = random(placed((2, 4, *spatial(rank, 7, 6, 8)), last), dtype, 1)
    w = random((6, 2, *spatial(rank, 3, 2, 3)), dtype, 2)
    conv, name = getattr(cnnfast, f"conv{rank}d"), f"conv{rank}d"
    by_input, by_weight = (getattr(grad, f"{name}_{which}") for which in ("input", "weight"))
    yield Pair(
        f"{name}_input",
        x.shape,
        lambda v, **more: conv(v, w, **keywords, **more),
        lambda y, **more: by_input(x.shape, w, y, **keywords, **more),
    )
    yield Pair(
        f"{name}_weight",
        w.shape,
        lambda v, **more: conv(x, v, **keywords, **more),
        lambda y, **more: by_weight(x, w.shape, y, **keywords, **more),
    )
    back = {**keywords, "weight_layout": "IO" + "DHW"[3 - rank :]}
    back |= {"output_padding": spatial(rank, 1, 0, 2), "padding": [(1, 0), (1, 1), (0, 2)][:rank]}
    u = random(placed((2, 6, *spatial(rank, 4, 5, 3)), last), dtype, 3)
    transposed, name = getattr(cnnfast, f"conv_transpose{rank}d"), f"conv_transpose{rank}d"
    of_input, of_weight = (getattr(grad, f"{name}_{which}") for which in ("input", "weight"))
    yield Pair(
        f"{name}_input",
        u.shape,
        lambda v, **more: transposed(v, w, **back, **more),
        lambda y, **more: of_input(u.shape, w, y, **back, **more),
    )
    yield Pair(
        f"{name}_weight",
        w.shape,
        lambda v, **more: transposed(u, v, **back, **more),
        lambda y, **more: of_weight(u, w.shape, y, **back, **more),
    )


def local_pairs(rank: int, last: bool, dtype: str) -> Iterator[Pair]:
    """Locally connected layers."""
    keywords: dict[str, Any] = {
        "stride": 2, "padding": 1, "dilation": spatial(rank, 1, 2), "groups": 2,
        "layout": suite.layout_names(rank, last),
    }  # fmt: skip
    x = random(placed((3, 4, *spatial(rank, 7, 8)), last), dtype, 1)
    letters = ("O", "I", *"DHW"[3 - rank :])
    sizes = dict(zip(letters, (6, 2, *spatial(rank, 3, 2)), strict=True))
    order = (*"DHW"[3 - rank :], "I", "O") if last else letters
    positions = {1: 4, 2: 16}[rank]
    w = random((positions, *(sizes[letter] for letter in order)), dtype, 2)
    name = f"locally_connected{rank}d"
    forward = getattr(cnnfast, name)
    by_input, by_weight = (getattr(grad, f"{name}_{which}") for which in ("input", "weight"))
    yield Pair(
        f"{name}_input",
        x.shape,
        lambda v, **more: forward(v, w, **keywords, **more),
        lambda y, **more: by_input(x.shape, w, y, **keywords, **more),
    )
    yield Pair(
        f"{name}_weight",
        w.shape,
        lambda v, **more: forward(x, v, **keywords, **more),
        lambda y, **more: by_weight(x, w.shape, y, **keywords, **more),
    )


def linear_pairs(dtype: str) -> Iterator[Pair]:
    """Fully connected layers."""
    x, w = random((2, 3, 7), dtype, 1), random((5, 7), dtype, 2)
    yield Pair(
        "linear_input",
        x.shape,
        lambda v, **more: cnnfast.linear(v, w, **more),
        lambda y, **more: grad.linear_input(x.shape, w, y, **more),
    )
    yield Pair(
        "linear_weight",
        w.shape,
        lambda v, **more: cnnfast.linear(x, v, **more),
        lambda y, **more: grad.linear_weight(x, w.shape, y, **more),
    )


MEANS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 3, "stride": 1, "divisor_override": -5},
)


def mean_pairs(rank: int, last: bool) -> Iterator[Pair]:
    """Average pooling, sliding and adaptive."""
    layout = suite.layout_names(rank, last)
    x = random(placed((2, 3, *spatial(rank, 8, 7, 6)), last))
    pool, back = getattr(cnnfast, f"avg_pool{rank}d"), getattr(grad, f"avg_pool{rank}d_backward")
    for window in MEANS:
        if rank == 1 and "divisor_override" in window:
            continue
        yield Pair(
            f"avg_pool{rank}d_backward {window}",
            x.shape,
            lambda v, window=window, **more: pool(v, **window, layout=layout, **more),
            lambda y, window=window, **more: back(y, x, **window, layout=layout, **more),
        )
    adaptive = getattr(cnnfast, f"adaptive_avg_pool{rank}d")
    adaptive_back = getattr(grad, f"adaptive_avg_pool{rank}d_backward")
    for size in (3, 1, 9):
        yield Pair(
            f"adaptive_avg_pool{rank}d_backward {size}",
            x.shape,
            lambda v, size=size, **more: adaptive(v, size, layout=layout, **more),
            lambda y, **more: adaptive_back(y, x, layout=layout, **more),
        )


def all_pairs() -> list[Any]:
    found = []
    for dtype in ("float64", "complex128"):
        found += [(dtype, "", pair) for pair in linear_pairs(dtype)]
        for last in (False, True):
            where = "last" if last else "first"
            for rank in (1, 2, 3):
                found += [(dtype, where, pair) for pair in conv_pairs(rank, last, dtype)]
                if rank < 3:
                    found += [(dtype, where, pair) for pair in local_pairs(rank, last, dtype)]
                if dtype == "float64":
                    found += [(dtype, where, pair) for pair in mean_pairs(rank, last)]
    return [
        pytest.param(pair, dtype, id=f"{pair.name} {where} {dtype}") for dtype, where, pair in found
    ]


@pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("pair", "dtype"), all_pairs())
def test_inner_products(pair: Pair, dtype: str, backend: str | None) -> None:
    x = random(pair.shape, dtype, 4)
    image = pair.forward(x, backend=backend)
    y = random(image.shape, dtype, 5)
    left, right = np.vdot(image, y), np.vdot(x, pair.adjoint(y, backend=backend))
    assert abs(left - right) <= TOLERANCE * np.linalg.norm(image) * np.linalg.norm(y)


def test_inner_products_of_unfolding() -> None:
    x, window = (
        random((2, 3, 7, 8)),
        {"kernel_size": (3, 2), "dilation": 2, "padding": 1, "stride": 2},
    )
    columns = cnnfast.unfold(x, **window)
    y = random(columns.shape, seed=5)
    left, right = np.vdot(columns, y), np.vdot(x, grad.unfold_backward(y, x.shape, **window))
    assert abs(left - right) <= TOLERANCE * np.linalg.norm(columns) * np.linalg.norm(y)
    folded = cnnfast.fold(y, (7, 8), **window)
    left, right = np.vdot(folded, x), np.vdot(y, grad.fold_backward(x, **window))
    assert abs(left - right) <= TOLERANCE * np.linalg.norm(folded) * np.linalg.norm(x)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_inner_products_of_unpooling(rank: int, last: bool) -> None:
    layout = suite.layout_names(rank, last)
    x = random(placed((2, 3, *spatial(rank, 8, 6, 4)), last))
    pool, unpool = getattr(cnnfast, f"max_pool{rank}d"), getattr(cnnfast, f"max_unpool{rank}d")
    maxima, indices = pool(x, 2, return_indices=True, layout=layout)
    left = np.vdot(unpool(maxima, indices, 2, layout=layout), x)
    back = getattr(grad, f"max_unpool{rank}d_backward")(x, indices, layout=layout)
    assert left == pytest.approx(np.vdot(maxima, back), rel=TOLERANCE)


def test_indices_of_unpooling_in_either_byte_order() -> None:
    """The forward function and the gradient take and refuse the same indices."""
    x, places = random((1, 2, 4)), np.array([[[3, 0], [1, 1]]])
    expected = grad.max_unpool1d_backward(x, places)
    np.testing.assert_array_equal(grad.max_unpool1d_backward(x, places.astype(">i8")), expected)
    for wrong, error, message in (
        (places.astype(np.int32), TypeError, "indices must be int64, got dtype int32"),
        (places + 1, ValueError, r"from 0 to 3, in the output plane \(4,\), got 4"),
        (places - 1, ValueError, r"from 0 to 3, in the output plane \(4,\), got -1"),
    ):
        with pytest.raises(error, match=f"max_unpool1d: .*{message}"):
            cnnfast.max_unpool1d(x[..., :2], wrong, 2)
        with pytest.raises(error, match=f"max_unpool1d_backward: .*{message}"):
            grad.max_unpool1d_backward(x, wrong)


def test_bias_gradients_are_sums() -> None:
    y = random((2, 3, 4, 5))
    np.testing.assert_allclose(grad.conv_bias(y), y.sum((0, 2, 3)), rtol=TOLERANCE)
    np.testing.assert_allclose(
        grad.conv_transpose_bias(y, layout="NHWC"), y.sum((0, 1, 2)), rtol=TOLERANCE
    )
    np.testing.assert_allclose(grad.linear_bias(y), y.sum((0, 1, 2)), rtol=TOLERANCE)
    per_position = grad.locally_connected_bias(y, True, layout="NHWC")
    np.testing.assert_allclose(per_position, np.moveaxis(y.sum(0), -1, 0), rtol=TOLERANCE)
    thirds = np.full((1, 1, 3000), 1 / 3, np.float16)
    assert grad.conv_bias(thirds) == np.float16(3000 * np.float64(thirds[0, 0, 0]))
    assert grad.conv_bias(np.full((1, 1, 300), 100, np.int8)).dtype == np.int32


def directional(function: Callable[[Array], Array], x: Array, v: Array, y: Array) -> float:
    """``<(f(x + h v) - f(x - h v)) / 2 h, y>``."""
    h = 1e-6
    return float(np.vdot((function(x + h * v) - function(x - h * v)) / (2 * h), y))


NONLINEAR: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("max_pool{}d", (3,), {"stride": 2, "padding": 1}),
    ("max_pool{}d", (2,), {"stride": 1, "dilation": 2, "ceil_mode": True}),
    ("lp_pool{}d", (2, 3), {"stride": 2, "ceil_mode": True}),
    ("lp_pool{}d", (3.5, 2), {}),
    ("lp_pool{}d", (float("inf"), 2), {}),
    ("lp_pool{}d", (float("-inf"), 2), {}),
    ("adaptive_max_pool{}d", (3,), {}),
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("name", "window", "options"), NONLINEAR)
@pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")
def test_finite_differences(
    name: str, window: Any, options: dict[str, Any], rank: int, last: bool, backend: str | None
) -> None:
    """Values differ by far more than the step, so that no maximum changes place."""
    keywords = {**options, "layout": suite.layout_names(rank, last), "backend": backend}
    shape = placed((2, 2, *spatial(rank, 7, 6, 5)), last)
    x = 1 + np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape) / 50
    function, back = (
        getattr(module, name.format(rank) + end)
        for module, end in ((cnnfast, ""), (grad, "_backward"))
    )
    v, y = random(shape, seed=1), random(function(x, *window, **keywords).shape, seed=2)
    arguments = () if name.startswith("adaptive") else window
    options_back = keywords if arguments else {"layout": keywords["layout"], "backend": backend}
    gradient = back(y, x, *arguments, **options_back)
    expected = directional(lambda at: function(at, *window, **keywords), x, v, y)
    assert np.vdot(gradient, v) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("which", ["input", "weight"])
def test_finite_differences_of_a_convolution(which: str) -> None:
    """The same the long way, every element of the gradient by itself."""
    x, w = random((2, 2, 5, 4)), random((3, 2, 3, 2), seed=1)
    y = random((2, 3, 3, 5), seed=2)
    given: dict[str, Any] = {"stride": (2, 1), "padding": 1}
    assert cnnfast.conv2d(x, w, **given).shape == y.shape
    if which == "input":
        gradient, at = grad.conv2d_input(x.shape, w, y, **given), x
    else:
        gradient, at = grad.conv2d_weight(x, w.shape, y, **given), w
    for place in np.ndindex(*at.shape):
        unit = np.zeros_like(at)
        unit[place] = 1
        arrays = (unit, w) if which == "input" else (x, unit)
        expected = np.vdot(cnnfast.conv2d(*arrays, **given), y)
        assert gradient[place] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_nothing_flows_from_a_norm_of_zeros() -> None:
    zeros = np.zeros((1, 1, 4))
    np.testing.assert_array_equal(grad.lp_pool1d_backward(np.ones((1, 1, 2)), zeros, 2, 2), zeros)
