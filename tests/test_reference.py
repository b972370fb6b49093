"""The specification itself, against scalar loops that share no code with it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import cnnfast

Array = np.ndarray[Any, Any]


def scalar_conv2d(
    x: Array,
    w: Array,
    stride: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
    groups: int,
) -> Array:
    """Seven loops over plain Python numbers, straight from the definition."""
    batch, _, height, width = x.shape
    filters, per_group, taps_h, taps_w = w.shape
    out_h = (height + sum(pads[0]) - dilation[0] * (taps_h - 1) - 1) // stride[0] + 1
    out_w = (width + sum(pads[1]) - dilation[1] * (taps_w - 1) - 1) // stride[1] + 1
    out = np.zeros((batch, filters, out_h, out_w))
    for n, k, p, q in itertools.product(range(batch), range(filters), range(out_h), range(out_w)):
        total = 0.0
        for c, r, s in itertools.product(range(per_group), range(taps_h), range(taps_w)):
            h = p * stride[0] + r * dilation[0] - pads[0][0]
            v = q * stride[1] + s * dilation[1] - pads[1][0]
            if 0 <= h < height and 0 <= v < width:
                total += float(w[k, c, r, s]) * float(
                    x[n, k // (filters // groups) * per_group + c, h, v]
                )
        out[n, k, p, q] = total
    return out


@pytest.mark.parametrize("seed", range(40))
def test_convolution_matches_scalar_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = int(random.integers(1, 4))
    x = random.integers(-4, 5, (2, 2 * groups, *random.integers(5, 9, 2))).astype(np.float32)
    w = random.integers(-4, 5, (groups * random.integers(1, 3), 2, *random.integers(1, 4, 2)))
    stride, dilation = (tuple(map(int, random.integers(1, 3, 2))) for _ in range(2))
    pads = tuple(tuple(map(int, pair)) for pair in random.integers(0, 4, (2, 2)))
    expected = scalar_conv2d(x, w, stride, pads, dilation, groups)  # type: ignore[arg-type]
    result = cnnfast.conv2d(
        x, w.astype(np.float32), None, stride, pads, dilation, groups, backend="reference"
    )
    np.testing.assert_array_equal(result, expected)


def windows_of(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil: bool) -> Any:
    """Every window of an axis as (taps inside the input, taps inside the padded input).

    ``ceil`` keeps one more window if the full ones leave a rest of the padded input uncovered and
    it would not start behind the input.
    """
    start, end, rest = -pad, size + pad, True
    while True:
        taps = range(start, start + dilation * (kernel - 1) + 1, dilation)
        fits = taps[-1] < end
        if not fits and not (ceil and rest and start < size):
            return
        yield [t for t in taps if 0 <= t < size], [t for t in taps if t < end]
        if not fits:
            return
        rest = taps[-1] < end - 1
        start += stride


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_pooling_matches_scalar_loops(seed: int, reduction: str) -> None:
    random = np.random.default_rng(seed)
    kernel, stride = int(random.integers(2, 4)), int(random.integers(1, 4))
    pad, ceil = int(random.integers(0, kernel // 2 + 1)), bool(random.integers(2))
    dilation = int(random.integers(1, 3)) if reduction == "max" else 1
    counts_pad = bool(random.integers(2))
    height, width = (int(v) for v in random.integers(6, 11, 2))
    x = random.integers(-3, 4, (height, width)).astype(np.float64)
    rows = list(windows_of(height, kernel, stride, pad, dilation, ceil))
    columns = list(windows_of(width, kernel, stride, pad, dilation, ceil))
    expected = np.empty((len(rows), len(columns)))
    for (p, (inside_h, padded_h)), (q, (inside_w, padded_w)) in itertools.product(
        enumerate(rows), enumerate(columns)
    ):
        values = [x[h, v] for h in inside_h for v in inside_w]
        if reduction == "max":
            expected[p, q] = max(values, default=-np.inf)
        else:
            count = len(padded_h) * len(padded_w) if counts_pad else len(values)
            expected[p, q] = sum(values) / count
    arguments = (x[None, None], kernel, stride, pad)
    if reduction == "max":
        result = cnnfast.max_pool2d(*arguments, dilation, ceil, backend="reference")
    else:
        result = cnnfast.avg_pool2d(*arguments, ceil, counts_pad, backend="reference")
    np.testing.assert_allclose(np.asarray(result)[0, 0], expected, rtol=1e-15)


def test_ties_and_nan_choose_as_torch_does() -> None:
    x = np.array([[[[1.0, 3.0, 3.0, np.nan, np.nan, 0.0]]]])
    values, indices = cnnfast.max_pool2d(x, (1, 3), return_indices=True, backend="reference")
    np.testing.assert_array_equal(values, [[[[3.0, np.nan]]]])
    np.testing.assert_array_equal(indices, [[[[1, 4]]]])
