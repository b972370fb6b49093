"""Which part of the input a block of the output needs, and the task that computes it."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cnnfast._core.arrays import Array
from cnnfast._core.config import on_threads
from cnnfast._core.extras import require

Chunks = tuple[int, ...]
Index = tuple[slice, ...]


class Span(NamedTuple):
    """One axis of a block: the input's part, the padding around that, and which of its outputs
    are the block's.
    """

    start: int
    stop: int
    before: int
    after: int
    skip: int
    kept: int


def edges_of(chunks: Chunks) -> list[int]:
    """Where chunks end.

    >>> edges_of((2, 3))
    [2, 5]
    """
    return list(itertools.accumulate(chunks))


def whole(chunks: Chunks) -> list[Span]:
    """Blocks of an axis that nothing slides along: the chunks.

    >>> whole((2, 3))[1]
    Span(start=2, stop=5, before=0, after=0, skip=0, kept=3)
    """
    return [
        Span(edge - chunk, edge, 0, 0, 0, chunk)
        for chunk, edge in zip(chunks, edges_of(chunks), strict=True)
    ]


def blocks_of(
    edges: Sequence[int], outputs: int, reach: int, stride: int, padding: tuple[int, int]
) -> list[Span]:
    """Blocks of an axis along which windows slide, ``reach`` long and a ``stride`` apart.

    An output belongs to the chunk (up to an edge) that its window's middle lies in. The last edge
    is the axis' end.

    >>> [(span.start, span.stop, span.kept) for span in blocks_of([4, 8], 8, 3, 1, (1, 1))]
    [(0, 5, 4), (3, 8, 4)]
    """
    size, (before, after) = edges[-1], padding
    spans: list[Span] = []
    done = 0
    for edge in edges:
        upto = outputs
        if edge != size:
            upto = min(max(-((reach // 2 - edge - before) // stride), done), outputs)
        if upto > done:
            first = done * stride - before
            last = (upto - 1) * stride - before + reach
            end = min(last, size + after)
            # From earlier windows on where this one is wholly in the padding, or (ceil_mode) not
            # wholly there: no kernel runs over less than an element, or less than a window.
            skip = max(-((size - 1 - first) // stride), -((end - first - reach) // stride), 0)
            first, last = first - skip * stride, max(last, 1)
            start, stop = max(first, 0), min(last, size)
            rest = min(last, size + after) - stop
            spans.append(Span(start, stop, start - first, rest, skip, upto - done))
            done = upto
    return spans


def fields_of(
    edges: Sequence[int], outputs: int, size: int, stride: int, offset: int
) -> list[Span]:
    """Blocks of an axis for a whole network, that pads by itself: with so much input around them
    that padding at a cut is nowhere in their receptive fields.

    The fields are ``size`` long, a ``stride`` apart and begin at ``offset``. Cuts are multiples of
    the stride, at which every layer's windows are in step with those of the whole input.

    >>> [(span.start, span.stop, span.skip) for span in fields_of([4, 8], 8, 3, 1, -1)]
    [(0, 5, 0), (3, 8, 1)]
    """
    found = []
    done = 0
    for span in blocks_of(edges, outputs, size, stride, (-offset, 0)):
        first = done * stride + offset
        start = max(first // stride * stride, 0)
        stop = min((done + span.kept - 1) * stride + offset + size, edges[-1])
        found.append(Span(start, stop, 0, 0, done - start // stride, span.kept))
        done += span.kept
    return found


@dataclass(frozen=True)
class Block:
    """A task: put the input's parts together, compute, keep what is the block's."""

    function: Callable[..., Array]
    shape: tuple[int, ...]
    targets: tuple[Index, ...]
    #: (before, after) of the spatial axes, None for a function that pads by itself.
    padding: tuple[tuple[int, int], ...] | None
    kept: Index

    def __call__(self, parts: Sequence[Array], *others: Any) -> Array:
        """The block of the output."""
        if len(parts) == 1:
            x = np.asarray(parts[0])
        else:
            x = np.empty(self.shape, parts[0].dtype)
            for part, target in zip(parts, self.targets, strict=True):
                x[target] = part
        with on_threads(None if is_alone() else 1):
            result = self.function(x, *others, *(() if self.padding is None else (self.padding,)))
        kept = result[self.kept]
        # A view would keep the rest of the memory.
        return kept if kept.shape == result.shape else kept.copy()


def is_alone() -> bool:
    """Whether no other task runs beside this one: schedulers that run several have threads or
    processes for them.
    """
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and multiprocessing.parent_process() is None


def copied(chunk: Any, part: Index) -> Any:
    """A part of a chunk without the rest of its memory."""
    return chunk[part].copy()


def pieces(chunks: Chunks, start: int, stop: int) -> list[tuple[int, slice, slice]]:
    """Chunk, its part and where that goes, of what lies from start to stop.

    >>> pieces((4, 4, 4), 3, 8)
    [(0, slice(3, 4, None), slice(0, 1, None)), (1, slice(0, 4, None), slice(1, 5, None))]
    """
    if start == stop:
        return [(0, slice(0, 0), slice(0, 0))]
    found, low = [], 0
    for index, chunk in enumerate(chunks):
        first, last = max(start, low), min(stop, low + chunk)
        if first < last:
            part, target = slice(first - low, last - low), slice(first - start, last - start)
            found.append((index, part, target))
        low += chunk
    return found


def blockwise(
    name: str,
    x: Any,
    spans: Sequence[Sequence[Span]],
    function: Callable[..., Array],
    others: Sequence[Any],
    *,
    spatial: Sequence[int],
    pads: bool,
    out_chunks: tuple[Chunks, ...],
    dtype: Any,
) -> Any:
    """The dask array of ``function(part of x, *others, padding)``, a task per block of ``spans``.

    ``spatial``: the axes of which padding is handed over, where ``pads``. ``others``: arrays of
    NumPy or dask (in one chunk), or None.
    """
    da = require("cnnfast.dask", "dask.array")
    base = require("cnnfast.dask", "dask.base")
    graphs = require("cnnfast.dask", "dask.highlevelgraph")
    token = f"{name}-{base.tokenize(x, spans, function, others, pads)}"
    graph: dict[Any, Any] = {}
    keys: list[Any] = []
    dependencies = [x]
    for number, other in enumerate(others):
        if isinstance(other, da.Array):
            dependencies.append(other)
            keys.append((other.name, *(0,) * other.ndim))
        else:
            keys.append(f"{token}-operand-{number}")
            graph[keys[-1]] = other
    for at in np.ndindex(*map(len, spans)):
        block = [axis[i] for axis, i in zip(spans, at, strict=True)]
        parts, targets = _parts(x, block, (f"{token}-part", *at), graph)
        kept = [
            slice(span.skip, span.skip + span.kept) if axis in spatial else slice(None)
            for axis, span in enumerate(block)
        ]
        task = Block(
            function,
            tuple(span.stop - span.start for span in block),
            targets,
            tuple((block[axis].before, block[axis].after) for axis in spatial) if pads else None,
            tuple(kept),
        )
        graph[(token, *at)] = (task, parts, *keys)
    layers = graphs.HighLevelGraph.from_collections(token, graph, dependencies=dependencies)
    return da.Array(layers, token, chunks=out_chunks, dtype=dtype)


def _parts(
    x: Any, block: Sequence[Span], name: tuple[Any, ...], graph: dict[Any, Any]
) -> tuple[list[Any], tuple[Index, ...]]:
    """Keys of the parts of chunks that a block needs, and where they go; where a part isn't the
    chunk itself it becomes a task: what is kept, and travels between machines, is the part.
    """
    rows = [
        pieces(chunks, span.start, span.stop) for chunks, span in zip(x.chunks, block, strict=True)
    ]
    keys, targets = [], []
    for number, row in enumerate(itertools.product(*rows)):
        key = (x.name, *(index for index, _, _ in row))
        part = tuple(part for _, part, _ in row)
        extents = (chunks[index] for chunks, (index, _, _) in zip(x.chunks, row, strict=True))
        if any(p.stop - p.start < n for p, n in zip(part, extents, strict=True)):
            graph[(*name, number)] = (copied, key, part)
            key = (*name, number)
        keys.append(key)
        targets.append(tuple(target for _, _, target in row))
    return keys, tuple(targets)
