"""The functions: normalise arguments -> geometry -> plan -> kernel.

Argument names, order, defaults and shapes are those of ``torch.nn.functional``; torch's tensor is
here any NumPy array (or an object with ``__array__`` or ``__dlpack__``), with any strides.
"""

from .adaptive_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from .avg_pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
)
from .conv import (
    conv1d,
    conv2d,
    conv3d,
)
from .conv_transpose import (
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from .elementwise import (
    gelu,
    leaky_relu,
    relu,
    relu6,
    sigmoid,
    silu,
    tanh,
)
from .linear import linear
from .local import (
    locally_connected1d,
    locally_connected2d,
)
from .lp_pool import (
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
)
from .max_pool import (
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from .normalising import (
    batch_norm,
    cross_entropy,
    log_softmax,
    softmax,
)
from .separable import (
    depthwise_conv1d,
    depthwise_conv2d,
    separable_conv1d,
    separable_conv2d,
)
from .unfolding import (
    fold,
    unfold,
)
from .unpooling import (
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
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
    "fold",
    "gelu",
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
    "relu",
    "relu6",
    "separable_conv1d",
    "separable_conv2d",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "unfold",
]
