"""The functions of Keras' NumPy backend that JAX computes, by cnnfast."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from cnnfast import functional
from cnnfast._core.arrays import Array

#: Keras' name -> ours. Keras' same padding is TensorFlow's: an odd zero goes after.
_PADDINGS = {"valid": "valid", "same": "same_upper"}
_SPATIAL = ("W", "HW", "DHW")


class Operations:
    """Methods are named as functions of Keras' ``backend.numpy.nn`` and take their arguments;
    a bias and an activation besides, for layers.
    """

    NAMES = (
        "adaptive_average_pool",
        "adaptive_max_pool",
        "average_pool",
        "conv",
        "conv_transpose",
        "depthwise_conv",
        "max_pool",
        "separable_conv",
    )

    def __init__(self, nn: ModuleType) -> None:
        self._nn = nn

    def max_pool(
        self,
        inputs: Any,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
    ) -> Array:
        x, layout = self._data("max_pool", inputs, data_format)
        result: Array = _function("max_pool{}d", x)(
            x, pool_size, strides, _padding(padding), layout=layout
        )
        return result

    def average_pool(
        self,
        inputs: Any,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
    ) -> Array:
        x, layout = self._data("average_pool", inputs, data_format)
        result: Array = _function("avg_pool{}d", x)(
            _divisible(x), pool_size, strides, _padding(padding), count_include_pad=False,
            layout=layout,
        )  # fmt: skip
        return result

    def adaptive_max_pool(
        self, inputs: Any, output_size: Any, data_format: str | None = None
    ) -> Array:
        x, layout = self._data("adaptive_max_pool", inputs, data_format)
        result: Array = _function("adaptive_max_pool{}d", x)(x, output_size, layout=layout)
        return result

    def adaptive_average_pool(
        self, inputs: Any, output_size: Any, data_format: str | None = None
    ) -> Array:
        x, layout = self._data("adaptive_average_pool", inputs, data_format)
        result: Array = _function("adaptive_avg_pool{}d", x)(
            _divisible(x), output_size, layout=layout
        )
        return result

    def conv(
        self,
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        *,
        bias: Any = None,
        activation: str | None = None,
        before: int = 0,
    ) -> Array:
        """``before``: zeros in front of each axis, as causal convolutions have them."""
        x, layout = self._data("conv", inputs, data_format)
        w = self._array(kernel)
        rank = x.ndim - 2
        channels = x.shape[layout.index("C")]
        if w.ndim != x.ndim or not w.shape[-2] or channels % w.shape[-2]:
            raise ValueError(
                f"conv: the number of input channels must be a multiple of the kernel's, and the "
                f"kernel must have the input's axes, got inputs {x.shape} in {layout} and "
                f"kernel {w.shape}"
            )
        result: Array = _function("conv{}d", x)(
            x, w, self._optional(bias), strides,
            [(before, 0)] * rank if before else _padding(padding),
            dilation_rate, channels // w.shape[-2], layout=layout,
            weight_layout=_SPATIAL[rank - 1] + "IO", activation=activation, out_dtype=_dtype(x, w),
        )  # fmt: skip
        return result

    def depthwise_conv(
        self,
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        *,
        bias: Any = None,
        activation: str | None = None,
    ) -> Array:
        x, layout = self._data("depthwise_conv", inputs, data_format)
        w = self._array(kernel)
        channels = x.shape[layout.index("C")]
        if w.ndim != x.ndim or w.shape[-2] != channels:
            raise ValueError(
                f"depthwise_conv: the kernel must have the input's axes and channels, got inputs "
                f"{x.shape} in {layout} and kernel {w.shape}"
            )
        return self.conv(
            x, w.reshape(*w.shape[:-2], 1, channels * w.shape[-1]), strides, padding, data_format,
            dilation_rate, bias=bias, activation=activation,
        )  # fmt: skip

    def separable_conv(
        self,
        inputs: Any,
        depthwise_kernel: Any,
        pointwise_kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        *,
        bias: Any = None,
        activation: str | None = None,
    ) -> Array:
        between = self.depthwise_conv(
            inputs, depthwise_kernel, strides, padding, data_format, dilation_rate
        )
        return self.conv(
            between, pointwise_kernel, data_format=data_format, bias=bias, activation=activation
        )

    def conv_transpose(
        self,
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        *,
        bias: Any = None,
        activation: str | None = None,
    ) -> Array:
        x, layout = self._data("conv_transpose", inputs, data_format)
        w = self._array(kernel)
        rank = x.ndim - 2
        if w.ndim != x.ndim or w.shape[-1] != x.shape[layout.index("C")]:
            raise ValueError(
                f"conv_transpose: the kernel must have the input's axes and channels, got inputs "
                f"{x.shape} in {layout} and kernel {w.shape}"
            )
        dilations = (dilation_rate,) * rank if np.ndim(dilation_rate) == 0 else dilation_rate
        # Keras knows what JAX pads the spread input with; ours is what is cut off the full result.
        padded = self._nn.compute_conv_transpose_padding_args_for_jax(
            input_shape=x.shape, kernel_shape=w.shape, strides=strides, padding=padding,
            output_padding=output_padding, dilation_rate=dilation_rate,
        )  # fmt: skip
        cut = [
            (dilation * (size - 1) - before, dilation * (size - 1) - after)
            for size, dilation, (before, after) in zip(w.shape, dilations, padded, strict=False)
        ]
        result: Array = _function("conv_transpose{}d", x)(
            x, w, self._optional(bias), strides,
            [(before, max(after, 0)) for before, after in cut],
            [max(-after, 0) for _, after in cut],
            dilation=dilation_rate, layout=layout, weight_layout=_SPATIAL[rank - 1] + "OI",
            activation=activation, out_dtype=_dtype(x, w),
        )  # fmt: skip
        return result

    def _data(self, name: str, inputs: Any, data_format: str | None) -> tuple[Array, str]:
        """The array, and its layout as we name it."""
        x = self._array(inputs)
        if not 3 <= x.ndim <= 5:
            raise ValueError(f"{name} takes inputs of 1 to 3 spatial axes, got shape {x.shape}")
        spatial = _SPATIAL[x.ndim - 3]
        last = self._nn.backend.standardize_data_format(data_format) == "channels_last"
        return x, f"N{spatial}C" if last else f"NC{spatial}"

    def _array(self, x: Any) -> Array:
        # Keras' own conversion copies what is an array already.
        array: Array = x if isinstance(x, np.ndarray) else self._nn.convert_to_tensor(x)
        return array

    def _optional(self, x: Any) -> Array | None:
        return None if x is None else self._array(x)


def _function(name: str, x: Array) -> Any:
    return getattr(functional, name.format(x.ndim - 2))


def _padding(padding: Any) -> str:
    lower = padding.lower() if isinstance(padding, str) else padding
    if lower not in _PADDINGS:
        raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}")
    return _PADDINGS[lower]


def _divisible(x: Array) -> Array:
    """Integers as float64: their means are fractions in Keras' NumPy backend."""
    return x.astype(np.float64) if x.dtype.kind in "iu" else x


def _dtype(x: Array, w: Array) -> Any:
    """Integers beside floats become such floats in Keras, not wider ones, and sums of integers keep
    the integers' dtype, wrapping around; floats are no matter.
    """
    floats = [a for a in (x, w) if a.dtype.kind not in "iu"]
    return None if len(floats) == 2 else np.result_type(*(floats or (x, w)))
