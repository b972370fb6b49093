"""Fuzz cases of what has no window of its own kind: dense layers, columns, sums, maps, losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .cases import draw_layer
from .checking import Case, Given
from .draws import (
    ACTIVATIONS,
    BACKENDS,
    COMPLEX,
    FLOATS,
    INTEGERS,
    Draw,
    draw_dtypes,
    draw_tier,
    draw_window,
    given,
    ints,
    letters_of,
    pick,
    rarely,
    settings_of,
    size_argument,
    sum_tolerance,
)  # fmt: skip
from .oracle import (
    Bilinear,
    activated,
    add_back,
    computed_in,
    epsilon,
    kind_of,
    read,
    sum_dtype,
    widened,
)  # fmt: skip
from .pools import positive

Array = np.ndarray[Any, Any]
ALL = (*FLOATS, *FLOATS, *INTEGERS, *COMPLEX)


def finite(values: Any) -> Any:
    """0 where a tolerance isn't finite: infinities and NaN are compared as such."""
    return np.where(np.isfinite(values), values, 0)


def linear_case(draw: Draw, role: str) -> Case:
    """``linear`` and its adjoints in input and weight."""
    lead = [draw(pick(1, 2, 3, 7, 0)) for _ in range(draw(ints(0, 3)))]
    features, outs = draw(pick(1, 2, 3, 5, 33)), draw(pick(1, 2, 3, 9))
    dtypes = draw_dtypes(draw, 3, ALL)
    tier = draw_tier(draw, "float" if all(kind_of(d) == "float" for d in dtypes) else "other")
    shapes = {"input": (*lead, features), "weight": (outs, features), "grad_output": (*lead, outs)}
    target = {"forward": "grad_output", "input": "input", "weight": "weight"}[role]
    names = [name for name in shapes if name != target]
    arrays = {n: given(draw, shapes[n], d, tier) for n, d in zip(names, dtypes, strict=False)}
    if role == "forward" and draw(st.booleans()):
        arrays["bias"] = given(draw, (outs,), dtypes[2], tier)
    common = np.result_type(*(array.values.dtype for array in arrays.values()))
    wide = {n: widened(array.values, common) for n, array in arrays.items()}
    rows = {n: v.reshape(math.prod(v.shape[:-1]), v.shape[-1]) for n, v in wide.items()}
    # Every product and its magnitude: (rows, outs, features), summed over what the target lacks.
    with np.errstate(all="ignore"):
        if role == "forward":
            products, axis = rows["input"][:, None] * rows["weight"][None], 2
        elif role == "input":
            products, axis = rows["grad_output"][:, :, None] * rows["weight"].conj()[None], 1
        else:
            products, axis = rows["grad_output"][:, :, None] * rows["input"].conj()[:, None], 0
        exact, size = products.sum(axis=axis), np.abs(products).sum(axis=axis)
        if "bias" in rows:
            exact, size = exact + wide["bias"], size + np.abs(wide["bias"])
    result = sum_dtype(common)
    arguments: dict[str, Any] = {"backend": draw(pick(*BACKENDS))}
    if role == "forward":
        options = {"float": ACTIVATIONS, "integer": (None, "relu", "relu6"), "complex": (None,)}
        arguments["activation"] = draw(pick(*options[kind_of(common)]))
    else:
        arguments[f"{role}_size"] = draw(pick(tuple, list))(shapes[role])
    tolerance = sum_tolerance(common, result, tier, products.shape[axis], size)
    activation = arguments.get("activation")
    expected = activated(exact, activation).reshape(shapes[target])
    if activation not in (None, "relu", "relu6"):
        tolerance = 1.13 * np.asarray(tolerance) + 16 * epsilon(computed_in(common, result)) * (
            np.abs(expected).reshape(exact.shape) + 1e-3
        )
    if np.ndim(tolerance):
        tolerance = finite(tolerance).reshape(shapes[target])
    name = "linear" + ("" if role == "forward" else f"_{role}")
    return Case(
        name, arrays, arguments, result, expected, tolerance, None, ("fprop",),
        "integer" if common.name in ("int32", "int64") else "float", settings_of(draw),
    )  # fmt: skip


