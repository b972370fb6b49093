"""The photograph: one of scikit-learn's, or a file of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Array = np.ndarray[Any, Any]

SAMPLES = ("china", "flower")
#: Larger images are scaled down to this many pixels a side: the slow rows run in Python.
LARGEST_SIDE = 1024
#: Smaller ones leave nothing after two poolings.
SMALLEST_SIDE = 8


@dataclass(frozen=True)
class Photo:
    """Pixels (1, 3, H, W), float32 in [0, 1]; ``note`` tells what was done to the image."""

    name: str
    pixels: Array
    note: str = ""


def load_photo(image: str) -> Photo:
    """A sample by name ("china", "flower") or a file in any format and mode that Pillow reads.

    ValueError for a file that can't be read, isn't an image, or is too small.
    """
    if image in SAMPLES:
        from sklearn.datasets import load_sample_image

        return Photo(f"{image}.jpg (scikit-learn)", _pixels(load_sample_image(f"{image}.jpg")))
    path = Path(image)
    try:
        with Image.open(path) as file:
            size = file.size
            picture = _to_rgb(ImageOps.exif_transpose(file))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise ValueError(
            f"can't read image {image!r}: {reason} (a file, or {' or '.join(SAMPLES)})"
        ) from error
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    if min(picture.size) < SMALLEST_SIDE:
        raise ValueError(
            f"an image must have at least {SMALLEST_SIDE} pixels a side (once scaled down to "
            f"{LARGEST_SIDE} at most), got {image!r} of {_by(size)}"
        )
    scaled = f"scaled down from {_by(size)}" if max(size) > LARGEST_SIDE else ""
    return Photo(path.name, _pixels(np.asarray(picture)), scaled)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB; deep greys (16 bits, integers, floats) are spread over black to white."""
    if image.mode[0] in "IF":
        deep = np.nan_to_num(np.asarray(image, np.float64))
        spread = (deep - deep.min()) / max(float(np.ptp(deep)), 1e-9)
        image = Image.fromarray(np.uint8(np.rint(255 * spread)))
    return image.convert("RGB")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _pixels(image: Array) -> Array:
    """(H, W, 3) bytes to (1, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
