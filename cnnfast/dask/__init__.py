"""Convolution, pooling and whole networks over ``dask.array``, with exact halos.

For images larger than memory, or than one machine. Every task gets what its block of the output
depends on, so results are those of the same function of the whole array. Arrays are lazy until they
are computed or stored, by any of dask's schedulers. Tasks that run beside each other, in threads or
processes, compute on one thread each; under the synchronous scheduler kernels use all of them.

>>> import dask.array as da, numpy as np, cnnfast.dask
>>> image = da.ones((1, 1, 6, 6), chunks=(1, 1, 4, 4))
>>> blurred = cnnfast.dask.conv2d(image, np.ones((1, 1, 3, 3)), stride=2, padding=1)
>>> blurred.chunks, float(blurred.sum().compute())
(((1,), (1,), (2, 1), (2, 1)), 64.0)
"""

from __future__ import annotations

from typing import Any

from cnnfast._core.activations import Activation

from .calls import convolved, pooled
from .networks import slide

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "slide",
]


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
    backend: str | None = None,
) -> Any:
    """One-dimensional convolution over a dask array, as ``cnnfast.conv1d``.

    Parameters
    ----------
    input : dask array, (N, C, W) or the same without N
        Chunked in any way; ``layout="NWC"`` is channels last. Its channels become one chunk.
    weight, bias : arrays of NumPy or dask
        Each becomes one chunk.
    stride, padding, dilation, groups, padding_mode, padding_value, layout, weight_layout
        As for ``cnnfast.conv1d``.
    activation, out_dtype, backend
        As there; ``cnnfast.use_backend`` doesn't reach tasks.

    Returns
    -------
    dask array
        Chunked where the input is: an output belongs to the chunk that the middle of its window
        lies in. Its channels are one chunk.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed; also for unknown chunks.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> line = da.arange(7, chunks=3).reshape(1, 1, 7)
    >>> conv1d(line, np.array([[[1, 0, -1]]]), padding=1).compute()
    array([[[-1, -2, -2, -2, -2, -2,  5]]])
    """
    return convolved(
        "conv1d", 1, input, weight, bias, stride, padding, dilation, groups, padding_mode,
        padding_value, layout, weight_layout, activation, out_dtype, backend,
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
    backend: str | None = None,
) -> Any:
    """Two-dimensional convolution over a dask array, as ``cnnfast.conv2d``.

    Parameters, results and errors are those of :func:`conv1d`; ``input`` is (N, C, H, W), or with
    ``layout="NHWC"`` channels last.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> volume = da.ones((1, 1, 8, 8), chunks=(1, 1, 3, 3))
    >>> conv2d(volume, np.ones((1, 1, 2, 2)), stride=2).chunks[-1]
    (1, 2, 1)
    """
    return convolved(
        "conv2d", 2, input, weight, bias, stride, padding, dilation, groups, padding_mode,
        padding_value, layout, weight_layout, activation, out_dtype, backend,
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
    backend: str | None = None,
) -> Any:
    """Three-dimensional convolution over a dask array, as ``cnnfast.conv3d``.

    Parameters, results and errors are those of :func:`conv1d`; ``input`` is (N, C, D, H, W), or
    with ``layout="NDHWC"`` channels last.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> volume = da.ones((1, 1, 8, 8, 8), chunks=(1, 1, 3, 3, 3))
    >>> conv3d(volume, np.ones((1, 1, 2, 2, 2)), stride=2).chunks[-1]
    (1, 2, 1)
    """
    return convolved(
        "conv3d", 3, input, weight, bias, stride, padding, dilation, groups, padding_mode,
        padding_value, layout, weight_layout, activation, out_dtype, backend,
    )  # fmt: skip


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    backend: str | None = None,
) -> Any:
    """Maximum over windows of a dask array, as ``cnnfast.max_pool1d``.

    ``input`` is a dask array, (N, C, W) or the same without N, chunked in any way, channels too;
    the other arguments, and errors, are those of ``cnnfast.max_pool1d``, but that there are no
    indices. The result's chunks follow the input's as those of :func:`conv1d` do.

    Examples
    --------
    >>> import dask.array as da
    >>> max_pool1d(da.arange(7, chunks=3).reshape(1, 1, 7), 3, 2).compute()
    array([[[2, 4, 6]]])
    """
    return pooled(
        "max_pool1d", 1, "max", input, layout, backend, kernel_size, stride, padding,
        dilation=dilation, ceil_mode=ceil_mode,
    )  # fmt: skip


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    backend: str | None = None,
) -> Any:
    """Maximum over windows of a dask array, as ``cnnfast.max_pool2d``.

    ``input`` is (N, C, H, W); see :func:`max_pool1d`.

    Examples
    --------
    >>> import dask.array as da
    >>> line = da.arange(7.0, chunks=3).reshape(1, 1, 1, 7)
    >>> max_pool2d(line, (1, 3), (1, 2)).compute().ravel()
    array([2., 4., 6.])
    """
    return pooled(
        "max_pool2d", 2, "max", input, layout, backend, kernel_size, stride, padding,
        dilation=dilation, ceil_mode=ceil_mode,
    )  # fmt: skip


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    backend: str | None = None,
) -> Any:
    """Maximum over windows of a dask array, as ``cnnfast.max_pool3d``.

    ``input`` is (N, C, D, H, W); see :func:`max_pool1d`.

    Examples
    --------
    >>> import dask.array as da
    >>> line = da.arange(7.0, chunks=3).reshape(1, 1, 1, 1, 7)
    >>> max_pool3d(line, (1, 1, 3), (1, 1, 2)).compute().ravel()
    array([2., 4., 6.])
    """
    return pooled(
        "max_pool3d", 3, "max", input, layout, backend, kernel_size, stride, padding,
        dilation=dilation, ceil_mode=ceil_mode,
    )  # fmt: skip


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
    backend: str | None = None,
) -> Any:
    """Mean over windows of a dask array, as ``cnnfast.avg_pool1d``.

    ``input`` is (N, C, W); see :func:`max_pool1d`.

    Examples
    --------
    >>> import dask.array as da
    >>> line = da.arange(7.0, chunks=3).reshape(1, 1, 7)
    >>> avg_pool1d(line, 3, 2).compute().ravel()
    array([1., 3., 5.])
    """
    return pooled(
        "avg_pool1d", 1, "mean", input, layout, backend, kernel_size, stride, padding,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad,
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
    backend: str | None = None,
) -> Any:
    """Mean over windows of a dask array, as ``cnnfast.avg_pool2d``.

    ``input`` is (N, C, H, W); see :func:`max_pool1d`.

    Examples
    --------
    >>> import dask.array as da
    >>> line = da.arange(7.0, chunks=3).reshape(1, 1, 1, 7)
    >>> avg_pool2d(line, (1, 3), (1, 2)).compute().ravel()
    array([1., 3., 5.])
    """
    return pooled(
        "avg_pool2d", 2, "mean", input, layout, backend, kernel_size, stride, padding,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip


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
    backend: str | None = None,
) -> Any:
    """Mean over windows of a dask array, as ``cnnfast.avg_pool3d``.

    ``input`` is (N, C, D, H, W); see :func:`max_pool1d`.

    Examples
    --------
    >>> import dask.array as da
    >>> line = da.arange(7.0, chunks=3).reshape(1, 1, 1, 1, 7)
    >>> avg_pool3d(line, (1, 1, 3), (1, 1, 2)).compute().ravel()
    array([1., 3., 5.])
    """
    return pooled(
        "avg_pool3d", 3, "mean", input, layout, backend, kernel_size, stride, padding,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip
