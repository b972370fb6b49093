"""The one table of kernels.

A row is data: what it computes (family), how (algorithm), on what (engine), for which dtypes and
problems, at what cost, and where its code is. Nothing is imported before a row is loaded, so a
missing compiler, Numba or GPU takes rows away and never breaks an import. Dispatch, ``explain``,
the conformance suite, the benchmarks and README's matrix all read this tuple.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from . import blocking, costs
from .drivers import cut_scratch_bytes

F32_F64 = ("float32", "float64")


@dataclass(frozen=True)
class Engine:
    """What an engine needs: a module to be found, and how to get it when it isn't."""

    name: str
    requires: str | None
    install: str


ENGINES = {
    "cython_cpu": Engine(
        "cython",
        "cnnfast.kernels.cython_cpu._tiled",
        "reinstall cnnfast with a C compiler and without CNNFAST_NO_EXTENSIONS",
    ),
    "numba_cpu": Engine("numba", "numba", "pip install 'cnnfast[numba]'"),
    "numba_cuda": Engine("cuda", "numba_cuda", "pip install 'cnnfast[cuda]'"),
    "numpy_cpu": Engine("numpy", None, ""),
}


@dataclass(frozen=True)
class Kernel:
    """One row. ``load`` is ``module:attribute`` below ``cnnfast.kernels``; ``cut`` gives the blocks
    (None: the row allocates for itself); ``cost`` estimates nanoseconds on one core."""

    family: str
    algorithm: str
    engine: str
    load: str
    cost: Callable[[Any], float]
    cut: Callable[[Any, int], Any] | None = None
    dtypes: tuple[str, ...] = F32_F64
    same_bits: bool = True

    @property
    def name(self) -> str:
        """``algorithm/engine`` as users write it."""
        return f"{self.algorithm}/{ENGINES[self.engine].name}"

    def unsupported(self, geometry: Any) -> str | None:
        """Why this row can't take the geometry, or None if it can."""
        if geometry.dtype.name not in self.dtypes:
            return f"takes {', '.join(self.dtypes)}, not {geometry.dtype.name}"
        return None

    def scratch_bytes(self, geometry: Any, threads: int = 1) -> int:
        """Bytes of scratch that a call on ``threads`` threads is handed."""
        if self.cut is None:
            return 0
        itemsize = geometry.dtype.itemsize
        return cut_scratch_bytes(self.cut(geometry.problem, itemsize), itemsize, threads)


def _fprop(algorithm: str, engine: str, load: str, **columns: Any) -> Kernel:
    return Kernel("fprop", algorithm, engine, load, **columns)


def _pool(algorithm: str, engine: str, load: str, **columns: Any) -> Kernel:
    return Kernel("pool", algorithm, engine, load, **columns)


#: Where two rows cost the same the earlier one runs.
KERNELS: tuple[Kernel, ...] = (
    _fprop("tiled", "cython_cpu", "cython_cpu._tiled:fprop", cost=costs.tiled, cut=blocking.tiled_cut),
    _fprop("im2col", "cython_cpu", "cython_cpu._im2col:fprop", cost=costs.im2col, cut=blocking.im2col_cut),
    _fprop("direct", "cython_cpu", "cython_cpu._direct:fprop", cost=costs.direct, cut=blocking.direct_cut),
    _fprop("loop", "cython_cpu", "cython_cpu._loop:fprop", cost=costs.loop, cut=blocking.plain_cut),
    _fprop("tiled", "numba_cpu", "numba_cpu.tiled:fprop", cost=costs.tiled, cut=blocking.tiled_cut),
    _fprop("im2col", "numba_cpu", "numba_cpu.im2col:fprop", cost=costs.im2col, cut=blocking.im2col_cut),
    _fprop("direct", "numba_cpu", "numba_cpu.direct:fprop", cost=costs.direct, cut=blocking.direct_cut),
    _fprop("loop", "numba_cpu", "numba_cpu.loop:fprop", cost=costs.loop, cut=blocking.plain_cut),
    _fprop("im2col", "numpy_cpu", "numpy_cpu.im2col:fprop", cost=costs.blas, cut=blocking.blas_cut, same_bits=False),
    _fprop("reference", "numpy_cpu", "reference:fprop", cost=costs.reference),
    _pool("direct", "cython_cpu", "cython_cpu._pooling:pool", cost=costs.pool),
    _pool("direct", "numba_cpu", "numba_cpu.pooling:pool", cost=costs.pool),
    _pool("direct", "numpy_cpu", "numpy_cpu.pooling:pool", cost=costs.pool_numpy),
    _pool("reference", "numpy_cpu", "reference:pool", cost=costs.reference),
)  # fmt: skip


@cache
def engine_missing(engine: str) -> str | None:
    """Why an engine can't run here, with the install command; None if it can."""
    needs = ENGINES[engine].requires
    if needs is not None and importlib.util.find_spec(needs) is None:
        return f"{needs} is not installed: {ENGINES[engine].install}"
    return None


@cache
def load_row(row: Kernel) -> Callable[..., None]:
    """Import the row's module and return its callable (see ``drivers``)."""
    module, _, attribute = row.load.partition(":")
    function: Callable[..., None] = getattr(
        importlib.import_module(f"cnnfast.kernels.{module}"), attribute
    )
    return function
