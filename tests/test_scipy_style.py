"""``cnnfast.signal`` and ``cnnfast.ndimage``: SciPy's own test values, and SciPy beside them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import ndimage, signal

pytestmark = pytest.mark.filterwarnings("ignore::cnnfast.PerformanceWarning")

Array = np.ndarray[Any, Any]
CODES = "bBhHiIqQfdFD"
MODES = ("full", "same", "valid")
EDGES = ("reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap",
         "grid-constant")  # fmt: skip
GRID = np.array([[3, 2, 5, 1, 4], [7, 6, 9, 3, 5], [5, 8, 3, 7, 1]])
FOOTPRINT = [[1, 0, 1], [1, 1, 0]]
FULL = [[2, 7, 16, 17, 12], [10, 30, 62, 58, 38], [12, 31, 58, 49, 30]]


def same(result: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    assert np.asarray(result).shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-13)


# What SciPy's own tests expect, of scipy.signal and of scipy.ndimage.


@pytest.mark.parametrize("method", signal.METHODS)
@pytest.mark.parametrize(
    ("in1", "in2", "mode", "expected"),
    [
        ([3, 4, 5], [1, 2, 3], "same", [10, 22, 22]),
        ([1 + 1j, 2 + 1j, 3 + 1j], [1 + 1j, 2 + 1j], "full", [2j, 2 + 6j, 5 + 8j, 5 + 5j]),
        ([4967], [3920], "full", [4967 * 3920]),
        ([[1, 2, 3], [3, 4, 5]], [[2, 3, 4], [4, 5, 6]], "full", FULL),
        ([1, 2, 3, 6, 5, 3], [2, 3, 4, 5, 3, 4, 2, 2, 1], "valid", [70, 78, 73, 65]),
        ([2, 3, 4, 5, 3, 4, 2, 2, 1], [1, 2, 3, 6, 5, 3], "valid", [70, 78, 73, 65]),
        ([1 + 5j, 2 - 1j, 3], [2 - 3j, 1], "valid", [2 - 3j, 8 - 10j]),
        ([1, 2, 3, 3, 1, 2], [1, 4, 3, 4, 5, 6, 7, 4, 3, 2, 1, 1, 3], "same",
         [57, 61, 63, 57, 45, 36]),
    ],
)  # fmt: skip
def test_convolve(in1: Any, in2: Any, mode: str, expected: Any, method: str) -> None:
    same(signal.convolve(in1, in2, mode, method), expected)


def test_convolve2d_and_its_boundaries() -> None:
    a, b = [[1, 2, 3], [3, 4, 5]], [[2, 3, 4], [4, 5, 6]]
    same(signal.convolve2d(a, b), FULL)
    around_one = [[24, 26, 31, 34, 32], [28, 40, 62, 64, 52], [32, 46, 67, 62, 48]]
    same(signal.convolve2d(a, b, "full", "fill", 1), around_one)
    mirrored = [[34, 30, 44, 62, 66], [52, 48, 62, 80, 84], [82, 78, 92, 110, 114]]
    same(signal.convolve2d(a, b, "full", "symm"), mirrored)
    wide, small = [[2, 3, 4, 5, 6, 7, 8], [4, 5, 6, 7, 8, 9, 10]], [[1, 2, 3], [3, 4, 5]]
    same(signal.convolve2d(wide, small, "valid"), [[62, 80, 98, 116, 134]])
    same(signal.convolve2d(small, wide, "valid"), [[62, 80, 98, 116, 134]])


@pytest.mark.parametrize(
    ("weights", "correlated", "convolved"),
    [
        ([1, 1], [2, 3, 5], [3, 5, 6]),
        ([1, 2, 3], [9, 14, 17], [7, 10, 15]),
        ([1, 2, 1], [5, 8, 11], [5, 8, 11]),
        ([1, 2, -1], [1, 2, 5], [3, 6, 7]),
    ],
)
def test_lines(weights: list[int], correlated: list[int], convolved: list[int]) -> None:
    for correlate in (ndimage.correlate, ndimage.correlate1d):
        same(correlate([1, 2, 3], weights), correlated)
    for convolve in (ndimage.convolve, ndimage.convolve1d):
        same(convolve([1, 2, 3], weights), convolved)


def test_planes_origins_and_overlaps() -> None:
    plane, diagonal = [[1, 2, 3], [4, 5, 6]], [[1, 0], [0, 1]]
    same(ndimage.correlate(plane, diagonal), [[2, 3, 5], [5, 6, 8]])
    same(ndimage.convolve(plane, diagonal), [[6, 8, 9], [9, 11, 12]])
    moved = ndimage.correlate(plane, diagonal, output=np.float32, mode="nearest", origin=-1)
    same(moved, [[6, 8, 9], [9, 11, 12]])
    assert moved.dtype == np.float32
    same(ndimage.correlate([1, 2, 3], [1, 1], origin=-1), [3, 5, 6])
    same(ndimage.convolve([1, 2, 3], [1, 1], origin=-1), [2, 3, 5])
    whole = np.arange(256).reshape(16, 16)
    assert ndimage.correlate1d(whole, [2], output=whole) is whole
    same(whole, 2 * np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1] + [0] * 7, {"nearest": [1, 1, 1], "wrap": [3, 1, 2], "reflect": [3, 3, 2],
                         "mirror": [1, 2, 3], "constant": [0, 0, 0]}),
        ([0] * 8 + [1], {"nearest": [3, 3, 3], "wrap": [2, 3, 1], "reflect": [2, 1, 1],
                         "mirror": [1, 2, 3], "constant": [0, 0, 0]}),
    ],
)  # fmt: skip
def test_kernels_longer_than_the_line(weights: list[int], expected: dict[str, list[int]]) -> None:
    for mode, line in expected.items():
        same(ndimage.correlate1d([1, 2, 3], weights, 0, mode=mode), line)


def test_means() -> None:
    same(ndimage.uniform_filter1d([2, 4, 6], 2, origin=-1), [3, 5, 6])
    same(ndimage.uniform_filter1d([2 + 1j, 4 + 2j, 6 + 3j], 2), [2 + 1j, 3 + 1.5j, 5 + 2.5j])
    same(ndimage.uniform_filter([1, 2, 3], [0]), [1, 2, 3])
    plane = np.array([[4, 8, 12], [16, 20, 24]], np.uint8)
    result = ndimage.uniform_filter(plane, [2, 2], output=np.int16)
    same(result, [[4, 6, 10], [10, 12, 16]])
    assert result.dtype == np.int16


def test_extremes() -> None:
    same(ndimage.maximum_filter(GRID, [2, 3]), [[3, 5, 5, 5, 4], [7, 9, 9, 9, 5], [8, 9, 9, 9, 7]])
    same(ndimage.minimum_filter(GRID, [2, 3]), [[2, 2, 1, 1, 1], [2, 2, 1, 1, 1], [5, 3, 3, 1, 1]])
    lowest = ndimage.minimum_filter(GRID, footprint=FOOTPRINT, origin=-1)
    same(lowest, [[3, 1, 3, 1, 1], [5, 3, 3, 1, 1], [3, 3, 1, 1, 1]])
    highest = ndimage.maximum_filter(GRID, footprint=FOOTPRINT)
    same(highest, [[3, 5, 5, 5, 4], [7, 7, 9, 9, 5], [7, 9, 8, 9, 7]])
    in_place = GRID.copy()
    ndimage.minimum_filter(in_place, [2, 3], output=in_place)
    same(in_place, [[2, 2, 1, 1, 1], [2, 2, 1, 1, 1], [5, 3, 3, 1, 1]])


# Random calls beside the installed SciPy.


def random_array(rng: np.random.Generator, shape: tuple[int, ...], code: str) -> Array:
    kind = np.dtype(code).kind
    if kind in "iu":
        return rng.integers(-30 if kind == "i" else 0, 100, shape).astype(code)
    values = rng.normal(size=shape)
    return (values + 1j * rng.normal(size=shape) if kind == "c" else values).astype(code)


def alike(expected: Array | None, result: Array | None, bound: float = 0) -> None:
    """Equal, or both refused; floats are equal up to ``bound`` roundings of the result's dtype."""
    assert (result is None) == (expected is None)
    if expected is None or result is None:
        return
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(result, expected)
        return
    atol = bound * float(np.finfo(expected.dtype).eps)
    np.testing.assert_allclose(result, expected, rtol=0, atol=atol)


