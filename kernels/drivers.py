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
``tiles(x, weight, bias, out, problem, taps, cut, local, activation, queue)``. Bodies of Cython are
C functions, given as dtype -> address; ``cython_cpu._team`` runs them without Python in between.

A row that packs weights takes them finished as well: a 1-d array of panels. Arrays have one dtype,
unless it is one that the row reads as it is stored (``storage``).

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
from .blocking import of_panels
from .blocking_gradients import exchanged_product, in_pairs
from .finite import all_finite
from .problem import ConvProblem, all_windows_read, taps_of
from .shapes import round_up
from .storage import computing_dtype, in_elements

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


#: C functions by dtype.
Compiled = dict[str, Any]


class Functions(Protocol):
    """The same, compiled when they are asked for."""

    def __getitem__(self, dtype: str) -> Any: ...


Body = Callable[..., None] | Compiled


class CompiledConv(NamedTuple):
    """What ``cython_cpu._launch`` runs a row by instead of its driver: C functions for the tasks,
    and to pack weights for them. A row that ``skips_padding`` must see finite weights there (see
    ``multiplying_padding``). A dgrad runs fprops ``on_views(problem, itemsize)`` of its arrays
    (``adjoints.Phases``), if it isn't more than that."""

    cut_of: Cut
    tasks: Functions
    packing: Functions | None = None
    skips_padding: bool = False
    on_views: Callable[[ConvProblem, int], tuple[Any, ...]] | None = None


def compiled_of(function: Callable[..., None]) -> Any:
    """How a row runs without its driver: a CompiledConv, a CompiledPool, or None."""
    return getattr(function, "compiled", None)


def fprop(
    cut_of: Cut, tiles: Body, pack_weight: Any = None, compiled: CompiledConv | None = None
) -> Fprop:
    """The callable of a row: pack the weights if the algorithm does, then run all tasks.

    ``pack_weight(weight, packed, problem, width, queue)``, a body as well, writes the queue's
    panels; where a cut has no ``weight_panels``, tasks pack what they need themselves.
    ``compiled``: C functions beside bodies that aren't.
    """
    remembered_cut = lru_cache(maxsize=KEPT_CUTS)(cut_of)
    run = _conv_in_c(tiles, pack_weight) if isinstance(tiles, dict) else _conv(tiles, pack_weight)

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
        dtype, elements = computing_dtype(x.dtype), in_elements(problem, x.dtype)
        cut = remembered_cut(elements, dtype.itemsize)
        if not cut.tasks:
            return
        if weight.ndim == 1:
            cut = of_panels(cut, elements)
        threads = min(threads, cut.tasks)
        shared = cut.shared_elements if weight.ndim > 1 else 0
        packed, local = _regions(scratch, shared, cut.local_elements, dtype, threads)
        run(x, weight, bias, out, problem, cut, packed, local, activation, threads)

    if isinstance(tiles, dict):
        compiled = CompiledConv(cut_of, tiles, pack_weight)
    if compiled is not None:
        run_fprop.compiled = compiled  # type: ignore[attr-defined]
    return run_fprop


def _conv(tiles: Any, pack_weight: Any) -> Callable[..., None]:
    """Bodies that Python calls, on threads of Python's."""

    def run(
        x: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem, cut: Any,
        packed: Array, local: Array, activation: int, threads: int,
    ) -> None:  # fmt: skip
        taps, queue = taps_of(problem), parallel.queue_of(cut.tasks, threads)

        def run_tiles(worker: int) -> None:
            tiles(x, weight, bias, out, problem, taps, cut, local[worker], activation, queue)

        if pack_weight is None or weight.ndim == 1:
            parallel.run(run_tiles, threads)
            return
        array, weight = weight, packed
        panels = parallel.queue_of(cut.weight_panels, threads)

        def pack_and_run_tiles(worker: int) -> None:
            pack_weight(array, packed, problem, cut.width, panels)
            parallel.wait_for(panels)
            run_tiles(worker)

        parallel.run(pack_and_run_tiles, threads)

    return run


def _conv_in_c(tiles: Any, pack_weight: Any) -> Callable[..., None]:
    """Bodies of C, on threads of their own."""
    from .cython_cpu._team import run_conv

    def run(
        x: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem, cut: Any,
        packed: Array, local: Array, activation: int, threads: int,
    ) -> None:  # fmt: skip
        pack = pack_weight if weight.ndim > 1 and pack_weight and cut.weight_panels else None
        run_conv(
            tiles, pack, None, x, weight, bias, out, problem, taps_of(problem), cut, packed,
            local, activation, threads,
        )  # fmt: skip

    return run


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


