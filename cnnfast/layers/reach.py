"""Which positions of its input a layer's outputs read, axis by axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.geometry import Geometry
from cnnfast._core.pool_geometry import PoolGeometry
from cnnfast.kernels import shapes


@dataclass(frozen=True)
class Reach:
    """What the outputs of one spatial axis read of the layer's input.

    Output i reads the positions ``taps[i % period]``, all moved by ``i // period * step``, period
    being ``len(taps)``. Positions below 0 and from ``inputs`` on are padding.

    >>> Reach(inputs=8, outputs=4, step=2, taps=((-1, 0, 1),)).positions(3)
    (5, 6, 7)
    """

    inputs: int
    outputs: int
    step: int
    taps: tuple[tuple[int, ...], ...]

    def positions(self, output: int) -> tuple[int, ...]:
        """What one output reads."""
        turns, phase = divmod(output, len(self.taps))
        return tuple(tap + turns * self.step for tap in self.taps[phase])


def same(size: int) -> Reach:
    """Every output reads the input at its own position.

    >>> same(5).positions(3)
    (3,)
    """
    return Reach(size, size, 1, ((0,),))


def windows(geometry: Geometry) -> tuple[Reach, ...]:
    """Of a convolution or pooling.

    >>> windows(ConvGeometry.of((1, 1, 9), (1, 1, 3), stride=2, padding=1))
    (Reach(inputs=9, outputs=5, step=2, taps=((-1, 0, 1),)),)
    """
    adaptive = isinstance(geometry, PoolGeometry) and geometry.adaptive
    axis = _adaptive if adaptive else _sliding
    return tuple(axis(geometry, i) for i in range(3 - geometry.rank, 3))


def transposed(geometry: ConvGeometry) -> tuple[Reach, ...]:
    """Of a transposed convolution, from the convolution that it is adjoint to.

    >>> transposed(ConvGeometry.of_transpose((1, 1, 4), (1, 1, 3), stride=2, rank=1))
    (Reach(inputs=4, outputs=9, step=1, taps=((0, -1), (0,))),)
    """
    return tuple(_transposed(geometry, i) for i in range(3 - geometry.rank, 3))


def _sliding(geometry: Geometry, i: int) -> Reach:
    first, dilation = -geometry.padding[i][0], geometry.dilation[i]
    taps = tuple(first + t * dilation for t in range(geometry.kernel[i]))
    return Reach(geometry.size[i], geometry.output[i], geometry.stride[i], (taps,))


def _adaptive(geometry: Geometry, i: int) -> Reach:
    size, outputs = geometry.size[i], geometry.output[i]
    # Windows begin at i * size // outputs: they repeat as soon as that is whole.
    turns = math.gcd(size, outputs)
    taps = tuple(
        tuple(range(shapes.adaptive_start(o, size, outputs), shapes.adaptive_end(o, size, outputs)))
        for o in range(outputs // turns)
    )
    return Reach(size, outputs, size // turns, taps)


def _transposed(geometry: ConvGeometry, i: int) -> Reach:
    stride, dilation = geometry.stride[i], geometry.dilation[i]
    taps = tuple(
        tuple(
            at // stride
            for t in range(geometry.kernel[i])
            if (at := o + geometry.padding[i][0] - t * dilation) % stride == 0
        )
        for o in range(stride)
    )
    return Reach(geometry.output[i], geometry.size[i], 1, taps)
