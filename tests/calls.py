"""Calls of all families, small ones on one thread and large ones on several, for tests that make
them in other threads and processes: what is sent there must be a function of a module."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

import cnnfast

Array = np.ndarray[Any, Any]


def random(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


X, W, DEPTHWISE = random(1, 32, 40, 44), random(48, 32, 3, 3), random(32, 1, 3, 3)
G = random(1, 48, 40, 44)

CALLS: dict[str, Callable[[], Array]] = {
    "tiny": lambda: cnnfast.conv2d(X[:, :1, :8, :8], W[:1, :1], padding=1),
    "dense": lambda: cnnfast.conv2d(X, W, padding=1, activation="relu"),
    "pointwise": lambda: cnnfast.conv2d(X, W[:, :, :1, :1]),
    "depthwise": lambda: cnnfast.conv2d(X, DEPTHWISE, padding=1, groups=32),
    "image": lambda: cnnfast.conv2d(X[:, :1], W[:1, :1], padding=1),
    "max": lambda: cnnfast.max_pool2d(X, 3, 2, 1),
    "mean": lambda: cnnfast.avg_pool2d(X, 2),
    "dgrad": lambda: cnnfast.grad.conv2d_input(X.shape, W, G, padding=1),
    "wgrad": lambda: cnnfast.grad.conv2d_weight(X, W.shape, G, padding=1),
    "linear": lambda: cnnfast.linear(X.reshape(32, -1), W.reshape(48, -1).repeat(7, 1)[:, :1760]),
}


def digest(name: str) -> str:
    """What a call gives, to the bit."""
    return hashlib.sha256(CALLS[name]().tobytes()).hexdigest()


def digests() -> dict[str, str]:
    return {name: digest(name) for name in CALLS}
