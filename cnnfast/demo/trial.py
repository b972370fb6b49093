"""One backend's run: how fast, how far from the reference, and whether threads change a bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import cnnfast
from cnnfast.kernels import Kernel

from .stack import STAGES, error_bounds, run, total_flops

Array = np.ndarray[Any, Any]

#: A backend runs at least once warm, and again until it has run this often or this long.
WARM_RUNS = 7
WARM_SECONDS = 1.0


@contextmanager
def num_threads(threads: int) -> Iterator[None]:
    """Set the number of threads inside the ``with`` block."""
    before = cnnfast.get_num_threads()
    cnnfast.set_num_threads(threads)
    try:
        yield
    finally:
        cnnfast.set_num_threads(before)


@dataclass(frozen=True)
class Expected:
    """What the reference says, how far from it a right answer may be, and the work there is."""

    results: dict[str, Array]
    bounds: dict[str, Array]
    flops: int

    @classmethod
    def of(cls, pixels: Array) -> Expected:
        """Run all stages on the reference."""
        with cnnfast.use_backend("reference"):
            results = run(STAGES, pixels)
        return cls(results, error_bounds(STAGES, results), total_flops(STAGES, results))

    def errors(self, results: dict[str, Array]) -> tuple[float, float]:
        """The largest error, and the largest in units of its bound; NaN if any value is."""
        tiny = np.finfo(np.float64).tiny
        largest, of_bound = [], []
        for name, bound in self.bounds.items():
            error = np.abs(results[name].astype(np.float64) - self.results[name])
            largest.append(error.max())
            of_bound.append((error / np.maximum(bound, tiny)).max())
        return float(np.max(largest)), float(np.max(of_bound))


@dataclass(frozen=True)
class Trial:
    """A backend's results and measurements; ``same_bits`` is None for a row that is exempt."""

    backend: str
    results: dict[str, Array]
    first_seconds: float
    seconds: float
    max_error: float
    of_bound: float
    same_bits: bool | None

    @property
    def verdict(self) -> str:
        """What is wrong, or "agrees"."""
        if not self.of_bound <= 1:
            return "DISAGREES"
        return "BITS DIFFER" if self.same_bits is False else "agrees"


def try_backend(row: Kernel, pixels: Array, expected: Expected, threads: int) -> Trial:
    """Run all stages on one row (pooling on its engine); BackendUnavailableError if it can't."""
    other = 1 if threads > 1 else 2
    with cnnfast.use_backend(row.name):
        with num_threads(threads):
            first, results = _timed(pixels)
            warm: list[float] = []
            while not warm or (len(warm) < WARM_RUNS and sum(warm) < WARM_SECONDS):
                seconds, results = _timed(pixels)
                warm.append(seconds)
        with num_threads(other):
            again = run(STAGES, pixels)
    same = all(results[name].tobytes() == again[name].tobytes() for name in results)
    return Trial(
        row.name,
        results,
        first,
        min(warm),
        *expected.errors(results),
        same if row.same_bits else None,
    )


def _timed(pixels: Array) -> tuple[float, dict[str, Array]]:
    start = time.perf_counter()
    results = run(STAGES, pixels)
    return time.perf_counter() - start, results
