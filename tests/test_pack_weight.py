"""Prepared weights: the same bits, whatever is prepared for and whatever comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast.kernels.packing import pack_weight as fill_panels
from cnnfast.kernels.packing import panel_elements
from cnnfast.kernels.registry import KERNELS, engine_missing

Array = np.ndarray[Any, Any]

PACKING = sorted(
    {
        row.name
        for row in KERNELS
        if row.method.packs and row.family == "fprop" and engine_missing(row.engine) is None
    }
)

#: One row of each way besides: without panels, of no engine, and the planner's choice.
BACKENDS = [*PACKING, *(["loop"] if PACKING else []), "im2col/numpy", None]


def random(*shape: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64", "int8"])
def test_results_keep_their_bits(backend: str | None, dtype: str) -> None:
    x, w = random(2, 12, 17, 19), random(40, 6, 3, 3)
    if dtype == "int8":
        x, w = 9 * x, 9 * w
    x, w, b = x.astype(dtype), w.astype(dtype), np.arange(40).astype(dtype)
    keywords: dict[str, Any] = {"stride": (1, 2), "padding": 1, "groups": 2, "backend": backend}
    expected = cnnfast.conv2d(x, w, b, **keywords)
    for shape in (None, x.shape, (1, 12, 3, 50)):
        packed = cnnfast.pack_weight(w, shape, **keywords)
        for _ in range(2):
            assert cnnfast.conv2d(x, packed, b, **keywords).tobytes() == expected.tobytes()


@pytest.mark.parametrize("backend", PACKING)
def test_layouts(backend: str) -> None:
    x, w = random(2, 9, 11, 5), random(3, 3, 5, 20)
    expected = cnnfast.conv2d(x, w, layout="NHWC", backend=backend)
    packed = cnnfast.pack_weight(w, x.shape, layout="NHWC")
    assert cnnfast.conv2d(x, packed, layout="NHWC", backend=backend).tobytes() == expected.tobytes()
    # The same object in another layout, of as many letters: panels of their own.
    square = random(5, 5, 5, 5)
    packed = cnnfast.pack_weight(square)
    for letters in ("HWIO", "OHWI", "IOHW"):
        keywords = {"layout": "NHWC", "weight_layout": letters, "backend": backend}
        found, expected = (cnnfast.conv2d(x, weight, **keywords) for weight in (packed, square))
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_ranks_and_the_functions_around(rank: int) -> None:
    x, w = random(1, 4, *[7] * rank), random(8, 4, *[3] * rank)
    packed = cnnfast.pack_weight(w, x.shape, padding=1)
    for name in (f"conv{rank}d", f"conv_transpose{rank}d"):
        data = x if "transpose" not in name else random(1, 8, *[7] * rank)
        function = getattr(cnnfast, name)
        np.testing.assert_array_equal(function(data, packed), function(data, w))
    gradient = getattr(cnnfast.grad, f"conv{rank}d_input")
    grad_output = random(1, 8, *[5] * rank)
    np.testing.assert_array_equal(
        gradient(x.shape, packed, grad_output), gradient(x.shape, w, grad_output)
    )


def test_linear() -> None:
    x, w = random(33, 50), random(24, 50)
    packed = cnnfast.pack_weight(w, x.shape)
    np.testing.assert_array_equal(cnnfast.linear(x, packed), cnnfast.linear(x, w))
    np.testing.assert_array_equal(cnnfast.linear(x[0], packed), cnnfast.linear(x[0], w))


def test_depthwise_and_padding_modes() -> None:
    x, w = random(1, 16, 9, 9), random(16, 1, 3, 3)
    packed = cnnfast.pack_weight(w, x.shape, padding=1, groups=16)
    for mode in ("constant", "reflect"):
        found, expected = (
            cnnfast.conv2d(x, weight, padding=1, groups=16, padding_mode=mode)
            for weight in (packed, w)
        )
        np.testing.assert_array_equal(found, expected)


def test_it_keeps_a_copy() -> None:
    x, w = random(1, 32, 20, 20), random(64, 32, 3, 3)
    expected = cnnfast.conv2d(x, w)
    packed = cnnfast.pack_weight(w)
    w[...] = np.nan
    np.testing.assert_array_equal(cnnfast.conv2d(x, packed), expected)
    assert not packed.array.flags.writeable
    assert (packed.shape, packed.dtype) == ((64, 32, 3, 3), np.dtype(np.float32))


@pytest.mark.skipif(not any("tiled" in name for name in PACKING), reason="no compiled engine")
def test_prepared_weights_take_no_scratch_for_packing() -> None:
    x, w = random(1, 64, 28, 28), random(64, 64, 3, 3)
    before = cnnfast.pack_weight(w)
    made = cnnfast.pack_weight(w, x.shape, padding=1, backend="tiled")
    assert before.nbytes == w.nbytes < made.nbytes
    plain, prepared = (
        cnnfast.explain("conv2d", x, weight, padding=1, backend="tiled").scratch_bytes
        for weight in (w, made)
    )
    assert plain - prepared >= w.nbytes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_panels_are_what_the_engines_pack(dtype: str) -> None:
    weight = random(37, 3, 1, 2, 2, dtype=dtype)[:36]
    groups, width = 2, 64 // weight.itemsize
    packed = np.full(panel_elements(weight.shape, groups, weight.itemsize), np.nan, dtype)
    fill_panels(weight, groups, packed)
    panels = packed.reshape(groups, -1, 1, 2, 2, 3, width)
    for g, panel, lane in np.ndindex(groups, panels.shape[1], width):
        k = panel * width + lane
        expected = weight[18 * g + k] if k < 18 else np.zeros((3, 1, 2, 2))
        np.testing.assert_array_equal(panels[g, panel, ..., lane].transpose(3, 0, 1, 2), expected)


#: Weights as they come: other orders of axes, backwards, with gaps, on each other.
ORDERS: dict[str, Callable[[Array], Array]] = {
    "KCRS": lambda w: w,
    "CKRS": lambda w: np.ascontiguousarray(w.swapaxes(0, 1)).swapaxes(0, 1),
    "RSCK": lambda w: np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1),
    "KRSC": lambda w: np.ascontiguousarray(w.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "SRKC": lambda w: np.ascontiguousarray(w.transpose(3, 2, 0, 1)).transpose(2, 3, 1, 0),
    "backwards": lambda w: np.ascontiguousarray(w[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
    "flipped CKRS": lambda w: ORDERS["CKRS"](w[:, :, ::-1, ::-1])[:, :, ::-1, ::-1],
    "every other tap": lambda w: np.repeat(np.repeat(w, 2, 2), 2, 3)[:, :, ::2, ::2],
    "far taps": lambda w: np.repeat(w, 9, 3)[:, :, :, ::9],
    "one column": lambda w: np.broadcast_to(w[..., :1], w.shape),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(33, 7, 3, 3), (16, 16, 1, 1), (5, 40, 5, 5), (17, 3, 7, 7)])
def test_any_strides_give_the_same_bits(shape: tuple[int, ...], order: str) -> None:
    weight = random(*shape)
    given = ORDERS[order](weight)
    plain = np.ascontiguousarray(given)
    # One task of all pixels, which packs for itself, and several tasks.
    for size in (shape[2] + 1, 40):
        x = random(1, shape[1], size, size)
        for backend in PACKING:
            results = [cnnfast.conv2d(x, w, backend=backend) for w in (given, plain)]
            np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"weight": np.ones(3)}, ValueError, "2 to 5 axes"),
        ({"weight": np.ones((2, 1, 3, 3)), "stride": 0}, ValueError, "stride must be positive"),
        ({"weight": np.ones((2, 1, 3, 3)), "groups": 3}, ValueError, "groups must divide"),
        ({"weight": np.ones((2, 1, 3, 3)), "input_shape": 5}, TypeError, "tuple of ints"),
        ({"weight": np.ones((2, 1, 3, 3)), "input_shape": (1, 2, 9, 9)}, ValueError, "channels"),
        ({"weight": np.ones((2, 1, 3, 3)), "layout": "HWCN"}, ValueError, "layout"),
        ({"weight": np.ones((2, 3)), "stride": 2}, ValueError, "linear"),
        ({"weight": np.ones((2, 3), "U1")}, TypeError, "dtype"),
    ],
)
def test_errors(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        cnnfast.pack_weight(**arguments)


def test_out_may_not_be_the_input() -> None:
    x, packed = random(1, 4, 6, 6), cnnfast.pack_weight(random(4, 4, 1, 1))
    with pytest.raises(ValueError, match="share memory"):
        cnnfast.conv2d(x, packed, out=x)
