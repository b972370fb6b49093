"""The pictures that ``derivation.py`` draws."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

Array = np.ndarray[Any, Any]


def draw_counts(steps: Mapping[str, tuple[int, float]], folder: Path) -> None:
    """Bars of weights, and how many new patches were right."""
    figure = Figure(figsize=(7, 2.2), dpi=80, layout="constrained")
    axis = figure.subplots()
    bars = axis.barh(list(steps), [weights for weights, _ in steps.values()], color="#4a7fb0")
    labels = [f"{weights} weights, {right:.0%} right" for weights, right in steps.values()]
    axis.bar_label(bars, labels, padding=4)
    axis.invert_yaxis()
    axis.set(xlim=(0, 230), xticks=[], frame_on=False)
    axis.tick_params(left=False)
    save(figure, folder / "counts.png")


def draw_matrices(matrices: Mapping[str, Array], folder: Path) -> None:
    """Each layer as a dense one: neurons down, pixels across."""
    figure, axes = new_figure((9, 3), 1, len(matrices))
    for axis, (title, matrix) in zip(axes.flat, matrices.items(), strict=True):
        show_weights(axis, matrix)
        axis.set_title(title.replace(", ", ",\n").replace(" that", "\nthat"), fontsize=10)
        axis.set_anchor("N")
    save(figure, folder / "matrices.png")


def draw_kernels(learned: Sequence[Array], folder: Path) -> None:
    """A row for a layer; the kernels of one side are together."""
    figure, axes = new_figure((9, 3.6), len(learned), 16)
    for row, weight in zip(axes, learned, strict=True):
        size = 3 if weight.ndim == 2 else 2
        by_side = weight.swapaxes(0, 1) if weight.ndim == 5 else weight  # (positions, sides, ...)
        for axis, kernel in zip(row, by_side.reshape(-1, size, size), strict=False):
            show_weights(axis, kernel)
        row[0].set_ylabel(str(weight.size), rotation=0, ha="right", va="center")
    save(figure, folder / "kernels.png")


def draw_edges(photo: Array, maps: Array, sides: Sequence[str], folder: Path) -> None:
    """The photograph, its feature maps, and the largest of them."""
    figure, axes = new_figure((7.5, 3.7), 2, 3)
    images = {"photograph": photo, "edges: the largest of the maps": maps.max(0)}
    images |= {f"brighter {side}": image for side, image in zip(sides, maps, strict=True)}
    for axis, (title, image) in zip(axes.T.flat, images.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image, 99))
        axis.set_title(title, fontsize=10)
    save(figure, folder / "edges.png", colours=32)


def new_figure(size: tuple[float, float], rows: int, columns: int) -> tuple[Figure, Any]:
    """A figure and its axes, with nothing but what is drawn."""
    figure = Figure(figsize=size, dpi=80, layout="constrained")
    axes: Any = figure.subplots(rows, columns)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    return figure, axes


def show_weights(axis: Any, weights: Array) -> None:
    """Red above zero, blue below."""
    largest = np.abs(weights).max()
    axis.imshow(weights, cmap="RdBu_r", vmin=-largest, vmax=largest)


def save(figure: Figure, path: Path, colours: int = 64) -> None:
    """Few colours make small files."""
    drawn = io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(colours).save(path, optimize=True)
