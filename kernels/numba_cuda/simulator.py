"""Programs in Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``): the kernels' Python, run as it is.

Slow, and for small shapes: 256 threads of Python per block. Reading or writing outside an operand
raises IndexError.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from .program import At, Entry, Program

Array = np.ndarray[Any, Any]


class Flat:
    """Memory as a kernel's pointer sees it: element ``i`` from ``offset`` on, both ways."""

    def __init__(self, memory: Array, offset: int) -> None:
        self.memory, self.offset = memory, offset

    def _at(self, i: Any) -> int:
        at = self.offset + int(i)
        if not 0 <= at < self.memory.size:
            raise IndexError(f"element {at} of an operand of {self.memory.size}")
        return at

    def __getitem__(self, i: Any) -> Any:
        return self.memory[self._at(i)]

    def __setitem__(self, i: Any, value: Any) -> None:
        self.memory[self._at(i)] = value

    def address(self, i: Any) -> int:
        """Where element ``i`` is in this process' memory."""
        return int(self.memory.ctypes.data) + self._at(i) * self.memory.itemsize


@cache
def _kernel(entry: Entry) -> Any:
    return cuda.jit(entry.build(*entry.constants))


def run(program: Program, operands: Mapping[str, tuple[Array, int]]) -> None:
    """Run a program; an operand is its memory as bytes and where its first element is, in bytes."""
    for launch in program.launches:
        entry = launch.entry
        pairs = zip(launch.args, entry.signature, strict=True)
        args = [_argument(arg, text, operands) for arg, text in pairs]
        _kernel(entry)[launch.grid, entry.threads, 0, entry.shared](*args)


def _argument(arg: Any, text: str, operands: Mapping[str, tuple[Array, int]]) -> Any:
    if isinstance(arg, At):
        dtype = np.dtype(text[:-1])
        memory, first = operands[arg.operand]
        return Flat(memory.view(dtype), first // dtype.itemsize + arg.offset)
    # Python's ints: the simulator needn't wrap around as int32 does, the host sees to sizes.
    return arg if isinstance(arg, tuple | int) else np.dtype(text).type(arg)
