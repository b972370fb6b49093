"""What this machine can do at best, and how it is pinned down: the yardsticks beside the times."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cnnfast._core.config import usable_cores

#: Larger than any cache by far, so that a copy goes to memory and back.
COPY_BYTES = 256 << 20
STAT = Path("/proc/stat")
#: Long enough for a core to reach its clock, and for a quiet moment on a busy machine.
PROBE_SECONDS = 0.5


def pin_blas(threads: int) -> bool:
    """Limit NumPy's BLAS to that many threads; False without threadpoolctl."""
    threadpoolctl = _optional("threadpoolctl")
    if threadpoolctl is None:
        return False
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    return True


@cache
def fma_peak(dtype: str) -> float | None:
    """FLOP/s of one core's fused multiply-adds: the most that an engine's micro-kernel reaches.

    None if no compiled engine is here.
    """
    peaks: list[float] = []
    probe = _optional("cnnfast.kernels.cython_cpu._probe")
    if probe is not None:
        peaks.append(probe.fma_peak(np.dtype(dtype).itemsize, PROBE_SECONDS))
    if importlib.util.find_spec("numba") is not None:
        microkernel = importlib.import_module("cnnfast.kernels.numba_cpu._microkernel")
        peaks.append(microkernel.fma_peak(dtype, PROBE_SECONDS))
    return max(peaks, default=None)


@cache
def copy_bandwidth(threads: int = 1) -> float:
    """Bytes/s read and written by that many threads that copy a large array, each its part of it;
    the best of ten.
    """
    sources = np.array_split(np.ones(COPY_BYTES, np.uint8), threads)
    targets = np.array_split(np.empty(COPY_BYTES, np.uint8), threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(10):
            start = time.perf_counter()
            list(pool.map(np.copyto, targets, sources))
            best = min(best, time.perf_counter() - start)
    return 2 * COPY_BYTES / best


@cache
def busy_cores() -> float:
    """Cores that other processes kept busy when this was first asked; 0 where Linux doesn't say.

    Next to them two threads that wait for each other by spinning take milliseconds for
    microseconds' work (torch's do): times of a busy machine mislead.
    """
    if not STAT.exists():
        return 0.0
    before, start = _busy_ticks(), time.perf_counter()
    time.sleep(0.5)
    ticks = _busy_ticks() - before
    return round(ticks / os.sysconf("SC_CLK_TCK") / (time.perf_counter() - start), 1)


def _busy_ticks() -> int:
    user, nice, system = STAT.read_text().split()[1:4]
    return int(user) + int(nice) + int(system)


@cache
def describe(dtype: str = "float32") -> dict[str, Any]:
    """The machine, by what it is called and by what it reaches."""
    busy = busy_cores()
    cpuinfo = _optional("cpuinfo")
    names = cpuinfo.get_cpu_info() if cpuinfo else {}
    return {
        "cpu": names.get("brand_raw", platform.processor() or platform.machine()),
        "cores": usable_cores(),
        "busy_cores": busy,
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fma_peak": fma_peak(dtype),
        "copy_bandwidth": copy_bandwidth(),
    }


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
