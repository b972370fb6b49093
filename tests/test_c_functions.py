"""The C functions of ``conv`` give what ``cnnfast.functional`` gives, to the bit."""

from __future__ import annotations

import ctypes
import itertools
import math
import random
import threading
from typing import Any

import numpy as np
import pytest

import cnnfast

from c_pointers import (
    CONV_FIELDS,
    DTYPES,
    INT,
    INT64,
    LETTERS,
    POINTER,
    TAPS,
    Array,
    Struct,
    address,
    function,
    spread_out,
    status,
    strides_of,
)

conv = pytest.importorskip(
    "cnnfast.kernels.cython_cpu.conv", reason="the extensions aren't built", exc_type=ImportError
)

CONV = (POINTER,) * 6 + (INT64, INT64, POINTER)


def call_conv(
    shape: Struct, x: Array, weight: Array, bias: Array | None, out: Array, *,
    transposed: bool = False, activation: int = 0, threads: int = 1, scratch: bool = False,
    contiguous: bool = False,
) -> int:  # fmt: skip
    name = "conv_transpose" if transposed else "conv"
    run = function(conv, f"{name}_{x.dtype.name}", INT, *CONV)
    ints, strides, memory = shape.ints, strides_of(x, weight, out), None
    if scratch:
        size = function(conv, f"{name}_scratch_bytes", INT64, POINTER, POINTER, INT64, INT64)
        needed = size(address(ints), address(strides), x.itemsize, threads)
        assert needed >= 0, status(needed)
        memory = np.full(needed + 64, 0x7F, np.uint8)
    code: int = run(
        address(ints), None if contiguous else address(strides), address(x), address(weight),
        address(bias), address(out), activation, threads, address(memory),
    )  # fmt: skip
    assert memory is None or (memory[-64:] == 0x7F).all(), "wrote behind its scratch"
    return code


def conv_case(seed: int, transposed: bool) -> dict[str, Any]:
    pick = random.Random(seed).choice
    rank, groups = pick((1, 2, 2, 3)), pick((1, 1, 1, 2, 3, 8))
    most = (4, 7, 9, 14) if rank == 3 else (1, 5, 8, 16, 27, 40)
    c, k = pick((1, 1, 2, 3, 8, 17)), pick((1, 1, 2, 4, 5, 16, 33))
    kernel = [pick((1, 1, 2, 3, 3, 5)) for _ in range(rank)]
    stride = [pick((1, 1, 2, 3)) for _ in range(rank)]
    dilation = [pick((1, 1, 2)) for _ in range(rank)]
    padding = [(pick((0, 1, 2)), pick((0, 1, 2))) for _ in range(rank)]
    extra = [pick(range(max(*axis))) for axis in zip(stride, dilation, strict=True)]
    spans = [d * (t - 1) + 1 for d, t in zip(dilation, kernel, strict=True)]
    size = [max(pick(most), span + 4) for span in spans]
    return {
        "rank": rank, "n": pick((1, 1, 2, 5)), "c": c * groups, "k": k * groups, "size": size,
        "kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding,
        "groups": groups, "extra": extra if transposed else [0] * rank, "bias": pick((0, 1)),
        "activation": pick((None, None, "relu", "relu6")),
    }  # fmt: skip


def shape_of(case: dict[str, Any]) -> Struct:
    rank, letters = case["rank"], LETTERS[case["rank"]]
    given = {"n": case["n"], "c": case["c"], "k": case["k"], "groups": case["groups"]}
    for i in range(rank):
        given[letters[i]], given[TAPS[rank][i]] = case["size"][i], case["kernel"][i]
        for name in ("stride", "dilation"):
            given[f"{name}_{letters[i]}"] = case[name][i]
        given[f"before_{letters[i]}"], given[f"after_{letters[i]}"] = case["padding"][i]
        given[f"output_padding_{letters[i]}"] = case["extra"][i]
    return Struct(CONV_FIELDS, **given)