def separable_case(draw: Draw, rank: int) -> Case:
    """Two convolutions with a rounding between them: compared exactly, on small integers."""
    layer = draw_layer(draw, "conv", rank, "forward", depthwise=True)
    dtypes = draw_dtypes(draw, 3, ALL)
    middle = layer.shapes["w"][0]
    outs, rank_axes = draw(ints(1, 4)), letters_of(rank)
    x = given(draw, layer.user_shape("x"), dtypes[0], "small")
    depth = given(draw, layer.user_shape("w"), dtypes[1], "small")
    own = dict(zip("OI" + rank_axes, (outs, middle, *(1,) * rank), strict=True))
    point = given(draw, tuple(own[axis] for axis in layer.letters), dtypes[2], "small")
    arrays = {"input": x, "depthwise_weight": depth, "pointwise_weight": point}
    first = sum_dtype(np.result_type(x.values.dtype, depth.values.dtype))
    common = np.result_type(first, point.values.dtype)
    window = layer.window
    oracle = Bilinear(
        window.places(), layer.groups, window.sizes, window.outputs, window.kernel, False
    )
    before = np.result_type(x.values.dtype, depth.values.dtype)
    operands = {
        "x": widened(layer.canonical("x", x.values), before),
        "w": widened(layer.canonical("w", depth.values), before),
    }
    with np.errstate(all="ignore"):
        between = widened(oracle.target("y", operands).astype(first), common)
        weights = widened(layer.canonical("w", point.values), common).reshape(
            1, outs, middle, *(1,) * rank
        )
        exact = (between[:, None] * weights).sum(axis=2)
    arguments = {**layer.arguments, "backend": draw(pick(*BACKENDS))}
    narrow = {"int32", "int64"} & {before.name, common.name}
    return Case(
        f"separable_conv{rank}d", arrays, arguments, sum_dtype(common), layer.user("y", exact), 0.0,
        None, ("fprop",), "integer" if narrow else "float", settings_of(draw),
    )  # fmt: skip


def columns_case(draw: Draw, name: str) -> Case:
    """unfold, fold and their adjoints, which are each other."""
    backward = name.endswith("_backward")
    gathers = name in ("unfold", "fold_backward")
    window = draw_window(draw, 2)
    n, c = draw(pick(1, 2, 3, 0)), draw(ints(1, 3))
    batched = backward or n != 1 or draw(st.booleans())
    dtype = draw(pick(*FLOATS, *INTEGERS, *COMPLEX))
    places = window.places()
    tier = draw_tier(draw, kind_of(dtype))
    image, taps = (n, c, *window.sizes), places.shape[1]
    shape = image if gathers else (n, c * taps, len(places))
    source = given(draw, shape if batched else shape[1:], dtype, tier)
    x = source.values if batched else source.values[None]
    tolerance: Any = 0.0
    if gathers:
        exact = np.moveaxis(read(x, places), 2, 3).reshape(n, c * taps, len(places))
    else:
        wide = widened(x, dtype)
        parts = np.moveaxis(wide.reshape(n, c, taps, len(places)), 2, 3)
        with np.errstate(all="ignore"):
            exact = add_back(parts, places, window.sizes)
            if kind_of(dtype) == "integer":
                exact = exact.astype(dtype)
            size = add_back(np.abs(parts), places, window.sizes)
            tolerance = finite(sum_tolerance(np.dtype(dtype), np.dtype(dtype), tier, taps, size))
    arguments: dict[str, Any] = {
        "kernel_size": size_argument(draw, window.kernel), "padding": window.padding,
        "dilation": size_argument(draw, window.dilation),
        "stride": size_argument(draw, window.stride),
    }  # fmt: skip
    if name == "fold":
        arguments["output_size"] = size_argument(draw, window.sizes)
    if name == "unfold_backward":
        arguments["input_size"] = image
    parameter = "grad_output" if backward else "input"
    if not batched:
        exact, tolerance = exact[0], tolerance[0] if np.ndim(tolerance) else tolerance
    return Case(
        name,
        {parameter: source},
        arguments,
        np.dtype(dtype),
        exact,
        tolerance,
        settings=settings_of(draw),
    )


