"""Convolutions for users' own compiled code (``numba_cpu.conv2d`` and its kin)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ._calls import (
    axes_of,
    check_out,
    check_types,
    contiguous,
    conv_shape,
    conv_words,
    keep,
    plan_conv,
    plan_transposed,
    run_conv,
    run_transposed,
    set_conv_out,
    triple,
    write_conv_problem,
    write_transposed_problem,
)
from ._compile import enable_cache
from ._refusals import check_conv_result, is_conv_refused, raise_conv_refusal
from ._words import CONV as WORDS
from ._words import LOCAL_ELEMENTS, TASKS

LOCAL = WORDS.local


def function(name: str, rank: int, document: str, body: Any) -> Any:
    """A function for users' compiled code, which is cached. LLVM inlines it: Numba caches no
    function whose code passes a function on, such as an activation."""
    body.__name__ = body.__qualname__ = name.format(rank)
    axes = ", ".join("DHW"[-rank:]), ", ".join("TRS"[-rank:]), ", ".join("OPQ"[-rank:])
    body.__doc__ = document.format(rank, *axes)
    dispatcher = numba.njit(nogil=True, no_cfunc_wrapper=True, forceinline=True)(body)
    enable_cache(dispatcher)
    return dispatcher


@numba.njit(inline="always")
def _refuse(words):
    """Raise a ValueError if a rule is broken."""
    if is_conv_refused(words):
        raise_conv_refusal(words)
        raise ValueError  # not reached: before a branch that ends so, arrays are let go


@numba.njit(inline="always")
def _run(words, x, out):
    """All tasks of a convolution."""
    set_conv_out(words, out)
    plan_conv(x, (words, 1))
    local = np.empty(words[LOCAL_ELEMENTS], x.dtype)
    run_conv(x, (words, local, 0, words[TASKS]))


@numba.njit(inline="always")
def _run_transposed(words, x, out):
    """All of a transposed convolution."""
    set_conv_out(words, out)
    plan_transposed(x, (words,))
    run_transposed(x, (words, np.empty(words[LOCAL], x.dtype)))


CONV = """Convolution, channels first: ``torch.nn.functional.conv{0}d`` for compiled code.

x       (N, C, {1})       float32 or float64, any strides    IN
weight  (K, C/G, {2})     x's dtype, any strides             IN
bias    (K,) or None      x's dtype                          IN

``stride``, ``padding`` and ``dilation`` are integers or tuples of {0}; ``activation`` is None or a
scalar function compiled by ``numba.njit``, which may not raise. Returns (N, K, {3}).
Sequential; holds no GIL. ValueError for sizes that don't fit, TypingError for types that don't.
"""

CONV_INTO = """``conv{0}d`` into an array: ``out`` (N, K, {3}) of x's dtype, any strides, writeable.

``out`` comes before ``bias`` and ``activation``, or by name. Returns nothing. ValueError also where
``out`` has another shape, or lies between the first and the last element of an input.
"""

TRANSPOSED = """Transposed convolution, channels first: ``torch.nn.functional.conv_transpose{0}d``.

x       (N, C, {1})       float32 or float64, any strides    IN
weight  (C, K/G, {2})     x's dtype, any strides             IN
bias    (K,) or None      x's dtype                          IN

Integers, tuples, ``activation``, errors and threads as in ``conv{0}d``. Returns (N, K, {3}).
"""

TRANSPOSED_INTO = (
    """``conv_transpose{0}d`` into ``out``, which comes before ``bias``, as in ``conv{0}d_into``."""
)


def _make_conv(rank: int) -> Any:
    axes = axes_of(rank)

    def conv(x, weight, stride=1, padding=0, dilation=1, groups=1, bias=None, activation=None):
        check_types(axes, x, weight, bias)
        values = contiguous(bias)
        words = conv_words(
            x, weight, triple(axes, stride, 1), triple(axes, padding, 0), triple(axes, dilation, 1),
            triple(axes, 0, 0), groups, values, activation,
        )  # fmt: skip
        write_conv_problem(x, (words,))
        _refuse(words)
        out = np.empty(conv_shape(axes, words), x.dtype)
        _run(words, x, out)
        keep(values)
        return out

    return function("conv{}d", rank, CONV, conv)


def _make_conv_into(rank: int) -> Any:
    axes = axes_of(rank)

    def conv_into(
        x, weight, stride=1, padding=0, dilation=1, groups=1, out=None, bias=None, activation=None
    ):
        check_types(axes, x, weight, bias)
        values = contiguous(bias)
        check_out(axes, x, out)
        words = conv_words(
            x, weight, triple(axes, stride, 1), triple(axes, padding, 0), triple(axes, dilation, 1),
            triple(axes, 0, 0), groups, values, activation,
        )  # fmt: skip
        write_conv_problem(x, (words,))
        check_conv_result(words, out, (x, weight, bias))
        _refuse(words)
        _run(words, x, out)
        keep(values)

    return function("conv{}d_into", rank, CONV_INTO, conv_into)


def _make_transposed(rank: int) -> Any:
    axes = axes_of(rank)

    def conv_transpose(
        x, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1, bias=None,
        activation=None,
    ):  # fmt: skip
        check_types(axes, x, weight, bias)
        values = contiguous(bias)
        words = conv_words(
            x, weight, triple(axes, stride, 1), triple(axes, padding, 0), triple(axes, dilation, 1),
            triple(axes, output_padding, 0), groups, values, activation,
        )  # fmt: skip
        write_transposed_problem(x, (words,))
        _refuse(words)
        out = np.empty(conv_shape(axes, words), x.dtype)
        _run_transposed(words, x, out)
        keep(values)
        return out

    return function("conv_transpose{}d", rank, TRANSPOSED, conv_transpose)


def _make_transposed_into(rank: int) -> Any:
    axes = axes_of(rank)

    def conv_transpose_into(
        x, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1, out=None, bias=None,
        activation=None,
    ):  # fmt: skip
        check_types(axes, x, weight, bias)
        values = contiguous(bias)
        check_out(axes, x, out)
        words = conv_words(
            x, weight, triple(axes, stride, 1), triple(axes, padding, 0), triple(axes, dilation, 1),
            triple(axes, output_padding, 0), groups, values, activation,
        )  # fmt: skip
        write_transposed_problem(x, (words,))
        check_conv_result(words, out, (x, weight, bias))
        _refuse(words)
        _run_transposed(words, x, out)
        keep(values)

    return function("conv_transpose{}d_into", rank, TRANSPOSED_INTO, conv_transpose_into)


conv1d, conv2d, conv3d = map(_make_conv, (1, 2, 3))
conv1d_into, conv2d_into, conv3d_into = map(_make_conv_into, (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_make_transposed, (1, 2, 3))
conv_transpose1d_into, conv_transpose2d_into, conv_transpose3d_into = map(
    _make_transposed_into, (1, 2, 3)
)
