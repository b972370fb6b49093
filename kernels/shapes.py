"""The shape formulas, once: plain integer functions for everything that plans.

Kernels are handed what these give, as numbers and tables. Every function takes and returns ints and
uses nothing but integer arithmetic, so ``numba.njit(shapes.output_size)`` compiles as it stands.
Letters: ``size`` input extent, ``kernel`` taps, ``before``/``after`` padding.
"""

from __future__ import annotations


def effective_kernel(kernel: int, dilation: int) -> int:
    """Input positions that a dilated kernel spans.

    >>> effective_kernel(3, 2)
    5
    """
    return dilation * (kernel - 1) + 1


def output_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Output positions of a convolution (or of pooling without ``ceil_mode``); <= 0 if none fits.

    >>> output_size(224, 7, 2, 1, 3, 3)
    112
    """
    return (size + before + after - effective_kernel(kernel, dilation)) // stride + 1


def ceil_output_size(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> int:
    """Output positions of pooling with ``ceil_mode``: a last, partial window counts unless it
    would start in the padding after the input.

    >>> ceil_output_size(6, 3, 2, 1, 0, 0), output_size(6, 3, 2, 1, 0, 0)
    (3, 2)
    """
    span = size + before + after - effective_kernel(kernel, dilation)
    outputs = -(-span // stride) + 1
    if (outputs - 1) * stride >= size + before:
        outputs -= 1
    return outputs


def transposed_output_size(
    size: int, kernel: int, stride: int, dilation: int, before: int, after: int, extra: int
) -> int:
    """Output positions of a transposed convolution, ``extra`` being the output padding: the input
    size of a convolution that has ``size`` outputs.

    >>> transposed_output_size(112, 3, 2, 1, 1, 1, 1)
    224
    """
    return (size - 1) * stride + effective_kernel(kernel, dilation) + extra - before - after


def adaptive_start(output: int, size: int, outputs: int) -> int:
    """First position of an adaptive window.

    >>> [adaptive_start(i, 10, 4) for i in range(4)]
    [0, 2, 5, 7]
    """
    return output * size // outputs


def adaptive_end(output: int, size: int, outputs: int) -> int:
    """One past the last position of an adaptive window.

    >>> [adaptive_end(i, 10, 4) for i in range(4)]
    [3, 5, 8, 10]
    """
    return -(-(output + 1) * size // outputs)


def same_total(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Padding, both sides together, that gives ``ceil(size / stride)`` outputs.

    >>> same_total(5, 3, 1, 1), same_total(5, 3, 2, 1), same_total(4, 3, 2, 1)
    (2, 2, 1)
    """
    outputs = -(-size // stride)
    return max((outputs - 1) * stride + effective_kernel(kernel, dilation) - size, 0)


def tap_low(tap: int, stride: int, dilation: int, before: int, outputs: int) -> int:
    """First output position whose ``tap`` reads inside the input, at most ``outputs``.

    >>> tap_low(0, 1, 1, 1, 8), tap_low(1, 1, 1, 1, 8)
    (1, 0)
    """
    return min(max(-((tap * dilation - before) // stride), 0), outputs)


def tap_high(tap: int, size: int, stride: int, dilation: int, before: int, outputs: int) -> int:
    """One past the last output position whose ``tap`` reads inside the input, at least 0.

    >>> tap_high(2, 8, 1, 1, 1, 8), tap_high(1, 8, 1, 1, 1, 8)
    (7, 8)
    """
    return max(min(-((tap * dilation - before - size) // stride), outputs), 0)


def adjoint_phase(
    first: int, kernel: int, step: int, stride: int, dilation: int, before: int
) -> tuple[int, int, int]:
    """A phase of a transposed convolution, the places that every ``step``-th tap (``stride`` by its
    greatest common divisor with ``dilation``) from ``first`` on writes: the first of them (the
    others are ``stride`` apart), how many taps those are, and how far in front of the gradient the
    first place's window begins.

    >>> [adjoint_phase(first, 3, 2, 2, 1, 1) for first in range(2)]
    [(1, 2, 0), (0, 1, 0)]
    """
    # No number is negative, so that compiled code may divide as it likes.
    # Input position i = stride * u + a - before is read by tap t of output u - (t * dilation - a) /
    # stride wherever that is whole: by every ``step``-th tap from a first one, which decides a.
    a = first * dilation % stride
    start = (a + stride - before % stride) % stride
    taps = (kernel - 1 - first) // step + 1
    behind = (first * dilation - a) // stride + (taps - 1) * (dilation * step // stride)
    return start, taps, behind - (start + before) // stride


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up.

    >>> ceil_div(7, 2)
    4
    """
    return -(-a // b)


def round_up(a: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is no less than ``a``.

    >>> round_up(13, 6)
    18
    """
    return ceil_div(a, multiple) * multiple
