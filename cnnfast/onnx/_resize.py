"""Resize to the nearest or between the two nearest elements, an axis at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array

#: Where outputs lie in the input: (their positions, scale, size, resized size) -> positions there.
COORDINATES: dict[str, Callable[[Array, float, int, int], Array]] = {
    "asymmetric": lambda x, scale, size, outputs: x / scale,
    "half_pixel": lambda x, scale, size, outputs: (x + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda x, scale, size, outputs: (
        (x + 0.5) / scale - 0.5 if outputs > 1 else x * 0
    ),
    "align_corners": lambda x, scale, size, outputs: x * ((size - 1) / max(outputs - 1, 1)),
    "half_pixel_symmetric": lambda x, scale, size, outputs: (
        size / 2 * (1 - outputs / (size * scale)) + (x + 0.5) / scale - 0.5
    ),
}
ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
#: What these attributes must be, where they are given.
PLAIN = {"antialias": 0, "exclude_outside": 0, "keep_aspect_ratio_policy": "stretch"}


@dataclass(frozen=True)
class Resizing:
    """How a Resize works: in ``mode`` "nearest" or "linear", by scales or to sizes of its axes."""

    mode: str
    coordinates: str
    rounding: str
    axes: tuple[int, ...] | None
    scales: tuple[float, ...] | None
    sizes: tuple[int, ...] | None

    @classmethod
    def of(cls, how: dict[str, Any], scales: Array | None, sizes: Array | None) -> Resizing | None:
        """What these attributes say; None for another mode, antialiasing, crops and policies."""
        mode = how.get("mode", "nearest")
        coordinates = how.get("coordinate_transformation_mode", "half_pixel")
        rounding = how.get("nearest_mode", "round_prefer_floor")
        if any(how.get(name, value) != value for name, value in PLAIN.items()):
            return None
        if mode not in ("nearest", "linear") or coordinates not in COORDINATES:
            return None
        if rounding not in ROUNDINGS or (scales is None) == (sizes is None):
            return None
        if not all(scale > 0 for scale in (() if scales is None else scales)):
            raise ValueError(f"Resize: scales must be positive, got {scales}")
        if sizes is not None and sizes.min(initial=1) < 1:
            raise ValueError(f"Resize: sizes must be positive, got {sizes}")
        axes = how.get("axes")
        return cls(
            mode,
            coordinates,
            rounding,
            None if axes is None else tuple(axes),
            None if scales is None else tuple(map(float, scales)),
            None if sizes is None else tuple(map(int, sizes)),
        )

    def __call__(self, x: Array) -> Array:
        axes = tuple(range(x.ndim)) if self.axes is None else tuple(a % x.ndim for a in self.axes)
        many = len(self.scales or self.sizes or ())
        if many != len(axes):
            raise ValueError(
                f"Resize: there must be a scale or size for each of {len(axes)} axes, got {many}"
            )
        result = x
        for at, axis in enumerate(axes):
            size = x.shape[axis]
            if self.sizes is not None:
                if not size:
                    raise ValueError(f"Resize: no axis of X may be empty, got shape {x.shape}")
                outputs, scale = self.sizes[at], self.sizes[at] / size
            else:
                scale = self.scales[at] if self.scales else 1.0
                # In float32, as in ONNX's shape inference: 0.7 of 10 are 7.
                outputs = math.floor(np.float32(size) * np.float32(scale))
            if scale != 1:
                result = self._along(result, axis, scale, outputs)
        return result if result is not x else x.copy()

    def _along(self, x: Array, axis: int, scale: float, outputs: int) -> Array:
        last = x.shape[axis] - 1
        places = COORDINATES[self.coordinates](
            np.arange(outputs, dtype=np.float64), scale, last + 1, outputs
        )
        if self.mode == "nearest":
            nearest = ROUNDINGS[self.rounding](places).astype(np.intp)
            return np.take(x, np.clip(nearest, 0, last), axis=axis)
        before = np.floor(places).astype(np.intp)
        across = [1] * x.ndim
        across[axis] = -1
        share = (places - before).reshape(across).astype(np.float32 if x.itemsize < 8 else x.dtype)
        low = np.take(x, np.clip(before, 0, last), axis=axis)
        high = np.take(x, np.clip(before + 1, 0, last), axis=axis)
        result: Array = (low * (1 - share) + high * share).astype(x.dtype, copy=False)
        return result
