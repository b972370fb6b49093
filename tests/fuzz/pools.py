"""Fuzz cases of the pools, their adjoints and unpooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .checking import Case, Given
from .draws import (
    BACKENDS,
    COMPLEX,
    FLOATS,
    HUGE,
    INTEGERS,
    Draw,
    Window,
    draw_dtypes,
    draw_pads,
    draw_tier,
    from_user,
    given,
    ints,
    letters_of,
    pick,
    rarely,
    settings_of,
    size_argument,
    to_user,
)  # fmt: skip
from .oracle import (
    adaptive,
    add_back,
    ceil_outputs,
    computed_in,
    divisors_of,
    epsilon,
    kind_of,
    maxima,
    means,
    read,
    sum_dtype,
    widened,
)  # fmt: skip

Array = np.ndarray[Any, Any]

#: Backends with rows for pools among them.
POOL_BACKENDS = (*BACKENDS, "direct", "cython", "numba", "numpy", "direct/numpy", "reference")


def draw_pool_window(draw: Draw, rank: int, *, dilated: bool, padded: bool, named: bool) -> Any:
    """A pooling's window and the arguments that describe it."""
    most, taps = {1: (24, 5), 2: (8, 4), 3: (5, 3)}[rank]
    kernel = [draw(ints(1, taps)) for _ in range(rank)]
    dilation = [draw(ints(1, 3)) if dilated else 1 for _ in range(rank)]
    spans = [gap * (count - 1) + 1 for gap, count in zip(dilation, kernel, strict=True)]
    sizes = [draw(ints(1, most)) for _ in range(rank)]
    default = draw(st.booleans())
    stride = kernel if default else [draw(ints(1, 4)) for _ in range(rank)]
    if rarely(draw) and not default:
        stride[0] = draw(pick(*HUGE))
    tops = [count // 2 if padded else 0 for count in kernel]
    sizes = [max(size, span) for size, span in zip(sizes, spans, strict=True)]
    pads, padding = draw_pads(draw, sizes, spans, stride, tops, named and padded)
    ceil = draw(st.booleans())
    rows = zip(sizes, spans, stride, pads, strict=True)
    outputs = [ceil_outputs(*row, ceil) for row in rows]
    window = Window(sizes, kernel, stride, dilation, pads, outputs, padding)
    arguments: dict[str, Any] = {"kernel_size": size_argument(draw, kernel), "ceil_mode": ceil}
    if not default:
        arguments["stride"] = size_argument(draw, stride)
    elif draw(st.booleans()):
        arguments["stride"] = draw(pick(None, ()))
    if padded:
        arguments["padding"] = padding
    if dilated:
        arguments["dilation"] = size_argument(draw, dilation)
    return window, arguments


class Pooled:
    """What a pooling case has drawn: layout, input, window table."""

    def __init__(
        self, draw: Draw, rank: int, sizes: list[int], dtype: Any, *, batched: bool
    ) -> None:
        tier = draw_tier(draw, kind_of(dtype))
        self.tier, self.rank = tier, rank
        n, c = draw(pick(1, 2, 3, 0)), draw(pick(1, 2, 3, 19))
        self.batched = batched or n != 1 or draw(st.booleans())
        layout = draw(pick(None, "first", "last"))
        self.last = layout == "last"
        self.arguments: dict[str, Any] = {"backend": draw(pick(*POOL_BACKENDS))}
        letters = letters_of(rank)
        names = {"first": f"NC{letters}", "last": f"N{letters}C"}
        self.arguments["layout"] = names.get(layout) if layout else None
        shape = (n, *sizes, c) if self.last else (n, c, *sizes)
        self.input = given(draw, shape if self.batched else shape[1:], dtype, tier)

    def wide(self, array: Given, common: Any) -> Array:
        """Canonical, in the widest dtype."""
        return from_user(widened(array.values, common), self.last, self.batched)

    def user(self, array: Array) -> Array:
        """Back to the user's layout."""
        return to_user(array, self.last, self.batched)


def draw_tables(draw: Draw, rank: int, reduction: str, adaptive_: bool, named: bool = True) -> Any:
    """(sizes, outputs, places, divisors, taps, arguments) of a sliding or an adaptive pooling."""
    if adaptive_:
        most = {1: 20, 2: 7, 3: 4}[rank]
        sizes = [draw(ints(1, most)) for _ in range(rank)]
        outputs = [draw(ints(1, most + 2)) for _ in range(rank)]
        written: Any = size_argument(draw, outputs)
        if isinstance(written, tuple) and draw(st.booleans()):
            written, outputs[0] = (None, *written[1:]), sizes[0]
        places, divisors = adaptive(sizes, outputs)
        return sizes, outputs, places, divisors, places.shape[1], {"output_size": written}
    window, arguments = draw_pool_window(
        draw, rank, dilated=reduction == "max", padded=reduction != "power", named=named
    )
    counts = True
    if reduction == "mean":
        counts = arguments["count_include_pad"] = draw(st.booleans())
    divisors = divisors_of(
        window.sizes, window.outputs, window.kernel, window.stride, window.pads, counts
    )
    if reduction == "mean" and rank > 1 and draw(ints(0, 3)) == 3:
        arguments["divisor_override"] = draw(pick(1, -3, 7, 2**40, None))
        divisors = divisors * 0 + (arguments["divisor_override"] or divisors)
    taps = math.prod(window.kernel)
    return window.sizes, window.outputs, window.places(), divisors, taps, arguments


def _lowest(dtype: Any) -> int:
    """What a maximum over nothing gives."""
    return int(np.iinfo(dtype).min)


def pool_case(draw: Draw, reduction: str, adaptive_: bool, rank: int) -> Case:
    """Maximum and average pooling, sliding and adaptive."""
    tables = draw_tables(draw, rank, reduction, adaptive_)
    sizes, outputs, places, divisors, taps, arguments = tables
    dtype = draw(pick(*FLOATS, *INTEGERS, *(COMPLEX if reduction == "mean" else ())))
    pooled = Pooled(draw, rank, sizes, dtype, batched=False)
    common = np.dtype(dtype)
    x = pooled.wide(pooled.input, common)
    name = (
        "adaptive_" if adaptive_ else ""
    ) + f"{'max' if reduction == 'max' else 'avg'}_pool{rank}d"
    arguments = {**arguments, **pooled.arguments}
    indices: Array | None = None
    tolerance: Any = 0.0
    if reduction == "max":
        exact, where = maxima(x, places, outputs)
        exact = np.maximum(exact, _lowest(common)) if x.dtype.kind == "i" else exact
        result = common
        if draw(st.booleans()):
            arguments["return_indices"], indices = True, pooled.user(where)
    else:
        exact, result = means(x, places, divisors, outputs), sum_dtype(common)
        if kind_of(common) != "integer":
            size = means(np.abs(x), places, np.abs(divisors), outputs)
            tolerance = pooled.user((taps + 2) * epsilon(computed_in(common, result)) * size)
            tolerance = np.where(np.isfinite(tolerance), tolerance, 0)
    expected = pooled.user(exact)
    return Case(
        name, {"input": pooled.input}, arguments, result, expected, tolerance, indices, ("pool",),
        "integer" if kind_of(common) == "integer" else "float", settings_of(draw),
    )  # fmt: skip


#: Powers, and whether the bases may be negative.
POWERS = (
    (1, True), (2, True), (4, True), (3, False), (0.5, False), (1.5, False), (-1, False),
    (np.inf, True), (np.float32(2), True),
)  # fmt: skip


def draw_power(draw: Draw) -> tuple[Any, bool]:
    """A norm_type, and whether values must be positive."""
    power, signed = draw(pick(*POWERS))
    return power, not signed


def power_sums(
    x: Array, places: Array, divisors: Array, taps: int, power: float
) -> tuple[Array, Array]:
    """Sums of powers as if of whole windows, and of their magnitudes."""
    with np.errstate(all="ignore"):
        powers = np.where(places < 0, 0.0, read(x, places, 1.0) ** power)
        scale = taps / divisors
        return powers.sum(axis=-1) * scale, np.abs(powers).sum(axis=-1) * scale


def positive(array: Given) -> Given:
    """The same memory with values of at least 1/4, so that powers are smooth."""
    view = array.memory.view
    view.flags.writeable = True
    values = np.abs(array.values.astype(np.float64))
    values = np.where(np.isfinite(values), np.maximum(values, 0.25), 1.0).astype(array.values.dtype)
    flat = tuple(slice(0, 1) if step == 0 else slice(None) for step in view.strides)
    if values.size:
        view[flat] = values[flat]
    if array.style in ("read-only", "broadcast"):
        view.flags.writeable = False
    passed = values.tolist() if isinstance(array.passed, list) else array.passed
    return Given(values, array.style, array.memory, passed, array.memory.buffer.tobytes())


def lp_case(draw: Draw, rank: int) -> Case:
    """Power-average pooling."""
    sizes, outputs, places, divisors, taps, arguments = draw_tables(draw, rank, "power", False)
    dtype = draw(pick(*FLOATS))
    pooled = Pooled(draw, rank, sizes, dtype, batched=False)
    power, only_positive = draw_power(draw)
    source = positive(pooled.input) if only_positive or pooled.tier == "special" else pooled.input
    x, common = pooled.wide(source, dtype), np.dtype(dtype)
    arguments = {**arguments, **pooled.arguments, "norm_type": power}
    tolerance: Any = 0.0
    if np.isinf(power):
        exact, _ = maxima(np.abs(x), places, outputs)
    else:
        sums, size = power_sums(x, places, divisors, taps, float(power))
        with np.errstate(all="ignore"):
            exact = (sums ** (1 / float(power))).reshape(*x.shape[:2], *outputs)
        # Of the sum (powers and their sum), then of the root of it, by its slope; p = 1: the sum's.
        share = (taps + 8) * epsilon(computed_in(common, common))
        ratio = np.where(sums == 0, 0, size / np.where(sums == 0, 1, np.abs(sums)))
        spread = share * (ratio / abs(float(power)) + 2)
        tolerance = pooled.user(
            spread.reshape(exact.shape) * np.abs(exact)
            + (sums == 0).reshape(exact.shape) * share * size.reshape(exact.shape)
        )
    return Case(
        f"lp_pool{rank}d", {"input": source}, arguments, common, pooled.user(exact), tolerance,
        None, ("pool",), "float", settings_of(draw),
    )  # fmt: skip


def pool_grad_case(draw: Draw, reduction: str, adaptive_: bool, rank: int) -> Case:
    """Adjoints of the poolings."""
    tables = draw_tables(draw, rank, reduction, adaptive_, named=False)
    sizes, outputs, places, divisors, taps, arguments = tables
    dtypes = draw_dtypes(draw, 2, FLOATS)
    pooled = Pooled(draw, rank, sizes, dtypes[0], batched=True)
    source, power = pooled.input, None
    if reduction == "power":
        power, _ = draw_power(draw)
        arguments["norm_type"] = power
        source = positive(source)
    common = np.result_type(*map(np.dtype, dtypes))
    shape = pooled.user(
        np.zeros((*from_user(source.values, pooled.last).shape[:2], *outputs))
    ).shape
    grad = given(draw, shape, dtypes[1], "small" if pooled.tier == "special" else pooled.tier)
    arguments.pop("output_size", None)
    x, g = pooled.wide(source, common), pooled.wide(grad, common)
    flat = g.reshape(*g.shape[:2], len(places), 1)
    parts, families, extra = pool_parts(x, flat, places, divisors, outputs, power, reduction, taps)
    expected = pooled.user(add_back(parts, places, sizes))
    eps = epsilon(computed_in(common, common))
    size = pooled.user(add_back(np.abs(parts), places, sizes))
    # Each input is in at most as many windows as there are; each share is rounded ``extra`` times.
    exact_sums = reduction == "max" and pooled.tier != "full"
    tolerance: Any = 0.0 if exact_sums else (len(places) + extra + 2) * eps * size
    base = {"max": "max_pool", "mean": "avg_pool", "power": "lp_pool"}[reduction]
    name = ("adaptive_" if adaptive_ else "") + f"{base}{rank}d_backward"
    arguments = {**arguments, **pooled.arguments}
    return Case(
        name, {"grad_output": grad, "input": source}, arguments, common, expected, tolerance, None,
        families, "float", settings_of(draw),
    )  # fmt: skip


def pool_parts(
    x: Array, flat: Array, places: Array, divisors: Array, outputs: Any, power: Any, reduction: str,
    taps: int,
) -> tuple[Array, tuple[str, ...], int]:  # fmt: skip
    """(N, C, windows, taps): what each window gives each of its taps; the families that run."""
    if reduction == "max" or (power is not None and np.isinf(power)):
        _, where = maxima(np.abs(x) if power else x, places, outputs)
        chosen = where.reshape(*x.shape[:2], len(places), 1)
        hits = (places == chosen) & (places >= 0)
        parts = np.where(hits, flat, 0)
        if power:
            parts = parts * np.sign(read(x, places))
        return parts, ("pool", "pool_grad"), 0
    inside = np.broadcast_to(places >= 0, (*x.shape[:2], *places.shape))
    if reduction == "mean":
        return np.where(inside, flat / divisors[:, None], 0), ("pool_grad",), 4
    sums, _ = power_sums(x, places, divisors, taps, float(power))
    scale = (taps / divisors)[:, None]
    slope = sums[..., None] ** (1 / float(power) - 1) * scale
    bases = read(x, places, 1.0) ** (float(power) - 1)
    return np.where(inside, flat * slope * bases, 0), ("pool", "pool_grad"), taps + 24


def unpool_case(draw: Draw, rank: int, backward: bool) -> Case:
    """Maximum unpooling and its adjoint; indices are random and may repeat."""
    inputs = [draw(ints(1, {1: 8, 2: 4, 3: 3}[rank])) for _ in range(rank)]
    dtype = draw(pick(*FLOATS, *INTEGERS, *COMPLEX))
    kernel = [draw(ints(1, 3)) for _ in range(rank)]
    stride = [draw(ints(1, 3)) for _ in range(rank)]
    pads = [draw(ints(0, size // 2)) for size in kernel]
    rows = list(zip(inputs, kernel, stride, pads, strict=True))
    pads = [pad if (size - 1) * step - 2 * pad + taps > 0 else 0 for size, taps, step, pad in rows]
    rows = list(zip(inputs, kernel, stride, pads, strict=True))
    plane = [(size - 1) * step - 2 * pad + taps for size, taps, step, pad in rows]
    arguments: dict[str, Any] = {}
    if draw(st.booleans()):
        plane = [
            extent + draw(ints(0, step - 1)) for extent, step in zip(plane, stride, strict=True)
        ]
        arguments["output_size"] = draw(pick(tuple, list, np.array))(plane)
    pooled = Pooled(draw, rank, plane if backward else inputs, dtype, batched=backward)
    canonical = from_user(pooled.input.values, pooled.last, pooled.batched)
    n, c = canonical.shape[:2]
    rng = np.random.default_rng(draw(ints(0, 9999)))
    where = rng.integers(0, math.prod(plane), (n, c, *inputs), np.int64)
    indices = Given.make(
        pooled.user(where), draw(pick("plain", "permuted", "negative", "swapped", "read-only")), 1
    )
    if indices.memory.view.dtype != np.int64:
        indices = Given.make(pooled.user(where), "sliced", 1)
    result = np.dtype(dtype)
    layout = {"layout": pooled.arguments["layout"]}
    if backward:
        flat, found = (
            canonical.reshape(n, c, math.prod(plane)),
            where.reshape(n, c, math.prod(inputs)),
        )
        got = np.take_along_axis(flat, found, 2).reshape(n, c, *inputs)
        arrays = {"grad_output": pooled.input, "indices": indices}
        return Case(
            f"max_unpool{rank}d_backward",
            arrays,
            layout,
            result,
            pooled.user(got),
            settings=settings_of(draw),
        )
    out = np.zeros((n, c, math.prod(plane)), canonical.dtype)
    for i, j in np.ndindex(n, c):
        for place, value in zip(where[i, j].ravel(), canonical[i, j].ravel(), strict=True):
            out[i, j, place] = value
    arguments.update(
        kernel_size=size_argument(draw, kernel), stride=size_argument(draw, stride),
        padding=size_argument(draw, pads), **layout,
    )  # fmt: skip
    arrays = {"input": pooled.input, "indices": indices}
    expected = pooled.user(out.reshape(n, c, *plane))
    return Case(
        f"max_unpool{rank}d", arrays, arguments, result, expected, settings=settings_of(draw)
    )
