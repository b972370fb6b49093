"""Parallel drivers: what surrounds a loop body, once for Numba and Cython.

An engine's file gives the loop bodies; a driver here makes of them the row's callable,
``fprop(x, weight, bias, out, geometry, scratch, activation, threads)``:

x           (N, C, D, H, W)     any strides, read only         IN
weight      (K, C/G, T, R, S)   any strides, read only         IN
bias        (K,) or (0,)        contiguous                     IN
out         (N, K, O, P, Q)     any strides, overwritten       OUT
geometry    a ConvGeometry (its ``problem`` and ``taps``)
scratch     uint8, contiguous, 64-byte aligned, at least ``scratch_bytes(...)`` long
activation  a code of ``problem.ACTIVATION_CODES``

A body is called from several threads at once, each with a range of tasks and scratch of its own:
``tiles(x, weight, bias, out, problem, taps, cut, local, activation, begin, end)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import parallel
from .problem import ConvProblem
from .shapes import round_up

Array = np.ndarray[Any, Any]
Fprop = Callable[..., None]
Cut = Callable[[ConvProblem, int], Any]

#: Scratch regions begin at multiples of this, a cache line and an AVX-512 vector.
ALIGNMENT = 64


def has_element_strides(array: Array) -> bool:
    """Whether the array is aligned and every stride a multiple of the item size.

    >>> has_element_strides(np.zeros((3, 4), np.float32)[:, ::2])
    True
    """
    return array.flags.aligned and all(step % array.itemsize == 0 for step in array.strides)


def cut_scratch_bytes(cut: Any, itemsize: int, threads: int) -> int:
    """Bytes of scratch for a cut: packed weights, shared, then a local region per thread."""
    threads = min(threads, cut.tasks)
    shared = round_up(cut.shared_elements * itemsize, ALIGNMENT)
    return shared + threads * round_up(cut.local_elements * itemsize, ALIGNMENT)


def fprop(
    cut_of: Cut, tiles: Callable[..., None], pack_weight: Callable[..., None] | None = None
) -> Fprop:
    """The callable of a row: pack the weights if the algorithm does, then run all tasks.

    ``pack_weight(weight, packed, problem, width, begin, end)`` writes the panels begin .. end-1.
    """

    def run_fprop(
        x: Array,
        weight: Array,
        bias: Array,
        out: Array,
        geometry: Any,
        scratch: Array,
        activation: int,
        threads: int,
    ) -> None:
        problem, taps, itemsize = geometry.problem, geometry.taps, x.itemsize
        cut = cut_of(problem, itemsize)
        threads = min(threads, cut.tasks)
        shared = round_up(cut.shared_elements * itemsize, ALIGNMENT)
        size = round_up(cut.local_elements * itemsize, ALIGNMENT)
        local = [
            scratch[shared + i * size : shared + (i + 1) * size].view(x.dtype)
            for i in range(threads)
        ]
        if pack_weight is not None:
            packed = scratch[:shared].view(x.dtype)

            def pack(begin: int, end: int, worker: int) -> None:
                pack_weight(weight, packed, problem, cut.width, begin, end)

            parallel.run(pack, cut.weight_panels, threads)
            weight = packed

        def body(begin: int, end: int, worker: int) -> None:
            tiles(x, weight, bias, out, problem, taps, cut, local[worker], activation, begin, end)

        parallel.run(body, cut.tasks, threads)

    return run_fprop


def pool(bodies: dict[str, Callable[..., None]]) -> Callable[..., None]:
    """The callable of a pooling row, ``pool(x, out, indices, geometry, threads)``.

    x        (N, C, D, H, W)    any strides, read only                        IN
    out      (N, C, O, P, Q)    any strides, overwritten                      OUT
    indices  (N, C, O, P, Q)    int64, any strides, overwritten, or None      OUT

    ``bodies`` maps a reduction to its body: ``"max"`` and ``"mean"`` are called with
    ``(x, out, problem, windows, begin, end)``, ``"argmax"`` with ``(x, out, indices, problem,
    windows, begin, end)``. Task = (n, c, o, p): one output row.
    """

    def run_pool(x: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
        problem, windows = geometry.problem, geometry.windows
        tiles = bodies[geometry.reduction if indices is None else "argmax"]
        arrays = (x, out) if indices is None else (x, out, indices)

        def body(begin: int, end: int, worker: int) -> None:
            tiles(*arrays, problem, windows, begin, end)

        parallel.run(body, problem.n * problem.c * problem.o * problem.p, threads)

    return run_pool
