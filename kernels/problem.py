"""The canonical problems as kernels see them: flat named tuples of ints.

Three spatial axes always (1d and 2d have unit axes in front); memory strides travel with the
arrays. Numba compiles against the named tuples as they are, Cython copies them into the C structs
of ``cython_cpu/_problem.pxd``, which list the same fields in the same order (a test compares them).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from . import shapes

Array = np.ndarray[Any, Any]
Triple = tuple[int, int, int]


class ConvProblem(NamedTuple):
    """A convolution: ``c`` and ``k`` count the channels of one group; padding is the one before
    (the one after only decides o, p, q, which are given). dgrad and wgrad take the problem of the
    convolution that they are adjoint to."""

    n: int
    g: int
    c: int
    k: int
    d: int
    h: int
    w: int
    t: int
    r: int
    s: int
    o: int
    p: int
    q: int
    stride_d: int
    stride_h: int
    stride_w: int
    dilation_d: int
    dilation_h: int
    dilation_w: int
    pad_d: int
    pad_h: int
    pad_w: int

    @property
    def size(self) -> Triple:
        """Input extents d, h, w."""
        return self.d, self.h, self.w

    @property
    def kernel(self) -> Triple:
        """Taps t, r, s."""
        return self.t, self.r, self.s

    @property
    def output(self) -> Triple:
        """Output extents o, p, q."""
        return self.o, self.p, self.q

    @property
    def stride(self) -> Triple:
        """Input positions from one output to the next."""
        return self.stride_d, self.stride_h, self.stride_w

    @property
    def dilation(self) -> Triple:
        """Input positions from one tap to the next."""
        return self.dilation_d, self.dilation_h, self.dilation_w

    @property
    def pad(self) -> Triple:
        """Padding before."""
        return self.pad_d, self.pad_h, self.pad_w

    @property
    def pad_after(self) -> Triple:
        """Padding behind the input that the last window reads."""
        rows = zip(
            self.size, self.kernel, self.output, self.stride, self.dilation, self.pad, strict=True
        )
        first, second, third = (
            max((o - 1) * stride + shapes.effective_kernel(t, dilation) - before - d, 0)
            for d, t, o, stride, dilation, before in rows
        )
        return first, second, third


#: Tables of kernels with more taps are made again for each call instead of kept.
REMEMBERED_TAPS = 4096


def taps_of(problem: ConvProblem) -> Array:
    """A row per tap of each axis: the outputs ``low .. high - 1`` are those whose tap reads inside
    the input. int64 of shape ``(t + r + s, 2)``, read only.
    """
    find = _find_taps if sum(problem.kernel) <= REMEMBERED_TAPS else _find_taps.__wrapped__
    return find(problem)


@lru_cache(maxsize=256)
def _find_taps(problem: ConvProblem) -> Array:
    rows = []
    for i in range(3):
        steps = problem.stride[i], problem.dilation[i], problem.pad[i], problem.output[i]
        for tap in range(problem.kernel[i]):
            low = shapes.tap_low(tap, *steps)
            rows.append((low, max(shapes.tap_high(tap, problem.size[i], *steps), low)))
    table = np.array(rows, np.int64)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=256)
def all_windows_read(problem: ConvProblem) -> bool:
    """Whether no output's window lies in the padding alone."""
    taps = iter(taps_of(problem).tolist())
    for kernel, outputs in zip(problem.kernel, problem.output, strict=True):
        ranges = sorted(next(taps) for _ in range(kernel))
        end = 0
        for low, high in ranges:
            if low <= end:
                end = max(end, high)
        if end < outputs:
            return False
    return True


def windows_of(problem: ConvProblem, tap: Sequence[int]) -> tuple[slice, slice, slice]:
    """What one tap reads of the padded input for all outputs."""
    first, second, third = (
        slice(at * dilation, at * dilation + (outputs - 1) * stride + 1, stride)
        for at, dilation, stride, outputs in zip(
            tap, problem.dilation, problem.stride, problem.output, strict=True
        )
    )
    return first, second, third


class PoolProblem(NamedTuple):
    """A window reduction over planes. The windows come beside it as one int64 table of shape
    ``(o + p + q, 3)``, a row per output position of each axis: first tap inside the input, end
    (exclusive; taps are ``dilation`` apart), and the extent that counts in a mean. ``divisor``,
    where it isn't 0, replaces the product of the three extents."""

    n: int
    c: int
    d: int
    h: int
    w: int
    o: int
    p: int
    q: int
    dilation_d: int
    dilation_h: int
    dilation_w: int
    divisor: int


#: Activations that a kernel applies in its last store. A greater number is the address of a C
#: function ``void apply(REAL *values, int64_t count)`` that it calls there.
ACTIVATION_CODES = {None: 0, "relu": 1, "relu6": 2}


def activate(values: Array, activation: int) -> Array:
    """Apply an activation as kernels take it; NaN stays NaN."""
    if activation == 0:
        return values
    if activation > max(ACTIVATION_CODES.values()):
        changed = np.array(values, order="C")
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(activation)
        function(changed.ctypes.data, changed.size)
        return changed
    values = np.where(values < 0, 0, values)
    return np.where(values > 6, 6, values) if activation == 2 else values
