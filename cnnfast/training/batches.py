"""Which images a batch has and how they are moved: a function of seed, epoch and batch alone, so
that a resumed run needs no generator's state."""

from __future__ import annotations

import numpy as np

from cnnfast._core.arrays import Array

#: What a generator is for comes second in its seed.
ORDER, SHIFTS = 1, 2


def count(images: int, batch: int) -> int:
    """Batches of an epoch, with the last, shorter one.

    >>> count(100, 32)
    4
    """
    return -(-images // batch)


def order(images: int, seed: int, epoch: int) -> Array:
    """The order in which an epoch takes the images.

    >>> sorted(order(4, 0, 0).tolist())
    [0, 1, 2, 3]
    """
    return np.random.default_rng([seed, ORDER, epoch]).permutation(images)


def shifted(images: Array, most: int, seed: int, epoch: int, batch: int) -> Array:
    """(N, C, H, W) images, each moved by up to ``most`` pixels along both axes; zeros come in.

    >>> shifted(np.ones((1, 1, 3, 3), np.float32), 0, 0, 0, 0).sum()
    np.float32(9.0)
    """
    if not most:
        return images
    n, c, height, width = images.shape
    generator = np.random.default_rng([seed, SHIFTS, epoch, batch])
    down, right = generator.integers(0, 2 * most + 1, (2, n))
    padded = np.zeros((n, c, height + 2 * most, width + 2 * most), images.dtype)
    padded[:, :, most:-most, most:-most] = images
    places = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))
    return np.ascontiguousarray(places[np.arange(n), :, down, right])