def sums_case(draw: Draw, name: str) -> Case:
    """Gradients of biases."""
    dtype, rank = draw(pick(*ALL)), draw(ints(1, 3))
    tier = draw_tier(draw, kind_of(dtype))
    shape = [draw(pick(1, 2, 3, 5)) for _ in range(rank + 2)]
    shape[0] = draw(pick(0, 1, 2))
    last = name != "linear_bias" and draw(st.booleans())
    arguments: dict[str, Any] = {}
    if last:
        arguments["layout"] = f"N{letters_of(rank)}C"
    source = given(draw, shape, dtype, tier)
    wide = widened(source.values, dtype)
    canonical = np.moveaxis(wide, -1, 1) if last or name == "linear_bias" else wide
    axes: tuple[int, ...] = (0, *range(2, rank + 2))
    if name == "locally_connected_bias" and draw(st.booleans()):
        arguments["per_position"], axes = True, (0,)
    with np.errstate(all="ignore"):
        exact, size = canonical.sum(axis=axes), np.abs(canonical).sum(axis=axes)
    terms = math.prod(canonical.shape[axis] for axis in axes) + 2
    # Both sides sum in float64.
    tolerance = (
        0.0 if tier == "small" or kind_of(dtype) == "integer" else finite(terms * 2.0**-52 * size)
    )
    return Case(
        name,
        {"grad_output": source},
        arguments,
        sum_dtype(np.dtype(dtype)),
        exact,
        tolerance,
        settings=settings_of(draw),
    )


#: Largest slope of each map, for the rounding of its argument; and roundings of evaluating it.
MAPS = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "gelu", "silu")


def map_case(draw: Draw, name: str) -> Case:
    """Functions of single elements. The oracle's own error (gelu's is that of erfc's argument,
    about x**2 roundings) is in the tolerance too.
    """
    exactly = name in ("relu", "relu6")
    dtype = draw(pick(*FLOATS, *INTEGERS)) if exactly else draw(pick(*FLOATS))
    shape = [draw(pick(1, 2, 3, 5, 0, 40)) for _ in range(draw(ints(0, 3)))]
    source = given(draw, shape, dtype, "full" if exactly else draw(pick("small", "full")))
    exact = activated(widened(source.values, dtype), name)
    eps = epsilon(computed_in(np.dtype(dtype), np.dtype(dtype)))
    tolerance = 0.0 if exactly else 32 * eps * np.abs(exact) + (exact == 0) * 0
    arguments = {"negative_slope": 0.01} if name == "leaky_relu" else {}
    return Case(
        name,
        {"input": source},
        arguments,
        np.dtype(dtype),
        exact,
        tolerance,
        settings=settings_of(draw),
    )


def softmax_case(draw: Draw, name: str) -> Case:
    """Softmax and log_softmax: a gap d is rounded to ``eps |d|``, which exp makes relative."""
    shape = [draw(pick(1, 2, 3, 7)) for _ in range(draw(ints(1, 4)))]
    if rarely(draw):
        shape[0] = 0
    axis = draw(ints(-len(shape), len(shape) - 1))
    implicit = rarely(draw)
    if implicit:
        axis = 0 if len(shape) in (1, 3) else 1
    dtype = draw(pick(*FLOATS))
    source = given(draw, shape, dtype, draw(pick("small", "full")))
    x = widened(source.values, dtype).astype(np.longdouble)
    top = x.max(axis=axis, keepdims=True) if x.size else x
    gaps = x - top
    # An array without elements has sums of nothing.
    with np.errstate(divide="ignore"):
        logs = gaps - np.log(np.exp(gaps).sum(axis=axis, keepdims=True))
    eps = epsilon(computed_in(np.dtype(dtype), np.dtype(dtype)))
    rounds = (shape[axis] + 8 + np.abs(gaps).max(initial=0)) * eps
    exact = np.exp(logs) if name == "softmax" else logs
    tolerance = rounds * np.exp(logs) if name == "softmax" else rounds * (1 + np.abs(logs))
    return Case(
        name, {"input": source}, {"dim": None if implicit else axis}, np.dtype(dtype),
        exact.astype(np.float64), tolerance.astype(np.float64), settings=settings_of(draw),
    )  # fmt: skip