def arrays_of(case: dict[str, Any], dtype: str, transposed: bool) -> tuple[Any, Array, Array, Any]:
    rng = np.random.default_rng(5)
    first, second = (case["c"], case["k"]) if transposed else (case["k"], case["c"])
    x = rng.standard_normal((case["n"], case["c"], *case["size"])).astype(dtype)
    weight = rng.standard_normal((first, second // case["groups"], *case["kernel"])).astype(dtype)
    bias = rng.standard_normal(case["k"]).astype(dtype) if case["bias"] else None
    return rng, x, weight, bias


def expected_conv(
    case: dict[str, Any], x: Array, weight: Array, bias: Any, transposed: bool
) -> Any:
    name = f"conv_transpose{case['rank']}d" if transposed else f"conv{case['rank']}d"
    more = {"output_padding": tuple(case["extra"])} if transposed else {}
    return getattr(cnnfast, name)(
        x, weight, bias, tuple(case["stride"]), tuple(case["padding"]), groups=case["groups"],
        dilation=tuple(case["dilation"]), activation=case["activation"],
        backend="tiled/cython" if transposed else "cython", **more,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize("block", range(4))
def test_convolutions_have_the_bits_of_functional(dtype: str, transposed: bool, block: int) -> None:
    for seed in range(30 * block, 30 * block + 30):
        case = conv_case(seed, transposed)
        rng, x, weight, bias = arrays_of(case, dtype, transposed)
        wanted = expected_conv(case, x, weight, bias, transposed)
        code = {None: 0, "relu": 1, "relu6": 2}[case["activation"]]
        shape = shape_of(case)
        for strided, threads, scratch in ((False, 1, False), (True, 3, True)):
            random.seed(seed)
            out = np.full_like(wanted, np.nan)
            given = x, weight
            if strided:
                given = spread_out(rng, x), spread_out(rng, weight)
                out = spread_out(rng, out)
            done = call_conv(
                shape, *given, bias, out, transposed=transposed, activation=code,
                threads=threads, scratch=scratch, contiguous=not strided,
            )  # fmt: skip
            assert done == 0, (status(done), case)
            assert np.array_equal(out, wanted), (case, strided)


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
def test_weights_that_are_not_finite(transposed: bool) -> None:
    """Padding is zeros that are multiplied; of a transposed convolution there is none."""
    for seed in range(40):
        case = conv_case(seed, transposed)
        _, x, weight, bias = arrays_of(case, "float32", transposed)
        weight.reshape(-1)[0], case["activation"] = np.inf, None
        wanted = expected_conv(case, x, weight, bias, transposed)
        out = np.zeros_like(wanted)
        assert call_conv(shape_of(case), x, weight, bias, out, transposed=transposed) == 0
        assert np.array_equal(np.isfinite(out), np.isfinite(wanted)), case
        assert np.array_equal(np.isnan(out), np.isnan(wanted)), case


def test_the_output_of_a_shape() -> None:
    extents = np.zeros(5, np.int64)
    for seed, transposed in itertools.product(range(40), (False, True)):
        case = conv_case(seed, transposed)
        _, x, weight, bias = arrays_of(case, "float32", transposed)
        wanted = expected_conv(case, x, weight, bias, transposed)
        name = "conv_transpose_output" if transposed else "conv_output"
        found = function(conv, name, INT, POINTER, POINTER)
        assert found(address(shape_of(case).ints), address(extents)) == 0
        lifted = (*wanted.shape[:2], *(1,) * (3 - case["rank"]), *wanted.shape[2:])
        assert tuple(extents) == lifted


def test_a_function_as_activation() -> None:
    @ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_float), ctypes.c_int64)
    def halve(values: Any, count: int) -> None:
        for i in range(count):
            values[i] *= 0.5

    pointer = ctypes.cast(halve, ctypes.c_void_p).value
    for transposed in (False, True):
        # Of the transposed one there are results that no input reaches.
        case = {**conv_case(3, transposed), "activation": None, "bias": 1}
        rank = case["rank"]
        case |= {"stride": [3] * rank, "kernel": [1] * rank, "padding": [(0, 0)] * rank}
        case |= {"dilation": [1] * rank, "extra": [2 * transposed] * rank}
        _, x, weight, bias = arrays_of(case, "float32", transposed)
        wanted = expected_conv(case, x, weight, bias, transposed) * np.float32(0.5)
        out = np.full_like(wanted, np.nan)
        assert call_conv(
            shape_of(case), x, weight, bias, out, transposed=transposed, activation=pointer or 0
        ) == 0  # fmt: skip
        assert np.array_equal(out, wanted)


GOOD = {"n": 2, "c": 4, "h": 9, "w": 9, "k": 6, "r": 3, "s": 3}
TEXTS = {
    "extents must be positive": [
        {"n": -1}, {"c": 0}, {"k": -3}, {"h": 0}, {"d": -5}, {"s": 0}, {"w": -(2**63)},
    ],
    "strides and dilations": [{"stride_h": 0}, {"dilation_w": -1}, {"stride_d": -(2**62)}],
    "padding must not": [{"before_h": -1}, {"after_d": -7}, {"output_padding_w": 1}],
    "groups must divide": [{"groups": 0}, {"groups": 3}, {"groups": -2}, {"groups": 4}],
    "the kernel must fit": [{"r": 10}, {"dilation_w": 5}, {"t": 2}, {"dilation_h": 2**40}],
    "arrays or operations": [
        {"n": 2**40}, {"before_w": 2**62}, {"n": 2**62}, {"stride_w": 2**63 - 1},
        {"c": 2**44, "k": 2**44}, {"h": 2**40, "w": 2**40},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "bad"), [(text, bad) for text, every in TEXTS.items() for bad in every]
)
def test_bad_geometry_is_a_status(text: str, bad: dict[str, int]) -> None:
    """Nothing is read or written: the arrays are NULL."""
    ints = Struct(CONV_FIELDS, **{**GOOD, **bad}).ints
    run = function(conv, "conv_float32", INT, *CONV)
    code = run(address(ints), None, None, None, None, None, 0, 1, None)
    assert code < 0
    assert text in status(code)
    size = function(conv, "conv_scratch_bytes", INT64, POINTER, POINTER, INT64, INT64)
    assert size(address(ints), None, 4, 1) == code


def test_bad_geometry_of_a_transposed_convolution() -> None:
    run = function(conv, "conv_transpose_float64", INT, *CONV)
    for bad, text in (
        ({"output_padding_h": 1}, "padding must not"),
        ({"before_h": 9, "after_h": 9}, "extents must be positive"),
        ({"stride_h": 2**40, "h": 2**20}, "arrays or operations"),
        ({"dilation_h": 2**40, "r": 2**30}, "arrays or operations"),
        ({"groups": 5}, "groups must divide"),
    ):
        ints = Struct(CONV_FIELDS, **{**GOOD, **bad}).ints
        code = run(address(ints), None, None, None, None, None, 0, 1, None)
        assert text in status(code), bad


def test_bad_arguments_are_a_status() -> None:
    run = function(conv, "conv_float32", INT, *CONV)
    ints, x = Struct(CONV_FIELDS, **GOOD).ints, np.ones(2 * 4 * 81, np.float32)
    good = address(ints), None, address(x), address(x), None, address(x)
    for text, arguments in (
        ("NULL", (None, *good[1:], 0, 1, None)),
        ("NULL", (*good[:2], None, *good[3:], 0, 1, None)),
        ("an activation", (*good, -1, 1, None)),
        ("an activation", (*good, 3, 1, None)),
        ("threads", (*good, 0, 0, None)),
    ):
        assert text in status(run(*arguments))
    assert status(-99) == status(7) == "not a status of cnnfast"
    assert status(0) == "computed"
    empty = Struct(CONV_FIELDS, **{**GOOD, "n": 0}).ints
    assert run(address(empty), None, None, None, None, None, 0, 1, None) == 0


def test_garbage_is_a_status_or_a_size() -> None:
    """Whatever the fields are, nothing crashes, divides by zero or takes long."""
    pick = random.Random(0).choice
    size = (POINTER, POINTER, INT64, INT64)
    functions = [
        function(conv, f"{name}_scratch_bytes", INT64, *size) for name in ("conv", "conv_transpose")
    ]
    outputs = [
        function(conv, f"{name}_output", INT, POINTER, POINTER)
        for name in ("conv", "conv_transpose")
    ]
    values = (*range(5), 7, 64, 1000, 2**20, 2**31, 2**40, 2**62, -1, -(2**63))
    extents, good = np.zeros(5, np.int64), 0
    for _ in range(20000):
        ints = Struct(CONV_FIELDS, **GOOD).ints
        for _ in range(pick(range(1, 9))):
            ints[pick(range(len(CONV_FIELDS)))] = pick(values)
        for scratch, output in zip(functions, outputs, strict=True):
            needed = scratch(address(ints), None, pick((4, 8)), pick((1, 5)))
            assert (needed < 0) == (output(address(ints), address(extents)) < 0)
            assert needed < 0 or extents.prod() < 2**48
            good += needed >= 0
    assert good > 1000


def test_many_threads_at_once() -> None:
    """Python's threads run these side by side, each with helpers of its own."""
    case = {**conv_case(1, False), "rank": 2, "n": 2, "c": 16, "k": 24, "size": [40, 40]}
    case |= {"kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "padding": [(1, 1), (1, 1)]}
    case |= {"groups": 1, "extra": [0, 0]}
    _, x, weight, bias = arrays_of(case, "float32", False)
    shape, results = shape_of(case), []
    wanted = expected_conv(case, x, weight, bias, False)
    code = {None: 0, "relu": 1, "relu6": 2}[case["activation"]]

    def work(threads: int) -> None:
        for _ in range(8):
            out = np.full_like(wanted, np.nan)
            done = call_conv(shape, x, weight, bias, out, threads=threads, activation=code)
            results.append(done == 0 and np.array_equal(out, wanted))

    workers = [threading.Thread(target=work, args=(1 + i % 4,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 64


def test_cuts_and_choices_are_pythons() -> None:
    """What a call from C does is what the planner and the drivers would do."""
    from cnnfast.kernels import blocking, blocking_rows
    from cnnfast.kernels.costs import PART_START
    from cnnfast.kernels.cython_cpu import _choice, _cuts
    from cnnfast.kernels.registry import KERNELS

    rows = [row for row in KERNELS if row.family == "fprop" and row.engine == "cython_cpu"]
    choose = function(_choice, "choose", INT, POINTER, POINTER, INT64, INT, POINTER)
    cuts = {
        "cut_gemm": blocking.gemm_cut, "cut_tiled": blocking.tiled_cut,
        "cut_tiled_own": blocking.tiled_cut_own, "cut_rows": blocking_rows.rows_cut,
    }  # fmt: skip
    for seed in range(400):
        case = conv_case(seed, False)
        pick = random.Random(seed).choice
        shape = case["n"], case["c"] * pick((1, 1, 16)), *(pick((1, 8)) * n for n in case["size"])
        weight = case["k"] * pick((1, 1, 8)), shape[1] // case["groups"], *case["kernel"]
        geometry = cnnfast.ConvGeometry.of(
            shape, weight, case["stride"], case["padding"], case["dilation"], case["groups"],
            rank=case["rank"], dtype=pick(DTYPES),
        )  # fmt: skip
        problem, itemsize = geometry.problem, geometry.dtype.itemsize
        ints = np.array(problem, np.int64)
        for name, cut_of in cuts.items():
            wanted = cut_of(problem, itemsize)
            found = np.zeros(len(wanted), np.int64)
            fill = function(_cuts, name, None, POINTER, POINTER, INT64)
            fill(address(found), address(ints), itemsize)
            assert (*found.tolist(),) == (*wanted,), (name, problem)
        costs = [row.cost(geometry) - PART_START for row in rows]
        strides = np.array([geometry.input.stride_of(letter) for letter in "NCDHW"], np.int64)
        cost = ctypes.c_double()
        best = choose(address(ints), address(strides), itemsize, 1, ctypes.addressof(cost))
        assert best == costs.index(min(costs)), problem
        assert math.isclose(cost.value, min(costs), rel_tol=1e-9)
