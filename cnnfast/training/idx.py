"""IDX files, in which MNIST comes.

Four bytes (0, 0, type, axes), each axis' extent as a big-endian 32-bit integer, the elements.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cnnfast._core.arrays import Array

#: The type code of unsigned bytes.
BYTES = 8
CLASSES = 10
#: Names of rank: as the files are called, and as some archives unpack them.
NAMES = {"images": ("images-idx3-ubyte", "images.idx3-ubyte"),
         "labels": ("labels-idx1-ubyte", "labels.idx1-ubyte")}  # fmt: skip


def find(folder: Path, part: str, what: str) -> Path | None:
    """The file of a part ("train", "t10k") that holds "images" or "labels", if it is there."""
    names = (f"{part}-{name}{end}" for name in NAMES[what] for end in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_images(path: Path, side: int) -> Array:
    """(N, side, side) bytes. ValueError for anything else."""
    images = read(path, 3)
    if images.shape[1:] != (side, side) or not len(images):
        raise ValueError(f"{path} must hold images of {side} x {side} pixels, got {images.shape}")
    return images


def read_labels(path: Path) -> Array:
    """(N,) bytes from 0 to 9. ValueError for anything else."""
    labels = read(path, 1)
    if (labels >= CLASSES).any():
        raise ValueError(f"{path} must hold labels from 0 to {CLASSES - 1}, got {labels.max()}")
    return labels


def read(path: Path, rank: int) -> Array:
    """The unsigned bytes of a file with ``rank`` axes. ValueError if that isn't what it holds."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parsed(path, file, rank)  # type: ignore[arg-type]
    except (EOFError, zlib.error, OSError) as error:
        raise ValueError(f"can't read {path}: {error}") from None


def _parsed(path: Path, file: BinaryIO, rank: int) -> Array:
    header = 4 + 4 * rank
    head = file.read(header)
    if head[:4] != bytes((0, 0, BYTES, rank)):
        raise ValueError(
            f"{path} must begin with the IDX magic number {BYTES << 8 | rank} of unsigned bytes "
            f"along {rank} axes, got {int.from_bytes(head[:4], 'big')}"
        )
    if len(head) < header:
        raise ValueError(f"{path} ends within its header, after {len(head)} bytes of {header}")
    shape = struct.unpack(f">{rank}I", head[4:])
    # Read by parts: a header may promise more than memory holds.
    wanted, parts, got = math.prod(shape), [], 0
    while got <= wanted and (part := file.read(1 << 20)):
        parts.append(part)
        got += len(part)
    if got != wanted:
        raise ValueError(
            f"{path} must hold {wanted} bytes behind its header, as that says ({shape}), got "
            f"{'more' if got > wanted else got}"
        )
    return np.frombuffer(b"".join(parts), np.uint8).reshape(shape)
