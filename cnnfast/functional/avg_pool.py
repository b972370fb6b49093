"""Average pooling."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.pools import pool


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Mean over windows, as ``torch.nn.functional.avg_pool1d``.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array, floats, integers or complex, any strides
        With ``layout="NWC"`` (N, W, C), or the same without N.
    kernel_size, stride, padding : int or one per axis (width)
        ``stride`` is the window by default; ``padding`` also takes pairs and names as in
        ``conv1d``, at most half the window, and counts as zero.
    ceil_mode : bool
        Keep a last, partial window.
    count_include_pad : bool
        Whether padding counts in the divisor.
    layout, out, backend
        As for ``conv1d``.

    Returns
    -------
    (N, C, Q) array in the input's layout.
        Floats and complex keep their dtype; int8 and uint8 give int32, other integers int64, the
        quotient rounded towards zero.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool1d(np.array([[[1.0, 5.0, 2.0, 4.0, 3.0]]]), 2, ceil_mode=True)
    array([[[3., 3., 3.]]])
    """
    result: Array = pool(
        "avg_pool1d", 1, "mean", input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )  # fmt: skip
    return result


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
    input : (N, C, H, W) or (C, H, W) array, floats, integers or complex, any strides
        With ``layout="NHWC"`` (N, H, W, C), or the same without N.
    kernel_size, stride, padding : int or one per axis (height, width)
        ``stride`` is the window by default; ``padding`` also takes pairs and names as in
        ``conv2d``, at most half the window, and counts as zero.
    ceil_mode : bool
        Keep a last, partial window.
    count_include_pad : bool
        Whether padding counts in the divisor.
    divisor_override : int, optional
        Divide each window's sum by this instead; not zero.
    layout, out, backend
        As for ``conv2d``.

    Returns
    -------
    (N, C, P, Q) array in the input's layout.
        Floats and complex keep their dtype; int8 and uint8 give int32, other integers int64, the
        quotient rounded towards zero.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    result: Array = pool(
        "avg_pool2d", 2, "mean", input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip
    return result


def avg_pool3d(
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
    """Mean over windows, as ``torch.nn.functional.avg_pool3d``.

    Parameters
    ----------
    input : (N, C, D, H, W) or (C, D, H, W) array, floats, integers or complex, any strides
        With ``layout="NDHWC"`` (N, D, H, W, C), or the same without N.
    kernel_size, stride, padding : int or one per axis (depth, height, width)
        ``stride`` is the window by default; ``padding`` also takes pairs and names as in
        ``conv3d``, at most half the window, and counts as zero.
    ceil_mode : bool
        Keep a last, partial window.
    count_include_pad : bool
        Whether padding counts in the divisor.
    divisor_override : int, optional
        Divide each window's sum by this instead; not zero.
    layout, out, backend
        As for ``conv3d``.

    Returns
    -------
    (N, C, O, P, Q) array in the input's layout.
        Floats and complex keep their dtype; int8 and uint8 give int32, other integers int64, the
        quotient rounded towards zero.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool3d(np.ones((1, 2, 2, 2)), 2, divisor_override=4)
    array([[[[2.]]]])
    """
    result: Array = pool(
        "avg_pool3d", 3, "mean", input, layout, out, backend,
        kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip
    return result
