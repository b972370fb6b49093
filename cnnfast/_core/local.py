"""Locally connected layers as grouped 1x1 convolutions.

Every output position has weights of its own, so each is a group, whose channels are what its window
reads and whose pixels are the images of the batch: the kernels of the table do the rest.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .arguments import axis_letters
from .arrays import Array
from .columns import fold_windows, windows_view
from .conv_geometry import ConvGeometry


class LocalGeometry(NamedTuple):
    """A locally connected layer: ``windows`` is the convolution with the same windows,
    ``positions`` the number of its outputs.

    weight  (positions, weights of the convolution in the order of ``windows.weight.layout``)
    """

    windows: ConvGeometry

    @classmethod
    def of(
        cls,
        name: str,
        rank: int,
        input: Any,
        weight_shape: tuple[int, ...],
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: Any,
        layout: str | None,
        weight_layout: str | None,
    ) -> LocalGeometry:
        """Validate; ``input`` is an array or a shape."""
        if len(weight_shape) != rank + 3:
            letters = axis_letters(name, weight_layout, rank, "OI")
            raise ValueError(
                f"{name}: weight must have {rank + 3} axes, positions and {letters}, "
                f"got shape {weight_shape}"
            )
        windows = ConvGeometry.of(
            input, weight_shape[1:], stride, padding, dilation, groups, layout=layout,
            weight_layout=weight_layout, rank=rank, dtype=np.float32, name=name,
        )  # fmt: skip
        positions = math.prod(windows.output)
        if weight_shape[0] != positions:
            raise ValueError(
                f"{name}: weight must have a kernel for each of the {positions} output positions "
                f"{windows.output[-rank:]}, got {weight_shape[0]} in shape {weight_shape}"
            )
        return cls(windows)

    @property
    def positions(self) -> int:
        """Output positions of an image."""
        return math.prod(self.windows.output)

    @property
    def length(self) -> int:
        """Values that a neuron reads."""
        problem = self.windows.problem
        return problem.c * problem.t * problem.r * problem.s

    @property
    def grouped(self) -> ConvGeometry:
        """The grouped 1x1 convolution; an empty batch counts as one image."""
        windows, groups = self.windows, self.positions * self.windows.groups
        channels, filters = groups * self.length, self.positions * windows.out_channels
        return ConvGeometry.of(
            (1, channels, max(windows.batch, 1)), (filters, self.length, 1), groups=groups,
            dtype=np.float32, name=windows.name,
        )  # fmt: skip

    def read_columns(self, x: Array) -> Array:
        """(1, positions x groups x length, N): what every position reads."""
        problem = self.windows.problem
        view = windows_view(self.windows.input.canonical(x), problem)
        n, channels = view.shape[:2]
        grouped = view.reshape(n, problem.g, channels // problem.g, *view.shape[2:])
        columns = np.moveaxis(grouped, (6, 7, 8, 1, 2, 3, 4, 5, 0), range(9))
        width = self.positions * problem.g * self.length
        return np.ascontiguousarray(columns).reshape(1, width, n)

    def add_columns(self, columns: Array, out: Array) -> None:
        """The adjoint of ``read_columns``: each value back to where it was read, summed."""
        problem = self.windows.problem
        n, g = self.windows.batch, problem.g
        parts = columns.reshape(*problem.output, g, problem.c, *problem.kernel, n)
        parts = np.moveaxis(parts, range(9), (6, 7, 8, 1, 2, 3, 4, 5, 0))
        folded = parts.reshape(n, g * problem.c, *problem.kernel, *problem.output)
        fold_windows(folded, self.windows.input.canonical(out), problem)

    def flat_weight(self, weight: Array) -> Array:
        """(positions x K, length, 1) from the user's weight."""
        ordered = np.moveaxis(weight, [1 + axis for axis in self._order()], range(1, weight.ndim))
        return ordered.reshape(-1, self.length, 1)

    def shaped_weight(self, flat: Array) -> Array:
        """The user's weight from the flat one."""
        letters = self.windows.weight.layout
        canonical = [self.windows.weight.extent(letter) for letter in sorted_letters(letters)]
        shaped = flat.reshape(self.positions, *canonical)
        restored = np.moveaxis(shaped, range(1, shaped.ndim), [1 + axis for axis in self._order()])
        return np.ascontiguousarray(restored)

    def _order(self) -> list[int]:
        letters = self.windows.weight.layout
        return [letters.index(letter) for letter in sorted_letters(letters)]

    def flat_bias(self, bias: Array | None) -> Array | None:
        """(positions x K,) from a bias (K,) or (K, P, Q); ValueError for another shape."""
        windows = self.windows
        per_position = (windows.out_channels, *windows.output[-windows.rank :])
        if bias is None:
            return None
        if bias.shape == (windows.out_channels,):
            return np.tile(bias, self.positions)
        if bias.shape == per_position:
            return np.moveaxis(bias, 0, -1).reshape(-1)
        raise ValueError(
            f"{windows.name}: bias must have shape ({windows.out_channels},) or {per_position}, "
            f"got shape {bias.shape}"
        )

    def flat_output(self, values: Array) -> Array:
        """(1, positions x K, N) from an array in the output's layout."""
        canonical = self.windows.result.canonical(values)
        width = self.positions * self.windows.out_channels
        flat = np.moveaxis(canonical, (2, 3, 4, 1, 0), range(5))
        return flat.reshape(1, width, canonical.shape[0])

    def put_output(self, flat: Array, out: Array) -> None:
        """The inverse of ``flat_output``, into ``out``."""
        windows = self.windows
        parts = flat.reshape(*windows.output, windows.out_channels, windows.batch)
        windows.result.canonical(out)[...] = np.moveaxis(parts, range(5), (2, 3, 4, 1, 0))


def at_least_one(images: Array) -> Array:
    """The same, or one image of zeros in place of none; images are the last axis."""
    return images if images.shape[-1] else np.zeros((*images.shape[:-1], 1), images.dtype)


def sorted_letters(letters: str) -> str:
    """O, I, then the spatial letters in canonical order.

    >>> sorted_letters("HWIO")
    'OIHW'
    """
    return "".join(letter for letter in "OIDHW" if letter in letters)
