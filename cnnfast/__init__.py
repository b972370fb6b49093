"""cnnfast: fast convolution and pooling kernels for NumPy.

>>> import numpy as np, cnnfast
>>> image = np.ones((1, 1, 4, 4), np.float32)
>>> cnnfast.conv2d(image, np.ones((1, 1, 3, 3), np.float32)).shape
(1, 1, 2, 2)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._core.version import __version__

if TYPE_CHECKING:
    from . import analysis, functional, grad, kernels, layers, models, transform
    from ._core.config import (
        allow_tf32,
        get_allow_tf32,
        get_num_threads,
        get_workspace_limit,
        set_num_threads,
        set_workspace_limit,
        use_backend,
    )
    from ._core.conv_geometry import ConvGeometry
    from ._core.packed import PackedWeight, pack_weight
    from ._core.planner import BackendUnavailableError, PerformanceWarning
    from ._core.pool_geometry import PoolGeometry
    from ._core.workspace import release_scratch
    from .functional import *  # noqa: F403  every function, under its own name
    from .inspection import Explanation, explain, get_include, show_config

__all__ = [
    "BackendUnavailableError",
    "ConvGeometry",
    "Explanation",
    "PackedWeight",
    "PerformanceWarning",
    "PoolGeometry",
    "__version__",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "allow_tf32",
    "analysis",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cross_entropy",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "explain",
    "fold",
    "functional",
    "gelu",
    "get_allow_tf32",
    "get_include",
    "get_num_threads",
    "get_workspace_limit",
    "grad",
    "kernels",
    "layers",
    "leaky_relu",
    "linear",
    "locally_connected1d",
    "locally_connected2d",
    "log_softmax",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "models",
    "pack_weight",
    "release_scratch",
    "relu",
    "relu6",
    "separable_conv1d",
    "separable_conv2d",
    "set_num_threads",
    "set_workspace_limit",
    "show_config",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "training",
    "transform",
    "unfold",
    "use_backend",
]

#: What is imported as a whole.
_MODULES = (
    "analysis",
    "functional",
    "grad",
    "kernels",
    "layers",
    "models",
    "training",
    "transform",
)
#: Drop-ins for other packages: a star import leaves them out, for each may need its package.
_DROP_INS = ("dask", "keras", "ndimage", "onnx", "signal", "torch")
#: Where a name comes from, unless it is a function. Modules load when a name of theirs is first
#: used: importing the package costs a few milliseconds, and using it what it takes.
_HOMES = {
    "_core.config": (
        "allow_tf32",
        "get_allow_tf32",
        "get_num_threads",
        "get_workspace_limit",
        "set_num_threads",
        "set_workspace_limit",
        "use_backend",
    ),
    "_core.conv_geometry": ("ConvGeometry",),
    "_core.packed": ("PackedWeight", "pack_weight"),
    "_core.planner": ("BackendUnavailableError", "PerformanceWarning"),
    "_core.pool_geometry": ("PoolGeometry",),
    "_core.workspace": ("release_scratch",),
    "inspection": ("Explanation", "explain", "get_include", "show_config"),
}


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _DROP_INS:
        return import_module(f"cnnfast.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'cnnfast' has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "functional")
    value = globals()[name] = getattr(import_module(f"cnnfast.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_DROP_INS})
