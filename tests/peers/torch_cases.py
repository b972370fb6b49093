"""Generated arguments for tests/test_torch.py: what a function is called with, from its name and a
number alone, so that a failure is made again by ``make("conv2d", 17)``.

Arrays are kept channels first and C-contiguous, as torch gets them; ``Case.views`` says in what
memory, and ``Case.own`` in what layout and on what backend, cnnfast sees the same values.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnfast.kernels import KERNELS
from cnnfast.kernels.registry import engine_missing

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

Array = np.ndarray[Any, Any]

INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
HALVES = ("float16", "bfloat16") if bfloat16 is not None else ("float16",)
FLOATS = ("float32", "float64", *HALVES)
COMPLEX = ("complex64", "complex128")

#: How often a dtype is drawn: one of these tuples first, then one of its names.
CONV_DTYPES = (("float32",), ("float32",), ("float64",), HALVES, INTEGERS, COMPLEX)
FLOAT_DTYPES = (("float32",), ("float64",), HALVES)

VIEWS = ("sliced", "reversed", "fortran", "channels last", "big-endian", "read-only", "unaligned")

#: Values: small integers (sums are exact), random ones, random ones with infinities and NaN.
TIERS = ("exact", "random", "special")


@dataclass
class Case:
    """One call. ``arguments`` are what torch takes too, ``own`` what only cnnfast has."""

    name: str
    index: int
    rank: int
    dtype: str
    tier: str
    arrays: dict[str, Array]
    arguments: dict[str, Any]
    own: dict[str, Any] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    out: str = ""

    def __str__(self) -> str:
        arrays = ", ".join(
            f"{key}: {array.dtype} {array.shape} {self.views.get(key, 'plain')}"
            for key, array in self.arrays.items()
        )
        return (
            f"make({self.name!r}, {self.index}): {self.name}({arrays}, {self.arguments}, "
            f"{self.own}, out={self.out!r}), {self.tier} values"
        )


class Draw:
    """Random choices that depend on a name and a number alone."""

    def __init__(self, name: str, index: int) -> None:
        self.rng = np.random.default_rng([zlib.crc32(name.encode()), index])

    def between(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, items: Sequence[Any]) -> Any:
        """One of the items."""
        return items[self.between(0, len(items) - 1)]

    def chance(self, probability: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < probability)

    def per_axis(self, rank: int, low: int, high: int) -> list[int]:
        """One integer per axis, half of the time the same for all."""
        if self.chance(0.5):
            return [self.between(low, high)] * rank
        return [self.between(low, high) for _ in range(rank)]

    def spelled(self, values: list[int]) -> Any:
        """An int where all are equal (mostly), a tuple or a list otherwise."""
        if len(set(values)) == 1 and self.chance(0.7):
            return values[0]
        return self.pick((tuple, list))(values)


def numpy_dtype(name: str) -> Any:
    """The dtype by name; bfloat16 is ml_dtypes'."""
    return np.dtype(bfloat16) if name == "bfloat16" else np.dtype(name)


def values(draw: Draw, shape: tuple[int, ...], dtype: str, tier: str, often: float = 0.02) -> Array:
    """An array of a tier's values; integers outside of "exact" fill their whole range; ``often`` is
    how much of "special" is special.
    """
    kind: np.dtype[Any] = np.dtype("float32" if dtype == "bfloat16" else dtype)
    if tier == "exact":
        low = 0 if kind.kind == "u" else -4
        whole = draw.rng.integers(low, 5, shape)
        if kind.kind == "c":
            return np.asarray(whole + 1j * draw.rng.integers(low, 5, shape)).astype(kind)
        return whole.astype(numpy_dtype(dtype))
    if kind.kind in "iu":
        limits = np.iinfo(dtype)
        return draw.rng.integers(limits.min, limits.max, shape, kind, endpoint=True)
    result = draw.rng.standard_normal(shape)
    if kind.kind == "c":
        return np.asarray(result + 1j * draw.rng.standard_normal(shape)).astype(kind)
    if tier == "special":
        chosen = draw.rng.choice([np.inf, -np.inf, np.nan, -0.0, 0.0, -0.0, 0.0], shape)
        result = np.where(draw.rng.random(shape) < often, chosen, result)
    return np.asarray(result).astype(numpy_dtype(dtype))


def backends(family: str, dtype: str) -> list[str]:
    """The rows of the table by name that take a family's sums of that dtype and are here."""
    exact = dtype in INTEGERS
    return [
        row.name
        for row in KERNELS
        if row.family == family
        and engine_missing(row.engine) is None
        and (not exact or "int64" in row.dtypes)
    ]


