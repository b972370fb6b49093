"""The layers of ``workloads.toml`` as they are checked and timed on a GPU: in batches, in modes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cnnfast import ConvGeometry
from cnnfast._core.config import allow_tf32
from cnnfast.benchmarks import workloads
from cnnfast.benchmarks.workloads import Array, ConvWorkload, PoolWorkload, Shape, Workload
from cnnfast.kernels.registry import KERNELS, Kernel, load_row, row_missing

BATCH = 32
#: Layers of one image, of one filter, and calls that are all overhead: not timed in batches.
LEFT_OUT = {"image", "tiny"}
#: Groups in the order that they run in: the layers of most interest first.
ORDER = ("dense", "depthwise", "pool", "few-channel", "grouped", "1d", "3d")
#: Extents of a dry run: batch, channels, groups, and pixels along an axis.
DRY_BATCH, DRY_CHANNELS, DRY_GROUPS, DRY_SIZE = 2, 4, 2, 9
#: Family and reduction of what isn't rounded.
MAXIMUM = ("pool", "max")


class Mode(NamedTuple):
    """What arrays hold, and whether float32 may be rounded to tf32."""

    name: str
    dtype: str
    tf32: bool = False
    channels_last: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 2 if self.dtype in ("float16", "bfloat16") else 4

    @property
    def eps(self) -> float:
        """The dtype's spacing at 1."""
        return {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}[self.dtype]

    def allowed(self) -> AbstractContextManager[None]:
        """Inside, tf32 is allowed if the mode says so."""
        return allow_tf32() if self.tf32 else nullcontext()


FP32, TF32 = Mode("fp32", "float32"), Mode("tf32", "float32", tf32=True)
FP16 = Mode("fp16", "float16", channels_last=True)
BF16 = Mode("bf16", "bfloat16", channels_last=True)
MODES = {mode.name: mode for mode in (FP32, TF32, FP16, BF16)}


@dataclass(frozen=True)
class Task:
    """A workload in float32, whose arrays a mode has in its dtype and layout."""

    workload: Workload
    mode: Mode

    @property
    def name(self) -> str:
        """Layer, family and mode."""
        return f"{self.workload.layer} {self.workload.family} {self.mode.name}"

    @property
    def group(self) -> str:
        """Which figures it counts among: "dense", "depthwise", "pool" ..."""
        tags = self.workload.layer_tags
        return next((group for group in ORDER if group in tags), tags[0])

    @property
    def last(self) -> bool:
        """Whether arrays are channels last; of one or three axes they aren't."""
        return self.mode.channels_last and self.workload.rank == 2

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        return self.workload.flops

    @property
    def bytes_moved(self) -> int:
        """Every operand and the result once."""
        return self.workload.bytes_moved * self.mode.itemsize // 4

    @property
    def result_shape(self) -> Shape:
        """Channels first."""
        workload = self.workload
        if workload.family in ("dgrad", "pool_grad"):
            return workload.input
        if isinstance(workload, ConvWorkload) and workload.family == "wgrad":
            return workload.weight
        return workload.geometry.out_shape

    def rows(self) -> list[Kernel]:
        """The table's rows on a GPU that take it; in tf32 those that round to it alone."""
        mode = self.mode
        return [
            row
            for row in KERNELS
            if (row.engine, row.family) == ("numba_cuda", self.workload.family)
            and mode.dtype in (*row.dtypes, *row.stored)
            and (mode.dtype in row.rounded) == mode.tf32
            and row_missing(row) is None
        ]

    def order(self) -> tuple[int, ...]:
        """The axes of a channels-first array in the order of memory."""
        rank = self.workload.rank
        return (0, *range(2, 2 + rank), 1) if self.last else tuple(range(rank + 2))

    def shape_in_memory(self, shape: Shape) -> Shape:
        """A channels-first shape in that order."""
        return tuple(shape[axis] for axis in self.order())

    def layout(self) -> dict[str, Any]:
        """What our functions are told of it."""
        if not self.last:
            return {}
        weights = {"weight_layout": "OHWI"} if isinstance(self.workload, ConvWorkload) else {}
        return {"layout": "NHWC", **weights}

    def bound(self, arrays: Sequence[Any], **keywords: Any) -> partial[Any]:
        """Our function of arrays in the order of memory."""
        bound = self.workload.bound(*arrays, **self.layout(), **keywords)
        arguments = list(bound.args)
        for i, argument in enumerate(arguments):
            if isinstance(argument, tuple):  # the shape that a gradient is told
                arguments[i] = self.shape_in_memory(argument)
        return partial(bound.func, *arguments, **bound.keywords)

    def call(self, arrays: Sequence[Any], **keywords: Any) -> Callable[[], Any]:
        """The same, in the mode."""
        bound = self.bound(arrays, **keywords)
        if not self.mode.tf32:
            return bound

        def allowed() -> Any:
            with allow_tf32():
                return bound()

        return allowed

    def program(self, row: Kernel) -> Any:
        """The launches of a row."""
        arrays = [np.empty(self.shape_in_memory(shape), dtype_of(self.mode.dtype))
                  for shape in (*self.workload.shapes, self.result_shape)]  # fmt: skip
        return program_of(row, self.workload, arrays, self.layout())


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype; of bfloat16 ml_dtypes'."""
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def program_of(row: Kernel, workload: Workload, arrays: list[Array], layout: dict[str, Any]) -> Any:
    """The launches of a row on arrays (inputs, result), whose strides and dtype alone count."""
    from cnnfast.kernels.numba_cuda import device

    function, family = load_row(row), workload.family
    if isinstance(workload, ConvWorkload):
        first, second, out = arrays
        if family == "dgrad":  # arrays are weight and gradient
            first, second = second, first
        x, weight = {
            "fprop": (first, second), "dgrad": (out, second), "wgrad": (first, out),
        }[family]  # fmt: skip
        geometry = ConvGeometry.of(x, weight, **workload.arguments, **layout)
        views = geometry.canonical(first, second, out, family)
        return device.conv_program(function, geometry.problem, views, False, None)
    assert isinstance(workload, PoolWorkload)
    from cnnfast import PoolGeometry

    x = arrays[0] if family == "pool" else arrays[1]
    pooling = PoolGeometry.of(
        x, workload.reduction, **workload.arguments, rank=workload.rank, **layout
    )
    seen = [arrays[0], arrays[-1]]
    if family == "pool_grad" and workload.reduction == "max":
        seen.append(np.empty(pooling.out_shape, np.int64))
    return device.pool_program(function, pooling, list(map(pooling.canonical, seen)))


