"""Weight gradients as columns and a GEMM: im2col, and ``wgrad``'s tiles over the columns.

x            (N, C, D, H, W)    any strides     IN   "first"
grad_output  (N, K, O, P, Q)    same dtype      IN   "second"
out          (K, C/G, T, R, S)  overwritten     OUT  "out"
Accumulates in float32, of float64 in float64. Scratch: the columns of a chunk of outputs
(``im2col``), and a tile's sums per slice. Launches: for each chunk its columns and a 1x1 problem
over them, whose slices add to the ones of the chunks before; then their sum.
Assumes a validated ConvGeometry; raises nothing.
Why: what every window reads is found once, not once per tile of out-channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..problem import ConvProblem
from ..shapes import ceil_div, round_up
from . import im2col, tiled
from .program import ACCUMULATED, At, ConvCall, Launch, Program
from .wgrad import SLICE_PIXELS, Cut, cut, finish, partial_strides, products
from .wgrad import wgrad as implicit


def scratch_bytes(problem: ConvProblem, dtype: str) -> int:
    """Bytes of a call's scratch."""
    if not tiled.outputs_of(problem):
        return 0
    made = _cut(problem, dtype)
    plane = partial_strides(problem, made.tile)[0]
    itemsize = np.dtype(ACCUMULATED[dtype]).itemsize
    return _columns_bytes(problem, dtype) + made.slices * problem.g * plane * itemsize


def wgrad(call: ConvCall, chosen: Cut | None = None) -> Program:
    """Columns and products, chunk by chunk (``chosen``: another cut of a chunk, for tests)."""
    problem, dtype = call.problem, call.dtype
    if not tiled.outputs_of(problem):
        return implicit(call)
    made = chosen or _cut(problem, dtype)
    plane = partial_strides(problem, made.tile)[0]
    itemsize = np.dtype(ACCUMULATED[dtype]).itemsize
    behind = _columns_bytes(problem, dtype)
    sums = At("scratch", behind // itemsize)
    launches = *_chunks(call, made, sums), finish(call, made, sums, True)
    return Program(launches, behind + made.slices * problem.g * plane * itemsize)


def _chunks(call: ConvCall, made: Cut, sums: At) -> Iterator[Launch]:
    problem, itemsize = call.problem, tiled.itemsize_of(call.dtype)
    for chunk in im2col._chunks(problem, itemsize):
        (n, _), (o, _), (p, _) = chunk
        part = im2col._part(problem, chunk)
        x = tiled.View("first", n * call.first[0], call.first, False)
        yield im2col._columns(call, part, x)
        product = im2col._product(part)
        pixels = _pixels(part)
        at = n * call.second[0] + o * call.second[2] + p * call.second[3]
        given = call._replace(
            problem=product,
            first=(pixels // part.n, pixels, part.p * part.q, part.q, 1),
            aligned=(True, False, True),
        )
        slice_pixels = max(round_up(ceil_div(pixels, made.slices), SLICE_PIXELS), SLICE_PIXELS)
        yield products(
            given, made._replace(pixels=slice_pixels), partial_strides(problem, made.tile), sums,
            At("scratch"), At("second", at), adds=n + o + p > 0,
        )  # fmt: skip


def _cut(problem: ConvProblem, dtype: str) -> Cut:
    """The cut of the first chunk, the largest."""
    chunk = next(im2col._chunks(problem, tiled.itemsize_of(dtype)))
    return cut(im2col._product(im2col._part(problem, chunk)), dtype)


def _pixels(problem: ConvProblem) -> int:
    return problem.n * problem.o * problem.p * problem.q


def _columns_bytes(problem: ConvProblem, dtype: str) -> int:
    itemsize = tiled.itemsize_of(dtype)
    parts = {im2col._part(problem, chunk) for chunk in im2col._chunks(problem, itemsize)}
    return max(im2col._columns_bytes(part, itemsize) for part in parts)