def dressed(draw: Draw, case: Case, family: str, layouts: bool = True) -> Case:
    """The case with a layout, a backend, memory and ``out`` drawn for it."""
    if layouts and draw.chance(0.35):
        case.own["layout"] = data_letters(case.rank, True)
    if layouts and case.name != "separable" and "weight" in case.arrays and draw.chance(0.2):
        letters = list("OI" + "DHW"[3 - case.rank :])
        draw.rng.shuffle(letters)
        case.own["weight_layout"] = "".join(letters)
    if draw.chance(0.4):
        case.own["backend"] = draw.pick(backends(family, case.dtype))
    for key, array in case.arrays.items():
        if draw.chance(0.4):
            case.views[key] = draw.pick(VIEWS)
        if array.dtype.kind == "V" and case.views.get(key) == "big-endian":
            case.views[key] = "sliced"
    if draw.chance(0.2):
        case.out = draw.pick(("plain", "sliced", "reversed"))
    return case


def data_letters(rank: int, last: bool) -> str:
    """A data layout: "NCHW" or "NHWC" and their kin."""
    spatial = "DHW"[3 - rank :]
    return f"N{spatial}C" if last else f"NC{spatial}"


def seen(array: Array, view: str) -> Array:
    """The same values in other memory; an array without axes has one kind of memory."""
    if not array.ndim:
        return array.copy()
    if view == "sliced":
        buffer = np.zeros([2 * extent + 1 for extent in array.shape], array.dtype)
        result = buffer[(slice(1, None, 2),) * array.ndim]
        result[...] = array
        return result
    if view == "reversed":
        flipped = (slice(None, None, -1),) * array.ndim
        return array[flipped].copy()[flipped]
    if view == "fortran":
        return np.asfortranarray(array)
    if view == "channels last" and array.ndim > 2:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
    if view == "big-endian":
        return array.astype(array.dtype.newbyteorder(">"))
    if view == "unaligned":
        buffer = np.zeros(array.nbytes + 1, np.uint8)
        result = buffer[1:].view(array.dtype).reshape(array.shape)
        result[...] = array
        return result
    result = array.copy()
    result.flags.writeable = view != "read-only"
    return result


def drawn_dtype(draw: Draw, choices: Sequence[Sequence[str]]) -> tuple[str, str]:
    """A dtype, and a tier that it has."""
    dtype = draw.pick(draw.pick(choices))
    tier = draw.pick(("exact", "random", "random"))
    if dtype in FLOATS and draw.chance(0.08):
        tier = "special"
    return dtype, tier


def window(draw: Draw, rank: int, most: int = 4, transposed: bool = False) -> dict[str, Any]:
    """Kernel, stride, dilation, padding and input sizes that fit each other, lists per axis."""
    high = most - (rank == 3)
    kernel, dilation = draw.per_axis(rank, 1, high), draw.per_axis(rank, 1, 3)
    stride, padding = draw.per_axis(rank, 1, 3), draw.per_axis(rank, 0, 3)
    if draw.chance(0.3):
        dilation = [1] * rank
    if draw.chance(0.3):
        padding = [0] * rank
    size = []
    for k, d, s, p in zip(kernel, dilation, stride, padding, strict=True):
        span = d * (k - 1) + 1
        least = 1 + max(0, 2 * p - span + s) // s if transposed else max(1, span - 2 * p)
        size.append(least + draw.between(0, 8 if rank < 3 else 4))
    if rank == 1 and draw.chance(0.1):
        size = [size[0] + 150]
    return {
        "kernel": kernel, "dilation": dilation, "stride": stride, "padding": padding, "size": size
    }  # fmt: skip


def channels(draw: Draw) -> tuple[int, int, int]:
    """Groups, in-channels of a group, out-channels of a group."""
    if draw.chance(0.12):
        return 1, draw.between(1, 20), draw.between(15, 40)
    groups = draw.pick((1, 1, 1, 2, 3))
    return groups, draw.between(1, 4), draw.between(1, 4)


def batch(draw: Draw, batched: bool) -> tuple[int, ...]:
    """The batch axis of a shape: none at times, at times of extent 0."""
    if not batched and draw.chance(0.2):
        return ()
    return (draw.pick((0, 1, 1, 2, 2, 3)),) if draw.chance(0.3) else (draw.between(1, 2),)


def conv_arguments(draw: Draw, parts: dict[str, Any], names: bool = True) -> dict[str, Any]:
    """stride, padding and dilation as users spell them; padding by name at times."""
    arguments = {key: draw.spelled(parts[key]) for key in ("stride", "padding", "dilation")}
    if names and draw.chance(0.15):
        spans = [d * (k - 1) + 1 for k, d in zip(parts["kernel"], parts["dilation"], strict=True)]
        parts["size"] = [max(pair) for pair in zip(parts["size"], spans, strict=True)]
        arguments["padding"] = draw.pick(("valid", "same"))
        if arguments["padding"] == "same":
            arguments["stride"] = 1
    return {key: value for key, value in arguments.items() if value != _DEFAULTS[key]}


_DEFAULTS: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1}


