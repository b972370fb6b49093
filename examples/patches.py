"""What ``derivation.py`` learns: on which side a small patch of a photograph is brighter."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

SIDES = ("right", "left", "below", "above")


class Task(NamedTuple):
    """Patches (N, 1, 3, 3) and their brighter sides (N,), to learn from and to be asked about."""

    patches: Array
    sides: Array
    new_patches: Array
    new_sides: Array


def photograph() -> Array:
    """The brightness of scikit-learn's picture of a temple, (427, 640), in [0, 1]."""
    from sklearn.datasets import load_sample_image

    colours = load_sample_image("china.jpg").astype(np.float32) / np.float32(255)
    return np.asarray(colours @ np.array([0.299, 0.587, 0.114], np.float32))


def make_task(photo: Array, rng: np.random.Generator, known: int = 200, new: int = 4000) -> Task:
    """Patches with a clear edge, as many for each side, each of its own brightness."""
    windows = np.lib.stride_tricks.sliding_window_view(photo, (3, 3)).reshape(-1, 9)
    to_right = np.array([-1, 0, 1, -2, 0, 2, -1, 0, 1], np.float32)
    to_below = to_right.reshape(3, 3).T.ravel()
    slopes = windows @ np.array([to_right, to_below]).T
    weak, strong = np.sort(np.abs(slopes), axis=1).T
    clear = np.flatnonzero((strong > 0.6) & (strong > 1.2 * weak))
    sides = np.stack([slopes, -slopes], axis=2).reshape(-1, 4).argmax(1)
    each = (known + new) // 4
    chosen = [rng.choice(clear[sides[clear] == side], each, replace=False) for side in range(4)]
    order = rng.permutation(np.concatenate(chosen))
    x = windows[order]
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    x = (x + rng.standard_normal((len(x), 1), np.float32)).reshape(-1, 1, 3, 3)
    return Task(x[:known], sides[order[:known]], x[known:], sides[order[known:]])
