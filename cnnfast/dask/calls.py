"""Convolutions, pools and networks over dask arrays: arguments -> blocks -> a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.conv_geometry import ConvGeometry
from cnnfast._core.dtypes import promote
from cnnfast._core.padding import MODES, needs_copy, padding_widths
from cnnfast._core.pool_geometry import PoolGeometry
from cnnfast.kernels import shapes

from .blocks import Span, blocks_of, blockwise, da, edges_of, whole


def dask_array(name: str, which: str, source: Any) -> Any:
    """``source``, which must be a dask array of known chunks, in chunks that hold something."""
    if not isinstance(source, da.Array):
        raise TypeError(
            f"{name}: {which} must be a dask array, got {type(source).__qualname__}; "
            "dask.array.from_array makes one"
        )
    if any(np.isnan(extent) for extent in source.shape):
        raise ValueError(
            f"{name}: {which} must have known chunks, got shape {source.shape}; "
            "compute_chunk_sizes() finds them"
        )
    # Kernels refuse empty chunks, which such sizes may be.
    filled = tuple(tuple(n for n in chunks if n) or (0,) for chunks in source.chunks)
    return source if filled == source.chunks else source.rechunk(filled)


def _operand(name: str, which: str, source: Any) -> Any:
    """A weight or bias: a dask array in one chunk, or a NumPy array."""
    if source is None:
        return None
    if isinstance(source, da.Array):
        return dask_array(name, which, source).rechunk(-1)
    # A copy: the caller may change the array before anything is computed.
    return as_array(f"{name}: {which}", source).copy()


def convolved(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, groups: Any, padding_mode: str, padding_value: complex, layout: str | None,
    weight_layout: str | None, activation: Any, out_dtype: Any, backend: str | None,
) -> Any:  # fmt: skip
    """A convolution of any rank."""
    x = dask_array(name, "input", input)
    w, b = _operand(name, "weight", weight), _operand(name, "bias", bias)
    geometry = ConvGeometry.of(
        tuple(x.shape), tuple(w.shape), stride, padding, dilation, groups, rank=rank,
        layout=layout, weight_layout=weight_layout, name=name,
    )  # fmt: skip
    function: Callable[..., Array] = partial(
        _convolution, getattr(functional, name), stride=geometry.stride[-rank:],
        dilation=geometry.dilation[-rank:], groups=geometry.groups, layout=layout,
        weight_layout=weight_layout, activation=activation, out_dtype=out_dtype, backend=backend,
    )  # fmt: skip
    letters = geometry.input.letters
    x = x.rechunk({letters.index("C"): -1})
    stand_ins = [
        a if a is None else np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in (w, b)
    ]
    dtype = function(_sample(geometry, x), *stand_ins, 0).dtype
    widths: Sequence[tuple[int, int]] | None = None
    arithmetic = promote(name, [np.empty(0, a.dtype) for a in (x, w, b) if a is not None])
    if needs_copy(name, padding_mode, padding_value, arithmetic):
        widths = padding_widths(geometry, padding_mode)
    spans = _sliding(x, geometry, widths)
    if widths is not None:
        x = _padded(x.astype(arithmetic.common), widths, padding_mode, padding_value)
    chunks = _counts(spans)
    chunks[letters.index("C")] = (geometry.out_channels,)
    return blockwise(
        name, x, spans, function, (w, b), spatial=_spatial(letters), pads=True,
        out_chunks=tuple(chunks), dtype=dtype,
    )  # fmt: skip


def pooled(
    name: str, rank: int, reduction: str, input: Any, layout: str | None, backend: str | None,
    kernel_size: Any, stride: Any, padding: Any, **window: Any,
) -> Any:  # fmt: skip
    """A pooling of any rank."""
    x = dask_array(name, "input", input)
    geometry = PoolGeometry.of(
        tuple(x.shape), reduction, kernel_size, stride, padding, **window, rank=rank,
        layout=layout, name=name,
    )  # fmt: skip
    function: Callable[..., Array] = partial(
        _pooling, getattr(functional, name), reduction=reduction,
        kernel_size=geometry.kernel[-rank:], stride=geometry.stride[-rank:], layout=layout,
        backend=backend, **window,
    )  # fmt: skip
    letters = geometry.input.letters
    spans = _sliding(x, geometry, None)
    dtype = function(_sample(geometry, x), 0).dtype
    return blockwise(
        name, x, spans, function, (), spatial=_spatial(letters), pads=True,
        out_chunks=tuple(_counts(spans)), dtype=dtype,
    )  # fmt: skip


def _convolution(
    function: Callable[..., Array], x: Array, weight: Array, bias: Array | None, padding: Any,
    **keywords: Any,
) -> Array:  # fmt: skip
    return function(x, weight, bias, padding=padding, **keywords)


def _pooling(
    function: Callable[..., Array], x: Array, padding: Any, *, reduction: str, kernel_size: Any,
    layout: str | None, **keywords: Any,
) -> Array:  # fmt: skip
    pairs = padding or [(0, 0)] * len(kernel_size)
    if reduction == "max" and any(
        max(pair) > extent // 2 for pair, extent in zip(pairs, kernel_size, strict=True)
    ):
        # Only a name of a padding may ask for more than half a window.
        widths = [(0, 0)] * (x.ndim - len(pairs))
        at = len(widths) - (layout is not None and layout.endswith("C"))
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        x = np.pad(x, [*widths[:at], *pairs, *widths[at:]], constant_values=lowest)
        padding = 0
    return function(x, kernel_size, padding=padding, layout=layout, **keywords)


def _spatial(letters: str) -> list[int]:
    return [axis for axis, letter in enumerate(letters) if letter not in "NC"]


def _sample(geometry: ConvGeometry | PoolGeometry, x: Any) -> Array:
    """As little as the function takes, to see the result's dtype."""
    reach = dict(zip("DHW", _reaches(geometry), strict=True))
    shape = [
        0 if letter == "N" else reach.get(letter, extent)
        for letter, extent in zip(geometry.input.letters, x.shape, strict=True)
    ]
    return np.zeros(shape, x.dtype)


def _reaches(geometry: ConvGeometry | PoolGeometry) -> list[int]:
    pairs = zip(geometry.kernel, geometry.dilation, strict=True)
    return [shapes.effective_kernel(*pair) for pair in pairs]


def _sliding(
    x: Any, geometry: ConvGeometry | PoolGeometry, widths: Sequence[tuple[int, int]] | None
) -> list[list[Span]]:
    """Blocks of every axis; with ``widths`` of an input that is padded so beforehand."""
    rows = zip(_reaches(geometry), geometry.stride, geometry.padding, geometry.output, strict=True)
    windows = dict(zip("DHW", rows, strict=True))
    spans = []
    for axis, letter in enumerate(geometry.input.letters):
        if letter in "NC":
            spans.append(whole(x.chunks[axis]))
            continue
        reach, stride, padding, outputs = windows[letter]
        edges = edges_of(x.chunks[axis])
        if widths is not None:
            before, after = widths[axis]
            edges = [edge + before for edge in edges]
            edges[-1] += after
            padding = (0, 0)
        spans.append(blocks_of(edges, outputs, reach, stride, padding))
    return spans


def _padded(x: Any, widths: Sequence[tuple[int, int]], mode: str, value: complex) -> Any:
    if mode == "constant":
        return da.pad(x, widths, constant_values=np.asarray(value).astype(x.dtype))
    return da.pad(x, widths, mode=MODES[mode][0])


def _counts(spans: Sequence[Sequence[Span]]) -> list[tuple[int, ...]]:
    return [tuple(span.kept for span in axis) for axis in spans]
