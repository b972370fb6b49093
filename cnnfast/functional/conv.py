"""Convolutions: one, two and three spatial axes, depthwise, separable.

Argument names, order, defaults and shapes are those of ``torch.nn.functional``; torch's tensor is
here any NumPy array (or an object with ``__array__`` or ``__dlpack__``), with any strides.
"""

from __future__ import annotations

from typing import Any

from cnnfast._core.activations import Activation
from cnnfast._core.arrays import Array
from cnnfast._core.calls import convolve


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """One-dimensional convolution (cross-correlation), as ``torch.nn.functional.conv1d``.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array, any strides
        With ``layout="NWC"`` (N, W, C), or the same without N.
    weight : (K, C / groups, S) array
        In the order of ``weight_layout``: "OIW" beside NCW and "WIO" beside NWC by
        default, any permutation of these letters otherwise.
    bias : (K,) array, optional
    stride, dilation : int or one per axis (width)
    padding : int, one per axis, (before, after) pairs, or a name
        "valid" (none), "same" (stride 1; an odd zero goes after), "same_upper" and "same_lower"
        (``ceil(size / stride)`` outputs; an odd zero goes after, or before).
    groups : int
        In- and out-channels fall into this many groups that don't mix; ``groups=C`` is depthwise.
    padding_mode : "constant" (with ``padding_value``), "reflect", "replicate" or "circular"
    activation : name or function, optional
        "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", or a function of one
        number compiled by ``numba.njit``, which the kernel applies before it stores a result.
    out_dtype : dtype, optional
        Of the result; floats are computed in the wider of this and the inputs'.
    out : array, optional
        Written in place and returned; shape and dtype of the result, no memory of an input.
    backend : str, optional
        An algorithm, an engine or both, as for ``cnnfast.use_backend``.

    Returns
    -------
    (N, K, Q) array, C-contiguous, in the input's layout; without N if the input has none.
        Inputs promote as NumPy's do. float32, float64, complex64, complex128 stay; float16 and
        bfloat16 are summed in float32 and rounded once; int8 and uint8 give int32, int16, int32 and
        int64 give int64, exactly. Padding is zeros that are multiplied: an infinite weight over it
        gives NaN.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> conv1d(np.arange(6.0).reshape(1, 1, 6), np.array([[[1.0, 0.0, -1.0]]]), padding="same")
    array([[[-1., -2., -2., -2., -2.,  4.]]])
    """
    return convolve(
        "conv1d", 1, input, weight, bias, stride, padding, dilation, groups,
        padding_mode, padding_value, layout, weight_layout, activation, out_dtype, out, backend,
    )  # fmt: skip


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
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Two-dimensional convolution (cross-correlation), as ``torch.nn.functional.conv2d``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, any strides
        With ``layout="NHWC"`` (N, H, W, C), or the same without N.
    weight : (K, C / groups, R, S) array
        In the order of ``weight_layout``: "OIHW" beside NCHW and "HWIO" beside NHWC by
        default, any permutation of these letters otherwise.
    bias : (K,) array, optional
    stride, dilation : int or one per axis (height, width)
    padding : int, one per axis, (before, after) pairs, or a name
        "valid" (none), "same" (stride 1; an odd zero goes after), "same_upper" and "same_lower"
        (``ceil(size / stride)`` outputs; an odd zero goes after, or before).
    groups : int
        In- and out-channels fall into this many groups that don't mix; ``groups=C`` is depthwise.
    padding_mode : "constant" (with ``padding_value``), "reflect", "replicate" or "circular"
    activation : name or function, optional
        "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", or a function of one
        number compiled by ``numba.njit``, which the kernel applies before it stores a result.
    out_dtype : dtype, optional
        Of the result; floats are computed in the wider of this and the inputs'.
    out : array, optional
        Written in place and returned; shape and dtype of the result, no memory of an input.
    backend : str, optional
        An algorithm, an engine or both, as for ``cnnfast.use_backend``.

    Returns
    -------
    (N, K, P, Q) array, C-contiguous, in the input's layout; without N if the input has none.
        Inputs promote as NumPy's do. float32, float64, complex64, complex128 stay; float16 and
        bfloat16 are summed in float32 and rounded once; int8 and uint8 give int32, int16, int32 and
        int64 give int64, exactly. Padding is zeros that are multiplied: an infinite weight over it
        gives NaN.

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
    return convolve(
        "conv2d", 2, input, weight, bias, stride, padding, dilation, groups,
        padding_mode, padding_value, layout, weight_layout, activation, out_dtype, out, backend,
    )  # fmt: skip


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "constant",
    padding_value: complex = 0,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Three-dimensional convolution (cross-correlation), as ``torch.nn.functional.conv3d``.

    Parameters
    ----------
    input : (N, C, D, H, W) or (C, D, H, W) array, any strides
        With ``layout="NDHWC"`` (N, D, H, W, C), or the same without N.
    weight : (K, C / groups, T, R, S) array
        In the order of ``weight_layout``: "OIDHW" beside NCDHW and "DHWIO" beside NDHWC by
        default, any permutation of these letters otherwise.
    bias : (K,) array, optional
    stride, dilation : int or one per axis (depth, height, width)
    padding : int, one per axis, (before, after) pairs, or a name
        "valid" (none), "same" (stride 1; an odd zero goes after), "same_upper" and "same_lower"
        (``ceil(size / stride)`` outputs; an odd zero goes after, or before).
    groups : int
        In- and out-channels fall into this many groups that don't mix; ``groups=C`` is depthwise.
    padding_mode : "constant" (with ``padding_value``), "reflect", "replicate" or "circular"
    activation : name or function, optional
        "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", or a function of one
        number compiled by ``numba.njit``, which the kernel applies before it stores a result.
    out_dtype : dtype, optional
        Of the result; floats are computed in the wider of this and the inputs'.
    out : array, optional
        Written in place and returned; shape and dtype of the result, no memory of an input.
    backend : str, optional
        An algorithm, an engine or both, as for ``cnnfast.use_backend``.

    Returns
    -------
    (N, K, O, P, Q) array, C-contiguous, in the input's layout; without N if the input has none.
        Inputs promote as NumPy's do. float32, float64, complex64, complex128 stay; float16 and
        bfloat16 are summed in float32 and rounded once; int8 and uint8 give int32, int16, int32 and
        int64 give int64, exactly. Padding is zeros that are multiplied: an infinite weight over it
        gives NaN.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> volume = np.ones((1, 1, 3, 3, 3), np.int8)
    >>> conv3d(volume, volume, padding=1)[0, 0, 1]
    array([[12, 18, 12],
           [18, 27, 18],
           [12, 18, 12]], dtype=int32)
    """
    return convolve(
        "conv3d", 3, input, weight, bias, stride, padding, dilation, groups,
        padding_mode, padding_value, layout, weight_layout, activation, out_dtype, out, backend,
    )  # fmt: skip
