"""Handwritten digits: scikit-learn's, and MNIST in IDX files.

Images are (N, 1, 28, 28), float32 in [0, 1], a digit light on dark; labels are int64.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from cnnfast import functional
from cnnfast._core.arguments import integer
from cnnfast._core.arrays import Array

from .idx import find, read_images, read_labels

SIDE = 28
#: scikit-learn's digits are 8 pixels a side; they fill 20, as MNIST's do, within a ring of zeros.
SMALL, DIGIT = 8, 20
#: One image of so many is held out.
HELD_OUT = 5
#: What a generator is for comes second in its seed.
SPLIT = 0


@dataclass(frozen=True)
class Data:
    """Images that training sees, and images held out that it never does.

    Raises
    ------
    ValueError
        For arrays that don't fit together.
    """

    name: str
    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array

    def __post_init__(self) -> None:
        for what in ("train", "test"):
            images = getattr(self, f"{what}_images")
            labels = getattr(self, f"{what}_labels")
            if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
                raise ValueError(
                    f"{self.name}: {what}_images must be (N, C, H, W) and {what}_labels (N,), N at "
                    f"least 1, got shapes {images.shape} and {labels.shape}"
                )
            if labels.dtype.kind not in "iu" or labels.min() < 0:
                raise ValueError(f"{self.name}: {what}_labels must be non-negative integers")

    def digest(self) -> str:
        """A fingerprint of all images and labels."""
        found = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            found.update(f"{array.shape} {array.dtype}".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


def digits(seed: int = 0) -> Data:
    """scikit-learn's 1,797 real handwritten digits, a seeded random fifth held out.

    Their 8 x 8 pixels are brought to 20 x 20 by bilinear interpolation between pixel centres
    (those beyond an edge repeat it), in the middle of 28 x 28 zeros.

    Parameters
    ----------
    seed : int
        What the fifth is drawn with.

    Raises
    ------
    ValueError, TypeError
        For a seed that is no non-negative integer.
    ModuleNotFoundError
        Without scikit-learn.

    Source: Alpaydin and Kaynak 1998 (UCI, Optical Recognition of Handwritten Digits).
    """
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return _split("digits", resampled(loaded.images / 16), loaded.target, seed)


def mnist(folder: str | PathLike[str], seed: int = 0) -> Data:
    """MNIST, or data of its form, from a folder of IDX files, gzipped or not.

    ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte`` must be there; held out are the
    images of the two ``t10k`` files, or, if there are none, a seeded random fifth.

    Parameters
    ----------
    folder : path
    seed : int
        What the fifth is drawn with.

    Raises
    ------
    ValueError
        With the file's name, for one that is broken or of another kind, size or count, or isn't
        there.
    """
    place = Path(folder)
    train = _pair(place, "train")
    if find(place, "t10k", "images") is None:
        return _split(f"MNIST in {place}", *train, seed)
    return Data(f"MNIST in {place}", *train, *_pair(place, "t10k"))


def resampled(images: Array) -> Array:
    """(N, 8, 8) images as (N, 1, 28, 28); ``digits`` says how.

    >>> resampled(np.ones((1, 8, 8))).sum()
    np.float32(400.0)
    """
    places = np.clip((np.arange(DIGIT) + 0.5) * SMALL / DIGIT - 0.5, 0, SMALL - 1)
    weight = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(SMALL)))
    wide = functional.linear(images, weight)
    large = functional.linear(np.ascontiguousarray(wide.swapaxes(1, 2)), weight).swapaxes(1, 2)
    result = np.zeros((len(images), 1, SIDE, SIDE), np.float32)
    ring = (SIDE - DIGIT) // 2
    result[:, 0, ring:-ring, ring:-ring] = large
    return result


def _split(name: str, images: Array, labels: Array, seed: int) -> Data:
    generator = np.random.default_rng([integer("seed", seed, 0), SPLIT])
    order = generator.permutation(len(images))
    held, rest = np.split(order, [len(images) // HELD_OUT])
    labels = labels.astype(np.int64)
    return Data(name, images[rest], labels[rest], images[held], labels[held])


def _pair(folder: Path, part: str) -> tuple[Array, Array]:
    files = [find(folder, part, what) for what in ("images", "labels")]
    if files[0] is None or files[1] is None:
        raise ValueError(
            f"{folder} must hold {part}-images-idx3-ubyte and {part}-labels-idx1-ubyte, with or "
            "without .gz"
        )
    images, labels = read_images(files[0], SIDE), read_labels(files[1])
    if len(images) != len(labels):
        raise ValueError(
            f"{files[0]} and {files[1]} must agree, got {len(images)} images and {len(labels)} "
            "labels"
        )
    return images[:, None] / np.float32(255), labels.astype(np.int64)
