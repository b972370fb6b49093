"""The functions: normalise arguments -> geometry -> plan -> kernel.

Argument names, order, defaults and shapes are those of ``torch.nn.functional``; torch's tensor is
here any NumPy array (or an object with ``__array__`` or ``__dlpack__``), with any strides.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._core.arguments import integer
from ._core.arrays import Array, as_array, as_arrays, check_out, computing_dtype, kernel_ready
from ._core.execute import check_bias, run_fprop, run_pool
from ._core.geometry import ConvGeometry, PoolGeometry, pool_name
from ._core.padding import needs_copy, pad_input

__all__ = ["avg_pool2d", "conv2d", "linear", "max_pool2d", "relu", "softmax"]


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "constant",
    padding_value: float = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: str | None = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Two-dimensional convolution (cross-correlation), as ``torch.nn.functional.conv2d``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, float32 or float64, any strides
        With ``layout="NHWC"`` (N, H, W, C) or (H, W, C).
    weight : (K, C / groups, R, S) array
        In the order of ``weight_layout``: "OIHW" beside NCHW and "HWIO" beside NHWC by default, any
        permutation of these letters otherwise. What an infinity or a NaN in it adds where its tap
        lies in the padding (0 x infinity) depends on the kernel.
    bias : (K,) array, optional
    stride, dilation : int or one per axis (height, width)
    padding : int, one per axis, (before, after) pairs, or a name
        "valid" (none), "same" (stride 1; an odd zero goes after), "same_upper" and "same_lower"
        (``ceil(size / stride)`` outputs; an odd zero goes after, or before).
    groups : int
        In- and out-channels fall into this many groups that don't mix; ``groups=C`` is depthwise.
    padding_mode : "constant" (with ``padding_value``), "reflect", "replicate" or "circular"
    activation : name, optional
        "relu", "relu6", "leaky_relu", "sigmoid", "tanh" or "silu", applied to the result.
    out_dtype : float32 or float64, optional
        Dtype of the result (inputs are promoted to it); by default NumPy's promotion of the inputs.
    out : array, optional
        Written in place and returned; shape and dtype of the result, no memory of an input.
    backend : str, optional
        An algorithm, an engine or both, as for ``cnnfast.use_backend``.

    Returns
    -------
    (N, K, P, Q) array, C-contiguous, in the input's layout; without N if the input has none.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> edge = np.array([[[[-1.0, 1.0]]]])
    >>> conv2d(image, edge, stride=(2, 1))
    array([[[[1., 1., 1.],
             [1., 1., 1.]]]])
    """
    return _conv(
        2, input, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value,
        layout, weight_layout, activation, out_dtype, out, backend,
    )  # fmt: skip


def _conv(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    padding_value: float,
    layout: str | None,
    weight_layout: str | None,
    activation: str | None,
    out_dtype: Any,
    out: Array | None,
    backend: str | None,
) -> Array:
    name = f"conv{rank}d"
    x, w, b = as_arrays(name, input=input, weight=weight, bias=bias)
    dtype = computing_dtype(name, (x, w, b), out_dtype)
    x, w = kernel_ready(x, dtype), kernel_ready(w, dtype)
    layouts: dict[str, Any] = {"rank": rank, "layout": layout, "weight_layout": weight_layout}
    geometry = ConvGeometry.of(x, w, stride, padding, dilation, groups, **layouts)
    if needs_copy(name, padding_mode, padding_value):
        x = pad_input(x, geometry, padding_mode, padding_value)
        geometry = ConvGeometry.of(x, w, stride, 0, dilation, groups, **layouts)
    return run_fprop(x, w, b, geometry, activation, out_dtype or dtype, out, backend)


