"""unfold, fold and unpooling: values one by one, identities, dtypes, views, errors."""

# ruff: noqa: E501 (tables: a case is a line)
from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast._core.axes import Axes
from cnnfast._core.columns import fold_windows, problem_of, windows_view
from cnnfast.functional.unfolding import fold, unfold
from cnnfast.functional.unpooling import max_unpool1d, max_unpool2d, max_unpool3d

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
needs_bfloat16 = pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes isn't installed")
NAMES = ["int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]
DTYPES = [
    *(pytest.param(np.dtype(name), id=name) for name in [*NAMES, "complex64", "complex128"]),
    pytest.param(bfloat16, id="bfloat16", marks=needs_bfloat16),
]


def whole(shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
    return RANDOM.integers(0, 9, shape).astype(dtype)


#: kernel_size, dilation, padding, stride
WINDOWS: list[tuple[Any, ...]] = [
    (1, 1, 0, 1), (2, 1, 0, 1), ((2, 3), 1, 0, (2, 1)), (3, 1, 1, 1), ((1, 3), (1, 2), (0, 2), 2),
    (2, 3, 1, 3), (2, 1, 0, 3), ([3, 2], np.int64(2), (2, 1), [1, 2]), (2, 1, 5, 2),
]  # fmt: skip


def pairs(value: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(value, 2).tolist()
    return first, second


def one_by_one(x: Array, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Array:
    (r, s), (gap_h, gap_w) = pairs(kernel), pairs(dilation)
    (pad_h, pad_w), (step_h, step_w) = pairs(padding), pairs(stride)
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    tops = range(0, padded.shape[2] - gap_h * (r - 1), step_h)
    lefts = range(0, padded.shape[3] - gap_w * (s - 1), step_w)
    columns = [
        padded[:, :, top : top + gap_h * r : gap_h, left : left + gap_w * s : gap_w][
            :, :, :r, :s
        ].reshape(len(x), -1)
        for top, left in itertools.product(tops, lefts)
    ]
    return np.stack(columns, -1)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_unfold(window: Any) -> None:
    x = whole((2, 3, 7, 8))
    result = unfold(x, *window)
    expected = one_by_one(x, *window)
    assert result.shape == expected.shape
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert not np.shares_memory(result, x)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(unfold(x[1], *window), expected[1])


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_fold_is_the_adjoint_of_unfold(window: Any) -> None:
    x = whole((2, 3, 7, 8))
    columns = whole(unfold(x, *window).shape)
    images = fold(columns, (7, 8), *window)
    assert images.shape == x.shape
    assert images.flags.c_contiguous
    assert (images * x).sum() == (columns * unfold(x, *window)).sum()
    np.testing.assert_array_equal(fold(columns[0], (7, 8), *window), images[0])


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_fold_of_unfold_counts(window: Any) -> None:
    x = whole((2, 3, 7, 8))
    counts = fold(unfold(np.ones_like(x), *window), (7, 8), *window)
    np.testing.assert_array_equal(fold(unfold(x, *window), (7, 8), *window), x * counts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: Any) -> None:
    x = whole((2, 3, 5, 6)).astype(dtype)
    columns = unfold(x, 2, 1, 1, 1)
    images = fold(columns, (5, 6), 2, 1, 1, 1)
    assert (columns.dtype, images.dtype) == (x.dtype, x.dtype)
    np.testing.assert_array_equal(columns.astype(complex), unfold(x.astype(complex), 2, 1, 1, 1))
    np.testing.assert_array_equal(images.astype(complex), 4 * x.astype(complex))


@pytest.mark.parametrize(
    ("dtype", "value", "expected"), [("int8", 100, -112), ("uint8", 100, 144), ("int16", 1, 4)]
)
def test_integers_wrap_around(dtype: str, value: int, expected: int) -> None:
    columns = np.full((1, 4, 4), value, dtype)
    assert fold(columns, 3, 2)[0, 0, 1, 1] == expected


def test_half_precision_is_summed_in_float32() -> None:
    # In float16 2048 + 1 is 2048 again.
    columns = np.array([[[2048.0], [1.0], [1.0]]], np.float16).repeat(3, 2)
    folded = fold(columns, (1, 5), (1, 3))
    np.testing.assert_array_equal(folded[0, 0, 0], np.float16([2048, 2048, 2050, 2, 1]))


def test_padding_may_be_pairs_or_a_name() -> None:
    x = whole((1, 2, 5, 6))
    wide = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 1)))
    columns = unfold(x, 3, padding=[(1, 2), (0, 1)])
    np.testing.assert_array_equal(columns, unfold(wide, 3))
    expected = fold(columns, wide.shape[2:], 3)[:, :, 1:6, :6]
    np.testing.assert_array_equal(fold(columns, (5, 6), 3, 1, [(1, 2), (0, 1)]), expected)
    np.testing.assert_array_equal(unfold(x, 3, padding="same"), unfold(x, 3, padding=1))


def test_views_and_empty_batches() -> None:
    x = whole((3, 2, 6, 5))
    for view in (x[::-1, :, ::2], x.T.T[:, ::-1], x.astype(">f8"), np.broadcast_to(x[:1], x.shape)):
        np.testing.assert_array_equal(unfold(view, 2), unfold(view.astype(float), 2))
        columns = unfold(view, 2)
        strided = np.asfortranarray(columns)
        size = view.shape[2:]
        np.testing.assert_array_equal(fold(strided, size, 2), fold(columns, size, 2))
    assert unfold(x[:0], 2).shape == (0, 8, 20)
    assert fold(np.ones((0, 8, 20)), (6, 5), 2).shape == (0, 2, 6, 5)


def test_windows_of_three_axes() -> None:
    """The canonical helpers: a read-only view, and its adjoint on poisoned memory."""
    axes = Axes.of("test", (5, 6, 7), (2, 3, 2), (2, 1, 3), (1, 0, 2), (1, 2, 1))
    problem = problem_of("test", 2, 3, axes)
    x = whole((2, 3, 5, 6, 7))
    windows = windows_view(x, problem)
    assert windows.shape == (2, 3, *axes.kernel, *axes.output)
    assert not windows.flags.writeable
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0), (2, 2)))
    for tap in np.ndindex(*axes.kernel):
        for at in np.ndindex(*axes.output):
            place = tuple(
                i * step + k * gap
                for i, step, k, gap in zip(at, axes.stride, tap, axes.dilation, strict=True)
            )
            np.testing.assert_array_equal(windows[(..., *tap, *at)], padded[(..., *place)])
    out = np.full(x.shape, np.nan)
    columns = whole(windows.shape)
    fold_windows(columns, out, problem)
    assert (out * x).sum() == (columns * windows).sum()
    unpadded = problem_of("test", 2, 3, Axes.of("test", (5, 6, 7), (2, 2, 2), 1, 0, 1))
    assert np.shares_memory(windows_view(x, unpadded), x)


