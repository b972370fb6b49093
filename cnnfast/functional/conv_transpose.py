"""Transposed convolutions.

Argument names, order, defaults and shapes are those of ``torch.nn.functional``; torch's tensor is
here any NumPy array (or an object with ``__array__`` or ``__dlpack__``), with any strides.
"""

from __future__ import annotations

from typing import Any

from cnnfast._core.activations import Activation
from cnnfast._core.arrays import Array
from cnnfast._core.calls import convolve_transpose


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """One-dimensional transposed convolution, as ``torch.nn.functional.conv_transpose1d``.

    The adjoint of the convolution with the same arguments: each input adds its multiple of the
    kernel to the result.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array, any strides
        With ``layout="NWC"`` (N, W, C), or the same without N.
    weight : (C, K / groups, S) array
        In the order of ``weight_layout``, where I and O are this function's own in- and
        out-channels: "IOW" beside NCW and "WOI" beside NWC by default.
    bias : (K,) array, optional
    stride, dilation : int or one per axis (width)
    padding : int, one per axis, (before, after) pairs, or a name
        What is cut off the full result. "valid" (nothing), "same_upper" or "same_lower" ("same" at
        stride 1): ``size * stride`` outputs, as the convolution of that padding takes.
    output_padding : int or one per axis
        More outputs at the end; smaller than stride or dilation.
    groups : int
        In- and out-channels fall into this many groups that don't mix.
    activation, out_dtype, out, backend
        As for ``conv1d``.

    Returns
    -------
    (N, K, Q) array, C-contiguous, in the input's layout; without N if the input has none.
        Each axis has ``(size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding`` outputs
        less the padding. dtypes as ``conv1d``. Complex weights aren't conjugated.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 1.0, 1.0]]]), stride=2)
    array([[[1., 1., 3., 2., 2.]]])
    """
    return convolve_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups,
        dilation, layout=layout, weight_layout=weight_layout, activation=activation,
        out_dtype=out_dtype, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Two-dimensional transposed convolution, as ``torch.nn.functional.conv_transpose2d``.

    The adjoint of the convolution with the same arguments: each input adds its multiple of the
    kernel to the result.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, any strides
        With ``layout="NHWC"`` (N, H, W, C), or the same without N.
    weight : (C, K / groups, R, S) array
        In the order of ``weight_layout``, where I and O are this function's own in- and
        out-channels: "IOHW" beside NCHW and "HWOI" beside NHWC by default.
    bias : (K,) array, optional
    stride, dilation : int or one per axis (height, width)
    padding : int, one per axis, (before, after) pairs, or a name
        What is cut off the full result. "valid" (nothing), "same_upper" or "same_lower" ("same" at
        stride 1): ``size * stride`` outputs, as the convolution of that padding takes.
    output_padding : int or one per axis
        More outputs at the end; smaller than stride or dilation.
    groups : int
        In- and out-channels fall into this many groups that don't mix.
    activation, out_dtype, out, backend
        As for ``conv2d``.

    Returns
    -------
    (N, K, P, Q) array, C-contiguous, in the input's layout; without N if the input has none.
        Each axis has ``(size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding`` outputs
        less the padding. dtypes as ``conv2d``. Complex weights aren't conjugated.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose2d(np.array([[[[1.0, 2.0]]]]), np.ones((1, 1, 2, 2)), stride=2)
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """
    return convolve_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups,
        dilation, layout=layout, weight_layout=weight_layout, activation=activation,
        out_dtype=out_dtype, out=out, backend=backend,
    )  # fmt: skip


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    weight_layout: str | None = None,
    activation: Activation = None,
    out_dtype: Any = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Three-dimensional transposed convolution, as ``torch.nn.functional.conv_transpose3d``.

    The adjoint of the convolution with the same arguments: each input adds its multiple of the
    kernel to the result.

    Parameters
    ----------
    input : (N, C, D, H, W) or (C, D, H, W) array, any strides
        With ``layout="NDHWC"`` (N, D, H, W, C), or the same without N.
    weight : (C, K / groups, T, R, S) array
        In the order of ``weight_layout``, where I and O are this function's own in- and
        out-channels: "IODHW" beside NCDHW and "DHWOI" beside NDHWC by default.
    bias : (K,) array, optional
    stride, dilation : int or one per axis (depth, height, width)
    padding : int, one per axis, (before, after) pairs, or a name
        What is cut off the full result. "valid" (nothing), "same_upper" or "same_lower" ("same" at
        stride 1): ``size * stride`` outputs, as the convolution of that padding takes.
    output_padding : int or one per axis
        More outputs at the end; smaller than stride or dilation.
    groups : int
        In- and out-channels fall into this many groups that don't mix.
    activation, out_dtype, out, backend
        As for ``conv3d``.

    Returns
    -------
    (N, K, O, P, Q) array, C-contiguous, in the input's layout; without N if the input has none.
        Each axis has ``(size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding`` outputs
        less the padding. dtypes as ``conv3d``. Complex weights aren't conjugated.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> x, w = np.ones((1, 8, 2, 3, 4)), np.ones((8, 4, 3, 3, 3))
    >>> conv_transpose3d(x, w, stride=2, padding=1, output_padding=1).shape
    (1, 4, 4, 6, 8)
    """
    return convolve_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups,
        dilation, layout=layout, weight_layout=weight_layout, activation=activation,
        out_dtype=out_dtype, out=out, backend=backend,
    )  # fmt: skip
