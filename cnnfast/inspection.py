"""What would run, and why: ``explain`` and ``show_config``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cnnfast import kernels
from cnnfast.kernels.registry import ENGINES, KERNELS, engine_missing

from . import functional, grad
from ._core import config
from ._core.conv_geometry import ConvGeometry
from ._core.gradients import shape_from
from ._core.pool_geometry import PoolGeometry
from ._core.recording import Step, recorded_steps
from ._core.version import __version__


@dataclass(frozen=True)
class Explanation:
    """What a call would do; ``str()`` of it is a readable page.

    algorithm, engine  the row that runs
    blocks             its block sizes by name, ``tasks`` among them
    scratch_bytes      scratch on the threads of this call
    flops, bytes_moved of the problem; ``intensity`` is their ratio
    geometry           the problem, of the forward pass also where the family is an adjoint
    others             every other row of the family with the reason why it doesn't run
    besides            the other kernels of the same call
    """

    op: str
    family: str
    algorithm: str
    engine: str
    geometry: ConvGeometry | PoolGeometry
    threads: int
    blocks: dict[str, int]
    scratch_bytes: int
    flops: int
    bytes_moved: int
    others: tuple[tuple[str, str], ...]
    besides: tuple[Explanation, ...] = ()

    @property
    def intensity(self) -> float:
        """FLOP per byte moved: low means bound by memory, high by arithmetic."""
        return self.flops / max(self.bytes_moved, 1)

    def roofline_seconds(self, peak_flops: float, bandwidth: float) -> float:
        """Least time on a machine with that many FLOP/s and bytes/s."""
        return max(self.flops / peak_flops, self.bytes_moved / bandwidth)

    def __str__(self) -> str:
        blocks = ", ".join(f"{name} {value}" for name, value in self.blocks.items())
        lines = [
            f"{self.op} {self.geometry.input.shape} -> {self.geometry.out_shape} "
            f"{self.geometry.dtype}",
            f"  runs     {self.family} {self.algorithm}/{self.engine} on {self.threads} thread(s)",
            f"  blocks   {blocks or 'none'}",
            f"  scratch  {self.scratch_bytes:,} bytes",
            f"  work     {self.flops:,} FLOP, {self.bytes_moved:,} bytes moved, "
            f"{self.intensity:.1f} FLOP/byte",
            "  others",
        ]
        width = max((len(name) for name, _ in self.others), default=0)
        lines += [f"    {name:<{width}}  {why}" for name, why in self.others]
        return "\n".join([*lines, *map(str, self.besides)])


@cache
def operations() -> dict[str, Callable[..., Any]]:
    """Name -> function, for every function that runs a kernel."""
    return {
        name: function
        for module in (functional, grad)
        for name in module.__all__
        if "backend" in inspect.signature(function := getattr(module, name)).parameters
    }


#: Arguments that are arrays, and may be given to ``explain`` as shapes.
ARRAYS = {
    "input", "weight", "bias", "depthwise_weight", "pointwise_weight", "grad_output",
}  # fmt: skip


def explain(op: Any, *arguments: Any, dtype: Any = None, **keywords: Any) -> Explanation:
    """Which algorithm and engine a call would use, with what blocks and scratch, and why.

    ``op`` is a function of cnnfast or cnnfast.grad, or its name; the rest is what that function
    takes. Arrays may be given as shapes (tuples of ints), with ``dtype`` float32 unless said
    otherwise. The call is made up to its kernels, which don't run. Where there are several (a
    separable convolution), the one with the most work is explained and has the others as
    ``besides``. ValueError for an unknown ``op``; for bad arguments what the function would raise.

    >>> explain("conv2d", (1, 1, 8, 8), (1, 1, 3, 3), backend="im2col/numpy").flops
    648
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    functions = operations()
    if name not in functions:
        raise ValueError(f"op must be one of {', '.join(functions)}, got {name!r}")
    bound = inspect.signature(functions[name]).bind(*arguments, **keywords)
    for which in ARRAYS & bound.arguments.keys():
        if isinstance(bound.arguments[which], tuple):
            shape = shape_from(f"{name}: {which}", bound.arguments[which])
            bound.arguments[which] = _array_of(f"{name}: {which}", shape, dtype or np.float32)
    with recorded_steps() as steps:
        functions[name](*bound.args, **bound.kwargs)
    steps.sort(key=lambda step: step.geometry.flops, reverse=True)
    first, *others = (_explanation(name, step) for step in steps)
    return replace(first, besides=tuple(others))


def _array_of(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array that no one writes to: memory that is asked for, not used."""
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"{name} of shape {shape} is more than this machine has: {error}"
        ) from None


def _explanation(op: str, step: Step) -> Explanation:
    family, geometry, chosen = step
    row = chosen.row
    threads = chosen.threads_for(geometry, config.get_num_threads(), config.get_workspace_limit())
    return Explanation(
        op=op,
        family=family,
        algorithm=row.algorithm,
        engine=ENGINES[row.engine].name,
        geometry=geometry,
        threads=threads,
        blocks=row.blocks(geometry),
        scratch_bytes=row.scratch_bytes(geometry, threads),
        flops=geometry.flops,
        bytes_moved=geometry.bytes_moved,
        others=chosen.rejected,
    )


def show_config() -> str:
    """Versions, threads, engines and settings, as text for a bug report.

    >>> print(show_config().splitlines()[0].split()[0])
    cnnfast
    """
    import platform

    lines = [
        f"cnnfast   {__version__}",
        f"Python    {platform.python_version()} on {platform.platform()}",
        f"NumPy     {np.__version__}",
        f"threads   {config.get_num_threads()}",
        f"workspace {config.get_workspace_limit():,} bytes per call",
        f"backend   {config.ambient_backend()}",
    ]
    for folder, engine in ENGINES.items():
        rows = sum(row.engine == folder for row in KERNELS)
        state = "no kernels in this version" if not rows else engine_missing(folder)
        state = state or f"{rows} kernels"
        lines.append(f"engine    {engine.name}: {state}")
    return "\n".join(lines)


def get_include() -> str:
    """The folder of ``cnnfast.h``, for C extensions: what ``include_dirs`` of an Extension takes.

    Cython needs no folder: ``cimport cnnfast.kernels.cython_cpu.conv`` finds its way. The functions
    themselves are there where the Cython kernels are built (docs/cython.md).

    >>> Path(get_include(), "cnnfast.h").exists()
    True
    """
    (folder,) = kernels.__path__
    return str(Path(folder, "include"))
