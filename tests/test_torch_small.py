"""The small functions against torch: seeded cases by the hundred, and torch's own errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnfast.functional import elementwise, normalising, unfolding, unpooling

from peers.small_refused import REFUSED
from peers.torch_peer import array, bfloat16, close, eps_of, peer, tensor, torch

pytestmark = pytest.mark.skipif(torch is None, reason="torch isn't installed")

Array = np.ndarray[Any, Any]
CASES = range(300)
NAMES = ["float16", "float32", "float64", *(["bfloat16"] if bfloat16 else [])]
MINE: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module, names in (
        (elementwise, ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "gelu", "silu")),
        (normalising, ("softmax", "log_softmax", "cross_entropy", "batch_norm")),
        (unfolding, ("unfold", "fold")),
        (unpooling, ("max_unpool1d", "max_unpool2d", "max_unpool3d")),
    )
    for name in names
}


def float_dtype(random: np.random.Generator, half: bool = True) -> np.dtype[Any]:
    names: list[Any] = ["float32", "float64"]
    if half:
        names += ["float16", *([bfloat16] if bfloat16 else [])]
    return np.dtype(names[random.integers(len(names))])


def shape_of(random: np.random.Generator, least: int, most: int) -> tuple[int, ...]:
    return tuple(random.integers(1, 6, random.integers(least, most + 1)).tolist())


@pytest.mark.parametrize("seed", CASES)
def test_elementwise(seed: int) -> None:
    random = np.random.default_rng(seed)
    dtype = float_dtype(random)
    x = random.normal(0, random.choice([0.5, 3, 20]), shape_of(random, 0, 4)).astype(dtype)
    if x.size > 3:
        x.flat[:3] = [np.nan, -0.0, 0.0]
    for name, kwargs in (
        ("relu", {}), ("relu6", {}), ("leaky_relu", {}), ("sigmoid", {}), ("tanh", {}),
        ("gelu", {}), ("silu", {}), ("gelu", {"approximate": "tanh"}),
        ("leaky_relu", {"negative_slope": float(random.normal())}),
    ):  # fmt: skip
        mine, other = np.asarray(MINE[name](x, **kwargs)), array(peer(name, x, **kwargs))
        computed = dtype if dtype.itemsize > 2 else np.dtype(np.float32)
        size = np.abs(other.astype(np.float64))
        if name == "gelu":
            # torch adds 1 to erf and tanh, which leaves an error of x in the left tail.
            size = np.maximum(size, np.abs(x.astype(np.float64)))
        # ... and its exp(-x) overflows where this one's sigmoid is not normal any more.
        tiny = float(np.finfo(computed).tiny) * (1 + np.abs(x.astype(np.float64)))
        bound = 4 * eps_of(computed) * np.abs(size) + tiny
        if dtype != computed:
            # Rounded once, from values on either side of a midpoint: a unit in the last place.
            smallest = 2.0**-24 if dtype == np.float16 else 2.0**-133
            bound = bound + eps_of(dtype) * np.abs(other.astype(np.float64)) + smallest
        close(mine, other, np.nan_to_num(bound))
        zeros = other == 0
        if name != "silu" and dtype == computed:
            np.testing.assert_array_equal(np.signbit(mine)[zeros], np.signbit(other)[zeros])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_integers(dtype: str) -> None:
    x = np.random.default_rng(0).integers(-100, 100, (5, 6)).astype(dtype)
    for name in ("relu", "relu6"):
        close(MINE[name](x), array(peer(name, x)), 0)


def softmax_bounds(x: Array, axis: int, p: Array) -> tuple[Array, Array]:
    """Of softmax and its logarithm: both sides' error, from the exponents, the sum and the rest."""
    wide = x.astype(np.float64).reshape(x.shape or (1,))
    spread = np.abs(wide - wide.max(axis, keepdims=True)).reshape(x.shape)
    eps = eps_of(x.dtype if x.dtype.itemsize > 2 else np.dtype(np.float32))
    terms = (x.shape or (1,))[axis] + 2
    powers, logs = (terms + spread) * eps * p, (terms + 2 * spread) * eps
    if x.dtype.itemsize == 2:
        powers += eps_of(x.dtype) * p + 2.0**-24
        logs += eps_of(x.dtype) * (spread + np.log(terms))
    return 2 * powers, 2 * logs


