"""The card, what is installed, and every entry compiled and loaded."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from typing import Any

import cnnfast
from cnnfast.benchmarks.on_gpu import conformity
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal
from cnnfast.benchmarks.on_gpu.layers import MODES, tasks
from cnnfast.kernels.registry import load_row

PACKAGES = (
    "numpy", "numba", "numba-cuda", "llvmlite", "torch", "cupy-cuda13x", "cupy-cuda12x", "triton",
    "cuda-bindings", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "ml_dtypes", "pytest",
)  # fmt: skip
#: CUfunction_attribute and CUdevice_attribute of cuda.h.
FUNCTION = {"threads": 0, "shared": 1, "local": 3, "registers": 4}
DEVICE = {"clock_khz": 13, "multiprocessors": 16, "memory_khz": 36, "bus_bits": 37, "l2_bytes": 38}
#: Families of the table.
FAMILIES = ("fprop", "dgrad", "wgrad", "pool", "pool_grad")
#: Entries that a dry run compiles.
DRY_ENTRIES = 2
#: Processes that compile, at most.
WORKERS = 16


def run(journal: Journal, dry: bool) -> None:
    """Describe the machine; compile and load all that the other sections will run."""
    journal.run("machine", describe)
    journal.run("libraries", libraries)
    found: dict[Any, None] = {}

    def enumerate_entries() -> Facts:
        refused = []
        for name, make in programs(dry):
            try:
                found.update(dict.fromkeys(launch.entry for launch in make().launches))
            except Exception as error:
                refused.append(f"{name}: {type(error).__name__}: {error}")
        return {"entries": len(found), "refused": refused}

    # Done again by a process that follows one that crashed: it needs the list.
    journal.seen.discard("programs")
    journal.run("programs", enumerate_entries)
    compile_all(journal, list(found)[: DRY_ENTRIES if dry else None], dry)


def describe() -> Facts:
    """The card and the driver."""
    from cnnfast.kernels.numba_cuda import driver

    free, total = driver.memory()
    attributes: Facts = {}
    for name, number in DEVICE.items():
        try:
            attributes[name] = driver_attribute("cuDeviceGetAttribute", number, driver.device())
        except Exception as error:
            attributes[name] = repr(error)
    return {
        "card": driver.device_name(), "capability": driver.capability(), "free": free,
        "total": total, **attributes, "driver": _driver_versions(),
        "python": platform.python_version(), "system": platform.platform(),
        "cores": os.cpu_count(), "cnnfast": cnnfast.__version__,
        "packages": {name: _version(name) for name in PACKAGES},
    }  # fmt: skip


def libraries() -> Facts:
    """What torch and CuPy say of CUDA and cuDNN."""
    facts: Facts = {}
    try:
        import torch

        facts["torch"] = {
            "version": torch.__version__, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), "sees": torch.cuda.is_available(),
        }  # fmt: skip
    except Exception as error:
        facts["torch"] = repr(error)
    try:
        import cupy

        facts["cupy"] = {
            "version": cupy.__version__, "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        }  # fmt: skip
    except Exception as error:
        facts["cupy"] = repr(error)
    return facts


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _driver_versions() -> Facts:
    number = ctypes.c_int()
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    words = [
        "nvidia-smi",
        "--query-gpu=driver_version,clocks.sm,clocks.mem",
        "--format=csv,noheader",
    ]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        said = done.stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        said = repr(error)
    return {"cuda": number.value, "nvidia-smi": said}


def driver_attribute(function: str, which: int, of: int) -> int:
    """An attribute of a device or a function, as the driver has it."""
    value = ctypes.c_int()
    library = ctypes.CDLL("libcuda.so.1")
    handle = ctypes.c_void_p(of) if function == "cuFuncGetAttribute" else ctypes.c_int(of)
    code = getattr(library, function)(ctypes.byref(value), ctypes.c_int(which), handle)
    if code:
        raise RuntimeError(f"{function} answers {code}")
    return value.value


def programs(dry: bool) -> Iterator[tuple[str, Any]]:
    """A name and what makes the program: all tasks first, then the tests' cases."""
    for task in tasks(FAMILIES, tuple(MODES.values()), dry):
        for row in task.rows():
            yield f"{task.name} {row.name}", partial(task.program, row)
    if not dry:
        yield from _programs_of_cases()


