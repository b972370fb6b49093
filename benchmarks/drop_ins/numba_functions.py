"""Functions for users' compiled code beside the public ones, and beside loops that users write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

import cnnfast
from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import measure
from cnnfast.kernels import numba_cpu

Array = np.ndarray[Any, Any]


class Layer(NamedTuple):
    """A convolution, or without a weight a 3x3/2 max pooling."""

    name: str
    input: tuple[int, ...]
    weight: tuple[int, ...] = ()
    padding: int = 0
    groups: int = 1


LAYERS = (
    Layer("64 -> 64, 3x3, 56x56", (1, 64, 56, 56), (64, 64, 3, 3), 1),
    Layer("depthwise 64, 3x3, 56x56", (1, 64, 56, 56), (64, 1, 3, 3), 1, 64),
    Layer("LeNet's first, 1 -> 6, 5x5", (1, 1, 28, 28), (6, 1, 5, 5), 2),
    Layer("256 -> 64, 1x1, 56x56", (1, 256, 56, 56), (64, 256, 1, 1)),
    Layer("max pooling 3x3/2, 64 x 112x112", (1, 64, 112, 112)),
)
#: Images of the layer that is run over several, in a ``prange``.
IMAGES = 8

conv2d, conv2d_into = numba_cpu.conv2d, numba_cpu.conv2d_into
max_pool2d = numba_cpu.max_pool2d


@numba.njit(nogil=True)
def plain_conv(x: Array, weight: Array, padding: int, groups: int) -> Array:
    """The loops as one writes them."""
    n, _, h, w = x.shape
    k, c, r, s = weight.shape
    out = np.zeros((n, k, h + 2 * padding - r + 1, w + 2 * padding - s + 1), x.dtype)
    for i, j in np.ndindex(n, k):
        first = j // (k // groups) * c
        for p, q in np.ndindex(out.shape[2], out.shape[3]):
            for a, t, u in np.ndindex(c, r, s):
                row, column = p + t - padding, q + u - padding
                if 0 <= row < h and 0 <= column < w:
                    out[i, j, p, q] += x[i, first + a, row, column] * weight[j, a, t, u]
    return out


@numba.njit(nogil=True)
def plain_pool(x: Array) -> Array:
    """The same for a 3x3/2 max pooling with padding 1."""
    n, c, h, w = x.shape
    out = np.full((n, c, (h + 1) // 2, (w + 1) // 2), -np.inf, x.dtype)
    for i, j, p, q in np.ndindex(out.shape):
        for row in range(max(2 * p - 1, 0), min(2 * p + 2, h)):
            for column in range(max(2 * q - 1, 0), min(2 * q + 2, w)):
                out[i, j, p, q] = max(out[i, j, p, q], x[i, j, row, column])
    return out


@numba.njit(parallel=True)
def over_images(images: Array, weight: Array) -> Array:
    """A convolution of each image, side by side."""
    out = np.empty((images.shape[0], weight.shape[0], *images.shape[2:]), images.dtype)
    for i in numba.prange(images.shape[0]):
        conv2d_into(images[i : i + 1], weight, 1, 1, out=out[i : i + 1])
    return out


def _contenders(layer: Layer, random: Any) -> dict[str, Callable[[], Array]]:
    x = random.standard_normal(layer.input).astype(np.float32)
    if not layer.weight:
        return {
            "functions": lambda: max_pool2d(x, 3, 2, 1),
            "cnnfast.max_pool2d": lambda: cnnfast.max_pool2d(x, 3, 2, 1),
            "backend=numba": lambda: cnnfast.max_pool2d(x, 3, 2, 1, backend="numba"),
            "plain njit loops": lambda: plain_pool(x),
        }
    w = random.standard_normal(layer.weight).astype(np.float32)
    padding, groups = layer.padding, layer.groups

    def public(backend: str | None) -> Array:
        result: Array = cnnfast.conv2d(x, w, padding=padding, groups=groups, backend=backend)
        return result

    return {
        "functions": lambda: conv2d(x, w, 1, padding, 1, groups),
        "cnnfast.conv2d": lambda: public(None),
        "backend=numba": lambda: public("numba"),
        "plain njit loops": lambda: plain_conv(x, w, padding, groups),
    }


def _rows_of(case: str, calls: dict[str, Callable[[], Array]], seconds: float) -> list[DropInRow]:
    expected, *others = (call() for call in calls.values())
    for other in others:
        bound = 1e-4 * max(float(np.abs(expected).max()), 1)
        np.testing.assert_allclose(other, expected, rtol=0, atol=bound)
    timings = measure(calls, seconds)
    own = timings.pop("functions")
    return [DropInRow(case, name, own, timing, None) for name, timing in timings.items()]


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """Layers on one thread, whatever ``threads`` is, and images in a ``prange`` on ``threads``."""
    random, found = np.random.default_rng(0), []
    cnnfast.set_num_threads(1)
    for layer in LAYERS:
        found += _rows_of(layer.name, _contenders(layer, random), seconds)
    cnnfast.set_num_threads(threads)
    first = LAYERS[0]
    images = random.standard_normal((IMAGES, *first.input[1:])).astype(np.float32)
    w = random.standard_normal(first.weight).astype(np.float32)
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        calls: dict[str, Callable[[], Array]] = {
            "functions": lambda: over_images(images, w),
            "functions, one by one": lambda: conv2d(images, w, 1, 1),
            "cnnfast.conv2d": lambda: cnnfast.conv2d(images, w, padding=1),
        }
        found += _rows_of(f"{first.name}, {IMAGES} images, prange", calls, seconds)
    finally:
        numba.set_num_threads(before)
    return found
