"""The numba_cpu engine: kernels that Numba compiles on first use and caches on disk, and functions
for users' own compiled code.

Those are ``conv1d/2d/3d``, ``conv_transpose1d/2d/3d``, ``max_pool1d/2d/3d`` and
``avg_pool1d/2d/3d``, each also as ``NAME_into``, which fills ``out``, and ``relu`` and
``relu6``, activations that kernels know. They are compiled by ``numba.njit``, sequential,
callable from compiled code, ``prange`` included, and from Python; they come as they are first
named, and Numba with them. docs/numba.md has an example.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..registry import engine_missing

#: Module -> the names that it has for users.
_FUNCTIONS = {
    "functions": [
        f"{name}{rank}d{into}"
        for name in ("conv", "conv_transpose")
        for rank in (1, 2, 3)
        for into in ("", "_into")
    ],
    "pool_functions": [
        f"{name}{rank}d{into}"
        for name in ("max_pool", "avg_pool")
        for rank in (1, 2, 3)
        for into in ("", "_into")
    ],
    "_activation_functions": ["relu", "relu6"],
}
_MODULES = {name: module for module, names in _FUNCTIONS.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if (missing := engine_missing("numba_cpu")) is not None:
        raise ModuleNotFoundError(missing, name="numba")
    return getattr(import_module(f".{module}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
