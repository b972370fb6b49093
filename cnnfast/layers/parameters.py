"""Parameters that aren't made yet: shapes, and what initial values are drawn from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnnfast._core.arrays import Dtype
from cnnfast._core.operand import Shape

#: What initial values are drawn with: a seed, a generator, or None for other ones each time.
Seed = int | np.random.Generator | None
#: Initial values are uniform between these two.
Range = tuple[float, float]


class Parameter(NamedTuple):
    """A parameter or buffer that is made when it is first used."""

    shape: Shape
    between: Range
    dtype: Dtype


def constant(value: float) -> Range:
    """All elements the same."""
    return value, value


def uniform(fan_in: int) -> Range:
    """Within ``1 / sqrt(fan_in)``, as torch draws weights and biases.

    >>> uniform(4)
    (-0.5, 0.5)
    """
    bound = 1 / fan_in**0.5
    return -bound, bound


def drawn_seed(rng: Seed) -> int:
    """A layer's own seed; a generator gives another one to each layer.

    >>> drawn_seed(7)
    7
    """
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(1 << 63))
    if rng is None:
        return int(np.random.default_rng().integers(1 << 63))
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise TypeError(
            f"rng must be a non-negative integer, a numpy.random.Generator or None, got {rng!r}"
        )
    return int(rng)
