"""What a call costs the host, and the memory that calls take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cnnfast.benchmarks.on_gpu import buffers, oddities, torches
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal
from cnnfast.benchmarks.on_gpu.layers import FP32, Task, tasks
from cnnfast.kernels.numba_cuda import device, driver
from cnnfast.kernels.registry import load_row

#: Calls in a batch, which the device's queue of about a thousand launches holds, and batches.
CALLS, BATCHES = 100, 40
SHAPES = ((1, 4, 8, 8), (4, 4, 3, 3))
#: Layers whose memory is looked at.
LAYERS = ("resnet-64-56", "vgg-64-224", "resnet-conv1", "resnet-512-7")
FAMILIES = ("fprop", "dgrad", "wgrad")


def run(journal: Journal, dry: bool) -> None:
    """Tiny calls through every library, and the memory of large ones."""
    batches = 1 if dry else BATCHES
    calls = 2 if dry else CALLS
    for name, make in CONTENDERS.items():
        journal.run(name, partial(queued_by, make, calls, batches))
    for task in tasks(FAMILIES, (FP32,), dry, () if dry else _named()):
        journal.run(f"memory {task.name}", partial(_memory, task))


def _named() -> tuple[str, ...]:
    return tuple(f"{name}{end}" for name in LAYERS for end in ("", "-dgrad", "-wgrad"))


def queued_by(make: Callable[[], Callable[[], Any]], calls: int, batches: int) -> Facts:
    """Seconds until a call that ``make`` makes is queued."""
    return queued(make(), calls, batches)


def queued(call: Callable[[], Any], calls: int, batches: int) -> Facts:
    """Seconds until a call is queued, the device idle at the beginning of each batch."""
    call()
    driver.synchronize(0)
    found = []
    for _ in range(batches + 1):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - start) / calls)
        driver.synchronize(0)
    return {"median": statistics.median(found[1:]), "minimum": min(found[1:]), "calls": calls}


def _arrays() -> list[Any]:
    return [np.random.default_rng(0).standard_normal(shape).astype("f4") for shape in SHAPES]


def _tensors() -> list[Any]:
    module = torches.torch()
    return [module.from_numpy(array).to(torches.DEVICE) for array in _arrays()]


def _bound_alone() -> Callable[[], Any]:
    """The launches of the planner's program, nothing else."""
    from cnnfast import ConvGeometry
    from cnnfast._core.planner import plan

    arrays = [buffers.Buffer(array) for array in _arrays()]
    geometry = ConvGeometry.of(*SHAPES, padding=1)
    x, w = _arrays()
    views = geometry.canonical(x, w, np.empty(geometry.out_shape, "f4"))
    row = plan("fprop", geometry, on_device=True).row
    program = device.conv_program(load_row(row), geometry.problem, views, False, None)
    out = buffers.empty(geometry.out_shape, dtype=np.float32)
    scratch = buffers.empty((max(program.scratch_bytes, 1),), dtype=np.uint8)
    kept = [*arrays, out, scratch]
    ready = device.bind(program, ("first", "second", "out", "scratch"))

    def call() -> None:
        ready.run([buffer.pointer for buffer in kept], buffers.STREAM)

    return call


def _plain() -> Callable[[], Any]:
    arrays = [buffers.Buffer(array) for array in _arrays()]
    out = buffers.empty(SHAPES[0], dtype=np.float32)
    return partial(oddities.conv2d, *arrays, padding=1, out=out)


def _torch_out() -> Callable[[], Any]:
    x, w = _tensors()
    return partial(oddities.conv2d, x, w, padding=1, out=torches.torch().empty_like(x))


def _cupy() -> Callable[[], Any]:
    cupy = oddities.cupy_module()
    return partial(oddities.conv2d, *map(cupy.asarray, _arrays()), padding=1)


CONTENDERS: dict[str, Callable[[], Callable[[], Any]]] = {
    "launches alone (Bound.run)": _bound_alone,
    "conv2d, torch tensors": lambda: partial(oddities.conv2d, *_tensors(), padding=1),
    "conv2d, torch tensors, out": _torch_out,
    "conv2d, CuPy arrays": _cupy,
    "conv2d, __cuda_array_interface__, out": _plain,
    "max_pool2d, torch tensors": lambda: partial(oddities.max_pool2d, _tensors()[0], 2),
    "torch's conv2d": lambda: partial(torches.torch().nn.functional.conv2d, *_tensors(), padding=1),
    "torch's max_pool2d": lambda: partial(
        torches.torch().nn.functional.max_pool2d, _tensors()[0], 2
    ),
}


def _memory(task: Task) -> Facts:
    """Scratch of every row, and the peak of torch's allocator during our call and during its own,
    the result included."""
    facts: Facts = {"scratch": {row.name: task.program(row).scratch_bytes for row in task.rows()}}
    if not torches.has_torch():
        return facts
    module, arrays = torches.torch(), torches.tensors(task)
    for name, call in (("cnnfast", task.call(arrays)), ("torch", torches.peer(task, arrays))):
        call()
        module.cuda.synchronize()
        module.cuda.empty_cache()
        before = module.cuda.memory_allocated()
        module.cuda.reset_peak_memory_stats()
        call()
        module.cuda.synchronize()
        facts[name] = module.cuda.max_memory_allocated() - before
    return facts
