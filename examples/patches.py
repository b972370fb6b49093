"""What ``derivation.py`` learns: on which side a small patch of a photograph is brighter.

The neurons vote: four for each side, or those of a single group for the right against the left.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cnnfast import layers as L

Array = np.ndarray[Any, Any]

SIDES = ("right", "left", "below", "above")
#: Neurons 4 i to 4 i + 3 vote for side i.
VOTES = np.repeat(np.eye(4, dtype=np.float32), 4, axis=0)
#: The four neurons of one group: what is above zero speaks for the right, below for the left.
RIGHT_OR_LEFT = np.repeat(np.array([[1, -1]], np.float32), 4, axis=0)


class Task(NamedTuple):
    """Patches (N, 1, 3, 3) and their brighter sides (N,), to learn from and to be asked about."""

    patches: Array
    sides: Array
    new_patches: Array
    new_sides: Array


def photograph() -> Array:
    """The brightness of scikit-learn's picture of a temple, (427, 640), in [0, 1]."""
    from sklearn.datasets import load_sample_image

    colours = load_sample_image("china.jpg").astype(np.float32) / np.float32(255)
    return np.asarray(colours @ np.array([0.299, 0.587, 0.114], np.float32))


def make_task(photo: Array, rng: np.random.Generator, known: int = 200, new: int = 4000) -> Task:
    """Patches with a clear edge, as many for each side, each of its own brightness."""
    windows = np.lib.stride_tricks.sliding_window_view(photo, (3, 3)).reshape(-1, 9)
    to_right = np.array([-1, 0, 1, -2, 0, 2, -1, 0, 1], np.float32)
    to_below = to_right.reshape(3, 3).T.ravel()
    slopes = windows @ np.array([to_right, to_below]).T
    weak, strong = np.sort(np.abs(slopes), axis=1).T
    clear = np.flatnonzero((strong > 0.6) & (strong > 1.2 * weak))
    sides = np.stack([slopes, -slopes], axis=2).reshape(-1, 4).argmax(1)
    each = (known + new) // 4
    chosen = [rng.choice(clear[sides[clear] == side], each, replace=False) for side in range(4)]
    order = rng.permutation(np.concatenate(chosen))
    x = windows[order]
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    x = (x + rng.standard_normal((len(x), 1), np.float32)).reshape(-1, 1, 3, 3)
    return Task(x[:known], sides[order[:known]], x[known:], sides[order[known:]])


def learn(layer: L.Layer, task: Task) -> float:
    """Train a layer, 200 steps of Adam on all patches at once; how many new patches it gets right.

    A layer of 4 neurons learns right against left, without the patches brighter below and above.
    """
    if math.prod(layer.output_shape((1, 1, 3, 3))) == 4:
        net, votes = layer, RIGHT_OR_LEFT
        two, new = task.sides < 2, task.new_sides < 2
        task = Task(task.patches[two], task.sides[two], task.new_patches[new], task.new_sides[new])
    else:
        net, votes = L.Sequential(layer, L.ReLU()), VOTES
    loss, optimiser = L.CrossEntropyLoss(), L.Adam(net, lr=0.03)
    for _ in range(200):
        results = net(task.patches)
        loss(results.reshape(-1, len(votes)) @ votes, task.sides)
        net.backward((loss.backward() @ votes.T).reshape(results.shape))
        optimiser.step()
    scores = net.eval()(task.new_patches).reshape(-1, len(votes)) @ votes
    return float((scores.argmax(1) == task.new_sides).mean())
