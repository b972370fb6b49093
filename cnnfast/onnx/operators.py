"""ONNX's operators as plain functions of NumPy arrays: inputs as arrays, attributes by their names.

>>> import numpy as np
>>> from cnnfast.onnx import operators
>>> operators.conv(np.ones((1, 2, 5, 5)), np.ones((4, 2, 3, 3)), pads=[1, 1, 1, 1]).shape
(1, 4, 5, 5)
"""

from __future__ import annotations

from ._columns import col2im
from ._convolutions import conv, conv_transpose
from ._deformable import deform_conv
from ._pools import (
    average_pool,
    global_average_pool,
    global_lp_pool,
    global_max_pool,
    lp_pool,
    max_pool,
)
from ._quantized import conv_integer, qlinear_conv
from ._unpooling import max_unpool

__all__ = [
    "average_pool",
    "col2im",
    "conv",
    "conv_integer",
    "conv_transpose",
    "deform_conv",
    "global_average_pool",
    "global_lp_pool",
    "global_max_pool",
    "lp_pool",
    "max_pool",
    "max_unpool",
    "qlinear_conv",
]
