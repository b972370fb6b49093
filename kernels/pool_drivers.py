"""Parallel drivers of pooling and its adjoint, as those of ``drivers`` are of convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from . import parallel
from .drivers import ALIGNMENT, Functions
from .shapes import ceil_div

Array = np.ndarray[Any, Any]


class CompiledPool(NamedTuple):
    """Rows of C functions: by dtype, for the tasks, and the codes that they have for reductions."""

    tasks: dict[str, Any]
    codes: Mapping[str, int] = MappingProxyType({})
    #: Functions of single reductions, where there are such.
    single: Mapping[str, Functions] = MappingProxyType({})

    def tasks_of(self, reduction: str, dtype: str) -> Any:
        """A reduction's function."""
        return self.single.get(reduction, self.tasks)[dtype]


def pool(
    bodies: dict[str, Callable[..., None]] | CompiledPool, compiled: CompiledPool | None = None
) -> Callable[..., None]:
    """The callable of a pooling row, ``pool(x, out, indices, geometry, threads)``.

    x        (N, C, D, H, W)    any strides, read only                        IN
    out      (N, C, O, P, Q)    any strides, overwritten                      OUT
    indices  (N, C, O, P, Q)    int64, any strides, overwritten, or None      OUT

    ``bodies`` maps a reduction to its body: ``"max"`` and ``"mean"`` are called with
    ``(x, out, problem, windows, queue)``, ``"argmax"`` with ``(x, out, indices, problem, windows,
    queue)``. Task = an output row of one channel: (n, c, o, p), or (n, o, p, c) where all arrays
    have their channels side by side, so that neighbouring tasks are neighbours in memory.
    ``compiled``: C functions beside bodies that aren't.
    """
    run = _pool_in_c(bodies) if isinstance(bodies, CompiledPool) else _pool(bodies)

    def run_pool(x: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
        problem = geometry.problem
        reduction = geometry.reduction if indices is None else "argmax"
        tasks = problem.n * problem.c * problem.o * problem.p
        if tasks:
            run(reduction, x, out, indices, geometry, 1, tasks, min(threads, tasks))

    if isinstance(bodies, CompiledPool):
        compiled = bodies
    if compiled is not None:
        run_pool.compiled = compiled  # type: ignore[attr-defined]
    return run_pool


def _pool(bodies: dict[str, Callable[..., None]]) -> Callable[..., None]:
    def run(
        reduction: str, x: Array, out: Array, indices: Array | None, geometry: Any, block: int,
        tasks: int, threads: int,
    ) -> None:  # fmt: skip
        arrays = (x, out) if indices is None else (x, out, indices)
        queue = parallel.queue_of(tasks, threads)

        def body(worker: int) -> None:
            bodies[reduction](*arrays, geometry.problem, geometry.windows, queue)

        parallel.run(body, threads)

    return run


def _pool_in_c(compiled: CompiledPool) -> Callable[..., None]:
    from .cython_cpu._team import run_pool

    def run(
        reduction: str, x: Array, out: Array, indices: Array | None, geometry: Any, block: int,
        tasks: int, threads: int,
    ) -> None:  # fmt: skip
        run_pool(
            compiled.tasks, compiled.codes.get(reduction, 0), x, out, indices, geometry.problem,
            geometry.windows, block, tasks, threads,
        )  # fmt: skip

    return run


def _channels_last(channels: int, *arrays: Array) -> bool:
    """Whether there are several channels, neighbours in every array's memory."""
    return channels > 1 and all(array.strides[1] == array.itemsize for array in arrays)


def pool_grad(bodies: dict[str, Callable[..., None]] | CompiledPool) -> Callable[..., None]:
    """The callable of a pooling's adjoint,
    ``pool_grad(grad_output, indices, out, geometry, threads)``.

    grad_output  (N, C, O, P, Q)    any strides, read only                          IN
    indices      (N, C, O, P, Q)    int64, any strides: where maxima were, or None  IN
    out          (N, C, D, H, W)    any strides, overwritten                        OUT

    ``bodies``: ``"scatter"(grad_output, indices, out, problem, block, queue)`` adds each gradient
    to its maximum's place (none for an index outside of the plane),
    ``"spread"(grad_output, out, problem, windows, block, queue)`` adds it by the divisor to all of
    its window. Task = (n, block of channels): whole planes of ``out``, which the body fills, so no
    two tasks add to one place. A block is one channel or, where all arrays have their channels
    side by side, a cache line of them.

    A row of C functions has ``pool_grad.of_input``, which takes the forward pooling's input (in
    ``out``'s dtype) in place of the indices.
    """
    run = _pool_in_c(bodies) if isinstance(bodies, CompiledPool) else _pool_grad(bodies)

    def run_adjoint(
        adjoint: str, grad_output: Array, second: Array | None, out: Array, geometry: Any,
        threads: int,
    ) -> None:  # fmt: skip
        problem = geometry.problem
        arrays = (grad_output, out) if second is None else (grad_output, second, out)
        block = ALIGNMENT // out.itemsize if _channels_last(problem.c, *arrays) else 1
        tasks = problem.n * ceil_div(problem.c, block)
        if tasks:
            threads = min(threads, tasks)
            run(adjoint, grad_output, out, second, geometry, block, tasks, threads)

    def run_pool_grad(
        grad_output: Array, indices: Array | None, out: Array, geometry: Any, threads: int
    ) -> None:
        adjoint = "spread" if indices is None else "scatter"
        run_adjoint(adjoint, grad_output, indices, out, geometry, threads)

    if isinstance(bodies, CompiledPool):
        run_pool_grad.of_input = partial(run_adjoint, "find")  # type: ignore[attr-defined]
    return run_pool_grad


def _pool_grad(bodies: dict[str, Callable[..., None]]) -> Callable[..., None]:
    def run(
        reduction: str, grad_output: Array, out: Array, indices: Array | None, geometry: Any,
        block: int, tasks: int, threads: int,
    ) -> None:  # fmt: skip
        problem, windows = geometry.problem, geometry.windows
        queue = parallel.queue_of(tasks, threads)

        def body(worker: int) -> None:
            if indices is None:
                bodies["spread"](grad_output, out, problem, windows, block, queue)
            else:
                bodies["scatter"](grad_output, indices, out, problem, block, queue)

        parallel.run(body, threads)

    return run
