"""The canonical problems as kernels see them: flat named tuples of ints.

Three spatial axes always (1d and 2d have unit axes in front); memory strides travel with the
arrays. Numba compiles against the named tuples as they are, Cython copies them into the C structs
of ``cython_cpu/_problem.pxd``, which list the same fields in the same order (a test compares them).
"""

from __future__ import annotations

from typing import NamedTuple


class ConvProblem(NamedTuple):
    """A convolution: ``c`` and ``k`` count the channels of one group; padding is the one before
    (the one after only decides o, p, q, which are given). Beside it comes one int64 table of
    shape ``(t + r + s, 2)``, a row per tap of each axis: the outputs ``low .. high - 1`` are
    those whose tap reads inside the input."""

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


#: Activations that a kernel applies in its last store; any other one follows in NumPy.
ACTIVATION_CODES = {None: 0, "relu": 1, "relu6": 2}
