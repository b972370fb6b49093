"""The C functions of ``pool`` give what ``cnnfast.functional`` gives, to the bit."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest

import cnnfast

from c_pointers import (
    DTYPES,
    INT,
    INT64,
    LETTERS,
    POINTER,
    POOL_FIELDS,
    TAPS,
    Array,
    Struct,
    address,
    function,
    spread_out,
    status,
    strides_of,
)

pool = pytest.importorskip("cnnfast.kernels.cython_cpu.pool", reason="the extensions aren't built")

POOL = {"max": (POINTER,) * 5 + (INT64, POINTER), "avg": (POINTER,) * 4 + (INT64, POINTER)}


def pool_case(seed: int, kind: str) -> tuple[Struct, Array, dict[str, Any]]:
    pick = random.Random(seed).choice
    rank = pick((1, 2, 2, 3))
    window = [pick((1, 2, 3, 3, 5)) for _ in range(rank)]
    stride = [pick((1, 2, 3)) for _ in range(rank)]
    dilation = [pick((1, 1, 2)) if kind == "max" else 1 for _ in range(rank)]
    padding = [pick(range(extent // 2 + 1)) for extent in window]
    size = [d * (t - 1) + 1 + pick((0, 3, 8, 20)) for d, t in zip(dilation, window, strict=True)]
    shape = pick((1, 2)), pick((1, 3, 16)), *size
    ceil, counts, divisor = pick((False, True)), pick((True, False)), pick((None, None, 3))
    arguments: dict[str, Any] = {
        "kernel_size": tuple(window), "stride": tuple(stride), "padding": tuple(padding),
        "ceil_mode": ceil,
    }  # fmt: skip
    given = {"n": shape[0], "c": shape[1], "ceil_mode": int(ceil)}
    if kind == "max":
        arguments["dilation"] = tuple(dilation)
    else:
        arguments["count_include_pad"], given["count_include_pad"] = counts, int(counts)
        if divisor and rank > 1:
            arguments["divisor_override"] = given["divisor"] = divisor
    for i, letter in enumerate(LETTERS[rank]):
        given |= {letter: size[i], TAPS[rank][i]: window[i], f"stride_{letter}": stride[i]}
        given |= {f"dilation_{letter}": dilation[i]}
        given |= {f"before_{letter}": padding[i], f"after_{letter}": padding[i]}
    x = np.random.default_rng(seed).standard_normal(shape)
    return Struct(POOL_FIELDS, **given), x, arguments


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pools_have_the_bits_of_functional(kind: str, dtype: str) -> None:
    for seed in range(80):
        shape, values, arguments = pool_case(seed, kind)
        rng, x = np.random.default_rng(seed), values.astype(dtype)
        reduce = getattr(cnnfast, f"{kind}_pool{x.ndim - 2}d")
        more = {"return_indices": True} if kind == "max" else {}
        wanted = reduce(x, **arguments, **more, backend="cython")
        wanted, places = wanted if kind == "max" else (wanted, None)
        run = function(pool, f"{kind}_pool_{dtype}", INT, *POOL[kind])
        ints = shape.ints
        size = function(pool, "pool_scratch_bytes", INT64, POINTER)(address(ints))
        for strided, threads in itertools.product((False, True), (1, 3)):
            random.seed(seed)
            out = np.full_like(wanted, np.nan)
            found = np.full(wanted.shape, -7, np.int64)
            given, memory = x, np.empty(size, np.uint8)
            if strided:
                given, out, found = (spread_out(rng, array) for array in (x, out, found))
            strides = strides_of(given, out, found)
            arrays = address(given), address(out), *([address(found)] if kind == "max" else [])
            code = run(
                address(ints), address(strides) if strided else None, *arrays, threads,
                address(memory) if strided else None,
            )  # fmt: skip
            assert code == 0, (status(code), arguments)
            assert np.array_equal(out, wanted), arguments
            assert places is None or np.array_equal(found, places), arguments
        if kind == "max":
            out = np.full_like(wanted, np.nan)
            assert run(address(ints), None, address(x), address(out), None, 1, None) == 0
            assert np.array_equal(out, wanted)


def test_means_of_windows_with_holes() -> None:
    """No function of Python's has them: the mean of the taps."""
    x = np.random.default_rng(0).standard_normal((2, 3, 1, 1, 23))
    ints = Struct(POOL_FIELDS, n=2, c=3, w=23, s=3, dilation_w=2, before_w=1, after_w=1).ints
    padded = np.pad(x, ((0, 0),) * 4 + ((1, 1),))
    taps = [padded[..., tap : tap + 21] for tap in (0, 2, 4)]
    inside = [np.pad(np.ones(23), 1)[tap : tap + 21] for tap in (0, 2, 4)]
    out = np.full((2, 3, 1, 1, 21), np.nan)
    run = function(pool, "avg_pool_float64", INT, *POOL["avg"])
    for counts, divisor in ((1, 3), (0, sum(inside))):
        ints[POOL_FIELDS.index("count_include_pad")] = counts
        assert run(address(ints), None, address(x), address(out), 1, None) == 0
        assert np.allclose(out, sum(taps) / divisor, rtol=1e-15, atol=1e-15)


def test_bad_pools_are_a_status() -> None:
    run = function(pool, "avg_pool_float32", INT, *POOL["avg"])
    good = {"n": 1, "c": 2, "h": 8, "w": 8, "r": 3, "s": 3}
    for text, bad in (
        ("padding must not", {"before_h": 2}),
        ("padding must not", {"after_w": -1}),
        ("the kernel must fit", {"r": 9}),
        ("the kernel must fit", {"dilation_w": 2**40}),
        ("extents must be positive", {"c": 0}),
        ("strides and dilations", {"stride_w": 0}),
        ("arrays or operations", {"n": 2**50}),
        ("NULL", {}),
    ):
        ints = Struct(POOL_FIELDS, **{**good, **bad}).ints
        code = run(address(ints), None, None, None, 1, None)
        assert text in status(code), (text, bad)
        if bad:
            assert function(pool, "pool_scratch_bytes", INT64, POINTER)(address(ints)) == code
