"""Power-average pooling: p-norms of windows."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.pools import power_pool


def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """``(sum of input ** p over the window) ** (1 / p)``, as ``torch.nn.functional.lp_pool1d``.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array of floats, any strides
        With ``layout="NWC"`` (N, W, C), or the same without N.
    norm_type : float
        The power p, not 0. Powers keep their signs: an odd p of negative sums gives NaN.
        Infinity is the maximum of ``abs(input)``, minus infinity the minimum.
    kernel_size, stride : int or one per axis (width)
        ``stride`` is the window by default.
    ceil_mode : bool
        Keep a last, partial window; its sum is scaled up to a whole one's.
    layout, out, backend
        As for ``conv1d``.

    Returns
    -------
    (N, C, Q) array of the input's dtype and layout.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> lp_pool1d(np.array([[[3.0, 4.0, 6.0, 8.0]]]), 2, 2)
    array([[[ 5., 10.]]])
    """
    return power_pool(
        "lp_pool1d", 1, input, norm_type, layout, out, backend,
        kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode,
    )  # fmt: skip


def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """``(sum of input ** p over the window) ** (1 / p)``, as ``torch.nn.functional.lp_pool2d``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array of floats, any strides
        With ``layout="NHWC"`` (N, H, W, C), or the same without N.
    norm_type : float
        The power p, not 0. Powers keep their signs: an odd p of negative sums gives NaN.
        Infinity is the maximum of ``abs(input)``, minus infinity the minimum.
    kernel_size, stride : int or one per axis (height, width)
        ``stride`` is the window by default.
    ceil_mode : bool
        Keep a last, partial window; its sum is scaled up to a whole one's.
    layout, out, backend
        As for ``conv2d``.

    Returns
    -------
    (N, C, P, Q) array of the input's dtype and layout.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> lp_pool2d(np.ones((1, 1, 2, 4)), 2, 2)
    array([[[[2., 2.]]]])
    """
    return power_pool(
        "lp_pool2d", 2, input, norm_type, layout, out, backend,
        kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode,
    )  # fmt: skip


def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """``(sum of input ** p over the window) ** (1 / p)``, as ``torch.nn.functional.lp_pool3d``.

    Parameters
    ----------
    input : (N, C, D, H, W) or (C, D, H, W) array of floats, any strides
        With ``layout="NDHWC"`` (N, D, H, W, C), or the same without N.
    norm_type : float
        The power p, not 0. Powers keep their signs: an odd p of negative sums gives NaN.
        Infinity is the maximum of ``abs(input)``, minus infinity the minimum.
    kernel_size, stride : int or one per axis (depth, height, width)
        ``stride`` is the window by default.
    ceil_mode : bool
        Keep a last, partial window; its sum is scaled up to a whole one's.
    layout, out, backend
        As for ``conv3d``.

    Returns
    -------
    (N, C, O, P, Q) array of the input's dtype and layout.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> lp_pool3d(-np.arange(8.0).reshape(1, 2, 2, 2), float("inf"), 2)
    array([[[[7.]]]])
    """
    return power_pool(
        "lp_pool3d", 3, input, norm_type, layout, out, backend,
        kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode,
    )  # fmt: skip
