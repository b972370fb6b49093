"""What would run, and why: ``explain`` and ``show_config``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnfast.kernels.registry import ENGINES, KERNELS, engine_missing

from . import functional
from ._core import config
from ._core.arrays import as_array, computing_dtype
from ._core.geometry import ConvGeometry, PoolGeometry
from ._core.operand import shape_of
from ._core.padding import needs_copy, padded_shape
from ._core.planner import Plan, plan
from ._core.version import __version__


@dataclass(frozen=True)
class Explanation:
    """What a call would do; ``str()`` of it is a readable page.

    algorithm, engine  the row that runs
    blocks             its block sizes by name, ``tasks`` among them
    scratch_bytes      scratch on the threads of this call
    flops, bytes_moved of the problem; ``intensity`` is their ratio
    others             every other row of the family with the reason why it doesn't run
    """

    op: str
    algorithm: str
    engine: str
    geometry: ConvGeometry | PoolGeometry
    threads: int
    blocks: dict[str, int]
    scratch_bytes: int
    flops: int
    bytes_moved: int
    others: tuple[tuple[str, str], ...]

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
            f"  runs     {self.algorithm}/{self.engine} on {self.threads} thread(s)",
            f"  blocks   {blocks or 'none'}",
            f"  scratch  {self.scratch_bytes:,} bytes",
            f"  work     {self.flops:,} FLOP, {self.bytes_moved:,} bytes moved, "
            f"{self.intensity:.1f} FLOP/byte",
            "  others",
        ]
        width = max((len(name) for name, _ in self.others), default=0)
        lines += [f"    {name:<{width}}  {why}" for name, why in self.others]
        return "\n".join(lines)


def _shape_or_array(name: str, value: Any) -> Any:
    return value if isinstance(value, tuple) else as_array(name, value)


def _conv2d(input: Any, weight: Any, given: dict[str, Any]) -> ConvGeometry:
    mode, value = given.pop("padding_mode", "constant"), given.pop("padding_value", 0)
    geometry = ConvGeometry.of(input, weight, rank=2, **given)
    if needs_copy("conv2d", mode, value):
        shape = padded_shape(geometry, mode)
        geometry = ConvGeometry.of(shape, weight, rank=2, **{**given, "padding": 0})
    return geometry


def _linear(input: Any, weight: Any, given: dict[str, Any]) -> ConvGeometry:
    return ConvGeometry.of_linear(shape_of(input), shape_of(weight), **given)


def _max_pool2d(input: Any, _: None, given: dict[str, Any]) -> PoolGeometry:
    return PoolGeometry.of(input, "max", **given)


def _avg_pool2d(input: Any, _: None, given: dict[str, Any]) -> PoolGeometry:
    return PoolGeometry.of(input, "mean", **given)


#: Name of the function -> family, and the geometry that its arguments make.
OPS: dict[str, tuple[str, Callable[..., ConvGeometry | PoolGeometry]]] = {
    "conv2d": ("fprop", _conv2d),
    "linear": ("fprop", _linear),
    "max_pool2d": ("pool", _max_pool2d),
    "avg_pool2d": ("pool", _avg_pool2d),
}

#: Arguments of the functions that say nothing about the geometry.
BESIDES = {"bias", "activation", "out_dtype", "out", "return_indices", "backend"}


def explain(op: Any, *arguments: Any, dtype: Any = None, **keywords: Any) -> Explanation:
    """Which algorithm and engine a call would use, with what blocks and scratch, and why.

    ``op`` is a function of cnnfast or its name; the rest is what that function takes. Arrays may be
    given as shapes (tuples of ints), with ``dtype`` float32 unless said otherwise. Nothing is
    computed. ValueError for an unknown ``op``; for bad arguments what the function would raise.

    >>> explain("conv2d", (1, 1, 8, 8), (1, 1, 3, 3), backend="im2col/numpy").flops
    648
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if name not in OPS:
        raise ValueError(f"op must be one of {', '.join(OPS)}, got {name!r}")
    family, geometry_of = OPS[name]
    bound = inspect.signature(getattr(functional, name)).bind(*arguments, **keywords).arguments
    operands = {
        which: _shape_or_array(f"{name}: {which}", bound[which])
        for which in ("input", "weight", "bias")
        if bound.get(which) is not None
    }
    arrays = [operand for operand in operands.values() if isinstance(operand, np.ndarray)]
    promoted = bound.get("out_dtype") or dtype or (None if arrays else np.float32)
    given = {key: bound[key] for key in bound if key not in BESIDES | operands.keys()}
    given["dtype"] = computing_dtype(name, arrays, promoted)
    geometry = geometry_of(operands["input"], operands.get("weight"), given)
    return _explanation(name, geometry, plan(family, geometry, bound.get("backend")))


def _explanation(op: str, geometry: ConvGeometry | PoolGeometry, chosen: Plan) -> Explanation:
    row, threads = chosen.row, chosen.threads_for(geometry)
    return Explanation(
        op=op,
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
