"""Times: every row on every layer beside torch's cuDNN, in turn, in one process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

import cnnfast
from cnnfast.benchmarks.on_gpu import buffers, torches
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal
from cnnfast.benchmarks.on_gpu.layers import FP16, FP32, TF32, Task, norm_tolerance, tasks
from cnnfast.benchmarks.workloads import PoolWorkload

#: Seconds for each contender of a task, about.
SECONDS = 0.06
#: Bytes of inputs that are rotated: several times an H200's cache of 60 MB; sets at most.
ROTATED, SETS = 256 << 20, 8
#: The planner's choice, and torch, among the contenders; the others are rows by name.
OURS, PEER = "cnnfast", "torch"
#: The order of what is timed: family, mode.
ROUNDS = (
    (("fprop",), (FP32,)),
    (("fprop",), (TF32, FP16)),
    (("pool", "pool_grad"), (FP32,)),
    (("dgrad", "wgrad"), (FP32,)),
    (("dgrad", "wgrad"), (TF32, FP16)),
    (("pool", "pool_grad"), (FP16,)),
)


def run(journal: Journal, dry: bool) -> None:
    """Every task; torch's accuracy is the mode's."""
    watch = torches.clock()
    plain = not torches.has_torch()
    for families, modes in ROUNDS:
        for task in tasks(families, modes, dry):
            if not dry or task.mode is FP32:
                contest = partial(_contest, task, watch, plain, 0.0 if dry else SECONDS)
                journal.run(task.name, contest)


def _contest(task: Task, watch: Any, plain: bool, seconds: float) -> Facts:
    sets = _sets(task, plain)
    contenders = {OURS: [task.call(arrays) for arrays in sets]}
    for row in task.rows():
        contenders[row.name] = [task.call(arrays, backend=row.name) for arrays in sets]
    # Whatever a row does wrong at these sizes is another section's; here it isn't timed.
    failed: dict[str, str] = {}
    module = None if plain else torches.torch()
    if module is not None:
        torches.tf32(module, task.mode.tf32)
        contenders[PEER] = [torches.peer(task, arrays) for arrays in sets]
    try:
        for name, calls in list(contenders.items()):
            try:
                _check(task, calls[0], contenders.get(PEER))
                watch.synchronize()
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
                del contenders[name]
        timings = torches.measure(contenders, seconds, watch)
    finally:
        if module is not None:
            torches.tf32(module, False)
    if OURS in failed:
        raise AssertionError(f"{failed}; timings {timings}")
    return {
        "layer": task.workload.layer, "family": task.workload.family, "mode": task.mode.name,
        "group": task.group, "title": task.workload.title, "flops": task.flops,
        "bytes": task.bytes_moved, "runs": _chosen(task, sets[0]), "sets": len(sets),
        "pool": isinstance(task.workload, PoolWorkload), "failed": failed,
        "times": {name: timing.__dict__ for name, timing in timings.items()},
    }  # fmt: skip


def _sets(task: Task, plain: bool) -> list[Sequence[Any]]:
    nbytes = sum(math.prod(shape) for shape in task.workload.shapes) * task.mode.itemsize
    count = max(1, min(SETS, -(-ROTATED // nbytes)))
    if not plain:
        return [torches.tensors(task, seed) for seed in range(count)]
    order, dtype = task.order(), np.dtype(task.mode.dtype)
    arrays = [array.astype(dtype).transpose(order) for array in task.workload.arrays()]
    return [[buffers.Buffer(np.ascontiguousarray(array)) for array in arrays]]


def _check(task: Task, call: Any, peers: Any) -> None:
    """The result is torch's, about: what is wrong isn't timed."""
    result = call()
    if peers is None or peers[0] is call:
        return
    wanted = peers[0]().double()
    error = torches.channels_first(task, result).double() - wanted
    norm = float(error.norm() / wanted.norm())
    # Both have errors.
    bound = 2 * norm_tolerance(task)
    assert norm <= bound, f"|ours - torch's| / |torch's| is {norm:.2g}, more than {bound:.2g}"


def _chosen(task: Task, arrays: Sequence[Any]) -> str:
    """The row that the planner takes."""
    bound = task.bound(arrays)
    with task.mode.allowed():
        plan = cnnfast.explain(bound.func, *bound.args, **bound.keywords)
    return f"{plan.algorithm}/{plan.engine}"
