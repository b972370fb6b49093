"""Networks of small integers, whose results are exact, and bounds for the others."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from cnnfast import layers as L

Array = np.ndarray[Any, Any]


def integers(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> Array:
    """Small ones, by default held in floats."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(dtype)


def made_of_integers(net: L.Layer) -> L.Layer:
    """Parameters of small integers, statistics that normalise by powers of two."""
    for seed, array in enumerate(net.params.values()):
        array[...] = integers(array.shape, seed)
    for seed, (name, array) in enumerate(net.buffers.items()):
        if name.endswith("var"):
            array[...] = 4.0 ** np.random.default_rng(seed).integers(-1, 2, array.shape)
        elif name.endswith("mean"):
            array[...] = integers(array.shape, seed)
    return net


def random_statistics(net: L.Layer) -> L.Layer:
    """Statistics and biases as training may leave them."""
    rng = np.random.default_rng(0)
    for name, array in net.state_dict().items():
        if name.endswith("var"):
            array[...] = rng.uniform(0.5, 2, array.shape)
        elif array.ndim == 1:
            array[...] = rng.normal(0.5, 1, array.shape)
    return net


def error_bound(net: L.Layer, x: Array) -> Array:
    """How far two right results of a network of convolutions, dense layers, normalisation, pooling
    and ReLU may be apart: ``2 (L + 2) eps f(|x|)``, with L the lengths of all its sums together and
    f the network of absolute weights, which adds up all that the network does."""
    largest, length = copy.deepcopy(net).eval(), 0
    for name, array in largest.state_dict().items():
        np.absolute(array, out=array)
        if name.endswith("mean"):
            np.negative(array, out=array)
        length += 2 + math.prod(array.shape[1:])
    bound: Array = 2 * length * np.finfo(x.dtype).eps * largest(np.abs(x))
    return bound


def crops(image: Array, side: int, stride: int) -> Array:
    """All crops of an image, row by row, as a batch."""
    places = [range(0, extent - side + 1, stride) for extent in image.shape[2:]]
    found = [image[:, :, i : i + side, j : j + side] for i in places[0] for j in places[1]]
    return np.concatenate(found)


def by_crops(net: L.Layer, image: Array, side: int, stride: int) -> Array:
    """(1, K, P, Q) from the results (P * Q, K) of all crops."""
    places = [(extent - side) // stride + 1 for extent in image.shape[2:]]
    return np.moveaxis(net(crops(image, side, stride)), 0, 1).reshape(1, -1, *places)
