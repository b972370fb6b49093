"""cnnfast: fast convolution and pooling kernels for NumPy.

>>> import numpy as np, cnnfast
>>> image = np.ones((1, 1, 4, 4), np.float32)
>>> cnnfast.conv2d(image, np.ones((1, 1, 3, 3), np.float32)).shape
(1, 1, 2, 2)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import functional, kernels
from ._core.config import (
    get_num_threads,
    get_workspace_limit,
    set_num_threads,
    set_workspace_limit,
    use_backend,
)
from ._core.conv_geometry import ConvGeometry
from ._core.planner import BackendUnavailableError, PerformanceWarning
from ._core.pool_geometry import PoolGeometry
from ._core.version import __version__
from ._core.workspace import release_scratch
from .functional import *  # noqa: F403  every function, under its own name

if TYPE_CHECKING:
    from . import grad
    from .inspection import Explanation, explain, show_config

__all__ = [
    "BackendUnavailableError",
    "ConvGeometry",
    "Explanation",
    "PerformanceWarning",
    "PoolGeometry",
    "__version__",
    "explain",
    "functional",
    "get_num_threads",
    "get_workspace_limit",
    "grad",
    "kernels",
    "release_scratch",
    "set_num_threads",
    "set_workspace_limit",
    "show_config",
    "use_backend",
]
__all__ += functional.__all__

#: What is loaded when it is first used, which makes the import a fifth shorter.
_LATER = {"Explanation": "inspection", "explain": "inspection", "show_config": "inspection"}


def __getattr__(name: str) -> Any:
    if name == "grad":
        return import_module("cnnfast.grad")
    if name in _LATER:
        return getattr(import_module(f"cnnfast.{_LATER[name]}"), name)
    raise AttributeError(f"module 'cnnfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
