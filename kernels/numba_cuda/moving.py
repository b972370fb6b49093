"""Launches on parts of operands, and batches of which no operand spans too much.

Kernels index by int32. A call whose operands span 2**31 elements or more runs in several programs,
each of as many images as fit, one after the other, with the same scratch.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np

from ..problem import ConvProblem
from .program import STORED, At, ConvCall, Launch, PoolCall, Program

#: Elements that an operand may span, or that may be counted over all of it.
MOST = 2**31 - 1
#: Bytes that kernels ask alignment to.
ALIGNED = 16


def itemsize_of(dtype: str) -> int:
    """Bytes of an element of a dtype or of a pointer's type."""
    return np.dtype(STORED.get(dtype, dtype)).itemsize


def moved(launch: Launch, offsets: dict[str, int], dtype: str) -> Launch:
    """A launch on operands that begin ``offsets`` elements further on."""

    def onwards(arg: Any, text: str) -> Any:
        if not isinstance(arg, At) or not offsets.get(arg.operand):
            return arg
        # A row may see an operand as wider elements, where it is aligned.
        kind = "int64" if arg.operand == "indices" else dtype
        elements, rest = divmod(
            offsets[arg.operand] * itemsize_of(kind), itemsize_of(text.removesuffix("*"))
        )
        assert not rest, "an offset between the elements of a pointer"
        return At(arg.operand, arg.offset + elements)

    pairs = zip(launch.args, launch.entry.signature, strict=True)
    return launch._replace(args=tuple(itertools.starmap(onwards, pairs)))


def _span(strides: tuple[int, ...], extents: tuple[int, ...]) -> int:
    """Elements from the lowest to the highest, or in all, whichever is more."""
    lowest_to_highest = sum(
        abs(step) * (n - 1) for step, n in zip(strides, extents, strict=True) if n > 1
    )
    return max(lowest_to_highest + 1, math.prod(extents))


def _extents(call: ConvCall | PoolCall) -> dict[str, tuple[int, ...]]:
    """Of one image: what an operand has besides batches, by which of two shapes it is."""
    if isinstance(call, PoolCall):
        return {"input": (call.c, *call.size), "output": (call.c, *call.output)}
    problem = call.problem
    return {
        "input": (problem.g * problem.c, *problem.size),
        "output": (problem.g * problem.k, *problem.output),
    }


def _spanned(call: Any, shapes: tuple[str, str], n: int) -> int:
    """The most that ``n`` images span in an operand."""
    extents = _extents(call)
    first, out = ((n, *extents[shape]) for shape in shapes)
    spans = [_span(call.first, first), _span(call.out, out)]
    if isinstance(call, PoolCall) and call.indices is not None:
        spans.append(_span(call.indices, (n, *extents["output"])))
    return max(spans)


def _check_weights(problem: ConvProblem, strides: tuple[int, ...]) -> None:
    span = _span(strides, (problem.g * problem.k, problem.c, *problem.kernel))
    if span > MOST:
        raise ValueError(
            f"kernels on a GPU take weights that span fewer than {MOST + 1} elements, got {span}"
        )


def _part(call: Any, begin: int, n: int) -> tuple[Any, dict[str, int]]:
    """The call of some of the images, and where its operands begin."""
    offsets = {"first": begin * call.first[0], "out": begin * call.out[0]}
    aligned = list(call.aligned)
    for at, name in ((0, "first"), (2 if isinstance(call, ConvCall) else 1, "out")):
        aligned[at] = aligned[at] and offsets[name] * itemsize_of(call.dtype) % ALIGNED == 0
    if isinstance(call, ConvCall):
        part: Any = call._replace(problem=call.problem._replace(n=n))
    else:
        part = call._replace(n=n)
        if call.indices is not None:
            offsets["indices"] = begin * call.indices[0]
            aligned[2] = aligned[2] and offsets["indices"] % (ALIGNED // 8) == 0
    return part._replace(aligned=tuple(aligned)), offsets


def in_batches(
    row: Callable[[Any], Program], shapes: tuple[str, str], most: int = MOST
) -> Callable[[Any], Program]:
    """The row for any number of images. ``shapes``: which of "input" and "output" the operands
    "first" and "out" are. ValueError if one image alone, or the weights, span too much.
    """

    def program(call: Any) -> Program:
        images = call.problem.n if isinstance(call, ConvCall) else call.n
        if isinstance(call, ConvCall):
            _check_weights(call.problem, call.second)
        if _spanned(call, shapes, images) <= most:
            return row(call)
        fitting = bisect_left(
            range(1, images), True, key=lambda n: _spanned(call, shapes, n) > most
        )
        if not fitting:
            raise ValueError(
                f"kernels on a GPU take images that span fewer than {most + 1} elements each, got "
                f"{_spanned(call, shapes, 1)}"
            )
        launches: list[Launch] = []
        scratch = 0
        for begin in range(0, images, fitting):
            part, offsets = _part(call, begin, min(fitting, images - begin))
            made = row(part)
            launches += [moved(launch, offsets, call.dtype) for launch in made.launches]
            scratch = max(scratch, made.scratch_bytes)
        return Program(tuple(launches), scratch)

    return program


def at_once(row: Callable[[ConvCall], Program]) -> Callable[[ConvCall], Program]:
    """A wgrad row, which sums over all images; ValueError if they or weights span too much."""

    def program(call: ConvCall) -> Program:
        extents, n = _extents(call), call.problem.n
        _check_weights(call.problem, call.out)
        strides = {"input": call.first, "output": call.second}
        spans = {shape: _span(strides[shape], (n, *extents[shape])) for shape in strides}
        if max(spans.values()) > MOST:
            raise ValueError(
                f"weight gradients on a GPU take inputs and gradients that span fewer than "
                f"{MOST + 1} elements, got {spans['input']} and {spans['output']}"
            )
        return row(call)

    return program
