"""Keras' convolution layers with bias and activation in the kernel's last store.

Their own ``call`` adds the bias and activates in passes over copies of the result, which take
longer than the convolution.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array

from ._operations import Operations

Call = Callable[[Any, Any], Any]
#: What computes a layer: (layer, inputs, bias and activation by keyword) -> result.
Compute = Callable[..., Array]

#: Keras' activations that kernels apply, by the name that both have.
_FUSED = ("gelu", "relu", "relu6", "sigmoid", "silu", "tanh")


def _fusing(layer_class: Any, compute: Compute, overridden: str | None = None) -> Call:
    """A ``call`` that fuses for arrays, and is the class's own for Keras' symbolic inputs, and
    where a subclass has a method ``overridden`` of its own.
    """
    own: Call = layer_class.call
    activations = sys.modules["keras.src.activations"]
    # By identity: an activation may be an object that can't be hashed.
    names = {id(getattr(activations, name)): name for name in _FUSED}

    def call(self: Any, inputs: Any) -> Any:
        changed = overridden and getattr(type(self), overridden) is not getattr(
            layer_class, overridden
        )
        if changed or not isinstance(inputs, np.ndarray):
            return own(self, inputs)
        bias = self.bias if self.use_bias else None
        activation = names.get(id(self.activation))
        result = compute(self, inputs, bias=bias, activation=activation)
        if self.activation is None or activation is not None:
            return result
        return self.activation(result)

    return call


def _conv(layer_class: Any, operations: Operations) -> Call:
    def compute(layer: Any, inputs: Any, **store: Any) -> Array:
        return operations.conv(
            inputs, layer.kernel, layer.strides, layer.padding, layer.data_format,
            layer.dilation_rate, **store,
        )  # fmt: skip

    return _fusing(layer_class, compute, "convolution_op")


def _conv1d(layer_class: Any, operations: Operations) -> Call:
    def compute(layer: Any, inputs: Any, **store: Any) -> Array:
        causal = layer.padding == "causal"
        return operations.conv(
            inputs, layer.kernel, layer.strides, "valid" if causal else layer.padding,
            layer.data_format, layer.dilation_rate,
            before=layer.dilation_rate[0] * (layer.kernel_size[0] - 1) if causal else 0, **store,
        )  # fmt: skip

    return _fusing(layer_class, compute)


def _depthwise_conv(layer_class: Any, operations: Operations) -> Call:
    def compute(layer: Any, inputs: Any, **store: Any) -> Array:
        return operations.depthwise_conv(
            inputs, layer.kernel, layer.strides, layer.padding, layer.data_format,
            layer.dilation_rate, **store,
        )  # fmt: skip

    return _fusing(layer_class, compute)


def _separable_conv(layer_class: Any, operations: Operations) -> Call:
    def compute(layer: Any, inputs: Any, **store: Any) -> Array:
        return operations.separable_conv(
            inputs, layer.depthwise_kernel, layer.pointwise_kernel, layer.strides, layer.padding,
            layer.data_format, layer.dilation_rate, **store,
        )  # fmt: skip

    return _fusing(layer_class, compute)


def _conv_transpose(layer_class: Any, operations: Operations) -> Call:
    def compute(layer: Any, inputs: Any, **store: Any) -> Array:
        return operations.conv_transpose(
            inputs, layer.kernel, layer.strides, layer.padding, layer.output_padding,
            layer.data_format, layer.dilation_rate, **store,
        )  # fmt: skip

    return _fusing(layer_class, compute)


#: Module of ``keras.src.layers.convolutional`` -> its class, and what makes the class's ``call``.
CALLS: dict[str, tuple[str, Callable[[Any, Operations], Call]]] = {
    "base_conv": ("BaseConv", _conv),
    "base_conv_transpose": ("BaseConvTranspose", _conv_transpose),
    "base_depthwise_conv": ("BaseDepthwiseConv", _depthwise_conv),
    "base_separable_conv": ("BaseSeparableConv", _separable_conv),
    "conv1d": ("Conv1D", _conv1d),
}
