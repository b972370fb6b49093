"""The C functions of ``kernels.cython_cpu.conv`` and ``pool`` beside the functions of Python.

A loop that Numba compiles calls the C function; its time is divided by its calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import cnnfast
from cnnfast.benchmarks.timing import Timing, measure

from .row import DropInRow

Array = np.ndarray[Any, Any]

#: A timed loop is about as long as so many floating-point operations.
LOOP_FLOPS = 20_000_000


class Case(NamedTuple):
    """A convolution of square images with square kernels."""

    name: str
    channels: int
    size: int
    filters: int
    kernel: int
    padding: int

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """Input, weight and bias."""
        rng = np.random.default_rng(0)
        return (
            rng.standard_normal((1, self.channels, self.size, self.size), np.float32),
            rng.standard_normal(
                (self.filters, self.channels, self.kernel, self.kernel), np.float32
            ),
            rng.standard_normal(self.filters, np.float32),
        )

    @property
    def shape(self) -> Array:
        """The fields of ``ConvShape``."""
        extents = [1, self.channels, 1, self.size, self.size]
        taps = [self.filters, 1, self.kernel, self.kernel]
        padding = [0, self.padding, self.padding] * 2
        return np.array([*extents, *taps, *[1] * 6, *padding, 0, 0, 0, 1], np.int64)


CASES = (
    Case("1 -> 1, 3x3, 8x8", 1, 8, 1, 3, 0),
    Case("LeNet's first: 1 -> 6, 5x5, 28x28", 1, 28, 6, 5, 2),
    Case("64 -> 64, 3x3, 56x56", 64, 56, 64, 3, 1),
)


def looped() -> Callable[..., int]:
    """``loop(calls, threads, shape, x, weight, bias, out)``, compiled; the worst status."""
    import numba
    from numba.extending import get_cython_function_address

    address = get_cython_function_address("cnnfast.kernels.cython_cpu.conv", "conv_float32")
    pointer, null, number = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int64
    conv_float32 = ctypes.CFUNCTYPE(
        ctypes.c_int, pointer, null, *[pointer] * 4, number, number, null
    )(address)

    @numba.njit
    def loop(
        calls: int, threads: int, shape: Array, x: Array, weight: Array, bias: Array, out: Array
    ) -> int:
        worst = 0
        for _ in range(calls):
            status = conv_float32(
                shape.ctypes, 0, x.ctypes, weight.ctypes, bias.ctypes, out.ctypes, 0, threads, 0
            )
            worst = min(worst, status)
        return worst

    found: Callable[..., int] = loop
    return found


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """Calls of the C function beside those of ``cnnfast.conv2d`` with an ``out``."""
    loop = looped()
    return [_row(loop, case, seconds, threads) for case in CASES]


def _row(loop: Callable[..., int], case: Case, seconds: float, threads: int) -> DropInRow:
    (x, weight, bias), shape = case.arrays, case.shape
    wanted = cnnfast.conv2d(x, weight, bias, padding=case.padding, backend="cython")
    out = np.empty_like(wanted)
    geometry = cnnfast.ConvGeometry.of(x.shape, weight.shape, 1, case.padding)
    calls = max(LOOP_FLOPS // geometry.flops, 1)
    if loop(1, threads, shape, x, weight, bias, out) or not np.array_equal(out, wanted):
        raise AssertionError(f"{case.name}: the C function gives another result")
    timings = measure(
        {
            "C": lambda: loop(calls, threads, shape, x, weight, bias, out),
            "Python": lambda: cnnfast.conv2d(x, weight, bias, padding=case.padding, out=out),
        },
        seconds,
    )
    many = timings["C"]
    own = Timing(many.median / calls, many.minimum / calls, many.calls * calls)
    return DropInRow(case.name, "cnnfast.conv2d", own, timings["Python"])
