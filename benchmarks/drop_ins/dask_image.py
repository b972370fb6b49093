"""An image larger than it is good to hold: filtered into a file, and searched by a classifier.

``python -m cnnfast.benchmarks.drop_ins.dask_image`` makes an image of 30,000 x 30,000 float32
(3.6 GB) block by block, so that none of it is kept. Every second 7 x 7 mean of it is stored in a
.npy file; a classifier of 32 x 32 pixels, with dense layers, is slid over it and tells a class for
each of 14 million places. Printed: seconds, and the most memory that the process has had.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cnnfast.dask
from cnnfast._core.extras import require
from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import measure
from cnnfast.layers import Conv2d, Flatten, Layer, Linear, ReLU, Sequential
from cnnfast.transform import to_fully_convolutional

USER = "cnnfast.benchmarks"
SIDE, CHUNK = 30_000, 1_000


def image(side: int, chunk: int) -> Any:
    """(1, 1, side, side) float32, noise from a seed; blocks are made when they are needed."""
    noise = require(USER, "dask.array.random").default_rng(0)
    shape, chunks = (1, 1, side, side), (1, 1, chunk, chunk)
    return noise.random(shape, np.float32, chunks=chunks) - np.float32(0.5)


def classifier() -> Layer:
    """Ten classes of 32 x 32 pixels, with a dense layer, as one that slides."""
    net = Sequential(
        Conv2d(1, 16, 2, stride=2, bias=False, rng=0), ReLU(),
        Conv2d(16, 32, 2, stride=2, bias=False, rng=1), ReLU(),
        Conv2d(32, 3, 2, stride=2, bias=False, rng=2), ReLU(),
        Flatten(), Linear(48, 10, bias=False, rng=3),
    )  # fmt: skip
    return to_fully_convolutional(net.eval(), (1, 1, 32, 32))


class File:
    """A .npy file to store blocks in. It is mapped for each anew: what stays mapped counts as the
    process' memory.
    """

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
        self.path = path
        np.lib.format.open_memmap(path, "w+", dtype, shape)

    def __setitem__(self, where: Any, block: Any) -> None:
        np.load(self.path, mmap_mode="r+")[where] = block


def filtered(x: Any, path: Path) -> tuple[int, ...]:
    """Every second 7 x 7 mean, in a .npy file."""
    da = require(USER, "dask.array")
    means = cnnfast.dask.conv2d(x, np.full((1, 1, 7, 7), 1 / 49, np.float32), stride=2, padding=3)
    da.store(means, File(path, means.dtype, means.shape), lock=False)
    return tuple(np.load(path, mmap_mode="r").shape)


def searched(x: Any) -> list[int]:
    """How many places are of each class."""
    da = require(USER, "dask.array")
    classes = cnnfast.dask.slide(classifier(), x).argmax(axis=1)
    counts: list[int] = da.bincount(classes.ravel(), minlength=10).compute().tolist()
    return counts


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(side: int, chunk: int) -> None:
    """Do both, and print what they take."""
    print(f"image: {side} x {side} float32, {side * side * 4e-9:.3g} GB, in chunks of {chunk}")
    print(f"before: {peak_bytes() / 1e6:.0f} MB")
    x = image(side, chunk)
    with tempfile.TemporaryDirectory() as folder:
        shape = _timed("filtered", lambda: filtered(x, Path(folder) / "means.npy"))
    print(f"  {shape} stored")
    counts = _timed("searched", lambda: searched(x))
    print(f"  {sum(counts):,} places: {counts}")


def _timed(what: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.1f} s, peak so far {peak_bytes() / 1e6:.0f} MB")
    return result


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """An array in memory, in chunks, with as many workers of dask's as threads."""
    da, ndimage = require(USER, "dask.array"), require(USER, "scipy.ndimage")
    config = require(USER, "dask.config")
    rng = np.random.default_rng(0)
    plane, kernel = rng.random((4096, 4096), np.float32), rng.random((7, 7), np.float32)
    x = da.from_array(plane, chunks=1024)
    own = cnnfast.dask.conv2d(x[None, None], kernel[None, None], padding=3)[0, 0]
    theirs = da.map_overlap(
        ndimage.correlate, x, depth=3, boundary=0, weights=kernel, dtype=np.float32
    )
    with config.set(scheduler="threads", num_workers=threads):
        np.testing.assert_allclose(own.compute(), theirs.compute(), rtol=1e-5)
        times = measure({"own": own.compute, "scipy": theirs.compute}, seconds)
    case = "dask.conv2d 4096 x 4096, 7 x 7, float32, chunks of 1024"
    return [DropInRow(case, "map_overlap, scipy.ndimage", times["own"], times["scipy"])]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    given = parser.parse_args(arguments)
    run(given.side, given.chunk)


if __name__ == "__main__":
    main()
