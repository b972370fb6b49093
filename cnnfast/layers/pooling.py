"""Pooling layers and Flatten: no parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfast import functional, grad
from cnnfast._core.arguments import per_axis
from cnnfast._core.arrays import Array, as_array
from cnnfast._core.operand import Shape
from cnnfast._core.pool_geometry import PoolGeometry

from .activations import Activation
from .layer import Layer
from .reach import Reach

#: A pass per tap pays up to about so many.
MOST_TAPS = 9
#: What needn't be shown of a pooling's arguments.
DEFAULTS = {
    "stride": None,
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "count_include_pad": True,
    "layout": None,
}
#: Of the widest instruction set.
VECTOR_BYTES = 64


class _Pool(Layer):
    """A pooling; takes any float dtype. Arguments are those of its function."""

    rank: int
    function: str
    reduction: str

    def __init__(self, size: Any, **arguments: Any) -> None:
        super().__init__(np.float32, 0)
        self.size, self.arguments = size, arguments

    def geometry(self, input_shape: Shape) -> PoolGeometry:
        """The pooling of an input of this shape."""
        raise NotImplementedError

    def _shape(self, input_shape: Shape) -> Shape:
        """(N, C, P, Q): channels stay."""
        return self.geometry(input_shape).out_shape

    def flops(self, input_shape: Shape) -> int:
        """A comparison or an addition per tap."""
        return self.geometry(input_shape).flops

    def _checked(self, input: Any) -> Array:
        return as_array("input", input)

    def _function(self, module: Any, suffix: str = "") -> Callable[..., Array]:
        found: Callable[..., Array] = getattr(module, f"{self.function}{self.rank}d{suffix}")
        return found

    def _forward(self, input: Array) -> Array:
        self._keep(input)
        return self._function(functional)(input, self.size, **self.arguments)

    def _described(self) -> str:
        given = self.arguments.items()
        words = [f"{name}={value!r}" for name, value in given if value != DEFAULTS[name]]
        return ", ".join([str(self.size), *words])


class _SlidingPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        *,
        layout: str | None = None,
        **more: Any,
    ) -> None:
        arguments = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        super().__init__(kernel_size, **arguments, **more, layout=layout)

    def geometry(self, input_shape: Shape) -> PoolGeometry:
        """The pooling of an input of this shape."""
        return PoolGeometry.of(
            tuple(input_shape), self.reduction, self.size, rank=self.rank, **self.arguments
        )

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (input,) = self._saved
        if not to_input:
            return None
        back = self._function(grad, "_backward")
        return back(grad_output, input, self.size, **self.arguments)


class MaxPool(_SlidingPool):
    """Maxima over windows; ``MaxPool2d`` says the rest."""

    function = "max_pool"
    reduction = "max"

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, layout=layout, dilation=dilation)

    def _forward(self, input: Array) -> Array:
        result = super()._forward(input)
        self._keep(input, result)
        return result

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        input, result = self._saved
        if not to_input:
            return None
        back = self._tap_by_tap(input, result, grad_output)
        if back is None:
            arguments = self.arguments
            back = self._function(grad, "_backward")(grad_output, input, self.size, **arguments)
        return back

    def backward_through(self, before: Activation, grad_output: Any) -> Array | None:
        """The gradient in the input of the activation before; None if its slope needs more than
        its result.

        That slope is wanted at the maxima alone, where the activation's result is the pooling's:
        a pass over these instead of one over the input.
        """
        if self._saved is None or not before.slope_from_result:
            return None
        return self.backward(grad_output * before._slope(self._saved[1]))

    def _tap_by_tap(self, input: Array, result: Array, grad_output: Array) -> Array | None:
        """The gradient of windows that lie side by side in short rows; None elsewhere, where they
        have many taps, and for NaN and infinities.

        Why: ``max_pool2d_backward`` looks for the maxima again, window by window in rows that are
        shorter than a vector (2 x 2 on 256 x 6 x 28 x 28, one thread: 8.1 ms, and 2.6 ms here).
        """
        given, rank = self.arguments, self.rank
        stride = self.size if given["stride"] in (None, ()) else given["stride"]
        plain = given["dilation"] == 1 and given["padding"] == 0 and not given["ceil_mode"]
        short = given["layout"] in (None, "NCW", "NCHW", "NCDHW")
        short = short and result.shape[-1] * result.itemsize < VECTOR_BYTES
        batched = input.ndim == rank + 2
        if not batched or not short or not plain or self.size != stride:
            return None
        kernel = per_axis("kernel_size", self.size, rank, 1)
        if math.prod(kernel) > MOST_TAPS or not np.isfinite(grad_output).all():
            return None
        left = np.ones(result.shape, bool)
        back = np.zeros(input.shape, input.dtype)
        for tap in np.ndindex(*kernel):
            at = zip(tap, kernel, result.shape[2:], strict=True)
            here: tuple[Any, ...] = (..., *(slice(t, size * count, size) for t, size, count in at))
            found = input[here] == result
            found &= left
            left ^= found
            np.multiply(grad_output, found, out=back[here])
        return None if left.any() else back


class MaxPool1d(MaxPool):
    """Maxima over one axis; as ``MaxPool2d``.

    Examples
    --------
    >>> MaxPool1d(2)(np.array([[[1.0, 3.0, 2.0, 5.0]]]))
    array([[[3., 5.]]])
    """

    rank = 1


class MaxPool2d(MaxPool):
    """The maximum of each window, as ``torch.nn.MaxPool2d``; its gradient goes to where the maximum
    was. Arguments are those of ``cnnfast.max_pool2d``.

    Examples
    --------
    >>> MaxPool2d(2)(np.array([[[[1.0, 3.0], [2.0, 5.0]]]]))
    array([[[[5.]]]])
    """

    rank = 2


class MaxPool3d(MaxPool):
    """Maxima over volumes; as ``MaxPool2d``.

    Examples
    --------
    >>> MaxPool3d(2).output_shape((1, 4, 8, 8, 8))
    (1, 4, 4, 4, 4)
    """

    rank = 3


class _AvgPool(_SlidingPool):
    function = "avg_pool"
    reduction = "mean"

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, ceil_mode, layout=layout,
            count_include_pad=count_include_pad,
        )  # fmt: skip


class AvgPool1d(_AvgPool):
    """Means over one axis; as ``AvgPool2d``.

    Examples
    --------
    >>> AvgPool1d(2)(np.array([[[1.0, 3.0, 2.0, 6.0]]]))
    array([[[2., 4.]]])
    """

    rank = 1


class AvgPool2d(_AvgPool):
    """The mean of each window, as ``torch.nn.AvgPool2d``; its gradient is spread over the window.
    Arguments are those of ``cnnfast.avg_pool2d``.

    Examples
    --------
    >>> AvgPool2d(2)(np.array([[[[1.0, 3.0], [2.0, 6.0]]]]))
    array([[[[3.]]]])
    """

    rank = 2


class AvgPool3d(_AvgPool):
    """Means over volumes; as ``AvgPool2d``.

    Examples
    --------
    >>> AvgPool3d(2).output_shape((1, 4, 8, 8, 8))
    (1, 4, 4, 4, 4)
    """

    rank = 3


class _AdaptivePool(_Pool):
    def __init__(self, output_size: Any, *, layout: str | None = None) -> None:
        super().__init__(output_size, layout=layout)

    def geometry(self, input_shape: Shape) -> PoolGeometry:
        """The pooling of an input of this shape."""
        return PoolGeometry.of_adaptive(
            tuple(input_shape), self.reduction, self.size, rank=self.rank, **self.arguments
        )

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (input,) = self._saved
        if not to_input:
            return None
        return self._function(grad, "_backward")(grad_output, input, **self.arguments)


class AdaptiveAvgPool2d(_AdaptivePool):
    """Means over windows that make ``output_size`` outputs, as ``torch.nn.AdaptiveAvgPool2d``.

    Examples
    --------
    >>> AdaptiveAvgPool2d(1).output_shape((1, 4, 7, 7))
    (1, 4, 1, 1)
    """

    rank = 2
    function = "adaptive_avg_pool"
    reduction = "mean"


class AdaptiveMaxPool2d(_AdaptivePool):
    """Maxima over windows that make ``output_size`` outputs, as ``torch.nn.AdaptiveMaxPool2d``.

    Examples
    --------
    >>> AdaptiveMaxPool2d((2, 1)).output_shape((1, 4, 7, 7))
    (1, 4, 2, 1)
    """

    rank = 2
    function = "adaptive_max_pool"
    reduction = "max"


class Flatten(Layer):
    """(N, C, H, W) to (N, C * H * W), as ``torch.nn.Flatten``; any dtype.

    Examples
    --------
    >>> Flatten().output_shape((2, 3, 4, 4))
    (2, 48)
    """

    def __init__(self) -> None:
        super().__init__(np.float32, 0)

    def _shape(self, input_shape: Shape) -> Shape:
        """(N, the product of the others)."""
        if not input_shape:
            raise ValueError("the input must have a batch axis, got shape ()")
        return (input_shape[0], math.prod(input_shape[1:]))

    def reach(self, input_shape: Shape) -> tuple[Reach, ...]:
        """Everything: features have no place."""
        return ()

    def _checked(self, input: Any) -> Array:
        return as_array("input", input)

    def _forward(self, input: Array) -> Array:
        self._keep(input.shape)
        return input.reshape(self.output_shape(input.shape))

    def _backward(self, grad_output: Array, to_input: bool) -> Array | None:
        (shape,) = self._saved
        return grad_output.reshape(shape)
