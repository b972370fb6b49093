"""The layers of ``workloads.toml``, and seeded arrays for them."""

from __future__ import annotations

import math
import tomllib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, ClassVar

import numpy as np

from cnnfast import ConvGeometry, PoolGeometry

Array = np.ndarray[Any, Any]
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class ConvWorkload:
    """A convolution layer; kernel, stride, padding and dilation are the same on both axes."""

    family: ClassVar[str] = "fprop"

    name: str
    input: Shape
    out_channels: int
    kernel: int
    tags: tuple[str, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def weight(self) -> Shape:
        """Shape of the weight."""
        return (self.out_channels, self.input[1] // self.groups, self.kernel, self.kernel)

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``conv2d`` takes after input and weight."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def reduction_length(self) -> int:
        """Products that are summed for one output."""
        return math.prod(self.weight[1:])

    @property
    def title(self) -> str:
        """The layer in one line."""
        options = [f"/{self.stride}"] if self.stride > 1 else []
        options += [f" dilation {self.dilation}"] if self.dilation > 1 else []
        options += [f" groups {self.groups}"] if self.groups > 1 else []
        shape = "x".join(map(str, self.input))
        return f"{shape} -> {self.out_channels}, {self.kernel}x{self.kernel}{''.join(options)}"

    def geometry(self, dtype: str = "float32") -> ConvGeometry:
        """The canonical problem: knows ``flops`` and ``bytes_moved``."""
        return ConvGeometry.of(self.input, self.weight, **self.arguments, dtype=dtype)

    def arrays(self, dtype: str = "float32") -> tuple[Array, ...]:
        """Input and weight."""
        return _normal(self.name, (self.input, self.weight), dtype)


@dataclass(frozen=True)
class PoolWorkload:
    """A pooling layer, ``reduction`` "max" or "mean"."""

    family: ClassVar[str] = "pool"

    name: str
    reduction: str
    input: Shape
    kernel: int
    tags: tuple[str, ...]
    stride: int = 0
    padding: int = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``max_pool2d`` and ``avg_pool2d`` take after the input."""
        return {
            "kernel_size": self.kernel,
            "stride": self.stride or self.kernel,
            "padding": self.padding,
        }

    @property
    def reduction_length(self) -> int:
        """Values that make one output."""
        return self.kernel**2

    @property
    def title(self) -> str:
        """The layer in one line."""
        shape = "x".join(map(str, self.input))
        window = f"{self.kernel}x{self.kernel}/{self.stride or self.kernel}"
        return f"{shape}, {self.reduction} {window}"

    def geometry(self, dtype: str = "float32") -> PoolGeometry:
        """The canonical problem: knows ``flops`` and ``bytes_moved``."""
        return PoolGeometry.of(self.input, self.reduction, **self.arguments, dtype=dtype)

    def arrays(self, dtype: str = "float32") -> tuple[Array, ...]:
        """The input."""
        return _normal(self.name, (self.input,), dtype)


Workload = ConvWorkload | PoolWorkload


def _normal(name: str, shapes: Sequence[Shape], dtype: str) -> tuple[Array, ...]:
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return tuple(random.standard_normal(shape).astype(dtype) for shape in shapes)


@cache
def workloads() -> tuple[Workload, ...]:
    """Every layer, in the order of the file."""
    text = resources.files(__package__).joinpath("workloads.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return (
        *(ConvWorkload(**_frozen(entry)) for entry in data["conv"]),
        *(PoolWorkload(**_frozen(entry)) for entry in data["pool"]),
    )


def _frozen(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}


def tags() -> tuple[str, ...]:
    """Every tag that a layer has."""
    return tuple(dict.fromkeys(tag for workload in workloads() for tag in workload.tags))


def select(names: Sequence[str]) -> tuple[Workload, ...]:
    """The layers that have one of these names or tags; all of them for no name.

    ValueError for what is neither.
    """
    known = {workload.name for workload in workloads()} | set(tags())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"layers must be names or tags ({', '.join(tags())}), got {', '.join(unknown)}; "
            f"the names are {', '.join(workload.name for workload in workloads())}"
        )
    return tuple(
        workload
        for workload in workloads()
        if not names or not {workload.name, *workload.tags}.isdisjoint(names)
    )
