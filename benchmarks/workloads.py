"""The layers of ``workloads.toml``, and seeded arrays for them."""

from __future__ import annotations

import math
import tomllib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import resources
from typing import Any

import numpy as np

import cnnfast
from cnnfast import ConvGeometry, PoolGeometry

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

#: What ``[again]`` in the data file calls a layer's other workloads, and what differs in them.
VARIANTS: dict[str, dict[str, Any]] = {
    "dgrad": {"family": "dgrad"},
    "wgrad": {"family": "wgrad"},
    "pool_grad": {"family": "pool_grad"},
    "float64": {"dtype": "float64"},
    "nhwc": {"channels_last": True},
}
ADJOINTS = {"dgrad": "input gradient", "wgrad": "weight gradient", "pool_grad": "gradient"}


@dataclass(frozen=True, kw_only=True)
class Workload(ABC):
    """A family of the table on a layer, in a dtype and a layout.

    Kernel, stride and padding are the same on every spatial axis. ``input`` and all arrays are
    channels first; ``channels_last`` says what memory a call is given them in.
    """

    layer: str
    input: Shape
    kernel: int
    layer_tags: tuple[str, ...]
    family: str
    padding: int = 0
    dtype: str = "float32"
    channels_last: bool = False

    @property
    def name(self) -> str:
        """The layer, and what is timed of it unless that is its forward pass in float32, NCHW."""
        differing = [
            variant
            for variant, changes in VARIANTS.items()
            if all(getattr(self, field) == value for field, value in changes.items())
        ]
        return "-".join([self.layer, *differing])

    @property
    def tags(self) -> tuple[str, ...]:
        """The layer's; gradients, float64 and NHWC are groups of their own.

        Single-channel images are one group in both dtypes: their peers take both.
        """
        if self.family in ADJOINTS:
            return (self.family,)
        if self.channels_last:
            return ("nhwc",)
        if self.dtype == "float64" and "image" not in self.layer_tags:
            return ("float64",)
        return self.layer_tags

    @property
    def labels(self) -> set[str]:
        """What chooses it: name, family and tags."""
        return {self.name, self.family, *self.tags}

    @property
    def rank(self) -> int:
        """Spatial axes."""
        return len(self.input) - 2

    @property
    def title(self) -> str:
        """The layer in one line."""
        options = [ADJOINTS[self.family]] if self.family in ADJOINTS else []
        options += [self.dtype] if self.dtype != "float32" else []
        options += ["channels last"] if self.channels_last else []
        return ", ".join([self._operation(), *options])

    @property
    def is_plane(self) -> bool:
        """Whether it filters one image of one channel and keeps its size."""
        return False

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """What the forward function takes after its arrays."""

    @property
    @abstractmethod
    def reduction_length(self) -> int:
        """Terms that are summed for one element of the result, at most."""

    @property
    @abstractmethod
    def geometry(self) -> ConvGeometry | PoolGeometry:
        """The canonical problem of the forward pass: knows ``flops`` and ``out_shape``."""

    @property
    def flops(self) -> int:
        """Floating-point operations, the same for a gradient as for the forward pass."""
        return self.geometry.flops

    @property
    def bytes_moved(self) -> int:
        """Least bytes to and from memory: every operand and the result once each."""
        return self.geometry.bytes_moved

    @property
    @abstractmethod
    def shapes(self) -> tuple[Shape, ...]:
        """Of the arrays that the function takes, channels first."""

    def arrays(self) -> tuple[Array, ...]:
        """What the function takes, seeded, channels first."""
        random = np.random.default_rng(zlib.crc32(self.layer.encode()))
        return tuple(random.standard_normal(shape).astype(self.dtype) for shape in self.shapes)

    @abstractmethod
    def bound(self, *arrays: Any, **keywords: Any) -> partial[Any]:
        """Our own function with such arrays, ready to call or to explain."""

    @abstractmethod
    def _operation(self) -> str: ...

    def _window(self, stride: int) -> str:
        return "x".join([str(self.kernel)] * self.rank) + (f"/{stride}" if stride > 1 else "")


@dataclass(frozen=True, kw_only=True)
class ConvWorkload(Workload):
    """A convolution layer's forward pass ("fprop"), or one of its gradients."""

    family: str = "fprop"
    out_channels: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def weight(self) -> Shape:
        """Shape of the weight."""
        per_group = self.input[1] // self.groups
        return (self.out_channels, per_group, *(self.kernel,) * self.rank)

    @property
    def is_plane(self) -> bool:
        """Whether it filters one image of one channel and keeps its size."""
        steps = (self.stride, self.dilation, 2 * self.padding + 1)
        shape = (self.family, self.rank, self.input[:2])
        return shape == ("fprop", 2, (1, 1)) and steps == (1, 1, self.kernel)

    @property
    def arguments(self) -> dict[str, Any]:
        """Stride, padding, dilation and groups."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def reduction_length(self) -> int:
        """Products."""
        out_channels, *per_output = self.weight
        if self.family == "wgrad":
            return math.prod(self.geometry.out_shape) // out_channels
        if self.family == "dgrad":
            return out_channels // self.groups * math.prod(per_output[1:])
        return math.prod(per_output)

    @property
    def geometry(self) -> ConvGeometry:
        """Of the forward pass."""
        return ConvGeometry.of(self.input, self.weight, **self.arguments, dtype=self.dtype)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(input, weight), for dgrad (weight, gradient), for wgrad (input, gradient)."""
        operands = {
            "fprop": (self.input, self.weight),
            "dgrad": (self.weight, self.geometry.out_shape),
            "wgrad": (self.input, self.geometry.out_shape),
        }
        return operands[self.family]

    def bound(self, *arrays: Any, **keywords: Any) -> partial[Any]:
        """``conv2d``, ``conv2d_input`` or ``conv2d_weight``, and their kin."""
        keywords = {**self.arguments, **keywords}
        first, second = arrays
        if self.family == "fprop":
            return partial(getattr(cnnfast, f"conv{self.rank}d"), first, second, **keywords)
        if self.family == "dgrad":
            function = getattr(cnnfast.grad, f"conv{self.rank}d_input")
            return partial(function, self.input, first, second, **keywords)
        function = getattr(cnnfast.grad, f"conv{self.rank}d_weight")
        return partial(function, first, self.weight, second, **keywords)

    def _operation(self) -> str:
        options = [f" dilation {self.dilation}"] if self.dilation > 1 else []
        options += [f" groups {self.groups}"] if self.groups > 1 else []
        shape, window = "x".join(map(str, self.input)), self._window(self.stride)
        return f"{shape} -> {self.out_channels}, {window}{''.join(options)}"


