"""Complex convolutions as real ones of twice the channels.

A complex channel is two real ones, real part and imaginary part, and a complex weight w the matrix
[[Re w, -Im w], [Im w, Re w]] between them: as many real products as the complex ones have, on the
same kernels. dgrad and wgrad are adjoints of that, so they conjugate, as gradients do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .arrays import Array
from .conv_geometry import ConvGeometry
from .operand import CANONICAL_DATA, CANONICAL_WEIGHT, Operand


def real_geometry(geometry: ConvGeometry) -> ConvGeometry:
    """The real problem, in canonical axes."""
    n, c, k = geometry.batch, 2 * geometry.in_channels, 2 * geometry.out_channels
    data = Operand.of((n, c, *geometry.size), CANONICAL_DATA)
    weight = Operand.of((k, c // geometry.groups, *geometry.kernel), CANONICAL_WEIGHT)
    return replace(geometry, rank=3, input=data, weight=weight)


def real_data(x: Array, dtype: Any) -> Array:
    """(N, C, ...) complex to (N, 2 C, ...) real.

    >>> real_data(np.array([[1 + 2j, 3 + 4j]]), np.float64)
    array([[1., 2., 3., 4.]])
    """
    parts = np.stack((x.real, x.imag), axis=2).astype(dtype, copy=False)
    return np.asarray(parts.reshape(x.shape[0], 2 * x.shape[1], *x.shape[2:]))


def real_weight(weight: Array, dtype: Any) -> Array:
    """(K, C/G, ...) complex to (2 K, 2 C/G, ...) real."""
    out_channels, channels, *taps = weight.shape
    blocks = np.empty((out_channels, 2, channels, 2, *taps), dtype)
    blocks[:, 0, :, 0] = blocks[:, 1, :, 1] = weight.real
    blocks[:, 1, :, 0] = weight.imag
    blocks[:, 0, :, 1] = -weight.imag
    return blocks.reshape(2 * out_channels, 2 * channels, *taps)


def put_data(real: Array, out: Array) -> None:
    """(N, 2 C, ...) real into (N, C, ...) complex."""
    out.real, out.imag = real[:, 0::2], real[:, 1::2]


def put_weight(real: Array, out: Array) -> None:
    """(2 K, 2 C/G, ...) real gradients of a block matrix into (K, C/G, ...) complex ones."""
    out.real = real[0::2, 0::2] + real[1::2, 1::2]
    out.imag = real[1::2, 0::2] - real[0::2, 1::2]
