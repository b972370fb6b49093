"""Poolings for users' own compiled code (``numba_cpu.max_pool2d`` and its kin)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ._calls import (
    axes_of,
    check_out,
    check_types,
    pool_shape,
    pool_words,
    run_avg_pool,
    run_max_pool,
    set_pool_out,
    steps_of,
    triple,
    write_avg_problem,
    write_max_problem,
)
from ._refusals import check_pool_result, is_pool_refused, raise_pool_refusal
from ._words import POOL
from .functions import function

LOCAL = POOL.local


@numba.njit(inline="always")
def _refuse(words):
    """As for convolutions."""
    if is_pool_refused(words):
        raise_pool_refusal(words)
        raise ValueError  # not reached


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

``out`` comes behind ``padding``, or by name. Returns nothing. ValueError also where ``out`` has
another shape, or lies between the first and the last element of the input.
"""


def _make_max(rank: int) -> Any:
    axes = axes_of(rank)

    def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        check_types(axes, x, None, None)
        words = pool_words(
            x, triple(axes, kernel_size, 1), triple(axes, steps_of(stride, kernel_size), 1),
            triple(axes, padding, 0), triple(axes, dilation, 1), ceil_mode, False,
        )  # fmt: skip
        write_max_problem(x, (words,))
        _refuse(words)
        out = np.empty(pool_shape(axes, words), x.dtype)
        set_pool_out(words, out)
        run_max_pool(x, (words, np.empty(words[LOCAL], np.int64)))
        return out

    return function("max_pool{}d", rank, MAX, max_pool)


def _make_max_into(rank: int) -> Any:
    axes = axes_of(rank)

    def max_pool_into(
        x, kernel_size, stride=None, padding=0, out=None, dilation=1, ceil_mode=False
    ):  # fmt: skip
        check_types(axes, x, None, None)
        check_out(axes, x, out)
        words = pool_words(
            x, triple(axes, kernel_size, 1), triple(axes, steps_of(stride, kernel_size), 1),
            triple(axes, padding, 0), triple(axes, dilation, 1), ceil_mode, False,
        )  # fmt: skip
        write_max_problem(x, (words,))
        check_pool_result(words, out, (x,))
        _refuse(words)
        set_pool_out(words, out)
        run_max_pool(x, (words, np.empty(words[LOCAL], np.int64)))

    return function("max_pool{}d_into", rank, INTO, max_pool_into)


def _make_avg(rank: int) -> Any:
    axes = axes_of(rank)

    def avg_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        check_types(axes, x, None, None)
        words = pool_words(
            x, triple(axes, kernel_size, 1), triple(axes, steps_of(stride, kernel_size), 1),
            triple(axes, padding, 0), triple(axes, 1, 1), ceil_mode, count_include_pad,
        )  # fmt: skip
        write_avg_problem(x, (words,))
        _refuse(words)
        out = np.empty(pool_shape(axes, words), x.dtype)
        set_pool_out(words, out)
        run_avg_pool(x, (words, np.empty(words[LOCAL], np.int64)))
        return out

    return function("avg_pool{}d", rank, AVG, avg_pool)


def _make_avg_into(rank: int) -> Any:
    axes = axes_of(rank)

    def avg_pool_into(
        x, kernel_size, stride=None, padding=0, out=None, ceil_mode=False, count_include_pad=True
    ):
        check_types(axes, x, None, None)
        check_out(axes, x, out)
        words = pool_words(
            x, triple(axes, kernel_size, 1), triple(axes, steps_of(stride, kernel_size), 1),
            triple(axes, padding, 0), triple(axes, 1, 1), ceil_mode, count_include_pad,
        )  # fmt: skip
        write_avg_problem(x, (words,))
        check_pool_result(words, out, (x,))
        _refuse(words)
        set_pool_out(words, out)
        run_avg_pool(x, (words, np.empty(words[LOCAL], np.int64)))

    return function("avg_pool{}d_into", rank, INTO, avg_pool_into)


max_pool1d, max_pool2d, max_pool3d = map(_make_max, (1, 2, 3))
max_pool1d_into, max_pool2d_into, max_pool3d_into = map(_make_max_into, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(_make_avg, (1, 2, 3))
avg_pool1d_into, avg_pool2d_into, avg_pool3d_into = map(_make_avg_into, (1, 2, 3))