def _programs_of_cases() -> Iterator[tuple[str, Any]]:
    import numpy as np

    from cnnfast import ConvGeometry
    from cnnfast.benchmarks.on_gpu.layers import dtype_of
    from cnnfast.kernels.numba_cuda import device
    from cnnfast.kernels.problem import ACTIVATION_CODES

    rows = [row for row in conformity.rows() if row.family in conformity.CONVS]
    for dtype in conformity.DTYPES:
        for row in rows:
            if dtype not in conformity.dtypes_of(row):
                continue
            for name, case, _ in conformity.cases_of(row):

                def make(row: Any = row, case: Any = case, dtype: str = dtype) -> Any:
                    stored, family = dtype_of(dtype), row.family
                    geometry = ConvGeometry.of(case.input, case.weight, **case.arguments)
                    shapes = [operand.shape for operand in geometry.operands(family)]
                    first, second, out = (np.empty(shape, stored) for shape in shapes)
                    views = geometry.canonical(first, second, out, family)
                    code = ACTIVATION_CODES[case.activation if family != "wgrad" else None]
                    biased = case.bias and family != "wgrad"
                    function = load_row(row)
                    return device.conv_program(function, geometry.problem, views, biased, code)

                yield f"{row.family} {row.name} {dtype}: {name}", make


def compile_all(journal: Journal, entries: list[Any], dry: bool) -> None:
    """Compile and load entries, in as many processes as there are cores, each once for all."""
    from cnnfast.kernels.numba_cuda import driver

    major, minor = driver.capability()
    capability = 10 * major + minor
    if dry:
        for entry in entries:
            journal.run(entry_name(entry), partial(compiled, entry, capability))
        return
    start = time.perf_counter()
    todo = [entry for entry in entries if entry_name(entry) not in journal.seen]
    workers = min(WORKERS, os.cpu_count() or 1)
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(compiled, entry, capability): entry for entry in todo}
        for future in as_completed(futures, timeout=max(journal.left, 1.0)):
            journal.run(entry_name(futures[future]), future.result)
    except TimeoutError:
        journal.note(compiling="not all entries were compiled within this section's time")
    finally:
        processes = list(pool._processes.values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
    journal.note(workers=workers, compiling_seconds=round(time.perf_counter() - start, 1))


def entry_name(entry: Any) -> str:
    """An entry in words."""
    module = entry.build.__module__.rpartition(".")[2]
    constants = ", ".join(getattr(value, "__name__", str(value)) for value in entry.constants)
    return f"{module}.{entry.build.__name__}({constants}) of {', '.join(entry.signature)}"


def compiled(entry: Any, capability: int) -> Facts:
    """Compile an entry and load it, and ask what it takes: local bytes are spills and stacks."""
    from cnnfast.kernels.numba_cuda import driver
    from cnnfast.kernels.numba_cuda.compiler import ptx_of, target_of

    start = time.perf_counter()
    text, name = ptx_of(entry, target_of(capability, entry.needs))
    seconds = time.perf_counter() - start
    driver.context()
    middle = time.perf_counter()
    function = driver.load(text, name, entry.shared)
    end = time.perf_counter()
    facts: Facts = {
        "compile_s": round(seconds, 3), "load_s": round(end - middle, 3), "ptx": len(text),
        "block": entry.threads, "dynamic": entry.shared,
    }  # fmt: skip
    try:
        for what, number in FUNCTION.items():
            facts[what] = driver_attribute("cuFuncGetAttribute", number, function.handle)
    except (AttributeError, RuntimeError) as error:
        facts["attributes"] = str(error)
    return facts