def pooled(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> tuple[Array, Array]:
    """Maxima over windows of an (N, C, ...) array and their flat positions, one by one."""
    size = x.shape[2:]
    rows = zip(size, kernel, stride, strict=True)
    outputs = tuple((extent - window) // step + 1 for extent, window, step in rows)
    maxima = np.empty((*x.shape[:2], *outputs), x.dtype)
    indices = np.empty(maxima.shape, np.int64)
    positions = np.arange(np.prod(size)).reshape(size)
    for at in np.ndindex(*outputs):
        starts = zip(at, stride, kernel, strict=True)
        window = tuple(slice(i * step, i * step + taps) for i, step, taps in starts)
        flat = x[(..., *window)].reshape(*x.shape[:2], -1)
        maxima[(..., *at)] = flat.max(-1)
        indices[(..., *at)] = positions[window].reshape(-1)[flat.argmax(-1)]
    return maxima, indices


UNPOOL = {1: max_unpool1d, 2: max_unpool2d, 3: max_unpool3d}
LAYOUTS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpool(rank: int, stride: int) -> None:
    kernel, steps = (3, 2, 2)[:rank], (stride,) * rank
    x = RANDOM.permutation(2 * 3 * 6**rank).reshape(2, 3, *(6,) * rank).astype(np.float32)
    maxima, indices = pooled(x, kernel, steps)
    result = UNPOOL[rank](maxima, indices, kernel, steps, output_size=x.shape)
    assert (result.shape, result.dtype) == (x.shape, x.dtype)
    flat, places = x.reshape(2, 3, -1), indices.reshape(2, 3, -1)
    expected = np.zeros_like(flat)
    np.put_along_axis(expected, places, np.take_along_axis(flat, places, -1), -1)
    np.testing.assert_array_equal(result, expected.reshape(x.shape))
    small = UNPOOL[rank](maxima[1], indices[1], list(kernel), steps, output_size=x.shape[2:])
    np.testing.assert_array_equal(small, result[1])
    last = UNPOOL[rank](
        np.moveaxis(maxima, 1, -1), np.moveaxis(indices, 1, -1), kernel, steps,
        output_size=x.shape[2:], layout=LAYOUTS[rank],
    )  # fmt: skip
    assert last.flags.c_contiguous
    np.testing.assert_array_equal(last, np.moveaxis(result, 1, -1))


def test_default_output_size() -> None:
    maxima, indices = np.ones((1, 3, 4)), np.zeros((1, 3, 4), np.int64)
    assert max_unpool2d(maxima, indices, (2, 3)).shape == (1, 6, 12)
    assert max_unpool2d(maxima, indices, 3, 2, 1).shape == (1, 5, 7)
    assert max_unpool2d(maxima, indices, 3, (), [(1, 0), (0, 1)]).shape == (1, 8, 11)


@pytest.mark.parametrize("size", [(3, 4, 5), (6, 6), (1, 3, 4, 5), [4, 5], np.array([6, 5])])
def test_output_sizes_within_a_stride(size: Any) -> None:
    maxima, indices = np.ones((3, 2, 2)), np.zeros((3, 2, 2), np.int64)
    if len(size) == 4:
        maxima, indices = maxima[None], indices[None]
    result = max_unpool2d(maxima, indices, 3, 2, output_size=size)
    assert result.shape[-2:] == tuple(size[-2:])


def test_the_last_of_equal_indices_wins() -> None:
    values = np.arange(1.0, 1001).reshape(1, 2, 10, 50)
    places = np.zeros(values.shape, np.int64)
    result = max_unpool2d(values, places, 1)
    assert (result[0, :, 0, 0] == [500, 1000]).all()
    assert np.count_nonzero(result) == 2
    last = max_unpool2d(np.moveaxis(values, 1, -1), np.moveaxis(places, 1, -1), 1, layout="NHWC")
    np.testing.assert_array_equal(last, np.moveaxis(result, 1, -1))
    backwards = max_unpool2d(values[..., ::-1, ::-1], places, 1)
    assert (backwards[0, :, 0, 0] == [1, 501]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_unpool_dtypes(dtype: Any) -> None:
    values = np.array([[[3.0, 5.0]]]).astype(dtype)
    result = max_unpool1d(values, np.array([[[1, 2]]]), 2)
    assert result.dtype == values.dtype
    assert result.astype(complex).tolist() == [[[0, 3, 5, 0]]]


def test_unpool_views_and_empty_batches() -> None:
    values, places = whole((2, 3, 4, 5)), RANDOM.integers(0, 80, (2, 3, 4, 5))
    expected = max_unpool2d(values, places, 2)
    swapped = values.astype(">f8"), np.asfortranarray(places.astype(">i8"))
    np.testing.assert_array_equal(max_unpool2d(*swapped, 2), expected)
    assert max_unpool2d(values[:0], places[:0], 2).shape == (0, 3, 8, 10)


X = np.ones((2, 3, 5, 6))
COLUMNS = np.ones((2, 12, 20))
MAXIMA = np.ones((2, 3, 2, 3))
PLACES = np.zeros((2, 3, 2, 3), np.int64)


def un(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {"input": X, "kernel_size": 2, **changes}
    return lambda: unfold(**arguments)


def fo(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {
        "input": COLUMNS, "output_size": (5, 6), "kernel_size": 2, **changes,
    }  # fmt: skip
    return lambda: fold(**arguments)


def up(**changes: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {
        "input": MAXIMA, "indices": PLACES, "kernel_size": 2, **changes,
    }  # fmt: skip
    return lambda: max_unpool2d(**arguments)


ERRORS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("bool", un(input=X > 0), TypeError, "unfold takes int8, uint8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128, got dtype bool"),
    ("two axes", un(input=X[0, 0]), ValueError, "unfold: input must have 4 axes NCHW (or 3 without the batch), got shape (5, 6)"),
    ("five axes", un(input=X[None]), ValueError, "got shape (1, 2, 3, 5, 6)"),
    ("no channels", un(input=X[:, :0]), ValueError, "axis C of the input must not be empty"),
    ("no rows", un(input=X[:, :, :0], padding=2), ValueError, "axis H of the input must not be empty"),
    ("zero kernel", un(kernel_size=0), ValueError, "unfold: kernel_size must be positive, got 0"),
    ("float kernel", un(kernel_size=2.0), TypeError, "kernel_size must be an integer, got 2.0"),
    ("three kernels", un(kernel_size=(2, 2, 2)), ValueError, "kernel_size must be one integer or 2 of them"),
    ("zero dilation", un(dilation=0), ValueError, "dilation must be positive, got 0"),
    ("negative padding", un(padding=-1), ValueError, "padding must be non-negative, got -1"),
    ("zero stride", un(stride=0), ValueError, "stride must be positive, got 0"),
    ("no stride", un(stride=None), TypeError, "stride must be an integer, got None"),
    ("kernel > input", un(kernel_size=7), ValueError, "kernel 7 with dilation 1 spans 7 and input 5 with padding (0, 0) has 5"),
    ("huge padding", un(padding=2**40), ValueError, "must be below 2**62"),
    ("columns' axes", fo(input=COLUMNS[0, 0]), ValueError, "fold: input must have axes N, C * R * S and P * Q"),
    ("four axes", fo(input=COLUMNS[None]), ValueError, "got shape (1, 2, 12, 20)"),
    ("no rows of columns", fo(input=COLUMNS[:, :0]), ValueError, "got shape (2, 0, 20)"),
    ("no columns", fo(input=COLUMNS[:, :, :0]), ValueError, "got shape (2, 12, 0)"),
    ("rows", fo(input=COLUMNS[:, :11]), ValueError, "rows must be a multiple of the 4 taps of kernel_size (2, 2), got 11"),
    ("columns", fo(input=COLUMNS[:, :, 1:]), ValueError, "a column for each of the 4 x 5 = 20 windows, got 19"),
    ("output_size", fo(output_size=(5, 6, 7)), ValueError, "output_size must be one integer or 2 of them, got (5, 6, 7)"),
    ("zero output_size", fo(output_size=(0, 6)), ValueError, "output_size must be positive, got 0"),
    ("float output_size", fo(output_size=5.0), TypeError, "output_size must be an integer, got 5.0"),
    ("small output_size", fo(output_size=1), ValueError, "the kernel must fit the padded input"),
    ("zero kernel of fold", fo(kernel_size=(0, 2)), ValueError, "fold: kernel_size must be positive, got 0"),
    ("zero stride of fold", fo(stride=0), ValueError, "fold: stride must be positive, got 0"),
    ("bool columns", fo(input=COLUMNS > 0), TypeError, "fold takes int8"),
    ("indices' shape", up(indices=PLACES[:1]), ValueError, "max_unpool2d: indices must have the input's shape (2, 3, 2, 3), got (1, 3, 2, 3)"),
    ("int32 indices", up(indices=PLACES.astype(np.int32)), TypeError, "indices must be int64, got dtype int32"),
    ("float indices", up(indices=PLACES * 1.0), TypeError, "indices must be int64, got dtype float64"),
    ("index too large", up(indices=PLACES + 24), ValueError, "an index must be from 0 to 23, in the output plane (4, 6), got 24"),
    ("negative index", up(indices=PLACES - 1), ValueError, "an index must be from 0 to 23, in the output plane (4, 6), got -1"),
    ("axes", up(input=MAXIMA[0, 0], indices=PLACES[0, 0]), ValueError, "input must have 4 axes NCHW"),
    ("empty channels", up(input=MAXIMA[:, :0], indices=PLACES[:, :0]), ValueError, "axis C of the input must not be empty"),
    ("empty rows", up(input=MAXIMA[:, :, :0], indices=PLACES[:, :, :0]), ValueError, "axis H of the input must not be empty"),
    ("zero window", up(kernel_size=0), ValueError, "kernel_size must be positive, got 0"),
    ("zero stride of unpool", up(stride=0), ValueError, "stride must be positive, got 0"),
    ("negative padding of unpool", up(padding=-1), ValueError, "padding must be non-negative, got -1"),
    ("named padding", up(padding="same"), ValueError, "max_unpool2d: padding must be numbers, got 'same'"),
    ("much padding", up(padding=4), ValueError, "the result must not be empty, got size (-4, -2)"),
    ("size too small", up(output_size=(2, 6)), ValueError, "output_size must differ by less than the stride (2, 2) from (4, 6), got (2, 6)"),
    ("size too large", up(output_size=(4, 8)), ValueError, "from (4, 6), got (4, 8)"),
    ("one size", up(output_size=(4,)), ValueError, "output_size must have 2 extents, or 4 for the whole shape, got (4,)"),
    ("three sizes", up(output_size=(3, 4, 6)), ValueError, "output_size must have 2 extents, or 4"),
    ("other batch", up(output_size=(1, 3, 4, 6)), ValueError, "must keep batch and channels of the input's shape (2, 3, 2, 3), got (1, 3, 4, 6)"),
    ("int size", up(output_size=5), TypeError, "output_size must be a sequence of integers, got 5"),
    ("text size", up(output_size="45"), TypeError, "output_size must be a sequence of integers, got '45'"),
    ("float sizes", up(output_size=(4.0, 6.0)), TypeError, "output_size must be an integer, got 4.0"),
    ("layout", up(layout="CHWN"), ValueError, "layout must be 'NCHW' or 'NHWC', got 'CHWN'"),
    ("huge result", up(stride=2**40), ValueError, "the result's size must be below 2**62"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS]
)
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