def in_batches(workload: Workload) -> Workload:
    """The workload with ``BATCH`` images, or as many as it has."""
    n, *rest = workload.input
    return replace(workload, input=(max(n, BATCH), *rest))


def shrunk(workload: Workload) -> Workload:
    """The workload on a few pixels and channels, for a dry run."""
    size = tuple(min(extent, DRY_SIZE + workload.kernel // 2) for extent in workload.input[2:])
    changes: dict[str, Any] = {}
    channels = min(workload.input[1], DRY_CHANNELS)
    if isinstance(workload, ConvWorkload):
        depthwise = workload.groups == workload.input[1] > 1
        groups = channels if depthwise else min(workload.groups, DRY_GROUPS)
        out_channels = channels if depthwise else min(workload.out_channels, DRY_CHANNELS)
        kernel = min(workload.kernel, 7)
        stride = min(workload.stride, 2)
        changes = {
            "groups": groups, "out_channels": out_channels, "kernel": kernel, "stride": stride,
        }  # fmt: skip
    return replace(workload, input=(DRY_BATCH, channels, *size), **changes)


def tasks(
    families: Sequence[str], modes: Sequence[Mode], dry: bool, names: Sequence[str] = ()
) -> Iterator[Task]:
    """Tasks by group, then layer by layer; pools don't multiply, so that tf32 is nothing to them.

    A dry run has one layer of each family.
    """
    chosen = [
        workload
        for workload in workloads.select(names, long=False)
        if (workload.dtype, workload.channels_last) == ("float32", False)
        and workload.family in families
        and LEFT_OUT.isdisjoint(workload.layer_tags)
    ]
    found = [Task(w, mode) for mode in modes for w in chosen
             if not (mode.tf32 and isinstance(w, PoolWorkload))]  # fmt: skip
    found.sort(key=lambda task: ORDER.index(task.group) if task.group in ORDER else len(ORDER))
    if dry:
        found = list({(task.workload.family, task.mode): task for task in found[::-1]}.values())
    for task in found:
        yield replace(task, workload=(shrunk if dry else in_batches)(task.workload))


def tolerance(task: Task, exact: Any, absolute: Any) -> Any:
    """How far a result may lie from float64's: ``eps |ref| + (L + 2) eps32 |x| * |w|`` elementwise,
    L the products of a sum; with factors of tf32, 2**-9 |x| * |w| besides (``allow_tf32``). A
    maximum is exact."""
    workload = task.workload
    if isinstance(workload, PoolWorkload) and (workload.family, workload.reduction) == MAXIMUM:
        return 0.0 * absolute
    length, eps32 = workload.reduction_length, FP32.eps
    more = 2.0**-9 if task.mode.tf32 else 0.0
    return task.mode.eps * abs(exact) + ((length + 2) * eps32 + more) * absolute


def norm_tolerance(task: Task) -> float:
    """How large ``|error| / |ref|`` may be on random data: roundings that don't conspire.

    The bound of each element says little about long sums; this one does.
    """
    length = task.workload.reduction_length
    return task.mode.eps + 2 * FP32.eps * math.sqrt(length) + (2.0**-10 if task.mode.tf32 else 0)
