"""Adaptive pooling: to a size instead of by a window."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arrays import Array
from cnnfast._core.pools import pool


def adaptive_avg_pool1d(
    input: Any,
    output_size: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Mean over as many windows as asked for, as ``torch.nn.functional.adaptive_avg_pool1d``.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array, floats, integers or complex
        With ``layout="NWC"`` (N, W, C), or the same without N.
    output_size : int or one per axis (width)
        Window i of an axis is ``floor(i size / outputs)`` up to ``ceil((i + 1) size / outputs)``;
        None keeps the input's size.
    layout, out, backend
        As for ``conv1d``.

    Returns
    -------
    (N, C, Q) array in the input's layout; dtypes as ``avg_pool1d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool1d(np.arange(5.0).reshape(1, 1, 5), 2)
    array([[[1., 3.]]])
    """
    result: Array = pool(
        "adaptive_avg_pool1d", 1, "mean", input, layout, out, backend, output_size=output_size
    )
    return result


def adaptive_max_pool1d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Any:
    """Maximum over as many windows as asked for, as ``torch.nn.functional.adaptive_max_pool1d``.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array, floats or integers
        With ``layout="NWC"`` (N, W, C), or the same without N.
    output_size : int or one per axis (width)
        Window i of an axis is ``floor(i size / outputs)`` up to ``ceil((i + 1) size / outputs)``;
        None keeps the input's size.
    return_indices : bool
        Also return the maxima's flat positions in the input plane, as ``max_pool1d``.
    layout, out, backend
        As for ``conv1d``.

    Returns
    -------
    (N, C, Q) array of the input's dtype and layout, or that and the indices.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool1d(np.arange(5.0).reshape(1, 1, 5), 2)
    array([[[2., 4.]]])
    """
    return pool(
        "adaptive_max_pool1d", 1, "max", input, layout, out, backend, return_indices,
        output_size=output_size,
    )  # fmt: skip


def adaptive_avg_pool2d(
    input: Any,
    output_size: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Mean over as many windows as asked for, as ``torch.nn.functional.adaptive_avg_pool2d``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, floats, integers or complex
        With ``layout="NHWC"`` (N, H, W, C), or the same without N.
    output_size : int or one per axis (height, width)
        Window i of an axis is ``floor(i size / outputs)`` up to ``ceil((i + 1) size / outputs)``;
        None keeps the input's size.
    layout, out, backend
        As for ``conv2d``.

    Returns
    -------
    (N, C, P, Q) array in the input's layout; dtypes as ``avg_pool2d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.arange(12.0).reshape(1, 3, 4), 1)
    array([[[5.5]]])
    """
    result: Array = pool(
        "adaptive_avg_pool2d", 2, "mean", input, layout, out, backend, output_size=output_size
    )
    return result


def adaptive_max_pool2d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Any:
    """Maximum over as many windows as asked for, as ``torch.nn.functional.adaptive_max_pool2d``.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array, floats or integers
        With ``layout="NHWC"`` (N, H, W, C), or the same without N.
    output_size : int or one per axis (height, width)
        Window i of an axis is ``floor(i size / outputs)`` up to ``ceil((i + 1) size / outputs)``;
        None keeps the input's size.
    return_indices : bool
        Also return the maxima's flat positions in the input plane, as ``max_pool2d``.
    layout, out, backend
        As for ``conv2d``.

    Returns
    -------
    (N, C, P, Q) array of the input's dtype and layout, or that and the indices.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool2d(np.arange(12.0).reshape(1, 3, 4), 1, return_indices=True)
    (array([[[11.]]]), array([[[11]]]))
    """
    return pool(
        "adaptive_max_pool2d", 2, "max", input, layout, out, backend, return_indices,
        output_size=output_size,
    )  # fmt: skip


def adaptive_avg_pool3d(
    input: Any,
    output_size: Any,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Mean over as many windows as asked for, as ``torch.nn.functional.adaptive_avg_pool3d``.

    Parameters
    ----------
    input : (N, C, D, H, W) or (C, D, H, W) array, floats, integers or complex
        With ``layout="NDHWC"`` (N, D, H, W, C), or the same without N.
    output_size : int or one per axis (depth, height, width)
        Window i of an axis is ``floor(i size / outputs)`` up to ``ceil((i + 1) size / outputs)``;
        None keeps the input's size.
    layout, out, backend
        As for ``conv3d``.

    Returns
    -------
    (N, C, O, P, Q) array in the input's layout; dtypes as ``avg_pool3d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool3d(np.ones((2, 3, 8, 9, 10)), (None, 3, 2)).shape
    (2, 3, 8, 3, 2)
    """
    result: Array = pool(
        "adaptive_avg_pool3d", 3, "mean", input, layout, out, backend, output_size=output_size
    )
    return result


def adaptive_max_pool3d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Any:
    """Maximum over as many windows as asked for, as ``torch.nn.functional.adaptive_max_pool3d``.

    Parameters
    ----------
    input : (N, C, D, H, W) or (C, D, H, W) array, floats or integers
        With ``layout="NDHWC"`` (N, D, H, W, C), or the same without N.
    output_size : int or one per axis (depth, height, width)
        Window i of an axis is ``floor(i size / outputs)`` up to ``ceil((i + 1) size / outputs)``;
        None keeps the input's size.
    return_indices : bool
        Also return the maxima's flat positions in the input plane, as ``max_pool3d``.
    layout, out, backend
        As for ``conv3d``.

    Returns
    -------
    (N, C, O, P, Q) array of the input's dtype and layout, or that and the indices.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.
    BackendUnavailableError
        If the backend asked for can't serve, with the reason.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool3d(np.ones((2, 3, 8, 9, 10)), (4, 3, None)).shape
    (2, 3, 4, 3, 10)
    """
    return pool(
        "adaptive_max_pool3d", 3, "max", input, layout, out, backend, return_indices,
        output_size=output_size,
    )  # fmt: skip
