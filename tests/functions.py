"""Every function that runs a kernel, with arguments for it: a table and what makes the arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import cnnfast
from cnnfast import grad

import conformance as suite

Array = np.ndarray[Any, Any]

INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")


def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype; skips where ml_dtypes isn't there to give bfloat16."""
    if name != "bfloat16":
        return np.dtype(name)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes isn't installed: no bfloat16")
    return np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Function:
    """A function with its arrays' shapes (data axes in NC.. order) and other arguments.

    ``conjugated`` names the arrays that an adjoint of a complex function conjugates, ``unread``
    those of which it reads the shape alone. ``taps`` is the most values that are summed for one of
    a result that isn't exact; 0 for those that are.
    """

    name: str
    rank: int
    arrays: dict[str, tuple[int, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = (*INTEGERS, *FLOATS, *COMPLEX)
    conjugated: tuple[str, ...] = ()
    keeps_integers: bool = False
    layouts: bool = True
    taps: int = 0
    unread: tuple[str, ...] = ()

    @property
    def call(self) -> Callable[..., Any]:
        """The function itself."""
        return getattr(cnnfast if hasattr(cnnfast, self.name) else grad, self.name)


def spatial(rank: int, *extents: int) -> tuple[int, ...]:
    return extents[:rank]


def convolutions(rank: int) -> list[Function]:
    x, w = (2, 4, *spatial(rank, 7, 6, 5)), (6, 2, *spatial(rank, 3, 2, 3))
    y, b = (2, 6, *spatial(rank, 4, 5, 3)), (6,)
    u, v = (2, 6, *spatial(rank, 3, 4, 2)), (6, 2, *spatial(rank, 3, 2, 3))
    z = (2, 4, *spatial(rank, 6, 5, 3))
    window = {"stride": spatial(rank, 2, 1, 2), "padding": spatial(rank, 1, 0, 1), "groups": 2}
    back = {**window, "output_padding": spatial(rank, 1, 0, 0)}
    name, transposed = f"conv{rank}d", f"conv_transpose{rank}d"
    return [
        Function(name, rank, {"input": x, "weight": w, "bias": b}, window),
        Function(f"{name}_input", rank, {"weight": w, "grad_output": y}, {**window, "input_size": x}, conjugated=("weight",)),
        Function(f"{name}_weight", rank, {"input": x, "grad_output": y}, {**window, "weight_size": w}, conjugated=("input",)),
        Function(transposed, rank, {"input": u, "weight": v, "bias": (4,)}, back),
        Function(f"{transposed}_input", rank, {"weight": v, "grad_output": z}, {**back, "input_size": u}, conjugated=("weight",)),
        Function(f"{transposed}_weight", rank, {"input": u, "grad_output": z}, {**back, "weight_size": v}, conjugated=("input",)),
    ]  # fmt: skip


def special_convolutions(rank: int) -> list[Function]:
    x, taps = (2, 3, *spatial(rank, 5, 4)), spatial(rank, 2, 3)
    deep = (6, 1, *taps)
    name = f"locally_connected{rank}d"
    positions = {1: 4, 2: 8}[rank]
    w, y = (positions, 4, 3, *taps), (2, 4, *spatial(rank, 4, 2))
    return [
        Function(f"depthwise_conv{rank}d", rank, {"input": x, "weight": deep, "bias": (6,)}),
        Function(name, rank, {"input": x, "weight": w, "bias": (4,)}),
        Function(f"{name}_input", rank, {"weight": w, "grad_output": y}, {"input_size": x}, conjugated=("weight",)),
        Function(f"{name}_weight", rank, {"input": x, "grad_output": y}, {"weight_size": w}, conjugated=("input",)),
    ]  # fmt: skip


def poolings(rank: int) -> list[Function]:
    x, y = (2, 3, *spatial(rank, 7, 6, 5)), (2, 3, *spatial(rank, 4, 3, 3))
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    size = {"output_size": spatial(rank, 4, 3, 3)}
    real, both = (*INTEGERS, *FLOATS), {"input": x, "grad_output": y}
    means: Any = {"dtypes": (*FLOATS, *COMPLEX), "taps": 2**rank, "unread": ("input",)}
    return [
        Function(f"max_pool{rank}d", rank, {"input": x}, window, real, keeps_integers=True),
        Function(f"adaptive_max_pool{rank}d", rank, {"input": x}, size, real, keeps_integers=True),
        Function(f"avg_pool{rank}d", rank, {"input": x}, window, taps=3**rank),
        Function(f"adaptive_avg_pool{rank}d", rank, {"input": x}, size, taps=3**rank),
        Function(f"max_pool{rank}d_backward", rank, both, window, FLOATS),
        Function(f"avg_pool{rank}d_backward", rank, both, {**window, "count_include_pad": False}, **means),
        Function(f"adaptive_max_pool{rank}d_backward", rank, both, {}, FLOATS),
        Function(f"adaptive_avg_pool{rank}d_backward", rank, both, {}, **means),
    ]  # fmt: skip


def powers(rank: int) -> list[Function]:
    """Maxima of magnitudes, and roots of sums of squares over windows that share positions."""
    x, y = (2, 3, *spatial(rank, 7, 6, 5)), (2, 3, *spatial(rank, 3, 3, 2))
    wide, both = (2, 3, *spatial(rank, 6, 5, 4)), {"input": x, "grad_output": y}
    largest = {"norm_type": float("inf"), "kernel_size": 2}
    squares = {"norm_type": 2, "kernel_size": 2, "stride": 1}
    name, taps = f"lp_pool{rank}d", 2**rank
    return [
        Function(name, rank, {"input": x}, largest, FLOATS),
        Function(name, rank, {"input": x}, squares, FLOATS, taps=taps),
        Function(f"{name}_backward", rank, both, largest, FLOATS),
        # A term of each window of a position, and in each the sum of its squares.
        Function(f"{name}_backward", rank, {**both, "grad_output": wide}, squares, FLOATS, taps=2 * taps),
    ]  # fmt: skip


def dense() -> list[Function]:
    x, w, y = (2, 3, 7), (5, 7), (2, 3, 5)
    return [
        Function("linear", 0, {"input": x, "weight": w, "bias": (5,)}, layouts=False),
        Function("linear_input", 0, {"weight": w, "grad_output": y}, {"input_size": x}, conjugated=("weight",), layouts=False),
        Function("linear_weight", 0, {"input": x, "grad_output": y}, {"weight_size": w}, conjugated=("input",), layouts=False),
    ]  # fmt: skip


FUNCTIONS = [
    *(
        function
        for rank in (1, 2, 3)
        for function in (*convolutions(rank), *poolings(rank), *powers(rank))
    ),
    *(function for rank in (1, 2) for function in special_convolutions(rank)),
    *dense(),
]


def title(function: Function) -> str:
    """The name, and for powers which."""
    power = function.options.get("norm_type")
    return function.name if power is None else f"{function.name} p={power}"


DATA = ("input", "grad_output", "input_size")


def placed(which: str, shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    """Data axes in the layout's order; weights are given in theirs by ``weight_layout``."""
    return (shape[0], *shape[2:], shape[1]) if last and which in DATA else shape


def arguments_of(function: Function, last: bool) -> dict[str, Any]:
    options = {
        which: placed(which, value, last) if which.endswith("_size") and which in DATA else value
        for which, value in function.options.items()
    }
    if function.layouts:
        options["layout"] = suite.layout_names(function.rank, last)
        if "conv" in function.name or "connected" in function.name:
            letters = "IO" if "transpose" in function.name else "OI"
            options["weight_layout"] = letters + "DHW"[3 - function.rank :]
    return options


def values(function: Function, dtype: np.dtype[Any], last: bool) -> dict[str, Array]:
    """Integers from -2 to 2 (0 to 4 unsigned)."""
    random = np.random.default_rng(7)
    low = 0 if dtype.kind == "u" else -2
    made = {}
    for which, shape in function.arrays.items():
        parts = random.integers(low, low + 5, placed(which, shape, last)).astype(np.float64)
        if dtype.kind == "c":
            parts = parts + 1j * random.integers(-2, 3, parts.shape)
        made[which] = parts.astype(dtype)
    return made
