"""IDX files of noise, in the form of MNIST."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def idx_file(path: Path, array: Array, magic: int | None = None) -> None:
    head = struct.pack(">I", 0x800 + array.ndim if magic is None else magic)
    content = head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def small_mnist(folder: Path, end: str = "") -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    images, labels = (
        rng.integers(0, 256, (20, 28, 28), np.uint8),
        np.arange(20, dtype=np.uint8) % 10,
    )
    idx_file(folder / f"train-images-idx3-ubyte{end}", images)
    idx_file(folder / f"train-labels-idx1-ubyte{end}", labels)
    return images, labels
