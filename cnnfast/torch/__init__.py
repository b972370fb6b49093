"""Convolutions and pools of torch's tensors, by cnnfast's kernels.

The functions have the names and arguments of ``torch.nn.functional``; they read tensors where they
lie, give tensors, and have gradients of every order. ``use()`` sends torch's own functions here.

>>> import cnnfast.torch
>>> from cnnfast.torch.tensors import torch
>>> image, weight = torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3, requires_grad=True)
>>> with cnnfast.torch.use():
...     torch.nn.functional.conv2d(image, weight).sum().backward()
>>> weight.grad.sum()
tensor(3888.)
"""

from __future__ import annotations

from .adaptive_pools import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from .convolutions import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from .mode import use
from .pools import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
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
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "use",
]