def loss_case(draw: Draw) -> Case:
    """cross_entropy of class indices, without smoothing."""
    n, c = draw(ints(1, 5)), draw(ints(1, 6))
    spatial = [draw(ints(1, 3)) for _ in range(draw(ints(0, 2)))]
    dtype = draw(pick("float32", "float64"))
    x = given(draw, (n, c, *spatial), dtype, draw(pick("small", "full")))
    rng = np.random.default_rng(draw(ints(0, 999)))
    labels = rng.integers(0, c, (n, *spatial)).astype(draw(pick("int64", "int32", "uint8")))
    target = Given.make(labels, draw(pick("plain", "permuted", "swapped", "negative")), 3)
    arrays = {"input": x, "target": target}
    wide = x.values.astype(np.float64)
    gaps = wide - wide.max(axis=1, keepdims=True)
    logs = gaps - np.log(np.exp(gaps).sum(axis=1, keepdims=True))
    chosen = np.expand_dims(target.values.astype(np.int64), 1)
    losses = -np.take_along_axis(logs, chosen, 1)[:, 0]
    scale = np.ones_like(losses)
    if draw(st.booleans()):
        weight = positive(given(draw, (c,), dtype, "full"))
        arrays["weight"] = weight
        scale = weight.values.astype(np.float64)[chosen[:, 0]]
    parts, reduction = losses * scale, draw(pick("none", "mean", "sum"))
    exact = {"none": parts, "sum": parts.sum(), "mean": parts.sum() / scale.sum()}[reduction]
    rounds = (c + parts.size + 12 + np.abs(gaps).max()) * epsilon(dtype)
    size = np.asarray((losses + 1) * scale if reduction == "none" else ((losses + 1) * scale).sum())
    tolerance = rounds * (size / scale.sum() if reduction == "mean" else size)
    return Case(
        "cross_entropy",
        arrays,
        {"reduction": reduction},
        np.dtype(dtype),
        np.asarray(exact),
        tolerance,
        settings=settings_of(draw),
    )


def norm_case(draw: Draw) -> Case:
    """batch_norm in inference; the scale is rounded a few times, the difference once."""
    rank = draw(ints(0, 3))
    shape = [draw(pick(0, 1, 2, 3)), draw(ints(1, 4)), *(draw(ints(1, 3)) for _ in range(rank))]
    dtype = draw(pick(*FLOATS))
    x = given(draw, shape, dtype, draw(pick("small", "full")))
    own = "float32" if dtype != "float64" else "float64"
    arrays = {"input": x, "running_mean": given(draw, (shape[1],), own, "full")}
    arrays["running_var"] = positive(given(draw, (shape[1],), own, "full"))
    for name in ("weight", "bias"):
        if draw(st.booleans()):
            arrays[name] = given(draw, (shape[1],), own, "full")
    across = (1, -1, *(1,) * rank)
    wide = {
        n: a.values.astype(np.float64).reshape(across) for n, a in arrays.items() if n != "input"
    }
    values = x.values.astype(np.float64)
    scale = wide.get("weight", 1.0) / np.sqrt(wide["running_var"] + 1e-5)
    exact = (values - wide["running_mean"]) * scale + wide.get("bias", 0.0)
    size = (np.abs(values) + np.abs(wide["running_mean"])) * np.abs(scale) + np.abs(
        wide.get("bias", 0.0)
    )
    tolerance = 8 * epsilon(own) * size
    return Case(
        "batch_norm", arrays, {}, np.dtype(dtype), exact, tolerance, settings=settings_of(draw)
    )
