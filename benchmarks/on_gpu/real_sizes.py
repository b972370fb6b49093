"""Layers at their real sizes, against float64, on poisoned and guarded results, twice the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from cnnfast.benchmarks import checking
from cnnfast.benchmarks.on_gpu import buffers, torches
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal
from cnnfast.benchmarks.on_gpu.layers import (
    BF16,
    FP16,
    FP32,
    TF32,
    Task,
    norm_tolerance,
    tasks,
    tolerance,
)
from cnnfast.benchmarks.workloads import Array
from cnnfast.kernels.registry import Kernel

FAMILIES = ("fprop", "dgrad", "wgrad", "pool", "pool_grad")


def run(journal: Journal, dry: bool) -> None:
    """Every row on every layer that it takes, in every mode."""
    plain = not torches.has_torch()
    # NumPy's arrays can't say that they are of bfloat16; the conformance cases have it.
    modes = (FP32, FP16) if plain else (FP32, TF32, FP16, BF16)
    for task in tasks(FAMILIES, (FP32,) if dry else modes, dry):
        check = _with_numpy if plain else _with_torch
        for row in task.rows():
            kind = f"{row.family} {row.name} {task.mode.name}"
            journal.run(f"{task.name} {row.name}", partial(check, task, row), kind)


@lru_cache(maxsize=1)
def _torch_inputs(task: Task) -> tuple[Sequence[Any], torches.Exact]:
    arrays = torches.tensors(task)
    return arrays, torches.exact(task, arrays)


def _with_torch(task: Task, row: Kernel) -> Facts:
    module = torches.torch()
    arrays, exact = _torch_inputs(task)
    before = [array.clone() for array in arrays]
    results = []
    for _ in range(2):
        guarded = torches.Guarded(task)
        task.call(arrays, backend=row.name, out=guarded.out)()
        module.cuda.synchronize()
        guarded.check()
        results.append(guarded.out)
    for one, other in zip(before, arrays, strict=True):
        assert bool((one == other).all()), "the kernel changed an input"
    bits = module.int32 if task.mode.itemsize == 4 else module.int16
    same = bool((results[0].view(bits) == results[1].view(bits)).all())
    result = torches.channels_first(task, results[0]).double()
    error = (result - exact.result).abs()
    outside = ~(error <= tolerance(task, exact.result, exact.absolute))
    wrong = int(outside.sum())
    first = [int(i) for i in outside.nonzero()[0]] if wrong else []
    norm = float(error.norm() / exact.result.norm())
    return _judged(task, wrong, first, result.numel(), norm, float(error.max()), same)


@lru_cache(maxsize=1)
def _numpy_inputs(task: Task) -> tuple[tuple[Array, ...], Array, Array]:
    """Inputs channels first, the result in float64, and the sums of magnitudes."""
    dtype = np.dtype(task.mode.dtype)
    arrays = tuple(array.astype(dtype) for array in task.workload.arrays())
    wide = tuple(array.astype(np.float64) for array in arrays)
    result = checking.apply(task.workload, *wide)
    return arrays, result, checking.magnitude(task.workload, wide)


def _with_numpy(task: Task, row: Kernel) -> Facts:
    arrays, exact, absolute = _numpy_inputs(task)
    order = task.order()
    given = [buffers.Buffer(np.ascontiguousarray(a.transpose(order))) for a in arrays]
    results = []
    for _ in range(2):
        out = buffers.empty(task.shape_in_memory(task.result_shape), dtype=arrays[0].dtype)
        task.call(given, backend=row.name, out=out)()
        results.append(out.numpy())
    for buffer, array in zip(given, arrays, strict=True):
        np.testing.assert_array_equal(buffer.numpy(), array.transpose(order))
    same = results[0].tobytes() == results[1].tobytes()
    result = results[0].transpose(np.argsort(order)).astype(np.float64)
    error = abs(result - exact)
    outside = np.argwhere(~(error <= tolerance(task, exact, absolute)))
    first = [int(i) for i in outside[0]] if len(outside) else []
    norm = float(np.linalg.norm(error) / np.linalg.norm(exact))
    return _judged(task, len(outside), first, result.size, norm, float(error.max()), same)


def _judged(
    task: Task, wrong: int, first: list[int], size: int, norm: float, largest: float, same: bool
) -> Facts:
    """The facts; AssertionError if one of them isn't as it must be."""
    facts = {"norm": norm, "norm_bound": norm_tolerance(task), "largest": largest, "same": same}
    assert wrong == 0, f"{wrong} of {size} values are wrong, the first at {first}; {facts}"
    assert math.isfinite(norm), f"not finite; {facts}"
    assert norm <= facts["norm_bound"], f"each value is within its bound, but not all; {facts}"
    assert same, f"two runs differ in their bits; {facts}"
    return facts
