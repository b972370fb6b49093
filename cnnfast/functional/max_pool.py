"""Maximum pooling."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.pools import pool


def max_pool1d(
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
) -> Any:
    """Maximum over windows, as ``torch.nn.functional.max_pool1d``.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array, floats or integers, any strides
        With ``layout="NWC"`` (N, W, C), or the same without N.
    kernel_size, stride, padding, dilation : int or one per axis (width)
        ``stride`` is the window by default; ``padding`` also takes pairs and names as in
        ``conv1d``, at most half the window, and counts as minus infinity.
    ceil_mode : bool
        Keep a last, partial window.
    return_indices : bool
        Also return the maxima's flat positions in the input plane (int64): the first of equals, the
        last NaN; -1 where a window lies wholly in the padding.
    layout, out, backend
        As for ``conv1d``.

    Returns
    -------
    (N, C, Q) array of the input's dtype and layout, or that and the indices.
        NaN wins everything; of zeros, which are equal, either sign may be the result.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool1d(np.array([[[1.0, 5.0, 2.0, 4.0, 3.0]]]), 2, return_indices=True)
    (array([[[5., 4.]]]), array([[[1, 3]]]))
    """
    return pool(
        "max_pool1d", 1, "max", input, layout, out, backend, return_indices,
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip


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
) -> Any:
    """Maximum over windows, as ``torch.nn.functional.max_pool2d``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, floats or integers, any strides
        With ``layout="NHWC"`` (N, H, W, C), or the same without N.
    kernel_size, stride, padding, dilation : int or one per axis (height, width)
        ``stride`` is the window by default; ``padding`` also takes pairs and names as in
        ``conv2d``, at most half the window, and counts as minus infinity.
    ceil_mode : bool
        Keep a last, partial window.
    return_indices : bool
        Also return the maxima's flat positions in the input plane (int64): the first of equals, the
        last NaN; -1 where a window lies wholly in the padding.
    layout, out, backend
        As for ``conv2d``.

    Returns
    -------
    (N, C, P, Q) array of the input's dtype and layout, or that and the indices.
        NaN wins everything; of zeros, which are equal, either sign may be the result.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return pool(
        "max_pool2d", 2, "max", input, layout, out, backend, return_indices,
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip


def max_pool3d(
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
) -> Any:
    """Maximum over windows, as ``torch.nn.functional.max_pool3d``.

    Parameters
    ----------
    input : (N, C, D, H, W) or (C, D, H, W) array, floats or integers, any strides
        With ``layout="NDHWC"`` (N, D, H, W, C), or the same without N.
    kernel_size, stride, padding, dilation : int or one per axis (depth, height, width)
        ``stride`` is the window by default; ``padding`` also takes pairs and names as in
        ``conv3d``, at most half the window, and counts as minus infinity.
    ceil_mode : bool
        Keep a last, partial window.
    return_indices : bool
        Also return the maxima's flat positions in the input plane (int64): the first of equals, the
        last NaN; -1 where a window lies wholly in the padding.
    layout, out, backend
        As for ``conv3d``.

    Returns
    -------
    (N, C, O, P, Q) array of the input's dtype and layout, or that and the indices.
        NaN wins everything; of zeros, which are equal, either sign may be the result.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool3d(np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2), 2)
    array([[[[7]]]], dtype=uint8)
    """
    return pool(
        "max_pool3d", 3, "max", input, layout, out, backend, return_indices,
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip
