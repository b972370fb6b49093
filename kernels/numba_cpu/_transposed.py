"""Transposed convolutions in compiled code: each phase (``adjoints``) is a convolution of stride 1
over views, by the same tasks as all others.
"""

from __future__ import annotations

from math import gcd

import numba
import numpy as np

from .. import shapes
from ._calls import copied_words, look_for_finite, plan_conv, run_conv, run_loop
from ._cores import (
    BIAS,
    LOCAL_ELEMENTS,
    OUT,
    OUT_STRIDES,
    PROBLEM,
    TASKS,
    WEIGHT,
    WEIGHT_STRIDES,
    X,
    X_STRIDES,
)
from ._problems import STRIDES, check_axis, check_counts, compiled, effective_kernel, volume

#: Of each axis' fields in a ConvProblem, the first.
SIZE, KERNEL, OUTPUT, STRIDE, DILATION, PAD = (PROBLEM + at for at in (4, 7, 10, 13, 16, 19))
#: What a phase is on an axis: nothing, or a convolution without and with padding.
NOTHING, PLAIN, PADDED = range(3)

adjoint_phase = numba.njit(shapes.adjoint_phase)


@compiled
def _transposed_size(size, kernel, stride, padding, extra, dilation):
    """Outputs of an axis of a transposed convolution."""
    check_axis(size, kernel, stride, padding, dilation)
    if extra < 0:
        raise ValueError("output_padding must be non-negative")
    if extra >= max(stride, dilation):
        raise ValueError("output_padding must be smaller than stride or dilation")
    outputs = (size - 1) * stride + effective_kernel(kernel, dilation) + extra - 2 * padding
    if outputs < 1:
        raise ValueError("the output must not be empty")
    return outputs


@compiled
def transposed_problem(data, filters, stride, padding, extra, groups, dilation, biases, whole):
    """The ConvProblem that a transposed convolution is adjoint to: its d, h, w are the result's."""
    n, channels, o, p, q = data
    k, c, t, r, s = filters
    if not whole:
        raise ValueError(STRIDES)
    if channels < 1 or c < 1:
        raise ValueError("no channel and no spatial axis may be empty")
    if groups < 1:
        raise ValueError("groups must be positive")
    if channels % groups != 0 or channels != k:
        raise ValueError("the weight must have the input's channels, and groups divide them")
    if biases != -1 and biases != c * groups:
        raise ValueError("bias must have a value for each out-channel")
    d = _transposed_size(o, t, stride[0], padding[0], extra[0], dilation[0])
    h = _transposed_size(p, r, stride[1], padding[1], extra[1], dilation[1])
    w = _transposed_size(q, s, stride[2], padding[2], extra[2], dilation[2])
    result = volume(d, h, w)
    most = float(max(k, c * groups))
    check_counts(float(n), most, result, volume(o, p, q), volume(t, r, s) * c)
    return (
        n, groups, c, k // groups, d, h, w, t, r, s, o, p, q,
        stride[0], stride[1], stride[2],
        dilation[0], dilation[1], dilation[2], padding[0], padding[1], padding[2],
    )  # fmt: skip


@compiled
def _phase_of(first, size, kernel, output, stride, dilation, pad):
    """A phase of an axis: its first place and how many there are (none where no output reaches
    it), its taps, the step between them in the weight and in the gradient, and the padding."""
    common = gcd(stride, dilation)
    step = stride // common
    start, taps, before = adjoint_phase(first, kernel, step, stride, dilation, pad)
    places = 0
    if start < size and -before < output:
        places = (size - start + stride - 1) // stride
    return start, places, taps, step, dilation // common, before


@compiled
def _places_of(size, kernel, output, stride, dilation, pad):
    """Places of an axis that any output reaches."""
    places = 0
    for first in range(min(stride // gcd(stride, dilation), kernel)):
        places += _phase_of(first, size, kernel, output, stride, dilation, pad)[1]
    return places


@compiled
def _set_axis(part, words, axis, first, itemsize):
    """Make the words of a phase of one axis, and move the arrays' addresses along it."""
    size, output = words[SIZE + axis], words[OUTPUT + axis]
    start, places, taps, step, spread, before = _phase_of(
        first, size, words[KERNEL + axis], output, words[STRIDE + axis], words[DILATION + axis],
        words[PAD + axis],
    )  # fmt: skip
    if places == 0:
        return NOTHING
    begin = max(-before, 0)
    stride_x, stride_out = words[X_STRIDES + 2 + axis], words[OUT_STRIDES + 2 + axis]
    stride_weight = words[WEIGHT_STRIDES + 2 + axis]
    part[X] += begin * stride_x * itemsize
    part[OUT] += start * stride_out * itemsize
    # The taps are read from the last one down.
    part[WEIGHT] += (first + (taps - 1) * step) * stride_weight * itemsize
    part[WEIGHT_STRIDES + 2 + axis] = -step * stride_weight
    part[OUT_STRIDES + 2 + axis] = words[STRIDE + axis] * stride_out
    part[SIZE + axis], part[KERNEL + axis], part[OUTPUT + axis] = output - begin, taps, places
    part[STRIDE + axis], part[DILATION + axis], part[PAD + axis] = 1, spread, max(before, 0)
    last = places - 1 + spread * (taps - 1) - before
    return PADDED if before > 0 or last >= output else PLAIN


@compiled
def _fill(words, zero):
    """Bias and activation everywhere: a convolution of a zero, which has all strides 0."""
    part = copied_words(words)
    for i in range(5):
        part[X_STRIDES + i] = part[WEIGHT_STRIDES + i] = 0
    part[X] = part[WEIGHT] = zero.ctypes.data
    part[PROBLEM], part[PROBLEM + 1], part[PROBLEM + 2] = words[PROBLEM], 1, 1
    part[PROBLEM + 3] = words[PROBLEM + 1] * words[PROBLEM + 2]
    for axis in range(3):
        part[SIZE + axis] = part[OUTPUT + axis] = words[SIZE + axis]
        part[KERNEL + axis] = part[STRIDE + axis] = part[DILATION + axis] = 1
        part[PAD + axis] = 0
    plan_conv(zero, (part, 1))
    run_conv(zero, (part, np.empty(part[LOCAL_ELEMENTS], zero.dtype), 0, part[TASKS]))


@compiled
def _phases(words, axis):
    """How many phases an axis has."""
    stride = words[STRIDE + axis]
    return min(stride // gcd(stride, words[DILATION + axis]), words[KERNEL + axis])


@compiled
def run_transposed(words, zero):
    """All of a transposed convolution, from the words of the convolution that it is adjoint to but
    that ``x`` is the gradient of its output. ``zero``: one, in the arrays' dtype."""
    part, itemsize = copied_words(words), zero.itemsize
    groups, c, k = words[PROBLEM + 1], words[PROBLEM + 2], words[PROBLEM + 3]
    reached = True
    for axis in range(3):
        size = words[SIZE + axis]
        places = _places_of(
            size, words[KERNEL + axis], words[OUTPUT + axis], words[STRIDE + axis],
            words[DILATION + axis], words[PAD + axis],
        )  # fmt: skip
        reached &= places == size
    if not reached:
        _fill(words, zero)
    found = np.full(1, -1)
    phases_h, phases_w = _phases(words, 1), _phases(words, 2)
    part[PROBLEM], part[PROBLEM + 1], part[PROBLEM + 2], part[PROBLEM + 3] = words[PROBLEM], 1, k, c
    part[WEIGHT_STRIDES], part[WEIGHT_STRIDES + 1] = (
        words[WEIGHT_STRIDES + 1],
        words[WEIGHT_STRIDES],
    )
    for g in range(groups):
        if words[BIAS] != 0:
            part[BIAS] = words[BIAS] + g * c * itemsize
        for number in range(_phases(words, 0) * phases_h * phases_w):
            part[X] = words[X] + g * k * words[X_STRIDES + 1] * itemsize
            part[WEIGHT] = words[WEIGHT] + g * k * words[WEIGHT_STRIDES] * itemsize
            part[OUT] = words[OUT] + g * c * words[OUT_STRIDES + 1] * itemsize
            down = number // phases_w
            kinds = (
                _set_axis(part, words, 0, down // phases_h, itemsize),
                _set_axis(part, words, 1, down % phases_h, itemsize),
                _set_axis(part, words, 2, number % phases_w, itemsize),
            )
            if min(kinds) == NOTHING:
                continue
            # No place sees an output that isn't there: an infinite weight isn't multiplied by it.
            if max(kinds) == PADDED and found[0] < 0:
                look_for_finite(zero, (words, found))
            if max(kinds) == PADDED and found[0] == 0:
                run_loop(zero, (part,))
            else:
                plan_conv(zero, (part, 1))
                local = np.empty(part[LOCAL_ELEMENTS], zero.dtype)
                run_conv(zero, (part, local, 0, part[TASKS]))
