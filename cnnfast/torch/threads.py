"""torch's threads, lent to a call.

After a parallel region OpenMP's threads spin for milliseconds, in case another follows; helpers of
another pool would share their cores, and a kernel wait for the one that was interrupted. So within
an operator the compiled kernels run in a region of torch's own OpenMP.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from .tensors import torch

try:
    from cnnfast.kernels.cython_cpu._team import borrow
except ImportError:
    borrow = None


def _parallel_region() -> int:
    """The address of ``GOMP_parallel`` of the OpenMP that torch runs on; 0 where it is another."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return ctypes.cast(ctypes.CDLL(str(library)).GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


_region = _parallel_region()
_threads = torch.get_num_threads


def _forget_region() -> None:
    """A forked child has none of its parent's threads, which OpenMP doesn't know."""
    global _region
    _region = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_region)


def on_torchs_threads(run: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its kernels on torch's threads: as many as torch uses, and at most as many as
    cnnfast does."""
    if borrow is None or not _region:
        return run

    @wraps(run)
    def runs(*arguments: Any) -> Any:
        # A thread in which torch has computed nothing yet is given its number by asking for it.
        _threads()
        borrow(_region)
        try:
            return run(*arguments)
        finally:
            borrow(0)

    return runs
