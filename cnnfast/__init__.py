"""cnnfast: fast convolution and pooling kernels for NumPy.

>>> import numpy as np, cnnfast
>>> image = np.ones((1, 1, 4, 4), np.float32)
>>> cnnfast.conv2d(image, np.ones((1, 1, 3, 3), np.float32)).shape
(1, 1, 2, 2)
"""

from . import functional, kernels
from ._core.config import (
    get_num_threads,
    get_workspace_limit,
    set_num_threads,
    set_workspace_limit,
    use_backend,
)
from ._core.geometry import ConvGeometry, PoolGeometry
from ._core.planner import BackendUnavailableError, PerformanceWarning
from ._core.version import __version__
from ._core.workspace import release_scratch
from .functional import avg_pool2d, conv2d, linear, max_pool2d, relu, softmax
from .inspection import Explanation, explain, show_config

__all__ = [
    "BackendUnavailableError",
    "ConvGeometry",
    "Explanation",
    "PerformanceWarning",
    "PoolGeometry",
    "__version__",
    "avg_pool2d",
    "conv2d",
    "explain",
    "functional",
    "get_num_threads",
    "get_workspace_limit",
    "kernels",
    "linear",
    "max_pool2d",
    "release_scratch",
    "relu",
    "set_num_threads",
    "set_workspace_limit",
    "show_config",
    "softmax",
    "use_backend",
]
