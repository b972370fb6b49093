"""torch on the GPU: tensors of tasks, its results and those in float64, and a clock of events."""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from cnnfast.benchmarks import torch_peers
from cnnfast.benchmarks.on_gpu.journal import Skip
from cnnfast.benchmarks.on_gpu.layers import Task
from cnnfast.benchmarks.timing import TURNS, Timing
from cnnfast.benchmarks.workloads import Shape, Workload

Call = Callable[[], Any]
#: The device of everything here.
DEVICE = "cuda"
#: A sample has so many calls at most, and lasts about so long.
MOST_CALLS, SAMPLE_SECONDS = 20, 2e-3
#: Clock cycles per second, at most: how long the GPU is held busy while calls are queued.
CYCLES, MOST_HELD = 2.0e9, 0.02
#: Elements of poison before and behind a result.
GUARD = 4096


@cache
def torch() -> Any:
    """The module, its accuracy strict and its autotuner on; Skip without it or a GPU."""
    try:
        import torch as module
    except ImportError as error:
        raise Skip(f"torch isn't here: {error}") from None
    if not module.cuda.is_available():
        raise Skip("torch sees no GPU")
    module.set_grad_enabled(False)
    module.backends.cudnn.benchmark = True
    tf32(module, False)
    return module


def tf32(module: Any, allowed: bool) -> None:
    """Let torch's float32 be tf32, or not."""
    module.backends.cudnn.allow_tf32 = allowed
    module.backends.cuda.matmul.allow_tf32 = allowed


def has_torch() -> bool:
    """Whether torch and its GPU are here."""
    try:
        torch()
    except Skip:
        return False
    return True


def random(task: Task, shape: Shape, seed: int) -> Any:
    """A tensor of normal values in the task's dtype, in the order of memory."""
    module = torch()
    generator = module.Generator(DEVICE).manual_seed(zlib.crc32(task.name.encode()) + seed)
    ordered = task.shape_in_memory(shape)
    values = module.randn(ordered, generator=generator, device=DEVICE, dtype=module.float32)
    return values.to(getattr(module, task.mode.dtype))


def tensors(task: Task, seed: int = 0) -> list[Any]:
    """What the task's function takes."""
    shapes = enumerate(task.workload.shapes)
    return [random(task, shape, 10 * seed + i) for i, shape in shapes]


def channels_first(task: Task, tensor: Any) -> Any:
    """A view of a tensor in the order of memory as torch has it: (N, C, ...)."""
    order = task.order()
    return tensor.permute([order.index(axis) for axis in range(len(order))])


def peer(task: Task, arrays: Sequence[Any]) -> Call:
    """The call of torch."""
    return torch_peers.operation(task.workload, [channels_first(task, a) for a in arrays])


@dataclass(frozen=True)
class Exact:
    """A task in float64: the result, and the sums of the magnitudes of what is summed."""

    result: Any
    absolute: Any


def exact(task: Task, arrays: Sequence[Any]) -> Exact:
    """float64 by torch on the GPU; a pooling's gradient goes where its input has its maximum."""
    wide = [channels_first(task, array).double().contiguous() for array in arrays]
    return Exact(_float64(task.workload, wide), _magnitude(task.workload, wide))


def _float64(workload: Workload, wide: Sequence[Any]) -> Any:
    # Not worth tuning: each is called once.
    cudnn = torch().backends.cudnn
    cudnn.benchmark = False
    try:
        return torch_peers.operation(workload, list(wide))()
    finally:
        cudnn.benchmark = True


def _magnitude(workload: Workload, wide: Sequence[Any]) -> Any:
    if workload.family == "pool_grad":
        return _float64(workload, [wide[0].abs(), *wide[1:]])
    return _float64(workload, [array.abs() for array in wide])


class Guarded:
    """A result's tensor, NaN, with NaN around it."""

    def __init__(self, task: Task) -> None:
        module, shape = torch(), task.shape_in_memory(task.result_shape)
        size = 1
        for extent in shape:
            size *= extent
        dtype = getattr(module, task.mode.dtype)
        self.whole = module.full((size + 2 * GUARD,), float("nan"), dtype=dtype, device=DEVICE)
        self.out = self.whole[GUARD:-GUARD].view(shape)

    def check(self) -> None:
        """AssertionError if what lies around was written."""
        for guard in (self.whole[:GUARD], self.whole[-GUARD:]):
            assert bool(guard.isnan().all()), "something was written around the result"


# ---- A clock -------------------------------------------------------------------------------------


class Clock:
    """Events on the stream. The GPU is held busy while calls are queued, so that a sample has what
    they take on the GPU, not what queueing them takes on the host."""

    def __init__(self) -> None:
        module = torch()
        self.start, self.end = (module.cuda.Event(enable_timing=True) for _ in range(2))
        self.synchronize = module.cuda.synchronize
        self._hold = getattr(module.cuda, "_sleep", None)

    def sample(self, calls: Sequence[Call], host_seconds: float) -> float:
        """Seconds per call."""
        if self._hold is not None:
            held = min(1.5 * host_seconds * len(calls) + 20e-6, MOST_HELD)
            self._hold(int(held * CYCLES))
        self.start.record()
        for call in calls:
            call()
        self.end.record()
        self.end.synchronize()
        return float(self.start.elapsed_time(self.end)) / 1e3 / len(calls)


class HostClock:
    """The host's clock around calls that are waited for, where torch isn't."""

    def __init__(self) -> None:
        from cnnfast.kernels.numba_cuda import driver

        self.synchronize = partial(driver.synchronize, 0)

    def sample(self, calls: Sequence[Call], host_seconds: float) -> float:
        """Seconds per call."""
        self.synchronize()
        start = time.perf_counter()
        for call in calls:
            call()
        self.synchronize()
        return (time.perf_counter() - start) / len(calls)


def clock() -> Clock | HostClock:
    """The best clock there is."""
    return Clock() if has_torch() else HostClock()


def host_seconds(call: Call, times: int = 3) -> float:
    """Seconds until a call is queued."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def measure(
    contenders: Mapping[str, Sequence[Call]], seconds: float, watch: Clock | HostClock
) -> dict[str, Timing]:
    """Time contenders in turn, each for about ``seconds``. A contender is the same call on several
    sets of inputs, which are taken in rotation, so that the cache doesn't hold them."""
    paces: dict[str, tuple[float, int, int]] = {}
    for name, calls in contenders.items():
        for call in calls:  # warm: compiled, tuned, remembered
            call()
        watch.synchronize()
        queued = host_seconds(calls[0])
        watch.synchronize()
        once = max(watch.sample(calls, queued), 1e-6)
        count = max(1, min(MOST_CALLS, round(SAMPLE_SECONDS / once)))
        paces[name] = queued, count, max(1, round(seconds / TURNS / (once * count)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, calls in contenders.items():
            queued, count, rounds = paces[name]
            for _ in range(rounds):
                at = len(samples[name]) * count
                turn = [calls[(at + i) % len(calls)] for i in range(count)]
                samples[name].append(watch.sample(turn, queued))
    return {
        name: Timing(statistics.median(found), min(found), len(found) * paces[name][1])
        for name, found in samples.items()
    }