def linear(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Fully connected layer ``input @ weight.T + bias``, as ``torch.nn.functional.linear``.

    Parameters
    ----------
    input : (..., in_features) array, float32 or float64
    weight : (out_features, in_features) array
    bias : (out_features,) array, optional
    activation, out, backend
        As for ``conv2d``.

    Returns
    -------
    (..., out_features) array.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    array([11.,  2.])
    """
    x, w, b = as_arrays("linear", input=input, weight=weight, bias=bias)
    dtype = computing_dtype("linear", (x, w, b))
    geometry = ConvGeometry.of_linear(x.shape, w.shape, dtype)
    check_bias("linear", b, w.shape[0])
    shape = (*x.shape[:-1], w.shape[0])
    if out is not None:
        check_out("linear", out, shape, dtype, [array for array in (x, w, b) if array is not None])
    # The rows of the input are the pixels of a 1x1 convolution over an image, channels last.
    rows = math.prod(x.shape[:-1])
    pixels = kernel_ready(x.reshape(1, rows, w.shape[1]), dtype)
    if rows == 0:
        pixels = np.zeros((1, 1, w.shape[1]), dtype)
    filters = kernel_ready(w, dtype)[:, :, None]
    result = run_fprop(pixels, filters, b, geometry, activation, dtype, None, backend)
    result = result[:, :rows].reshape(shape)
    if out is None:
        return result
    out[...] = result
    return out


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array | tuple[Array, Array]:
    """Maximum over windows, as ``torch.nn.functional.max_pool2d``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, float32 or float64, any strides
        With ``layout="NHWC"`` (N, H, W, C) or (H, W, C).
    kernel_size, stride, padding, dilation : int or one per axis (height, width)
        ``stride`` is the window by default; ``padding`` also takes pairs and names as in
        ``conv2d``, at most half the window, and counts as minus infinity.
    ceil_mode : bool
        Keep a last, partial window.
    return_indices : bool
        Also return the maxima's flat positions in the input plane (int64): the first of equals, the
        last NaN; -1 where a window lies wholly in the padding.

    Returns
    -------
    (N, C, P, Q) array in the input's layout, or that and the indices. NaN wins everything.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return _pool(
        2, "max", input, layout, out, backend, bool(return_indices),
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Mean over windows, as ``torch.nn.functional.avg_pool2d``.

    Parameters
    ----------
    input, kernel_size, stride, padding, ceil_mode, layout, out, backend
        As for ``max_pool2d``; padding counts as zero.
    count_include_pad : bool
        Whether padding counts in the divisor.
    divisor_override : int, optional
        Divide each window's sum by this instead; not zero.

    Returns
    -------
    (N, C, P, Q) array in the input's layout.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    result = _pool(
        2, "mean", input, layout, out, backend, False,
        kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip
    assert isinstance(result, np.ndarray)
    return result


def _pool(
    rank: int,
    reduction: str,
    input: Any,
    layout: str | None,
    out: Array | None,
    backend: str | None,
    return_indices: bool,
    **window: Any,
) -> Array | tuple[Array, Array]:
    name = pool_name(reduction, rank)
    x = as_array(f"{name}: input", input)
    x = kernel_ready(x, computing_dtype(name, (x,)))
    geometry = PoolGeometry.of(x, reduction, rank=rank, layout=layout, **window)
    result, indices = run_pool(x, geometry, return_indices, out, backend)
    return result if indices is None else (result, indices)


def relu(input: Any) -> Array:
    """``max(input, 0)``, elementwise; NaN and the sign of a zero stay.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    x = as_array("relu: input", input)
    result = x.astype(computing_dtype("relu", (x,)), order="C")
    np.copyto(result, 0, where=result < 0)
    return result


@np.errstate(invalid="ignore", under="ignore")
def softmax(input: Any, dim: int = -1) -> Array:
    """``exp(input) / sum(exp(input))`` along axis ``dim``, computed without overflow.

    >>> import numpy as np
    >>> softmax(np.array([0.0, 0.0, 1000.0]))
    array([0., 0., 1.])
    """
    x = as_array("softmax: input", input)
    result = x.astype(computing_dtype("softmax", (x,)), order="C")
    powers = result.reshape(result.shape or (1,))
    axis = integer("softmax: dim", dim, -powers.ndim)
    if axis >= powers.ndim:
        raise ValueError(f"softmax: dim must be below the number of axes {powers.ndim}, got {dim}")
    if powers.size:
        powers -= powers.max(axis=axis, keepdims=True)
        np.exp(powers, out=powers)
        powers /= powers.sum(axis=axis, keepdims=True)
    return result
