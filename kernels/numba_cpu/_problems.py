"""Shapes and arguments validated in compiled code, with the rules of the geometries of ``_core``:
sizes of five axes and triples in, problems out, as tuples of integers. What is raised is a
ValueError with the rule; compiled code can't put values into it.
"""

from __future__ import annotations

from typing import Any

import numba

from .. import shapes
from ._compile import enable_cache

#: Taps, strides, dilations and paddings are smaller: sums and products of two stay in 64 bits.
LIMIT = 2**31
#: No operation count and no array reaches these (``_core.arguments``).
OPERATIONS, ELEMENTS = 2.0**62, 2.0**59
STRIDES = "strides of arrays must be whole elements"


def compiled(function: Any) -> Any:
    """A function that raises, compiled once and cached."""
    dispatcher = numba.njit(nogil=True, error_model="python", no_cfunc_wrapper=True)(function)
    enable_cache(dispatcher)
    return dispatcher


effective_kernel = numba.njit(shapes.effective_kernel)


@compiled
def check_axis(size, kernel, stride, padding, dilation):
    if size < 1 or kernel < 1:
        raise ValueError("no channel and no spatial axis may be empty")
    if stride < 1 or dilation < 1:
        raise ValueError("stride and dilation must be positive")
    if padding < 0:
        raise ValueError("padding must be non-negative")
    if max(size, kernel, stride, padding, dilation) >= LIMIT:
        raise ValueError("sizes, stride, padding and dilation must be below 2**31")


@compiled
def _outputs(size, kernel, stride, padding, dilation, ceil_mode):
    """Outputs of an axis, which is checked."""
    check_axis(size, kernel, stride, padding, dilation)
    left = size + 2 * padding - effective_kernel(kernel, dilation)
    if left < 0:
        raise ValueError("the kernel must fit the padded input on every axis")
    outputs = left // stride + 1
    if ceil_mode and left % stride != 0 and outputs * stride < size + padding:
        outputs += 1
    return outputs


@compiled
def check_counts(images, channels, data, problem_size, taps):
    """``data`` and ``problem_size`` are the volumes that are read and written."""
    elements = max(images, 1.0) * channels
    if elements * max(data, problem_size) >= ELEMENTS:
        raise ValueError("the input's and the result's size must be below 2**59")
    if 2.0 * elements * problem_size * taps >= OPERATIONS:
        raise ValueError("the count of operations must be below 2**62")


@compiled
def volume(a, b, c):
    return float(a) * float(b) * float(c)


@compiled
def conv_problem(data, filters, stride, padding, dilation, groups, biases, whole):
    """The ConvProblem of a convolution. ``biases``: how many, -1 for none; ``whole``: whether
    strides of arrays are whole elements."""
    n, channels, d, h, w = data
    k, c, t, r, s = filters
    if not whole:
        raise ValueError(STRIDES)
    if channels < 1 or k < 1 or c < 1:
        raise ValueError("no channel and no spatial axis may be empty")
    if groups < 1:
        raise ValueError("groups must be positive")
    if channels % groups != 0 or k % groups != 0:
        raise ValueError("groups must divide the channels")
    if channels // groups != c:
        raise ValueError("the weight must have in-channels / groups channels")
    if biases != -1 and biases != k:
        raise ValueError("bias must have a value for each out-channel")
    o = _outputs(d, t, stride[0], padding[0], dilation[0], False)
    p = _outputs(h, r, stride[1], padding[1], dilation[1], False)
    q = _outputs(w, s, stride[2], padding[2], dilation[2], False)
    padded = volume(d + 2 * padding[0], h + 2 * padding[1], w + 2 * padding[2])
    check_counts(float(n), float(max(k, channels)), padded, volume(o, p, q), volume(t, r, s) * c)
    # However large the stride of an axis of one output.
    return (
        n, groups, c, k // groups, d, h, w, t, r, s, o, p, q,
        stride[0] if o > 1 else 1, stride[1] if p > 1 else 1, stride[2] if q > 1 else 1,
        dilation[0], dilation[1], dilation[2], padding[0], padding[1], padding[2],
    )  # fmt: skip


@compiled
def pool_problem(data, kernel, stride, padding, dilation, ceil_mode, whole):
    """The PoolProblem of a pooling."""
    n, c, d, h, w = data
    if not whole:
        raise ValueError(STRIDES)
    if c < 1:
        raise ValueError("no channel and no spatial axis may be empty")
    for i in range(3):
        if padding[i] > kernel[i] // 2:
            raise ValueError("padding must be at most half the window")
    o = _outputs(d, kernel[0], stride[0], padding[0], dilation[0], ceil_mode)
    p = _outputs(h, kernel[1], stride[1], padding[1], dilation[1], ceil_mode)
    q = _outputs(w, kernel[2], stride[2], padding[2], dilation[2], ceil_mode)
    taps = volume(kernel[0], kernel[1], kernel[2])
    check_counts(float(n), float(c), volume(d, h, w), volume(o, p, q), taps)
    return n, c, d, h, w, o, p, q, dilation[0], dilation[1], dilation[2], 0


@compiled
def check_result(found, n, k, spatial, whole, separate):
    """Refuse an ``out`` of another shape, or that may share memory with what is read."""
    if not whole:
        raise ValueError(STRIDES)
    if found[0] != n or found[1] != k or found[2:] != spatial:
        raise ValueError("out must have the shape of the result")
    if not separate:
        raise ValueError("out must lie in front of all inputs in memory, or behind them")
