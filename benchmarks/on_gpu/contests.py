"""Times: every row on every layer beside torch's cuDNN, in turn, in one process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

import cnnfast
from cnnfast.benchmarks.on_gpu import buffers, torches
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal, failed_items
from cnnfast.benchmarks.on_gpu.layers import FP16, FP32, TF32, Task, tasks
from cnnfast.benchmarks.workloads import PoolWorkload

#: Seconds for each contender of a task, about.
SECONDS = 0.06
#: Bytes of inputs that are rotated: several times an H200's cache of 60 MB; sets at most.
ROTATED, SETS = 256 << 20, 8
#: What is farther from torch's result isn't timed. Those that torch's autotuner takes may be
#: Winograd's, less accurate than ours, whose accuracy is another section's.
FAR = 2e-2
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
    # A row that is wrong or deadly on a layer of this size isn't timed there.
    bad = failed_items(journal.path.with_name("sizes.jsonl"))
    for families, modes in ROUNDS:
        for task in tasks(families, modes, dry):
            if not dry or task.mode is FP32:
                contest = partial(_contest, task, watch, plain, 0.0 if dry else SECONDS, bad)
                journal.run(task.name, contest)


def _contest(task: Task, watch: Any, plain: bool, seconds: float, bad: set[str]) -> Facts:
    sets = _sets(task, plain)
    runs = _chosen(task, sets[0])
    names = {row.name: f"{task.name} {row.name}" for row in task.rows()}
    failed = {name: f"failed in sizes: {item}" for name, item in names.items() if item in bad}
    assert runs not in failed, f"the planner's choice, {failed[runs]}"
    contenders = {OURS: [task.call(arrays) for arrays in sets]}
    for name in [n for n in names if n != runs and n not in failed]:
        contenders[name] = [task.call(arrays, backend=name) for arrays in sets]
    module = None if plain else torches.torch()
    if module is not None:
        torches.tf32(module, task.mode.tf32)
        contenders[PEER] = [torches.peer(task, arrays) for arrays in sets]
    try:
        distances, raised = _compared(task, contenders, watch)
        timings = torches.measure(
            {name: calls for name, calls in contenders.items() if name not in raised},
            seconds,
            watch,
        )
    finally:
        if module is not None:
            torches.tf32(module, False)
    assert OURS not in raised, f"{raised}; timings {timings}"
    return {
        "layer": task.workload.layer, "family": task.workload.family, "mode": task.mode.name,
        "group": task.group, "title": task.workload.title, "flops": task.flops,
        "bytes": task.bytes_moved, "runs": runs, "sets": len(sets),
        "pool": isinstance(task.workload, PoolWorkload), "failed": failed | raised,
        "distances": distances, "times": {name: vars(timing) for name, timing in timings.items()},
    }  # fmt: skip


def _compared(
    task: Task, contenders: dict[str, list[Any]], watch: Any
) -> tuple[dict[str, float], dict[str, str]]:
    """How far each result lies from torch's, relative to that; and who raised what, or is far
    off."""
    distances: dict[str, float] = {}
    raised: dict[str, str] = {}
    wanted = contenders[PEER][0]().double() if PEER in contenders else None
    for name, calls in contenders.items():
        try:
            result = calls[0]()
            watch.synchronize()
            if wanted is not None and name != PEER:
                error = torches.channels_first(task, result).double() - wanted
                distances[name] = distance = float(error.norm() / wanted.norm())
                assert distance <= FAR, f"|ours - torch's| / |torch's| is {distance:.2g}"
        except Exception as error:
            raised[name] = f"{type(error).__name__}: {error}"
    return distances, raised


def _sets(task: Task, plain: bool) -> list[Sequence[Any]]:
    nbytes = sum(math.prod(shape) for shape in task.workload.shapes) * task.mode.itemsize
    count = max(1, min(SETS, -(-ROTATED // nbytes)))
    if not plain:
        return [torches.tensors(task, seed) for seed in range(count)]
    order, dtype = task.order(), np.dtype(task.mode.dtype)
    arrays = [array.astype(dtype).transpose(order) for array in task.workload.arrays()]
    return [[buffers.Buffer(np.ascontiguousarray(array)) for array in arrays]]


def _chosen(task: Task, arrays: Sequence[Any]) -> str:
    """The row that the planner takes."""
    bound = task.bound(arrays)
    with task.mode.allowed():
        plan = cnnfast.explain(bound.func, *bound.args, **bound.keywords)
    return f"{plan.algorithm}/{plan.engine}"
