"""``cnnfast bench --sliding``: a classifier over a large image in one pass, and crop by crop."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

import cnnfast
from cnnfast import analysis, transform
from cnnfast.benchmarks import compare, timing
from cnnfast.benchmarks.tables import print_table, write_json
from cnnfast.benchmarks.timing import Timing
from cnnfast.benchmarks.workloads import Array
from cnnfast.layers import Conv2d, Flatten, Layer, Linear, ReLU, Sequential

COLUMNS = (
    "image", "crops", "one pass ms", "as a batch ms", "one by one ms", "speed-up over batch",
    "over one by one", "FLOP ratio",
)  # fmt: skip
CROP = 32
#: Input positions between neighbouring crops: the product of the trunk's strides.
STRIDE = 8
#: Heights and widths of the images.
SIDES = (64, 128, 256)


class SlidingRow(NamedTuple):
    """An image's times, seconds per call, and what a pass and all crops take, in FLOP."""

    side: int
    threads: int
    crops: int
    once: Timing
    batch: Timing
    single: Timing
    once_flops: int
    crop_flops: int

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        times = (self.once, self.batch, self.single)
        return [
            f"{self.side} x {self.side}",
            str(self.crops),
            *(f"{each.median * 1e3:.4g}" for each in times),
            *(f"{each.median / self.once.median:.1f}" for each in times[1:]),
            f"{self.crop_flops / self.once_flops:.1f}",
        ]


def classifier() -> Sequential:
    """Three stages of 2x2 windows and stride 2, unpadded: 32x32 images to a map of 4x4x3, and a
    dense layer to 10 classes. Small integers for weights: every way to sum gives the same."""
    net = Sequential(
        *(Conv2d(3, 16, 2, 2, rng=0), ReLU(), Conv2d(16, 32, 2, 2, rng=0), ReLU()),
        *(Conv2d(32, 3, 2, 2, rng=0), ReLU(), Flatten(), Linear(48, 10, rng=0)),
    )
    rng = np.random.default_rng(0)
    for array in net.params.values():
        array[...] = rng.integers(-1, 2, array.shape)
    net.eval()
    return net


def sliding(
    threads: Sequence[int] = (),
    seconds: float = compare.SECONDS,
    sides: Sequence[int] = SIDES,
) -> list[SlidingRow]:
    """Time the three ways in turn, per image and number of threads; their results are compared
    first. ValueError for less than one thread."""
    net = classifier()
    whole = transform.to_fully_convolutional(net, (1, 3, CROP, CROP))
    counts = compare.thread_counts(threads)
    return [_row(net, whole, side, count, seconds) for side in sides for count in counts]


def _row(net: Sequential, whole: Layer, side: int, threads: int, seconds: float) -> SlidingRow:
    cnnfast.set_num_threads(threads)
    image = np.random.default_rng(1).integers(0, 4, (1, 3, side, side)).astype(np.float32)
    # Views of all crops, (P, Q, 3, 32, 32).
    views = np.lib.stride_tricks.sliding_window_view(image[0], (CROP, CROP), axis=(1, 2))
    crops = np.moveaxis(views[:, ::STRIDE, ::STRIDE], 0, 2)
    places = crops.shape[:2]

    def once() -> Array:
        return whole(image)

    def batch() -> Array:
        return net(np.ascontiguousarray(crops).reshape(-1, 3, CROP, CROP))

    def single() -> Array:
        return np.concatenate([net(crops[p, q][None]) for p, q in np.ndindex(places)])

    expected = np.moveaxis(once()[0], 0, -1).reshape(-1, 10)
    for way in (batch, single):
        np.testing.assert_array_equal(way(), expected)
    timings = timing.measure({"once": once, "batch": batch, "single": single}, seconds)
    count = places[0] * places[1]
    return SlidingRow(
        side, threads, count, **timings,
        once_flops=analysis.flops(whole, image.shape),
        crop_flops=analysis.flops(net, (count, 3, CROP, CROP)),
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the table; ValueError for options of other comparisons."""
    if args.layers or args.dtype:
        raise ValueError("--layers and --dtype don't go with --sliding")
    try:
        rows = sliding(args.threads, args.seconds or compare.SECONDS)
    finally:
        cnnfast.set_num_threads(None)
    for count in dict.fromkeys(row.threads for row in rows):
        shown = [row.cells() for row in rows if row.threads == count]
        print_table(
            f"A {CROP}x{CROP} classifier at every {STRIDE}th place, {count} thread(s), medians",
            COLUMNS,
            shown,
        )
    if args.json:
        write_json(args.json, {"sliding": [_document(row) for row in rows]})
    return 0


def _document(row: SlidingRow) -> dict[str, object]:
    return {
        name: asdict(value) if isinstance(value, Timing) else value
        for name, value in row._asdict().items()
    }
