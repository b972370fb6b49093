"""The picture: photograph, filtered images, feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .photo import Photo
from .stack import filter_bank
from .trial import Trial

Array = np.ndarray[Any, Any]

WIDTH = 16.0
COLUMNS = 8
TITLES = (
    *(f"edge {45 * step}°" for step in range(8)),
    *(f"line {45 * step}°" for step in range(4)),
    "red - green",
    "green - red",
    "blue - yellow",
    "yellow - blue",
)


def draw(photo: Photo, trial: Trial, path: Path) -> Path:
    """Write the PNG and return its path."""
    results = {name: result[0] for name, result in trial.results.items()}
    height, width = photo.pixels.shape[2:]
    tile = WIDTH / COLUMNS * height / width
    sections = (4 * tile + 0.9, 2 * (tile + 0.3) + 0.5, tile + 0.8)
    figure = Figure(figsize=(WIDTH, sum(sections)), dpi=110, layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=sections)
    top, middle, bottom = parts
    _photographs(top, photo.name, results)
    _maps(
        middle,
        "Layer 1: conv2d 3 → 16, 5x5, ReLU (the filter in each corner)",
        results["conv1"],
        TITLES,
        filter_bank(),
    )
    liveliest = np.argsort(-results["pool2"].std(axis=(1, 2)), kind="stable")[:COLUMNS]
    _maps(
        bottom,
        f"Layer 2: max_pool2d, conv2d 16 → 32, 3x3, ReLU, avg_pool2d "
        f"({COLUMNS} of 32 maps)     computed by {trial.backend}",
        results["pool2"][liveliest],
        [f"map {k}" for k in liveliest],
    )
    figure.savefig(path)
    return path


def _photographs(figure: Any, name: str, results: dict[str, Array]) -> None:
    axes = figure.subplot_mosaic(
        [["photo", "photo", "blur", "sharpen"], ["photo", "photo", "edges", "laplacian"]]
    )
    images = {
        "photo": (name, results["photo"]),
        "blur": ("blur: Gaussian 5x5", results["blur"]),
        "sharpen": ("sharpen 3x3", results["sharpen"]),
        "edges": ("edges: Sobel x and y", np.hypot(results["sobel_x"], results["sobel_y"]) / 2),
        "laplacian": ("edges: Laplacian", 0.5 + results["laplacian"] / 2),
    }
    for key, (title, image) in images.items():
        axes[key].imshow(np.clip(image, 0, 1).transpose(1, 2, 0))
        _tidy(axes[key], title)


def _maps(
    figure: Any, title: str, maps: Array, titles: Sequence[str], filters: Array | None = None
) -> None:
    figure.suptitle(title, x=0.005, ha="left", fontsize=14)
    axes = figure.subplots(len(maps) // COLUMNS, COLUMNS)
    for k, axis in enumerate(axes.flat):
        axis.imshow(maps[k], cmap="magma", vmin=0, vmax=np.percentile(maps[k], 99.5) or 1)
        _tidy(axis, titles[k])
        if filters is not None:
            corner = axis.inset_axes((0.0, 0.0, 0.22, 0.22), anchor="SW")
            corner.imshow(_kernel_image(filters[k]))
            _tidy(corner, "")


def _kernel_image(kernel: Array) -> Array:
    """Weights as colours around a middle grey."""
    return np.asarray(0.5 + kernel.transpose(1, 2, 0) / (2 * np.abs(kernel).max()))


def _tidy(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize=10, loc="left", pad=3)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