def roundings(terms: int, x: Array, weight: Array) -> float:
    """Of a sum of so many products: as many as it has terms, of the sum of their magnitudes."""
    return (terms + 8) * terms * float(np.abs(x).max()) * float(np.abs(weight).max())


def shapes(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = int(rng.integers(1, 4))
    first, second = rng.integers(1, 9, rank), rng.integers(1, 7, rank)
    return tuple(map(int, first)), tuple(map(int, second))


def outcome(call: Callable[..., Array], *arguments: Any, **keywords: Any) -> Array | None:
    """None where it refuses."""
    try:
        return call(*arguments, **keywords)
    except (ValueError, TypeError, RuntimeError):
        return None


@pytest.mark.parametrize("seed", range(8))
def test_signal_beside_scipy(seed: int) -> None:
    theirs = pytest.importorskip("scipy.signal", reason="compared with SciPy")
    rng = np.random.default_rng(seed)
    for count in range(60):
        first, second = shapes(rng)
        codes = [str(rng.choice(list(CODES)))] * 2
        if count % 3 == 0:
            codes[1] = str(rng.choice(list(CODES)))
        a, b = (random_array(rng, s, c) for s, c in zip((first, second), codes, strict=True))
        if count % 5 == 0:
            a = np.asfortranarray(a)[::-1]
        # SciPy takes the fill value in the first one's dtype, and may warn of others' casts.
        one, two = (array.astype(np.result_type(a, b)) for array in (a, b))
        mode, method = str(rng.choice(MODES)), str(rng.choice(signal.METHODS))
        bound = roundings(a.size if method == "fft" else min(a.size, b.size), one, two)
        for name in ("correlate", "convolve"):
            expected = outcome(getattr(theirs, name), one, two, mode, "direct")
            alike(expected, outcome(getattr(signal, name), a, b, mode, method), bound)
        if a.ndim != 2:
            continue
        beyond = ("fill", "wrap", "symm")[int(rng.integers(3))], int(rng.integers(3))
        bound = roundings(b.size, np.append(one, 2), two)
        for name in ("correlate2d", "convolve2d"):
            expected = outcome(getattr(theirs, name), one, two, mode, *beyond)
            alike(expected, outcome(getattr(signal, name), a, b, mode, *beyond), bound)


def random_filters(
    rng: np.random.Generator,
) -> list[tuple[str, tuple[Any, ...], dict[str, Any], float]]:
    """Name, positional and keyword arguments, roundings."""
    first, second = shapes(rng)
    rank = len(first)
    x = random_array(rng, first, str(rng.choice(list(CODES))))
    if rng.random() < 0.2:
        x = x > x.real.mean() if x.dtype.kind != "c" else x
    axes = None
    if rng.random() < 0.4:
        axes = tuple(map(int, rng.permutation(rank)[: rng.integers(1, rank + 1)]))
    size = second[: rank if axes is None else len(axes)]
    if axes is not None and len(axes) < rank:
        axes = tuple(sorted(axes))
    origin = [int(rng.integers(-(n // 2), (n - 1) // 2 + 1)) for n in size]
    modes = [str(mode) for mode in rng.choice(EDGES, len(size))]
    keywords: dict[str, Any] = {"cval": float(rng.integers(3)), "axes": axes, "origin": origin}
    if x.dtype.kind != "c" and rng.random() < 0.3:
        keywords["output"] = np.dtype(str(rng.choice(["f4", "f8", "i4", "u1"])))
    # SciPy stores a sum of 256 as False: no sums as large as that of bools.
    weights = random_array(rng, size, str(rng.choice(list("dfi"))) if x.dtype != bool else "d")
    flat = random_array(rng, size[:1], "d")
    bound = roundings(weights.size, np.append(x, 2), np.concatenate((weights.ravel(), flat, [1])))
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any], float]] = [
        (name, (x, weights), {**keywords, "mode": modes[0]}, bound)
        for name in ("correlate", "convolve")
    ]
    calls.append(("uniform_filter", (x, size), {**keywords, "mode": modes}, bound))
    line = {"axis": int(rng.integers(-rank, rank)), "mode": modes[0], "cval": 1.5,
            "origin": origin[0]}  # fmt: skip
    calls += [(name, (x, flat), line, bound) for name in ("correlate1d", "convolve1d")]
    calls.append(("uniform_filter1d", (x, size[0]), line, bound))
    if x.dtype.kind != "c":
        footprint = rng.random(size) > 0.5
        for name in ("maximum_filter", "minimum_filter"):
            calls.append((name, (x, size), {**keywords, "mode": modes}, 0))
            calls.append((name, (x, None, footprint), {**keywords, "mode": modes[0]}, 0))
            calls.append((f"{name}1d", (x, size[0]), line, 0))
    return calls


@pytest.mark.parametrize("seed", range(8))
def test_filters_beside_scipy(seed: int) -> None:
    theirs = pytest.importorskip("scipy.ndimage", reason="compared with SciPy")
    rng = np.random.default_rng(seed)
    for _ in range(40):
        for name, arguments, keywords, bound in random_filters(rng):
            expected = outcome(getattr(theirs, name), *arguments, **keywords)
            result = outcome(getattr(ndimage, name), *arguments, **keywords)
            alike(expected, result, bound)


@pytest.mark.parametrize("mode", EDGES)
def test_bands_meet_without_a_seam(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    x, weights = rng.integers(0, 9, (70, 6)).astype(float), rng.integers(0, 5, (5, 4)).astype(float)
    calls = [
        lambda: ndimage.correlate(x, weights, mode=mode, cval=2),
        lambda: ndimage.maximum_filter(x, (5, 3), mode=mode, cval=2),
        lambda: ndimage.uniform_filter(x, 4, mode=mode, cval=2),
    ]
    whole = [call() for call in calls]
    monkeypatch.setattr(cnnfast._borders, "BAND_BYTES", 1)
    monkeypatch.setattr(cnnfast._borders, "BAND_REACHES", 0)  # a row at a time
    for call, expected in zip(calls, whole, strict=True):
        np.testing.assert_array_equal(call(), expected)


# What is particular.


def test_transforms_serve_only_where_they_are_right() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=3000), rng.normal(size=2900)
    direct = signal.convolve(a, b, method="direct")
    error = np.abs(signal.convolve(a, b, method="fft") - direct).max()
    assert 0 < error < 1e-15 * np.linalg.norm(a) * np.linalg.norm(b)
    large = np.array([2**40 + 1, 3, -(2**41)])
    exact = signal.convolve(large, large, method="direct")
    np.testing.assert_array_equal(signal.convolve(large, large, method="fft"), exact)
    small = rng.integers(0, 256, (60, 60)).astype(np.int32)
    exact = signal.correlate(small, small, method="direct")
    np.testing.assert_array_equal(signal.correlate(small, small, method="fft"), exact)
    a[1500] = np.nan
    for method in signal.METHODS:
        assert np.isnan(signal.convolve(a, b[:5], "same", method)).sum() == 5


def test_the_faster_method_is_chosen() -> None:
    taken = [
        signal._transforms_pay(np.ones(shape), np.ones(kernel), [(0, n) for n in shape])
        for shape, kernel in (((1000, 1000), (5, 5)), ((1000, 1000), (200, 200)), ((99,), (9,)))
    ]
    assert taken == [False, True, False]


def test_padding_is_multiplied_but_in_one_dimension() -> None:
    line = signal.convolve([1.0, 1.0], [np.inf, 1.0], method="direct")
    np.testing.assert_array_equal(line, [np.inf, np.inf, 1.0])
    plane = signal.convolve([[1.0, 1.0]], [[np.inf, 1.0]], method="direct")
    np.testing.assert_array_equal(plane, [[np.inf, np.inf, np.nan]])


def test_zero_taps_of_a_plane_are_left_out() -> None:
    x = np.array([[np.nan, 1, 2, 3]])
    np.testing.assert_array_equal(ndimage.correlate(x, [[0, 1, 2.0]]), [[np.nan, 5, 8, 9]])
    np.testing.assert_array_equal(ndimage.correlate1d(x[0], [0, 1, 2.0]), [np.nan, np.nan, 8, 9])
    same(ndimage.correlate([1, 2, 3], np.array([-128], np.int8)), [-128, -256, -384])


def test_nans_win_and_stay_where_they_are() -> None:
    x = np.array([0.0, np.nan, 1, 2, 3, 4])
    np.testing.assert_array_equal(ndimage.maximum_filter(x, 3), [np.nan] * 3 + [3, 4, 4])
    np.testing.assert_array_equal(ndimage.minimum_filter(x, 3), [np.nan] * 3 + [1, 2, 3])
    np.testing.assert_array_equal(np.isnan(ndimage.uniform_filter(x, 3)), [1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("code", ["?", "e", "g"])
def test_dtypes_that_scipy_refuses_are_computed(code: str) -> None:
    x = (np.arange(20).reshape(4, 5) % 3).astype(code)
    weight = np.array([[1, 0], [1, 1]]).astype(code)
    expected = signal.correlate2d(x.astype(int), weight.astype(int)).astype(code)
    np.testing.assert_array_equal(signal.correlate2d(x, weight), expected)
    top = ndimage.maximum_filter(x, 3)
    np.testing.assert_array_equal(top, ndimage.maximum_filter(x.astype(int), 3).astype(code))
    assert top.dtype == x.dtype


def test_four_axes_and_more_digits_than_float64_has() -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.integers(0, 9, (3, 4, 3, 5)), rng.integers(0, 9, (2, 1, 2, 2))
    result = signal.correlate(x, weight, "valid", "direct")
    for at in itertools.product(*map(range, result.shape)):
        window = x[tuple(slice(i, i + k) for i, k in zip(at, weight.shape, strict=True))]
        assert result[at] == (window * weight).sum()
    large = np.array([2**62 + 1, 2**62], np.int64)
    np.testing.assert_array_equal(ndimage.maximum_filter(large, 2), [2**62 + 1] * 2)


def test_outputs_of_other_kinds() -> None:
    with pytest.warns(UserWarning, match="promoting specified output dtype"):
        result = ndimage.correlate([1.0, 2.0], [1j], output=np.float32)
    assert result.dtype == np.complex64
    out = np.empty(3, np.float32)
    assert ndimage.uniform_filter([3.0, 6.0, 9.0], 3, out) is out
    same([*out, *ndimage.uniform_filter([7.9, -1.2], 3, np.int32, axes=())], [4, 6, 8, 7, -1])
    with pytest.warns(UserWarning, match="size is ignored"):
        ndimage.maximum_filter([1, 2], 3, [True])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: signal.correlate([1], [[1]]), "same number of axes"),
        (lambda: signal.correlate([], [1]), "in1 must not be empty"),
        (lambda: signal.convolve2d([[1]], np.ones((0, 2))), "in2 must not be empty"),
        (lambda: signal.convolve([1], [1], "middle"), "mode must be"),
        (lambda: signal.convolve([1], [1], method="slow"), "method must be"),
        (lambda: signal.convolve(np.ones((2, 3)), np.ones((3, 2)), "valid"), "as large as"),
        (lambda: signal.convolve2d([1], [1]), "must be matrices"),
        (lambda: signal.convolve2d([[1]], [[1]], boundary="edge"), "boundary must be"),
        (lambda: signal.convolve2d([[1]], [[1]], fillvalue=[1, 2]), "fillvalue must be one"),
        (lambda: signal.convolve2d([[1]], [[1]], fillvalue=1j), "fillvalue must be real"),
        (lambda: signal.correlate(["a"], ["b"]), "must hold numbers"),
        (lambda: ndimage.correlate([1, 2], [[1]]), "weights must have 1 axes"),
        (lambda: ndimage.correlate([1, 2], []), "not be empty"),
        (lambda: ndimage.correlate([1, 2], [1], mode="edge"), "mode must be one of"),
        (lambda: ndimage.correlate([1, 2], [1], mode=["wrap"]), "one string"),
        (lambda: ndimage.correlate([1, 2], [1, 1], origin=1), "origin must leave"),
        (lambda: ndimage.correlate([1, 2], [1], cval="0"), "cval must be"),
        (lambda: ndimage.correlate([1, 2], [1], np.empty(3)), "out must have the result's shape"),
        (lambda: ndimage.correlate([1, 2], [1j], np.empty(2)), "must hold complex"),
        (lambda: ndimage.uniform_filter([1, 2], 1.5), "size must be an integer"),
        (lambda: ndimage.uniform_filter([1, 2], -1), "size must be non-negative"),
        (lambda: ndimage.uniform_filter([1, 2], (3, 3)), "size must be one or 1"),
        (lambda: ndimage.uniform_filter([1, 2], axes=1), "axes must be from -1 to 0"),
        (lambda: ndimage.uniform_filter(np.ones((2, 2)), axes=(0, -2)), "axes must differ"),
        (lambda: ndimage.maximum_filter([1, 2]), "one of size and footprint"),
        (lambda: ndimage.maximum_filter([1, 2], footprint=[0, 0]), "and a True"),
        (lambda: ndimage.maximum_filter([1j]), "real numbers"),
        (lambda: ndimage.maximum_filter(np.ma.masked_array([1.0]), 3), "masked"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_scipy_is_not_imported(tmp_path: Path) -> None:
    program = "import sys, cnnfast.signal, cnnfast.ndimage; assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=tmp_path)