@dataclass(frozen=True, kw_only=True)
class PoolWorkload(Workload):
    """A pooling layer, ``reduction`` "max" or "mean", or its gradient ("pool_grad")."""

    family: str = "pool"
    reduction: str
    stride: int = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """Window, stride and padding."""
        return {
            "kernel_size": self.kernel,
            "stride": self.stride or self.kernel,
            "padding": self.padding,
        }

    @property
    def reduction_length(self) -> int:
        """Values of a window, or windows of a value."""
        return math.prod([self.kernel] * self.rank)

    @property
    def geometry(self) -> PoolGeometry:
        """Of the forward pass."""
        return PoolGeometry.of(
            self.input, self.reduction, **self.arguments, rank=self.rank, dtype=self.dtype
        )

    @property
    def bytes_moved(self) -> int:
        """The gradient of a maximum reads the input besides, to find it."""
        again = self.family == "pool_grad" and self.reduction == "max"
        itemsize = np.dtype(self.dtype).itemsize
        return self.geometry.bytes_moved + again * math.prod(self.input) * itemsize

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(input,), for the gradient (gradient, input)."""
        return (self.input,) if self.family == "pool" else (self.geometry.out_shape, self.input)

    def bound(self, *arrays: Any, **keywords: Any) -> partial[Any]:
        """``max_pool2d``, ``avg_pool2d_backward`` and their kin."""
        name = f"{'max' if self.reduction == 'max' else 'avg'}_pool{self.rank}d"
        keywords = {**self.arguments, **keywords}
        if self.family == "pool":
            return partial(getattr(cnnfast, name), *arrays, **keywords)
        return partial(getattr(cnnfast.grad, f"{name}_backward"), *arrays, **keywords)

    def _operation(self) -> str:
        shape, window = "x".join(map(str, self.input)), self._window(self.stride or self.kernel)
        return f"{shape}, {self.reduction} {window}"


@cache
def workloads() -> tuple[Workload, ...]:
    """Every layer, in the order of the file, each followed by its variants."""
    text = resources.files(__package__).joinpath("workloads.toml").read_text(encoding="utf-8")
    return parse(tomllib.loads(text))


def parse(data: dict[str, Any]) -> tuple[Workload, ...]:
    """The workloads of a data file's content; ValueError for a variant that nobody knows."""
    layers = (
        *(ConvWorkload(**_fields(entry)) for entry in data["layers"]["conv"]),
        *(PoolWorkload(**_fields(entry)) for entry in data["layers"]["pool"]),
    )
    again = data.get("again", {})
    if not again.keys() <= VARIANTS.keys():
        raise ValueError(f"[again] must have keys of {', '.join(VARIANTS)}, got {', '.join(again)}")
    return tuple(
        workload
        for layer in layers
        for workload in (
            layer,
            *(replace(layer, **VARIANTS[v]) for v, names in again.items() if _is(layer, names)),
        )
    )


def _fields(entry: dict[str, Any]) -> dict[str, Any]:
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
    return {"layer": fields.pop("name"), "layer_tags": fields.pop("tags"), **fields}


def _is(workload: Workload, names: Sequence[str]) -> bool:
    return not workload.labels.isdisjoint(names)


def tags() -> tuple[str, ...]:
    """Every tag that a workload has."""
    return tuple(dict.fromkeys(tag for workload in workloads() for tag in workload.tags))


def select(
    names: Sequence[str] = (), dtypes: Sequence[str] = (), long: bool = True
) -> tuple[Workload, ...]:
    """The workloads that have one of these names, families or tags, in these dtypes, each in its
    own for no dtype. For no name all of them, without those tagged "long" if ``long`` is False.
    ValueError for what is none of these.
    """
    known = set[str]().union(*(workload.labels for workload in workloads()))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"layers must be names or tags ({', '.join(tags())}), got {', '.join(unknown)}; "
            f"the names are {', '.join(workload.name for workload in workloads())}"
        )
    chosen = [
        workload
        for workload in workloads()
        if (_is(workload, names) if names else long or "long" not in workload.layer_tags)
    ]
    if dtypes:
        chosen = [replace(workload, dtype=dtype) for workload in chosen for dtype in dtypes]
    return tuple(dict.fromkeys(chosen))
