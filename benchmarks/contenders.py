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
from cnnfast.benchmarks.workloads import Array, ConvWorkload, Workload, workloads
from cnnfast.kernels.registry import KERNELS, Kernel, engine_missing

#: What runs or compiles an engine's kernels, besides cnnfast.
ENGINE_LIBRARIES = {"numba_cpu": "numba", "numba_cuda": "numba-cuda", "numpy_cpu": "numpy"}

#: Families that have workloads of their own; the adjoints' are in ``gradients``.
FAMILIES = tuple(dict.fromkeys(workload.family for workload in workloads()))


@dataclass(frozen=True)
class Own(Contender):
    """cnnfast as its users call it, planning and the memory of the result included.

    Without a ``row`` the planner decides.
    """

    row: Kernel | None = None
    channels_last: bool = False

    @property
    def role(self) -> str:
        """What NumPy and its BLAS do is nothing to take credit for."""
        return "baseline" if self.row and self.row.engine == "numpy_cpu" else "own"

    def missing(self) -> str | None:
        """Why the row's engine or module isn't here."""
        if self.row is None:
            return None
        module = f"cnnfast.kernels.{self.row.load.partition(':')[0]}"
        reason = engine_missing(self.row.engine)
        if reason is None and importlib.util.find_spec(module) is None:
            reason = f"{module} is not built"
        return reason

    def version(self) -> str:
        """Our own version, and that of the engine's library."""
        library = ENGINE_LIBRARIES.get(self.row.engine) if self.row else None
        engine = f", {library} {metadata.version(library)}" if library else ""
        return f"cnnfast {cnnfast.__version__}{engine}"

    def refuses(self, workload: Workload, dtype: str) -> str | None:
        """What the row says."""
        return self.row.unsupported(workload.geometry(dtype)) if self.row else None

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Bind the function to the arrays, and ask ``explain`` which row it runs."""
        cnnfast.set_num_threads(threads)
        pin_blas(threads)
        keywords: dict[str, Any] = {"backend": self.row.name if self.row else None}
        if self.channels_last:
            keywords["layout"] = "NHWC"
            orders = [(0, 2, 3, 1), (2, 3, 1, 0)][: len(arrays)]
            transposed = [a.transpose(order) for a, order in zip(arrays, orders, strict=True)]
            arrays = tuple(np.ascontiguousarray(array) for array in transposed)
        function = _function(workload)
        plan = cnnfast.explain(function, *arrays, **workload.arguments, **keywords)
        call = partial(function, *arrays, **workload.arguments, **keywords)
        return Prepared(call, f"{plan.algorithm}/{plan.engine}")

    def as_array(self, result: Any) -> Array:
        """The result, channels first."""
        array = np.asarray(result)
        return array.transpose(0, 3, 1, 2) if self.channels_last else array


def _function(workload: Workload) -> Any:
    if isinstance(workload, ConvWorkload):
        return cnnfast.conv2d
    return cnnfast.max_pool2d if workload.reduction == "max" else cnnfast.avg_pool2d


@cache
def contenders(family: str) -> tuple[Contender, ...]:
    """Every contender for a family of the table, "fprop" or "pool", here or not.

    Our own come first: what the planner takes for either layout, then every row but the reference.
    """
    rows = [row for row in KERNELS if row.family == family and row.algorithm != "reference"]
    return (
        Own("cnnfast default"),
        Own("cnnfast default NHWC", channels_last=True),
        *(Own(f"cnnfast {row.name}", row) for row in rows),
        *(peers.CONV if family == "fprop" else peers.POOL),
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
