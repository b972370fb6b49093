"""The adjoints: what each function's gradient is in its input, weight and bias.

They take batched arrays and numeric padding; gradients of complex functions are conjugated, so that
``<f(x), y> == <x, f_backward(y)>``.

>>> import numpy as np
>>> conv2d_input((1, 1, 2, 2), np.full((1, 1, 1, 1), 3.0), np.ones((1, 1, 2, 2)))
array([[[[3., 3.],
         [3., 3.]]]])
"""

from .adaptive_pool import (
    adaptive_avg_pool1d_backward,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool3d_backward,
    adaptive_max_pool1d_backward,
    adaptive_max_pool2d_backward,
    adaptive_max_pool3d_backward,
)
from .conv import (
    conv1d_input,
    conv1d_weight,
    conv2d_input,
    conv2d_weight,
    conv3d_input,
    conv3d_weight,
    conv_bias,
)
from .conv_transpose import (
    conv_transpose1d_input,
    conv_transpose1d_weight,
    conv_transpose2d_input,
    conv_transpose2d_weight,
    conv_transpose3d_input,
    conv_transpose3d_weight,
    conv_transpose_bias,
)
from .linear import (
    linear_bias,
    linear_input,
    linear_weight,
)
from .local import (
    locally_connected1d_input,
    locally_connected1d_weight,
    locally_connected2d_input,
    locally_connected2d_weight,
    locally_connected_bias,
)
from .lp_pool import (
    lp_pool1d_backward,
    lp_pool2d_backward,
    lp_pool3d_backward,
)
from .pooling import (
    avg_pool1d_backward,
    avg_pool2d_backward,
    avg_pool3d_backward,
    max_pool1d_backward,
    max_pool2d_backward,
    max_pool3d_backward,
)
from .unfolding import (
    fold_backward,
    unfold_backward,
)
from .unpooling import (
    max_unpool1d_backward,
    max_unpool2d_backward,
    max_unpool3d_backward,
)

__all__ = [
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d_backward",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward",
    "avg_pool1d_backward",
    "avg_pool2d_backward",
    "avg_pool3d_backward",
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
    "conv_bias",
    "conv_transpose1d_input",
    "conv_transpose1d_weight",
    "conv_transpose2d_input",
    "conv_transpose2d_weight",
    "conv_transpose3d_input",
    "conv_transpose3d_weight",
    "conv_transpose_bias",
    "fold_backward",
    "linear_bias",
    "linear_input",
    "linear_weight",
    "locally_connected1d_input",
    "locally_connected1d_weight",
    "locally_connected2d_input",
    "locally_connected2d_weight",
    "locally_connected_bias",
    "lp_pool1d_backward",
    "lp_pool2d_backward",
    "lp_pool3d_backward",
    "max_pool1d_backward",
    "max_pool2d_backward",
    "max_pool3d_backward",
    "max_unpool1d_backward",
    "max_unpool2d_backward",
    "max_unpool3d_backward",
    "unfold_backward",
]
