"""Parallel drivers: what surrounds a loop body, once for Numba and Cython.

An engine's file gives the loop bodies; a driver here makes of them the row's callable,
``fprop(x, weight, bias, out, problem, scratch, activation, threads)``:

x           (N, C, D, H, W)     any strides, read only         IN
weight      (K, C/G, T, R, S)   any strides, read only         IN
bias        (K,) or (0,)        contiguous                     IN
out         (N, K, O, P, Q)     any strides, overwritten       OUT
problem     a ConvProblem
scratch     uint8, contiguous, 64-byte aligned, at least ``scratch_bytes(...)`` long
activation  a code of ``problem.ACTIVATION_CODES``

A loop body is called from several threads at once, each with scratch of its own, and takes tasks
from the queue that they share (``parallel.queue_of``):
``tiles(x, weight, bias, out, problem, taps, cut, local, activation, queue)``.

A row that packs weights takes them finished as well: a 1-d array of panels.

Rows of dgrad and wgrad take the same arguments: ``dgrad(grad_output, weight, bias, out, ...)``
fills (N, C, D, H, W), ``wgrad(x, grad_output, bias, out, ...)`` fills (K, C/G, T, R, S) and looks
at neither bias nor activation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import parallel
from .blocking_gradients import in_pairs
from .finite import all_finite
from .problem import ConvProblem, all_windows_read, taps_of
from .shapes import ceil_div, round_up

Array = np.ndarray[Any, Any]
Fprop = Callable[..., None]
Cut = Callable[[ConvProblem, int], Any]

#: Cuts that a row remembers.
KEPT_CUTS = 128
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


class Functions(Protocol):
    """Addresses of C functions, by dtype."""

    def __getitem__(self, dtype: str) -> Any: ...


class Compiled(NamedTuple):
    """What ``cython_cpu._launch`` runs a row by instead of its driver: ``tasks[dtype]`` is a C
    function for the tasks, ``packing[dtype]`` one that packs weights for them. A row that
    ``skips_padding`` must see finite weights there (see ``multiplying_padding``)."""

    cut_of: Cut
    tasks: Functions
    packing: Functions | None = None
    skips_padding: bool = False


def compiled_of(function: Callable[..., None]) -> Any:
    """How a row runs without its driver: a Compiled, a CompiledPool, or None."""
    return getattr(function, "compiled", None)


def fprop(
    cut_of: Cut,
    tiles: Callable[..., None],
    pack_weight: Callable[..., None] | None = None,
    compiled: Compiled | None = None,
) -> Fprop:
    """The callable of a row: pack the weights if the algorithm does, then run all tasks.

    ``pack_weight(weight, packed, problem, width, queue)`` writes the queue's panels.
    """
    remembered_cut = lru_cache(maxsize=KEPT_CUTS)(cut_of)

    def run_fprop(
        x: Array,
        weight: Array,
        bias: Array,
        out: Array,
        problem: ConvProblem,
        scratch: Array,
        activation: int,
        threads: int,
    ) -> None:
        cut, taps = remembered_cut(problem, x.itemsize), taps_of(problem)
        if not cut.tasks:
            return
        pack = pack_weight if weight.ndim > 1 else None
        threads = min(threads, cut.tasks)
        shared = cut.shared_elements if pack else 0
        packed, local = _regions(scratch, shared, cut.local_elements, x.dtype, threads)
        queue = parallel.queue_of(cut.tasks, threads)

        def run_tiles(worker: int) -> None:
            tiles(x, weight, bias, out, problem, taps, cut, local[worker], activation, queue)

        if pack is None:
            parallel.run(run_tiles, threads)
            return
        array, weight = weight, packed
        panels = parallel.queue_of(cut.weight_panels, threads)

        def pack_and_run_tiles(worker: int) -> None:
            pack(array, packed, problem, cut.width, panels)
            parallel.wait_for(panels)
            run_tiles(worker)

        parallel.run(pack_and_run_tiles, threads)

    run_fprop.compiled = compiled  # type: ignore[attr-defined]
    return run_fprop


def multiplying_padding(fprop: Fprop) -> Fprop:
    """A row that skips taps in the padding, made to multiply them by zero as all others do.

    That is the same unless a weight is infinite or NaN (0 x infinity is NaN, as in a padded copy);
    only then is such a copy made.
    """

    def run_fprop(
        x: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem, *rest: Any
    ) -> None:
        if reads_padding(problem) and not all_finite(weight):
            x, problem = _with_padding(x, problem)
        fprop(x, weight, bias, out, problem, *rest)

    compiled = compiled_of(fprop)
    if compiled is not None:
        run_fprop.compiled = compiled._replace(skips_padding=True)  # type: ignore[attr-defined]
    return run_fprop


def reads_padding(problem: ConvProblem) -> bool:
    """Whether any window reaches beyond the input."""
    return any(problem.pad) or any(problem.pad_after)


def _with_padding(x: Array, problem: ConvProblem) -> tuple[Array, ConvProblem]:
    """A padded copy, and the problem that reads it without padding."""
    pairs = zip(problem.pad, problem.pad_after, strict=True)
    x = np.pad(x, ((0, 0), (0, 0), *pairs))
    sizes = dict(zip("dhw", x.shape[2:], strict=True))
    return x, problem._replace(pad_d=0, pad_h=0, pad_w=0, **sizes)


def wgrad(cut_of: Cut, tiles: Callable[..., None], finish: Callable[..., None]) -> Fprop:
    """The callable of a wgrad row: partial sums of the tasks, then their sum into ``out``.

    ``tiles(x, grad_output, sums, out, problem, cut, local, queue)`` runs tasks, which write
    ``out`` themselves if all of the reduction is one slice; otherwise ``finish(sums, out, problem,
    cut, queue)`` adds up the slices of panels in order. ``sums`` is the cut's shared scratch.
    """
    remembered_cut = lru_cache(maxsize=KEPT_CUTS)(cut_of)

    def run_wgrad(
        x: Array,
        grad_output: Array,
        bias: Array,
        out: Array,
        problem: ConvProblem,
        scratch: Array,
        activation: int,
        threads: int,
    ) -> None:
        if problem.n == 0:
            out[...] = 0
            return
        cut = remembered_cut(problem, x.itemsize)
        threads = min(threads, cut.tasks)
        sums, local = _regions(scratch, cut.shared_elements, cut.local_elements, x.dtype, threads)

        queue, panels = (parallel.queue_of(n, threads) for n in (cut.tasks, cut.weight_panels))

        def body(worker: int) -> None:
            tiles(x, grad_output, sums, out, problem, cut, local[worker], queue)
            if cut.slices > 1:
                parallel.wait_for(queue)
                finish(sums, out, problem, cut, panels)

        parallel.run(body, threads)

    return run_wgrad


def wgrad_multiplying_padding(wgrad: Fprop) -> Fprop:
    """The same for a wgrad row and gradients that aren't finite.

    Where every window reads some of the input, each of them makes a weight's gradient infinite or
    NaN, so the result, mostly small, shows whether there are any.
    """

    def run_wgrad(
        x: Array, grad_output: Array, bias: Array, out: Array, problem: ConvProblem, *rest: Any
    ) -> None:
        padded = reads_padding(problem) and x.dtype.kind == "f"
        if not padded or all_windows_read(problem):
            wgrad(x, grad_output, bias, out, problem, *rest)
            if not padded or all_finite(out):
                return
        if not all_finite(grad_output):
            x, problem = _with_padding(x, problem)
        wgrad(x, grad_output, bias, out, problem, *rest)

    return run_wgrad


def dgrad_in_pairs(
    cut_of: Callable[[ConvProblem], Any], tiles: Callable[..., None], otherwise: Fprop
) -> Fprop:
    """A dgrad row for problems in pairs of columns (``blocking_gradients.in_pairs``), contiguous
    columns and finite weights alone.

    ``tiles(grad_output, weight, out, problem, cut, queue)`` runs tasks.
    """

    def run_dgrad(
        grad_output: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem,
        scratch: Array, activation: int, threads: int,
    ) -> None:  # fmt: skip
        contiguous = grad_output.strides[4] == out.strides[4] == out.itemsize
        plain = not bias.size and not activation and grad_output.size
        if not (in_pairs(problem) and contiguous and plain and all_finite(weight)):
            otherwise(grad_output, weight, bias, out, problem, scratch, activation, threads)
            return
        cut = cut_of(problem)
        threads = min(threads, cut.tasks)
        queue = parallel.queue_of(cut.tasks, threads)

        def body(worker: int) -> None:
            tiles(grad_output, weight, out, problem, cut, queue)

        parallel.run(body, threads)

    return run_dgrad


def _regions(
    scratch: Array, shared_elements: int, local_elements: int, dtype: Any, threads: int
) -> tuple[Array, list[Array]]:
    """The shared part of the scratch, and each thread's own."""
    shared = round_up(shared_elements * dtype.itemsize, ALIGNMENT)
    size = round_up(local_elements * dtype.itemsize, ALIGNMENT)
    if scratch.size < shared + threads * size:
        raise ValueError(
            f"scratch of {scratch.size} bytes is too small: {shared} shared and {size} for each of "
            f"{threads} threads"
        )
    starts = [shared + i * size for i in range(threads)]
    return scratch[:shared].view(dtype), [scratch[at : at + size].view(dtype) for at in starts]