def conv_case(name: str, index: int, rank: int, kind: str, gradient: bool = False) -> Case:
    """A convolution, depthwise or not; ``gradient`` keeps to what torch.nn.grad takes."""
    draw = Draw(name, index)
    dtype, tier = drawn_dtype(draw, CONV_DTYPES)
    if gradient and (tier == "special" or dtype in INTEGERS):
        tier = "exact"
    parts = window(draw, rank)
    arguments = conv_arguments(draw, parts, not gradient)
    groups, c, k = channels(draw)
    if kind != "conv":
        groups, c = draw.between(1, 6), 1
    elif groups > 1:
        arguments["groups"] = groups
    shapes = {
        "input": (*batch(draw, gradient), groups * c, *parts["size"]),
        "weight": (groups * k, c, *parts["kernel"]),
    }
    if kind == "separable":
        shapes["pointwise_weight"] = (draw.between(1, 9), groups * k, *(1,) * rank)
        shapes["depthwise_weight"] = shapes.pop("weight")
        shapes = {key: shapes[key] for key in ("input", "depthwise_weight", "pointwise_weight")}
    if not gradient and draw.chance(0.5):
        shapes["bias"] = (shapes.get("pointwise_weight", shapes.get("weight", (0,)))[0],)
    arrays = {key: values(draw, shape, dtype, tier) for key, shape in shapes.items()}
    return dressed(draw, Case(name, index, rank, dtype, tier, arrays, arguments), _family(name))


def transpose_case(name: str, index: int, rank: int, gradient: bool = False) -> Case:
    """A transposed convolution."""
    draw = Draw(name, index)
    dtype, tier = drawn_dtype(draw, CONV_DTYPES)
    if gradient and (tier == "special" or dtype in INTEGERS):
        tier = "exact"
    parts = window(draw, rank, transposed=True)
    arguments = conv_arguments(draw, parts, False)
    extra = [
        draw.between(0, max(pair) - 1)
        for pair in zip(parts["stride"], parts["dilation"], strict=True)
    ]
    if any(extra) and draw.chance(0.6):
        arguments["output_padding"] = draw.spelled(extra)
    groups, c, k = channels(draw)
    if groups > 1:
        arguments["groups"] = groups
    shapes = {
        "input": (*batch(draw, gradient), groups * c, *parts["size"]),
        "weight": (groups * c, k, *parts["kernel"]),
    }
    if not gradient and draw.chance(0.5):
        shapes["bias"] = (groups * k,)
    arrays = {key: values(draw, shape, dtype, tier) for key, shape in shapes.items()}
    return dressed(draw, Case(name, index, rank, dtype, tier, arrays, arguments), _family(name))


def linear_case(name: str, index: int, gradient: bool = False) -> Case:
    """A fully connected layer on 0 to 3 leading axes, at times of one neuron without its axis."""
    draw = Draw(name, index)
    dtype, tier = drawn_dtype(draw, CONV_DTYPES)
    if gradient and (tier == "special" or dtype in INTEGERS):
        tier = "exact"
    rows = [draw.pick((0, 1, 2, 3, 5, 19)) for _ in range(draw.between(0, 3))]
    features, outputs = draw.between(1, 40), draw.between(1, 40)
    shapes: dict[str, tuple[int, ...]] = {
        "input": (*rows, features), "weight": (outputs, features)
    }  # fmt: skip
    if not gradient and draw.chance(0.15):
        shapes["weight"] = (features,)  # torch takes no bias then
    elif not gradient and draw.chance(0.5):
        shapes["bias"] = (outputs,)
    arrays = {key: values(draw, shape, dtype, tier) for key, shape in shapes.items()}
    case = Case(name, index, 0, dtype, tier, arrays, {})
    return dressed(draw, case, _family(name), layouts=False)


def local_case(name: str, index: int, rank: int, gradient: bool = False) -> Case:
    """A locally connected layer: a kernel for each of its output positions."""
    draw = Draw(name, index)
    dtype, tier = drawn_dtype(draw, CONV_DTYPES)
    if tier == "special" or (gradient and dtype in INTEGERS):
        tier = "exact"
    parts = window(draw, rank, 3)
    arguments = conv_arguments(draw, parts, False)
    groups, c, k = draw.pick((1, 1, 2)), draw.between(1, 3), draw.between(1, 4)
    if groups > 1:
        arguments["groups"] = groups
    outputs = [
        (size + 2 * p - d * (taps - 1) - 1) // s + 1
        for size, taps, s, p, d in zip(
            *(parts[key] for key in ("size", "kernel", "stride", "padding", "dilation")),
            strict=True,
        )
    ]
    shapes = {
        "input": (*batch(draw, gradient), groups * c, *parts["size"]),
        "weight": (int(np.prod(outputs)), groups * k, c, *parts["kernel"]),
    }
    if not gradient and draw.chance(0.5):
        shapes["bias"] = (groups * k, *outputs) if draw.chance(0.5) else (groups * k,)
    arrays = {key: values(draw, shape, dtype, tier) for key, shape in shapes.items()}
    return dressed(draw, Case(name, index, rank, dtype, tier, arrays, arguments), _family(name))


def _family(name: str) -> str:
    """Whose kernels a function runs."""
    if name.endswith("_weight") and "linear" not in name:
        return "wgrad"
    transposed, gradient = "transpose" in name, name.endswith("_input")
    return "dgrad" if transposed != gradient and "linear" not in name else "fprop"
