"""Layers: objects with parameters, over ``cnnfast.functional`` and ``cnnfast.grad``.

>>> import numpy as np
>>> from cnnfast.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
>>> net = Sequential(Conv2d(1, 4, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(36, 10))
>>> net(np.zeros((2, 1, 8, 8), np.float32)).shape
(2, 10)
>>> net.backward(np.ones((2, 10), np.float32)).shape
(2, 1, 8, 8)
>>> sorted(net.grads)
['0.bias', '0.weight', '4.bias', '4.weight']
"""

from .activations import GELU, LeakyReLU, ReLU, ReLU6, ScaledTanh, Sigmoid, SiLU, Tanh
from .classic import RadialBasis, Subsampling2d, TableConv2d
from .composite import Residual, Sequential
from .conv import Conv1d, Conv2d, Conv3d, DepthwiseConv2d, PointwiseConv2d, SeparableConv2d
from .conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .files import load_arrays, save_arrays
from .layer import Layer
from .linear import GroupedLinear, Linear
from .local import LocallyConnected1d, LocallyConnected2d
from .loss import CrossEntropyLoss
from .norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, Dropout
from .optim import SGD, Adam
from .pooling import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Flatten,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)

__all__ = [
    "GELU",
    "SGD",
    "Adam",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "DepthwiseConv2d",
    "Dropout",
    "Flatten",
    "GroupedLinear",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "PointwiseConv2d",
    "RadialBasis",
    "ReLU",
    "ReLU6",
    "Residual",
    "ScaledTanh",
    "SeparableConv2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Subsampling2d",
    "TableConv2d",
    "Tanh",
    "load_arrays",
    "save_arrays",
]
