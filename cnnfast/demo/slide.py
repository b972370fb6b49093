"""``cnnfast slide``: a classifier of 32x32 patches, trained on regions of a photograph, looks at
every place of a whole one in one pass, and the map of its answers is drawn over it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnfast import functional, transform
from cnnfast.layers import (
    Adam,
    BatchNorm2d,
    Conv2d,
    CrossEntropyLoss,
    Flatten,
    Layer,
    Linear,
    ReLU,
    Sequential,
)

from .photo import Photo, load_photo

Array = np.ndarray[Any, Any]

PATCH = 32
#: Pixels from one place to the next: three stages of stride 2.
STRIDE = 8
STEPS, BATCH, HELD_OUT_PATCHES = 150, 48, 600


class Box(NamedTuple):
    """A region of a photograph: columns, then rows."""

    left: int
    right: int
    top: int
    bottom: int


#: Regions of scikit-learn's china.jpg by what they show: those to learn from, and those that
#: training never sees.
LEARNED: dict[str, list[Box]] = {
    "tower": [Box(125, 207, 100, 340)],
    "trees": [Box(0, 190, 350, 427), Box(380, 480, 335, 427)],
    "sky and water": [Box(340, 480, 0, 190), Box(365, 450, 240, 300)],
}
HELD_OUT: dict[str, list[Box]] = {
    "tower": [Box(207, 290, 100, 340)],
    "trees": [Box(480, 570, 335, 427), Box(580, 640, 200, 427)],
    "sky and water": [Box(480, 640, 0, 120), Box(450, 530, 240, 275)],
}
CLASSES = tuple(LEARNED)
COLOURS = ("#d62728", "#2ca02c", "#1f77b4")


def patches(
    pixels: Array, regions: Mapping[str, list[Box]], count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Random patches (count, 3, 32, 32) that lie inside regions, and their classes."""
    labels = rng.integers(len(regions), size=count)
    boxes = list(regions.values())
    images = np.empty((count, 3, PATCH, PATCH), pixels.dtype)
    for image, label in zip(images, labels, strict=True):
        box = boxes[label][rng.integers(len(boxes[label]))]
        row = rng.integers(box.top, box.bottom - PATCH + 1)
        column = rng.integers(box.left, box.right - PATCH + 1)
        image[...] = pixels[0, :, row : row + PATCH, column : column + PATCH]
    return images, labels


def classifier(rng: int = 0) -> Sequential:
    """Patches to the scores of three classes; nothing is padded, so that it can slide."""
    made: list[Layer] = []
    generator = np.random.default_rng(rng)
    for channels, kernels in ((3, 16), (16, 32), (32, 32)):
        made += [
            Conv2d(channels, kernels, 2, 2, bias=False, rng=generator),
            BatchNorm2d(kernels),
            ReLU(),
        ]
    return Sequential(*made, Flatten(), Linear(32 * 4 * 4, len(CLASSES), rng=generator))


def train(net: Sequential, pixels: Array, rng: np.random.Generator) -> float:
    """Train on the regions to learn from; returns the share of held-out patches that it knows."""
    loss, optimiser = CrossEntropyLoss(), Adam(net, lr=1e-3)
    net.train()
    for _ in range(STEPS):
        images, labels = patches(pixels, LEARNED, BATCH, rng)
        images *= rng.uniform(0.6, 1.4, (BATCH, 1, 1, 1)).astype(images.dtype)  # other light
        loss(net(images), labels)
        net.backward(loss.backward(), to_input=False)
        optimiser.step()
    images, labels = patches(pixels, HELD_OUT, HELD_OUT_PATCHES, rng)
    net.eval()
    return float((net(images).argmax(1) == labels).mean())


