"""What the calls of the driver share: handles, refusals, and how results are returned."""

from __future__ import annotations

import ctypes
from typing import Any

from .codes import CODES

#: Where handles of each kind begin.
CONTEXT, POOL, FUNCTION, MODULE, STREAM = 0xC000, 0xA000, 0xF000, 0xE000, 0x5000
#: Default streams: the legacy one's two names, and the thread's.
DEFAULT_STREAMS = (0, 1, 2)
RELAXED = 2
INT = ctypes.c_int


class Refused(Exception):
    """A call that fails with an error of the driver's."""

    def __init__(self, name: str) -> None:
        self.code = CODES[name]


def require(condition: object, name: str = "CUDA_ERROR_INVALID_VALUE") -> None:
    if not condition:
        raise Refused(name)


def store(address: int, kind: Any, value: Any) -> None:
    """Write what a call returns."""
    kind.from_address(address).value = value