class CompiledPool(NamedTuple):
    """The same for a pooling row: a reduction's functions for the tasks, and its code."""

    tasks: dict[str, Functions]
    codes: dict[str, int]


def pool(
    bodies: dict[str, Callable[..., None]], compiled: CompiledPool | None = None
) -> Callable[..., None]:
    """The callable of a pooling row, ``pool(x, out, indices, geometry, threads)``.

    x        (N, C, D, H, W)    any strides, read only                        IN
    out      (N, C, O, P, Q)    any strides, overwritten                      OUT
    indices  (N, C, O, P, Q)    int64, any strides, overwritten, or None      OUT

    ``bodies`` maps a reduction to its body: ``"max"`` and ``"mean"`` are called with
    ``(x, out, problem, windows, queue)``, ``"argmax"`` with ``(x, out, indices, problem, windows,
    queue)``. Task = an output row of one channel: (n, c, o, p), or (n, o, p, c) where all arrays
    have their channels side by side, so that neighbouring tasks are neighbours in memory.
    """

    def run_pool(x: Array, out: Array, indices: Array | None, geometry: Any, threads: int) -> None:
        problem, windows = geometry.problem, geometry.windows
        tiles = bodies[geometry.reduction if indices is None else "argmax"]
        arrays = (x, out) if indices is None else (x, out, indices)

        tasks = problem.n * problem.c * problem.o * problem.p
        threads = min(threads, tasks)
        queue = parallel.queue_of(tasks, threads)

        def body(worker: int) -> None:
            tiles(*arrays, problem, windows, queue)

        parallel.run(body, threads)

    run_pool.compiled = compiled  # type: ignore[attr-defined]
    return run_pool


def _channels_last(channels: int, *arrays: Array) -> bool:
    """Whether there are several channels, neighbours in every array's memory."""
    return channels > 1 and all(array.strides[1] == array.itemsize for array in arrays)


def pool_grad(bodies: dict[str, Callable[..., None]]) -> Callable[..., None]:
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
    """

    def run_pool_grad(
        grad_output: Array, indices: Array | None, out: Array, geometry: Any, threads: int
    ) -> None:
        problem, windows = geometry.problem, geometry.windows
        arrays = (grad_output, out) if indices is None else (grad_output, indices, out)
        block = ALIGNMENT // out.itemsize if _channels_last(problem.c, *arrays) else 1
        tasks = problem.n * ceil_div(problem.c, block)
        threads = min(threads, tasks)
        queue = parallel.queue_of(tasks, threads)

        def body(worker: int) -> None:
            if indices is None:
                bodies["spread"](grad_output, out, problem, windows, block, queue)
            else:
                bodies["scatter"](grad_output, indices, out, problem, block, queue)

        parallel.run(body, threads)

    return run_pool_grad