def wgrad(cut_of: Cut, tiles: Body, finish: Body) -> Fprop:
    """The callable of a wgrad row: partial sums of the tasks, then their sum into ``out``.

    ``tiles(x, grad_output, sums, out, problem, cut, local, queue)`` runs tasks, which write
    ``out`` themselves if all of the reduction is one slice; otherwise ``finish(sums, out, problem,
    cut, queue)`` adds up the slices of panels in order. ``sums`` is the cut's shared scratch.
    """
    remembered_cut = lru_cache(maxsize=KEPT_CUTS)(cut_of)
    run = _wgrad_in_c(tiles, finish) if isinstance(tiles, dict) else _wgrad(tiles, finish)

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
        run(x, grad_output, bias, out, problem, cut, sums, local, threads)

    return run_wgrad


def _wgrad(tiles: Any, finish: Any) -> Callable[..., None]:
    def run(
        x: Array, grad_output: Array, bias: Array, out: Array, problem: ConvProblem, cut: Any,
        sums: Array, local: Array, threads: int,
    ) -> None:  # fmt: skip
        queue, panels = (parallel.queue_of(n, threads) for n in (cut.tasks, cut.weight_panels))

        def body(worker: int) -> None:
            tiles(x, grad_output, sums, out, problem, cut, local[worker], queue)
            if cut.slices > 1:
                parallel.wait_for(queue)
                finish(sums, out, problem, cut, panels)

        parallel.run(body, threads)

    return run


def _wgrad_in_c(tiles: Any, finish: Any) -> Callable[..., None]:
    from .cython_cpu._team import run_conv

    def run(
        x: Array, grad_output: Array, bias: Array, out: Array, problem: ConvProblem, cut: Any,
        sums: Array, local: Array, threads: int,
    ) -> None:  # fmt: skip
        run_conv(
            tiles, None, finish if cut.slices > 1 else None, x, grad_output, bias, out, problem,
            taps_of(problem), cut, sums, local, 0, threads,
        )  # fmt: skip

    return run


def wgrad_of_products(wgrad: Fprop) -> Fprop:
    """The same for a wgrad row that computes an ``exchanged_product`` where there is one."""

    def run_wgrad(
        x: Array, grad_output: Array, bias: Array, out: Array, problem: ConvProblem, *rest: Any
    ) -> None:
        exchanged = exchanged_product(problem, x.itemsize)
        if exchanged:
            if problem.stride != (1, 1, 1):
                steps = zip(problem.output, problem.stride, strict=True)
                x = x[:, :, *(slice(0, (o - 1) * step + 1, step) for o, step in steps)]
            x, grad_output, out = grad_output, x, out.swapaxes(0, 1)
        wgrad(x, grad_output, bias, out, exchanged or problem, *rest)

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
    cut_of: Callable[[ConvProblem], Any], tiles: Compiled, otherwise: Fprop
) -> Fprop:
    """A dgrad row for problems in pairs of columns (``blocking_gradients.in_pairs``), contiguous
    columns and finite weights alone."""
    from .cython_cpu._team import run_conv

    def run_dgrad(
        grad_output: Array, weight: Array, bias: Array, out: Array, problem: ConvProblem,
        scratch: Array, activation: int, threads: int,
    ) -> None:  # fmt: skip
        contiguous = grad_output.strides[4] == out.strides[4] == out.itemsize
        plain = not bias.size and not activation and grad_output.size
        if not (in_pairs(problem) and contiguous and plain and all_finite(weight)):
            otherwise(grad_output, weight, bias, out, problem, scratch, activation, threads)
            return
        _, local = _regions(scratch, 0, 0, out.dtype, threads)
        run_conv(
            tiles, None, None, grad_output, weight, bias, out, problem, taps_of(problem),
            cut_of(problem), scratch, local, 0, threads,
        )  # fmt: skip

    compiled = compiled_of(otherwise)
    if compiled is not None:

        def on_views(problem: ConvProblem, itemsize: int) -> tuple[Any, ...]:
            return () if in_pairs(problem) else compiled.on_views(problem, itemsize)

        run_dgrad.compiled = compiled._replace(on_views=on_views)  # type: ignore[attr-defined]
    return run_dgrad


def _regions(
    scratch: Array, shared_elements: int, local_elements: int, dtype: Any, threads: int
) -> tuple[Array, Array]:
    """The shared part of the scratch, and each thread's own, a row each."""
    shared = round_up(shared_elements * dtype.itemsize, ALIGNMENT)
    size = round_up(local_elements * dtype.itemsize, ALIGNMENT)
    if scratch.size < shared + threads * size:
        raise ValueError(
            f"scratch of {scratch.size} bytes is too small: {shared} shared and {size} for each of "
            f"{threads} threads"
        )
    local = scratch[shared : shared + threads * size].reshape(threads, size)
    return scratch[:shared].view(dtype), local.view(dtype)
