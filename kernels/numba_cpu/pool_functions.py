"""Poolings for users' own compiled code (``numba_cpu.max_pool2d`` and its kin)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._calls import (
    apart,
    check_out,
    check_types,
    pool_words,
    result_shape,
    run_avg_pool,
    run_max_pool,
    sizes,
    steps_of,
    triple,
    whole_strides,
)
from ._problems import check_result, pool_problem
from .functions import function

MAX = """Max pooling, channels first: ``torch.nn.functional.max_pool{0}d`` for compiled code.

x    (N, C, {1})    float32 or float64, any strides    IN

``kernel_size``, ``stride`` (None: the window), ``padding`` and ``dilation`` are integers or tuples
of {0}. NaN wins; a window wholly in padding gives -inf. Returns (N, C, {3}).
Sequential; holds no GIL. ValueError for sizes that don't fit, TypingError for types that don't.
"""

AVG = """Average pooling, channels first: ``torch.nn.functional.avg_pool{0}d`` for compiled code.

Arguments, errors and threads as in ``max_pool{0}d``.
"""

INTO = """The same into an array: ``out`` (N, C, {3}) of x's dtype, any strides, writeable.

ValueError also where ``out`` has another shape, or lies between the first and the last element of
the input.
"""


def _make_max(rank: int) -> Any:
    def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        check_types(rank, x, None, None)
        window, ahead = triple(rank, kernel_size, 1), triple(rank, padding, 0)
        steps = triple(rank, steps_of(stride, kernel_size), 1)
        problem = pool_problem(
            sizes(x), window, steps, ahead, triple(rank, dilation, 1), ceil_mode, whole_strides(x)
        )
        out = np.empty(result_shape(rank, problem[0], problem[1], problem[5:8]), x.dtype)
        windows = np.empty(3 * (problem[5] + problem[6] + problem[7]), np.int64)
        run_max_pool(x, (pool_words(x, out, problem, window, steps, ahead, False), windows))
        return out

    return function("max_pool{}d", rank, MAX, max_pool)


def _make_max_into(rank: int) -> Any:
    def max_pool_into(out, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        check_types(rank, x, None, None)
        check_out(rank, x, out)
        window, ahead = triple(rank, kernel_size, 1), triple(rank, padding, 0)
        steps = triple(rank, steps_of(stride, kernel_size), 1)
        problem = pool_problem(
            sizes(x), window, steps, ahead, triple(rank, dilation, 1), ceil_mode, whole_strides(x)
        )
        check_result(
            sizes(out), problem[0], problem[1], problem[5:8], whole_strides(out), apart(x, out)
        )
        windows = np.empty(3 * (problem[5] + problem[6] + problem[7]), np.int64)
        run_max_pool(x, (pool_words(x, out, problem, window, steps, ahead, False), windows))

    return function("max_pool{}d_into", rank, INTO, max_pool_into)


def _make_avg(rank: int) -> Any:
    def avg_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        check_types(rank, x, None, None)
        window, ahead = triple(rank, kernel_size, 1), triple(rank, padding, 0)
        steps = triple(rank, steps_of(stride, kernel_size), 1)
        problem = pool_problem(
            sizes(x), window, steps, ahead, triple(rank, 1, 1), ceil_mode, whole_strides(x)
        )
        out = np.empty(result_shape(rank, problem[0], problem[1], problem[5:8]), x.dtype)
        windows = np.empty(3 * (problem[5] + problem[6] + problem[7]), np.int64)
        words = pool_words(x, out, problem, window, steps, ahead, count_include_pad)
        run_avg_pool(x, (words, windows))
        return out

    return function("avg_pool{}d", rank, AVG, avg_pool)


def _make_avg_into(rank: int) -> Any:
    def avg_pool_into(
        out, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
    ):
        check_types(rank, x, None, None)
        check_out(rank, x, out)
        window, ahead = triple(rank, kernel_size, 1), triple(rank, padding, 0)
        steps = triple(rank, steps_of(stride, kernel_size), 1)
        problem = pool_problem(
            sizes(x), window, steps, ahead, triple(rank, 1, 1), ceil_mode, whole_strides(x)
        )
        check_result(
            sizes(out), problem[0], problem[1], problem[5:8], whole_strides(out), apart(x, out)
        )
        windows = np.empty(3 * (problem[5] + problem[6] + problem[7]), np.int64)
        words = pool_words(x, out, problem, window, steps, ahead, count_include_pad)
        run_avg_pool(x, (words, windows))

    return function("avg_pool{}d_into", rank, INTO, avg_pool_into)


max_pool1d, max_pool2d, max_pool3d = map(_make_max, (1, 2, 3))
max_pool1d_into, max_pool2d_into, max_pool3d_into = map(_make_max_into, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(_make_avg, (1, 2, 3))
avg_pool1d_into, avg_pool2d_into, avg_pool3d_into = map(_make_avg_into, (1, 2, 3))