def run(photo: Photo, out: Path) -> int:
    """Train, slide over the photograph, print the times, write ``out/slide.png``."""
    if min(photo.pixels.shape[2:]) < PATCH:
        height, width = photo.pixels.shape[2:]
        raise ValueError(
            f"an image must be at least {PATCH} pixels high and wide, got {width} x {height}"
        )
    net = classifier()
    start = time.perf_counter()
    known = train(net, load_photo("china").pixels, np.random.default_rng(0))
    seconds = time.perf_counter() - start
    print(
        f"trained on {STEPS * BATCH:,} patches of china.jpg in {seconds:.1f} s; of "
        f"{HELD_OUT_PATCHES} from regions that it never saw it knows {known:.1%}"
    )
    sliding = transform.to_fully_convolutional(transform.fold_batch_norm(net), (1, 3, PATCH, PATCH))
    seconds, scores = _best(sliding, photo.pixels)
    places = scores.shape[2:]
    crop = photo.pixels[:, :, :PATCH, :PATCH]
    by_crop = _best(net, crop)[0] * places[0] * places[1]
    print(
        f"{photo.name}: {places[0]} x {places[1]} places in one pass of {seconds * 1e3:.1f} ms; "
        f"crop by crop they would take {by_crop * 1e3:.0f} ms, {by_crop / seconds:.0f} times that"
    )
    path = out / "slide.png"
    draw(photo, functional.softmax(scores, 1)[0], path)
    print(f"wrote {path}")
    return 0


def _best(net: Layer, images: Array) -> tuple[float, Array]:
    """The least seconds of a few calls, and the result."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        result = net(images)
        times.append(time.perf_counter() - start)
    return min(times), result


def draw(photo: Photo, shares: Array, path: Path) -> None:
    """Write a PNG of the photograph, the most likely class at each place, and each class's map."""
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    figure = Figure(figsize=(13, 7.8), dpi=80, layout="constrained")
    mosaic: Any = [["photo"] * 3 + ["map"] * 3, [name for name in CLASSES for _ in range(2)]]
    axes = figure.subplot_mosaic(mosaic, height_ratios=(3, 2))
    image = np.moveaxis(photo.pixels[0], 0, -1)
    # A place stands for the middle of its patch.
    edge = (PATCH - STRIDE) / 2
    rows, columns = (extent * STRIDE for extent in shares.shape[1:])
    extent = (edge, edge + columns, edge + rows, edge)
    best, surest = shares.argmax(0), shares.max(0)
    colours = np.array([to_rgb(colour) for colour in COLOURS])
    painted = np.concatenate([colours[best], 0.65 * surest[..., None]], -1)
    for name, axis in axes.items():
        axis.imshow(image if name in ("photo", "map") else np.full_like(image, 1))
        axis.set_axis_off()
        axis.set_title(name, loc="left")
    axes["photo"].set_title(photo.name, loc="left")
    if photo.name.startswith("china.jpg"):
        axes["photo"].set_title(f"{photo.name}: learned from, and held out (dashed)", loc="left")
        for regions, style in ((LEARNED, "-"), (HELD_OUT, "--")):
            for colour, boxes in zip(COLOURS, regions.values(), strict=True):
                for box in boxes:
                    corner, size = (box.left, box.top), (box.right - box.left, box.bottom - box.top)
                    frame = Rectangle(corner, *size, fill=False, color=colour, ls=style, lw=2)
                    axes["photo"].add_patch(frame)
    axes["map"].imshow(painted, extent=extent, interpolation="nearest")
    axes["map"].set_title(f"{shares.shape[1]} x {shares.shape[2]} places in one pass", loc="left")
    handles = [Patch(color=c, label=n) for c, n in zip(COLOURS, CLASSES, strict=True)]
    axes["map"].legend(handles=handles, loc="lower right", fontsize=9)
    for name, share in zip(CLASSES, shares, strict=True):
        axes[name].imshow(share, extent=extent, cmap="magma", vmin=0, vmax=1)
    for axis in axes.values():
        axis.set_xlim(0, image.shape[1])
        axis.set_ylim(image.shape[0], 0)
    figure.savefig(path)