@pytest.mark.parametrize("seed", CASES)
def test_softmax(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(0, random.choice([1, 10]), shape_of(random, 0, 4)).astype(float_dtype(random))
    axes = max(x.ndim, 1)
    dim = int(random.integers(-axes, axes))
    p = array(peer("softmax", x, dim)).astype(np.float64)
    powers, logs = softmax_bounds(x, dim, p)
    close(MINE["softmax"](x, dim), array(peer("softmax", x, dim)), powers)
    close(MINE["log_softmax"](x, dim), array(peer("log_softmax", x, dim)), logs)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("cast", [None, *NAMES])
@pytest.mark.parametrize("rank", range(5))
def test_softmax_without_dim_and_with_dtype(rank: int, cast: str | None, name: str) -> None:
    random = np.random.default_rng(rank)
    wanted = None if cast is None else np.dtype(bfloat16 if cast == "bfloat16" else cast)
    inputs = [np.asarray(random.normal(size=(2, 3, 4, 5)[:rank]), np.dtype(d)) for d in "fd"]
    if wanted is not None:
        inputs.append(np.asarray(random.integers(-4, 5, (2, 3, 4, 5)[:rank])))
    for x in inputs:
        theirs = {"dtype": getattr(torch, cast)} if cast else {}
        for given, dim in (({}, None), ({"dim": None}, None), ({"dim": rank // 2}, rank // 2)):
            if not rank and dim is not None:
                continue
            other = array(peer(name, x, **given, **theirs))
            mine = MINE[name](x, **given, dtype=wanted)
            axis = dim if dim is not None else 0 if rank in (0, 1, 3) else 1
            used = x if wanted is None else x.astype(wanted)
            p = array(peer("softmax", used, axis)).astype(np.float64)
            close(mine, other, softmax_bounds(used, axis, p)[name == "log_softmax"])


def loss_parts(x: Array, y: Array, axis: int, kwargs: dict[str, Any]) -> Any:
    """The loss with every term's magnitude: |score| + |log of the sum| + 1 for share and weight."""
    wide = np.moveaxis(x.astype(np.float64), axis, -1)
    classes = wide.shape[-1]
    norm = np.log(np.exp(wide).sum(-1, keepdims=True))
    weight = kwargs.get("weight", np.ones(classes)).astype(np.float64)
    if y.dtype.kind == "f":
        shares, kept, counts = np.moveaxis(y, axis, -1), np.ones(wide.shape[:-1]), None
    else:
        shares, kept = np.eye(classes)[y], y != kwargs.get("ignore_index", -100)
        counts = weight[y] * kept
    smoothing = kwargs.get("label_smoothing", 0.0)
    shares = (1 - smoothing) * shares + smoothing / classes
    parts = kept * (shares * weight * (np.abs(wide) + np.abs(norm) + 1)).sum(-1)
    if kwargs["reduction"] == "none":
        return parts
    if kwargs["reduction"] == "sum":
        return parts.sum()
    return parts.sum() / max(kept.size if counts is None else counts.sum(), 1e-300)


@pytest.mark.parametrize("seed", CASES)
def test_cross_entropy(seed: int) -> None:
    random = np.random.default_rng(seed)
    dtype = float_dtype(random, half=False)
    shape = shape_of(random, 1, 4)
    axis = min(len(shape) - 1, 1)
    classes = shape[axis]
    x = random.normal(0, 2, shape).astype(dtype)
    kwargs: dict[str, Any] = {"reduction": random.choice(["none", "mean", "sum"]).item()}
    if random.random() < 0.5:
        kwargs["label_smoothing"] = float(random.choice([0.0, 0.1, 1.0]))
    if random.random() < 0.5:
        kwargs["weight"] = random.uniform(0, 2, classes).astype(dtype)
    y: Array
    if random.random() < 0.4:
        y = random.random(shape).astype(dtype)
    else:
        y = random.integers(0, classes, shape[:axis] + shape[axis + 1 :])
        y = np.asarray(y)
        if random.random() < 0.5:
            kwargs["ignore_index"] = int(random.integers(0, classes))
    # torch takes int64 and, for some shapes, uint8.
    given = y.astype(random.choice(list("bhiqBHIQ")).item()) if y.dtype.kind == "i" else y
    mine = MINE["cross_entropy"](x, given, **kwargs)
    other = array(peer("cross_entropy", x, y, **kwargs))
    parts = loss_parts(x, y, axis, kwargs)
    terms = classes if kwargs["reduction"] == "none" else x.size
    close(mine, other, 2 * (terms + 2) * eps_of(dtype) * parts)


@pytest.mark.parametrize("seed", CASES)
def test_batch_norm(seed: int) -> None:
    random = np.random.default_rng(seed)
    dtype = float_dtype(random)
    shape = shape_of(random, 2, 5)
    training = bool(random.random() < 0.5 and np.prod(shape) > shape[1])
    x = random.normal(random.normal(), 2, shape).astype(dtype)
    wide = dtype if dtype.itemsize > 2 and random.random() < 0.5 else np.dtype(np.float32)
    wide = dtype if dtype == np.float64 else wide
    mean, var = random.normal(size=shape[1]).astype(wide), random.random(shape[1]).astype(wide)
    weight, bias = random.normal(size=(2, shape[1])).astype(wide)
    given: dict[str, Any] = {"training": training}
    given |= {"weight": weight, "bias": bias} if random.random() < 0.5 else {}
    given |= {"eps": 0.1, "momentum": 0.4} if random.random() < 0.5 else {}
    theirs = [tensor(mean), tensor(var)]
    if training and random.random() < 0.2:
        theirs, mean, var = [None, None], None, None  # type: ignore[list-item, assignment]
    other = array(peer("batch_norm", x, *theirs, **given))
    if mean is None and "weight" not in given and dtype.itemsize == 2:
        # Nothing given is wider than the input, and torch rounds the batch's statistics to halves.
        other = array(peer("batch_norm", x.astype(np.float32), None, None, **given)).astype(dtype)
    used_mean, used_var = (mean, var)
    if training:
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        used_mean, used_var = (f(x.astype(np.float64), axis=axes) for f in (np.mean, np.var))
    old = None if mean is None else (mean.copy(), var.copy())
    mine = MINE["batch_norm"](x, mean, var, **given)
    across = (-1, *(1,) * (x.ndim - 2))
    scale = 1 / np.sqrt(used_var.astype(np.float64) + given.get("eps", 1e-5))
    scale *= np.abs(given["weight"]) if "weight" in given else 1
    size = (np.abs(x.astype(float)) + np.abs(used_mean).reshape(across)) * scale.reshape(across)
    size += np.abs(given["bias"]).reshape(across) if "bias" in given else 0
    count = x.size // shape[1]
    computed = dtype if dtype.itemsize > 2 else np.dtype(np.float32)
    bound = 2 * (count + 2) * eps_of(computed) * size
    if dtype != computed:
        bound = bound + eps_of(dtype) * np.abs(other.astype(np.float64)) + 2.0**-24
    close(mine, other, bound)
    if training and old is not None:
        unit = (count + 2) * eps_of(wide)
        means = np.abs(old[0]) + np.abs(x.astype(float)).max()
        close(mean, array(theirs[0]), 2 * unit * means)
        squares = np.abs(old[1]) + np.square(x.astype(float)).max() * 2
        close(var, array(theirs[1]), 2 * unit * squares)


def window(random: np.random.Generator, low: int, high: int) -> Any:
    if random.random() < 0.5:
        return int(random.integers(low, high))
    return tuple(random.integers(low, high, 2).tolist())


@pytest.mark.parametrize("seed", CASES)
def test_unfold_and_fold(seed: int) -> None:
    random = np.random.default_rng(seed)
    choice = random.integers(3)
    dtype = np.dtype("complex64") if not choice else float_dtype(random)
    size = tuple(random.integers(1, 9, 2).tolist())
    shape = (*((int(random.integers(0, 3)),) if random.random() < 0.7 else ()), 3, *size)
    x = random.normal(size=shape).astype(dtype)
    args = window(random, 1, 4), window(random, 1, 3), window(random, 0, 3), window(random, 1, 4)
    try:
        other = peer("unfold", x, *args)
    except RuntimeError:
        with pytest.raises(ValueError, match="unfold: the kernel must fit the padded input"):
            MINE["unfold"](x, *args)
        return
    columns = MINE["unfold"](x, *args)
    assert (columns.shape, columns.dtype) == (tuple(other.shape), dtype)
    np.testing.assert_array_equal(columns, array(other))
    columns = random.normal(size=columns.shape).astype(dtype)
    mine, folded = MINE["fold"](columns, size, *args), array(peer("fold", columns, size, *args))
    taps = int(np.prod(args[0])) if isinstance(args[0], tuple) else args[0] ** 2
    real = np.dtype(np.float32) if dtype.kind == "c" else dtype
    largest = float(np.abs(columns.astype(complex)).max(initial=0)) * taps
    # torch sums halves in halves; here they are summed in float32.
    bound = (taps + 2) * eps_of(real) * largest
    for part in (np.real, np.imag) if dtype.kind == "c" else (np.asarray,):
        close(np.asarray(part(mine)), np.asarray(part(folded)), bound)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(100))
def test_max_unpool(rank: int, seed: int) -> None:
    random = np.random.default_rng([seed, rank])
    dtype = float_dtype(random, half=False)
    size = tuple(random.integers(4, 9, rank).tolist())
    shape = (*((2,) if random.random() < 0.7 else ()), 3, *size)
    x = random.normal(size=shape).astype(dtype)
    kernel = tuple(random.integers(1, 4, rank).tolist())
    stride = tuple(random.integers(1, 4, rank).tolist()) if random.random() < 0.5 else None
    padding = tuple((extent // 2 if random.random() < 0.5 else 0) for extent in kernel)
    name = f"max_pool{rank}d"
    maxima, indices = peer(name, x, kernel, stride, padding, return_indices=True)
    maxima, indices = array(maxima), array(indices)
    if random.random() < 0.5:
        # No index twice, so that the order of torch's threads decides nothing.
        maxima = np.ones_like(maxima)
    output_size = None if random.random() < 0.3 else size
    if random.random() < 0.2 and len(shape) == rank + 2:
        output_size = shape
    if output_size is None and random.random() < 0.3:
        output_size = tuple(extent + int(random.integers(-1, 2)) for extent in size)
    name = f"max_unpool{rank}d"
    args = maxima, indices, kernel, stride, padding, output_size
    try:
        other = array(peer(name, *args))
    except (RuntimeError, ValueError):
        with pytest.raises(ValueError, match=name):
            MINE[name](*args)
        return
    close(MINE[name](*args), other, 0)


@pytest.mark.parametrize("case", REFUSED, ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)])
def test_what_torch_refuses_is_refused(case: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    name, args, kwargs = case
    with pytest.raises(Exception):  # noqa: B017, PT011 (torch raises what it likes)
        peer(name, *args, **kwargs)
    with pytest.raises((ValueError, TypeError), match=name):
        MINE[name](*args, **kwargs)
