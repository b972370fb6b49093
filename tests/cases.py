"""The named problems that every row of the table must solve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ConvCase:
    """A convolution by name; shapes in NCHW and OIHW or their 1d and 3d kin."""

    name: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    bias: bool = True
    activation: str | None = None


CONV_CASES = (
    ConvCase("plain", (1, 3, 8, 9), (4, 3, 3, 3)),
    ConvCase("padded", (2, 3, 8, 9), (5, 3, 3, 3), {"padding": 1}),
    ConvCase("no bias", (1, 2, 6, 6), (3, 2, 2, 2), bias=False),
    ConvCase("relu", (1, 3, 8, 8), (4, 3, 3, 3), {"padding": 1}, activation="relu"),
    ConvCase("relu6", (1, 3, 8, 8), (4, 3, 3, 3), {"padding": 1}, activation="relu6"),
    ConvCase("relu, no bias", (1, 3, 8, 8), (4, 3, 3, 3), bias=False, activation="relu"),
    ConvCase("stride > kernel", (2, 2, 11, 13), (3, 2, 2, 2), {"stride": 3}),
    ConvCase("stride per axis", (1, 2, 9, 12), (3, 2, 3, 3), {"stride": (1, 3), "padding": 1}),
    ConvCase("asymmetric padding", (1, 2, 7, 8), (3, 2, 3, 3), {"padding": [(1, 2), (0, 3)]}),
    ConvCase("padding > kernel", (1, 2, 3, 4), (3, 2, 2, 2), {"padding": 5}),
    ConvCase("padding, stride, dilation", (1, 2, 9, 8), (3, 2, 3, 3), {"padding": [(4, 1), (2, 5)], "stride": (2, 3), "dilation": (2, 1)}),
    ConvCase("same_upper", (1, 2, 7, 8), (3, 2, 3, 4), {"padding": "same_upper", "stride": 2}),
    ConvCase("same_lower", (1, 2, 7, 8), (3, 2, 3, 4), {"padding": "same_lower", "stride": 2}),
    ConvCase("dilation", (1, 2, 9, 12), (3, 2, 3, 3), {"dilation": (2, 3), "padding": (2, 3)}),
    ConvCase("groups", (2, 6, 7, 7), (9, 2, 3, 3), {"groups": 3, "padding": 1}),
    ConvCase("groups of 1 channel in", (1, 4, 7, 7), (8, 1, 3, 3), {"groups": 4}),
    ConvCase("groups of 1 channel out", (1, 8, 7, 7), (4, 2, 3, 3), {"groups": 4}),
    ConvCase("depthwise", (2, 5, 9, 10), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    ConvCase("depthwise, stride 2", (1, 5, 9, 10), (5, 1, 3, 3), {"groups": 5, "padding": 1, "stride": 2}),
    ConvCase("depthwise, multiplier 2", (1, 3, 6, 6), (6, 1, 3, 3), {"groups": 3}),
    ConvCase("batch 0", (0, 3, 5, 5), (4, 3, 3, 3)),
    ConvCase("size 1", (1, 1, 1, 1), (1, 1, 1, 1)),
    ConvCase("kernel = input", (2, 3, 5, 4), (7, 3, 5, 4)),
    ConvCase("primes", (2, 7, 13, 11), (17, 7, 3, 5), {"padding": (1, 2)}),
    ConvCase("1x1", (1, 19, 6, 7), (18, 19, 1, 1)),
    ConvCase("1x1, stride 2", (1, 5, 7, 8), (4, 5, 1, 1), {"stride": 2}),
    ConvCase("7x7/2", (1, 3, 23, 25), (20, 3, 7, 7), {"stride": 2, "padding": 3}),
    ConvCase("column kernel", (1, 2, 9, 5), (3, 2, 5, 1), {"padding": (2, 0)}),
    ConvCase("row kernel", (1, 2, 5, 9), (3, 2, 1, 5), {"padding": (0, 2)}),
    ConvCase("one column", (1, 2, 30, 1), (3, 2, 3, 1)),
    ConvCase("wide", (1, 2, 3, 531), (5, 2, 3, 3), {"padding": 1}),
    ConvCase("wide and strided", (1, 2, 3, 1201), (5, 2, 2, 3), {"padding": 1, "stride": (1, 2)}),
    ConvCase("long reduction", (1, 67, 6, 7), (5, 67, 3, 3), {"padding": 1}),
    ConvCase("many channels out", (1, 3, 4, 5), (163, 3, 3, 3), {"padding": 1}),
    ConvCase("many of both", (1, 40, 3, 3), (131, 40, 3, 3), {"padding": 1}),
    ConvCase("tall", (1, 2, 101, 6), (18, 2, 3, 3), {"padding": 1}),
    ConvCase("stride and dilation share a factor", (2, 3, 13, 17), (4, 3, 4, 3), {"stride": (4, 6), "dilation": (2, 3), "padding": 2}),
    ConvCase("stride > input", (1, 2, 5, 6), (3, 2, 3, 3), {"stride": 9, "padding": 1}),
    ConvCase("groups and stride", (2, 6, 9, 8), (4, 3, 3, 2), {"stride": 2, "groups": 2, "padding": 1}),
    ConvCase("batch of 3", (3, 5, 7, 6), (18, 5, 3, 3), {"padding": 1}),
    ConvCase("1d", (2, 3, 17), (4, 3, 5), {"padding": 2}),
    ConvCase("1d, strided and dilated", (1, 3, 29), (4, 3, 3), {"padding": [(0, 3)], "stride": 2, "dilation": 3}),
    ConvCase("3d", (1, 2, 5, 6, 7), (3, 2, 3, 2, 3), {"padding": (1, 0, 1)}),
    ConvCase("3d, everything", (2, 4, 7, 6, 8), (6, 2, 2, 3, 3), {"padding": [(2, 1), (0, 3), (1, 1)], "stride": (2, 1, 3), "dilation": (3, 1, 2), "groups": 2}),
)  # fmt: skip


@dataclass(frozen=True)
class PoolCase:
    """A pooling by name; adaptive (kernel 0) where the arguments give an output size."""

    name: str
    input: tuple[int, ...]
    kernel: int | tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)


POOL_CASES = (
    PoolCase("2x2", (2, 3, 8, 10), 2),
    PoolCase("3x3/2, padded", (1, 3, 9, 11), 3, {"stride": 2, "padding": 1}),
    PoolCase("overlapping", (1, 2, 7, 6), 3, {"stride": 1, "padding": 1}),
    PoolCase("stride > window", (1, 2, 11, 13), 2, {"stride": 4}),
    PoolCase("ceil_mode", (1, 2, 8, 9), 3, {"stride": 2, "ceil_mode": True}),
    PoolCase("ceil_mode, padded", (1, 2, 7, 10), (3, 2), {"stride": (2, 3), "padding": 1, "ceil_mode": True}),
    PoolCase("asymmetric padding", (1, 2, 7, 8), (4, 5), {"padding": [(0, 2), (2, 1)], "stride": 2}),
    PoolCase("global", (2, 5, 7, 7), 7),
    PoolCase("size 1", (1, 1, 1, 1), 1),
    PoolCase("batch 0", (0, 2, 4, 4), 2),
    PoolCase("window 1", (1, 2, 5, 5), 1, {"stride": 2}),
    PoolCase("one row", (1, 2, 1, 40), (1, 3)),
    PoolCase("wide", (1, 1, 3, 1301), (2, 3), {"stride": (1, 2)}),
    PoolCase("1d", (2, 3, 17), 3, {"stride": 2, "padding": 1}),
    PoolCase("3d", (1, 2, 5, 6, 7), (2, 3, 2), {"padding": (1, 1, 0), "stride": (1, 2, 2)}),
    PoolCase("adaptive", (2, 3, 10, 13), 0, {"output_size": (4, 5)}),
    PoolCase("adaptive, more than there are", (1, 2, 3, 4), 0, {"output_size": (7, 4)}),
    PoolCase("adaptive to one", (1, 2, 6, 31), 0, {"output_size": 1}),
    PoolCase("adaptive, 1d", (2, 3, 23), 0, {"output_size": 9}),
    PoolCase("adaptive, 3d", (1, 2, 5, 6, 7), 0, {"output_size": (2, None, 3)}),
)  # fmt: skip

MAX_CASES = (
    PoolCase("dilation", (1, 2, 9, 12), 3, {"dilation": (2, 3), "stride": 1, "padding": 1}),
    PoolCase("3d, dilation", (1, 2, 7, 6, 9), 2, {"dilation": (3, 1, 2), "padding": 1}),
    PoolCase("windows in the padding", (1, 1, 3, 3), 2, {"dilation": 3, "padding": 1, "stride": 1}),
)
MEAN_CASES = (
    PoolCase("count_include_pad=False", (1, 2, 9, 11), 3, {"stride": 2, "padding": 1, "count_include_pad": False}),
    PoolCase("divisor_override", (1, 2, 9, 11), 3, {"stride": 2, "padding": 1, "divisor_override": 5}),
    PoolCase("divisor_override < 0", (1, 2, 6, 6), 2, {"divisor_override": -3}),
    PoolCase("dilation, counting padding", (1, 2, 9, 12), 3, {"dilation": (2, 3), "stride": 1, "padding": 1}),
    PoolCase("dilation, not counting padding", (1, 2, 8, 9), (3, 2), {"dilation": (2, 3), "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    PoolCase("ceil_mode, not counting padding", (1, 2, 8, 8), 3, {"stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
)  # fmt: skip
