"""Programs of the GPU's rows, run without a GPU: in Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``)
or, as the PTX that they are compiled to, in the PTX machine."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from cnnfast.kernels.numba_cuda.compiler import ptx_of
from cnnfast.kernels.numba_cuda.program import ConvCall, Entry, Program

Array = np.ndarray[Any, Any]

#: What ptxas warns of, and that it makes wgmma wait (C7510 and its like), which it calls "info".
WARNINGS = r".*(?:warning|\(C75\d\d\)).*"


def simulated() -> bool:
    """Whether this process has Numba's simulator in place of the compiler."""
    from numba import config

    return bool(config.ENABLE_CUDASIM)


def strides_of(array: Array) -> tuple[int, ...]:
    """Element strides of a five-axis view."""
    return tuple(step // array.itemsize for step in array.strides)


def conv_call(problem: Any, first: Array, second: Array, out: Array, **given: Any) -> ConvCall:
    """The call of canonical views (five axes each)."""
    views = [strides_of(view) for view in (first, second, out)]
    aligned = tuple(view.ctypes.data % 16 == 0 for view in (first, second, out))
    return ConvCall(problem, first.dtype.name, *views, aligned=aligned, **given)  # type: ignore[arg-type]


def _span(array: Array) -> tuple[Array, int]:
    """The memory under a view as bytes (shared, not copied), and where its first element is."""
    low, high = np.lib.array_utils.byte_bounds(array)
    memory = (ctypes.c_ubyte * (high - low)).from_address(low)
    return np.frombuffer(memory, np.uint8), array.ctypes.data - low


def run(program: Program, **arrays: Array) -> Any:
    """Run a program on views of host arrays, by operand; writes into "out" (and "indices").

    Gives the PTX machine's counters by launch, or None from the simulator. Scratch is filled with
    what reads as NaN. Reads and writes outside the views' memory raise.
    """
    if program.scratch_bytes:
        arrays["scratch"] = np.full(program.scratch_bytes, 0xFF, np.uint8)
    spans = {name: _span(array) for name, array in arrays.items()}
    if simulated():
        from cnnfast.kernels.numba_cuda import simulator

        simulator.run(program, spans)
        return None
    return _run_ptx(program, spans)


def _run_ptx(program: Program, spans: dict[str, tuple[Array, int]]) -> list[Any]:
    from cnnfast.kernels.numba_cuda.parameters import packed

    from ptx_machine import Machine

    total = sum(memory.size + 1024 for memory, _ in spans.values())
    machine, places, counts = Machine(total + (1 << 20)), {}, []
    for name, (memory, first) in spans.items():
        # The first element keeps its address modulo 16; behind the last there is nothing.
        shift = memory.ctypes.data % 16
        begin = machine.allocate(max(memory.size, 1) + shift) + shift
        machine.write(begin, memory)
        places[name] = begin, begin + first
    for launch in program.launches:
        text, name = ptx_of(launch.entry, (9, 0, "a"))
        _, template, slots = packed(launch)
        parameters = bytearray(template)
        for position, operand, offset in slots:
            address = places[operand][1] + offset
            parameters[position : position + 8] = address.to_bytes(8, "little")
        entry = launch.entry
        machine.launch(
            text, name, launch.grid, (entry.threads, 1, 1), entry.shared, bytes(parameters)
        )
        counts.append(machine.counts)
    for name in ("out", "indices"):
        if name in spans and spans[name][0].size:
            memory = spans[name][0]
            memory[:] = np.frombuffer(machine.read(places[name][0], memory.size), np.uint8)
    return counts


def tool(name: str) -> str | None:
    """A program of CUDA's: on the path, or of a wheel (nvidia-cuda-nvcc, triton)."""
    found = shutil.which(name)
    for package, folders in (("nvidia", "*/bin"), ("triton", "backends/nvidia/bin")):
        spec = importlib.util.find_spec(package)
        for place in spec.submodule_search_locations or () if spec is not None else ():
            programs = [path for path in Path(place).glob(f"{folders}/{name}") if path.is_file()]
            found = found or next(map(str, programs), None)
    return found


@cache
def report(entry: Entry, target: tuple[Any, ...] = (9, 0, "a")) -> dict[str, Any]:
    """What ptxas says of an entry: registers, spills (bytes), stack, shared (static bytes), and,
    where a disassembler is found, the instructions of its SASS as Counters: of all of it ("sass"),
    and of the loop that multiplies most ("loop")."""
    program = tool("ptxas")
    if program is None:
        pytest.skip("no ptxas here (nvidia-cuda-nvcc has one): kernels are compiled to PTX alone")
    text, _ = ptx_of(entry, target)
    arch = re.search(r"\.target\s+(sm_\w+)", text)
    assert arch is not None
    with TemporaryDirectory() as folder:
        source, binary = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(text)
        command = [program, "-v", "-O3", f"-arch={arch[1]}", str(source), "-o", str(binary)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[:4000])
        sass = _sass(binary)
    found = {
        "registers": r"Used (\d+) registers",
        "stack": r"(\d+) bytes stack frame",
        "spills": r"(\d+) bytes spill stores",
        "reloads": r"(\d+) bytes spill loads",
        "shared": r"(\d+) bytes smem",
    }
    numbers = {
        name: int(match[1]) if (match := re.search(pattern, done.stderr)) else 0
        for name, pattern in found.items()
    }
    loop = None if sass is None else _loop(sass)
    counted = {
        "sass": None if sass is None else Counter(name for name, _ in sass if name != ":"),
        "loop": loop,
    }
    return {**numbers, **counted, "warnings": re.findall(WARNINGS, done.stderr)}


def _sass(binary: Path) -> list[tuple[str, str]] | None:
    """Instructions and their operands; labels as (":", label)."""
    program = tool("nvdisasm")
    if program is None:
        return None
    text = subprocess.run([program, "-c", str(binary)], capture_output=True, text=True).stdout
    pattern = r"^\s*(?:\.(L_x_\d+):|/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*))"
    found = re.findall(pattern, text, re.MULTILINE)
    return [(":", label) if label else (name, rest) for label, name, rest in found]


def _loop(sass: list[tuple[str, str]]) -> Counter[str] | None:
    """The instructions of the innermost loop that has most multiplications; LDS.128 as such."""
    begins = {rest: at for at, (name, rest) in enumerate(sass) if name == ":"}
    loops = []
    for at, (name, rest) in enumerate(sass):
        label = re.search(r"(L_x_\d+)", rest)
        if name.startswith("BRA") and label and begins.get(label[1], at) < at:
            body = Counter(each for each, _ in sass[begins[label[1]] : at + 1] if each != ":")
            products = sum(body[each] for each in body if re.match("[DFH]FMA|HMMA|HGMMA", each))
            loops.append((products, -body.total(), body))
    return max(loops, key=lambda found: found[:2])[2] if loops else None
