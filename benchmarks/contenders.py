"""Everything that can run a layer: the rows of our own table, and other libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from typing import Any

import numpy as np

import cnnfast
from cnnfast.benchmarks import peers
from cnnfast.benchmarks.contender import Contender, Prepared
from cnnfast.benchmarks.machine import pin_blas
from cnnfast.benchmarks.workloads import Array, Workload
from cnnfast.kernels.registry import ENGINES, KERNELS, Kernel, engine_missing, row_missing

#: What runs or compiles an engine's kernels, besides cnnfast.
ENGINE_LIBRARIES = {"numba_cpu": "numba", "numba_cuda": "numba-cuda", "numpy_cpu": "numpy"}

#: Families that have workloads.
FAMILIES = tuple(peers.PEERS)

LAYOUTS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


@dataclass(frozen=True)
class Own(Contender):
    """cnnfast as its users call it, planning and the memory of the result included.

    Without a ``row`` the planner decides, among the kernels of an ``engine`` if it has one;
    ``packed`` takes a weight from ``pack_weight``.
    """

    row: Kernel | None = None
    packed: bool = False
    engine: str | None = None

    @property
    def role(self) -> str:
        """What NumPy and its BLAS do is nothing to take credit for."""
        return "baseline" if self.row and self.row.engine == "numpy_cpu" else "own"

    def missing(self) -> str | None:
        """Why the row's engine or module isn't here."""
        if self.row is None:
            return engine_missing(self.engine) if self.engine else None
        module = f"cnnfast.kernels.{self.row.load.partition(':')[0]}"
        reason = row_missing(self.row)
        if reason is None and importlib.util.find_spec(module) is None:
            reason = f"{module} is not built"
        return reason

    def version(self) -> str:
        """Our own version, and that of the engine's library."""
        library = ENGINE_LIBRARIES.get(self.row.engine if self.row else self.engine or "")
        engine = f", {library} {metadata.version(library)}" if library else ""
        return f"cnnfast {cnnfast.__version__}{engine}"

    def refuses(self, workload: Workload) -> str | None:
        """What the row says."""
        return self.row.unsupported(workload.geometry) if self.row else None

    def prepares(self, workload: Workload) -> bool:
        """If it packs."""
        return self.packed

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Pin the threads, bind the function, and ask ``explain`` which row it runs."""
        cnnfast.set_num_threads(threads)
        pin_blas(threads)
        call = self.bound(workload, arrays)
        plan = cnnfast.explain(call.func, *call.args, **call.keywords)
        return Prepared(call, f"{plan.algorithm}/{plan.engine}")

    def bound(self, workload: Workload, arrays: tuple[Array, ...]) -> partial[Any]:
        """Our function with the arrays in the workload's layout, and its weight as we take it."""
        backend = self.row.name if self.row else self.engine and ENGINES[self.engine].name
        keywords: dict[str, Any] = {"backend": backend}
        if workload.channels_last:
            keywords["layout"] = LAYOUTS[workload.rank]
            arrays = _channels_last(workload, arrays)
        if not self.packed:
            return workload.bound(*arrays, **keywords)
        x, weight = arrays
        ready = cnnfast.pack_weight(weight, x.shape, **workload.arguments, **keywords)
        return workload.bound(x, ready, **keywords)

    def as_array(self, result: Any, workload: Workload) -> Array:
        """The result, channels first."""
        array = np.asarray(result)
        return np.moveaxis(array, -1, 1) if workload.channels_last else array


def _channels_last(workload: Workload, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Contiguous arrays: images (N, ..., C), weights (..., C, K)."""
    orders = [
        (0, *range(2, 2 + workload.rank), 1),
        (*range(2, 2 + workload.rank), 1, 0),
    ]
    pairs = zip(arrays, orders, strict=False)
    return tuple(np.ascontiguousarray(array.transpose(order)) for array, order in pairs)


DEFAULT = Own("cnnfast default")
PACKED = Own("cnnfast prepared", packed=True)
NUMBA = Own("cnnfast numba", engine="numba_cpu")


@cache
def contenders(family: str) -> tuple[Contender, ...]:
    """Every contender for a family of the table, here or not.

    Our own come first: what the planner takes, the same with the weight packed beforehand, then
    every row but the reference.
    """
    rows = [row for row in KERNELS if row.family == family and row.algorithm != "reference"]
    return (
        DEFAULT,
        *([PACKED] if family == "fprop" else []),
        *(Own(f"cnnfast {row.name}", row) for row in rows),
        *peers.PEERS[family],
    )


def select(names: Sequence[str], family: str) -> tuple[Contender, ...]:
    """The family's contenders whose names contain one of ``names``; all of them for no name.

    ValueError for what is in no name of any family.
    """
    known = [contender.name for family in FAMILIES for contender in contenders(family)]
    unknown = [name for name in names if not any(name in full for full in known)]
    if unknown:
        raise ValueError(
            f"backends must be parts of these names, got {', '.join(unknown)}: "
            f"{', '.join(dict.fromkeys(known))}"
        )
    return tuple(
        contender
        for contender in contenders(family)
        if not names or any(name in contender.name for name in names)
    )
