"""The device behind the fake libcuda: one method for each of the driver's functions.

Stricter than a GPU where that finds mistakes: handles are checked, functions belong to contexts,
what can't be captured ends a capture. Everything happens at once, in the order of the calls.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import sys
import traceback
from collections import Counter, deque
from typing import Any

from . import VARIABLE
from .allocations import Machine
from .calls import CONTEXT, Refused, require, store
from .codes import CODES, NAMES
from .host_memory import HostMemory
from .kernels import Kernels

HANDLER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64))


class Device(Kernels):
    """Settings (``capability``, ``version``, ``devices`` ...), faults, and what was called."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        #: Names of calls, the latest last; how often each was made.
        self.calls: deque[str] = deque(maxlen=10_000)
        self.counts: Counter[str] = Counter()
        #: What a launch died of; calls fail from then on, as on a GPU, and say it.
        self.lost: str | None = None
        self._faults: dict[str, tuple[int, int]] = {}
        self._texts: dict[bytes, Any] = {}

    # What tests do to it.

    def fail(self, name: str, code: int | str, times: int = -1) -> None:
        """Let a function fail, always or ``times`` times; ``code`` 0 lets it work again."""
        self._faults[name] = (CODES[code] if isinstance(code, str) else code, times)

    def reset(self) -> None:
        """Let a lost context live again."""
        self.lost = None

    # What the driver is called with.

    def answer(self, name: str, given: Any) -> int:
        """The code that a function returns."""
        self.calls.append(name)
        self.counts[name] += 1
        try:
            if name in ("cuGetErrorName", "cuGetErrorString"):
                return int(getattr(self, name)(given) or 0)
            code, times = self._faults.get(name, (0, 0))
            if code and times:
                self._faults[name] = code, times - 1
                return code
            require(self.lost is None, "CUDA_ERROR_LAUNCH_FAILED")
            if name not in ("cuInit", "cuDriverGetVersion"):
                require(self._pid == os.getpid(), "CUDA_ERROR_NOT_INITIALIZED")
            getattr(self, name)(given)
        except Refused as refused:
            return refused.code
        except BaseException as error:
            self.lost = f"{type(error).__name__}: {error}"
            traceback.print_exc(file=sys.stderr)
            return CODES["CUDA_ERROR_LAUNCH_FAILED"]
        return 0

    def text(self, value: str) -> int:
        """The address of a string that stays."""
        encoded = value.encode()
        if encoded not in self._texts:
            self._texts[encoded] = ctypes.create_string_buffer(encoded)
        return ctypes.addressof(self._texts[encoded])

    def cuGetErrorName(self, given: Any) -> int:
        name = NAMES.get(given[0] & 0xFFFFFFFF)
        store(given[1], ctypes.c_void_p, self.text(name) if name else None)
        return 0 if name else 1

    def cuGetErrorString(self, given: Any) -> int:
        code = given[0] & 0xFFFFFFFF
        said = NAMES.get(code, "").removeprefix("CUDA_ERROR_").lower().replace("_", " ")
        if code == CODES["CUDA_ERROR_LAUNCH_FAILED"] and self.lost is not None:
            said = self.lost
        store(given[1], ctypes.c_void_p, self.text(said) if said else None)
        return 0 if said else 1


current: Device | None = None
_kept: list[Any] = []


def install(machine: Machine | None = None) -> Device:
    """Put a device behind the process's libcuda: the PTX machine if there is one, else memory."""
    global current
    if machine is None and importlib.util.find_spec("ptx_machine"):
        from ptx_machine import Machine as Interpreter

        machine = Interpreter()
    library = ctypes.CDLL(os.environ[VARIABLE])
    device = current = Device(machine or HostMemory())

    def answer(name: bytes, given: Any) -> int:
        return device.answer(name.decode(), given)

    _kept.append(HANDLER(answer))
    library.fake_set_handler(_kept[-1])
    # What is freed while Python ends finds a driver that has ended before.
    atexit.register(library.fake_set_handler, None)
    return device


def quiet(on: bool) -> None:
    """Let every call succeed and do nothing, to time what calls it."""
    ctypes.CDLL(os.environ[VARIABLE]).fake_set_quiet(CONTEXT if on else 0)
