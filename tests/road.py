"""What the tests of the road from dense to convolutional layers share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnfast import layers as L

Array = np.ndarray[Any, Any]

#: What each equivalence is tried with: integers, compared exactly, and random numbers.
KINDS = {
    "integers, float32": (True, np.float32),
    "integers, float64": (True, np.float64),
    "random, float32": (False, np.float32),
    "random, float64": (False, np.float64),
}


@dataclass
class Data:
    """What a test draws, and how far two right answers may lie apart."""

    integers: bool
    dtype: type
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def draw(self, *shape: int) -> Array:
        if self.integers:
            return self.rng.integers(-3, 4, shape).astype(self.dtype)
        return self.rng.standard_normal(shape).astype(self.dtype)

    def made(self, kind: Any, *arguments: Any, **keywords: Any) -> L.Layer:
        """A layer whose parameters are drawn."""
        layer = kind(*arguments, dtype=self.dtype, **keywords)
        assert isinstance(layer, L.Layer)
        for array in layer.params.values():
            array[...] = self.draw(*array.shape)
        return layer

    def like(self, kind: Any, *arguments: Any, weight: Array, **keywords: Any) -> L.Layer:
        """A layer with this weight and, if given, this ``bias``."""
        bias = keywords.pop("bias", None)
        layer = kind(*arguments, bias=bias is not None, dtype=self.dtype, **keywords)
        assert isinstance(layer, L.Layer)
        state = {"weight": weight} | ({} if bias is None else {"bias": bias})
        layer.load_state_dict(state)
        return layer

    def same(self, found: Any, expected: Any, terms: int, *factors: Array) -> None:
        """Equal; for random numbers up to what sums of this many products may round to."""
        assert found.shape == expected.shape
        if self.integers:
            np.testing.assert_array_equal(found, expected)
            return
        largest = math.prod(float(np.abs(factor).max()) for factor in factors)
        bound = 2 * (terms + 2) * float(np.finfo(self.dtype).eps) * terms * largest
        assert np.abs(found - expected).max() <= bound
