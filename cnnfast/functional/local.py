"""Locally connected layers."""

from __future__ import annotations

from typing import Any

from cnnfast._core.activations import Activation
from cnnfast._core.arrays import Array, as_arrays, check_out
from cnnfast._core.dtypes import promote
from cnnfast._core.execute import result_array, run_conv
from cnnfast._core.local import LocalGeometry, at_least_one
from cnnfast._core.padding import needs_copy, pad_input


def locally_connected1d(
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
    """A convolution whose kernel is another one at every output position, over one axis.

    Parameters
    ----------
    input : (N, C, W) or (C, W) array
        With ``layout="NWC"`` (N, W, C) or (W, C).
    weight : (Q, K, C / groups, S) array
        Position q, then a kernel in the order of ``weight_layout``: "OIW" beside NCW, "WIO" beside
        NWC by default.
    bias : (K,) or (K, Q) array, optional
    stride, padding, dilation, groups and the other keywords
        As for ``conv1d``.

    Returns
    -------
    (N, K, Q) array in the input's layout; dtypes as ``conv1d``.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``conv1d``.

    Examples
    --------
    >>> import numpy as np
    >>> kernels = np.array([[[[1.0, 0.0]]], [[[0.0, 1.0]]], [[[1.0, 1.0]]]])
    >>> locally_connected1d(np.array([[[1.0, 2.0, 3.0, 4.0]]]), kernels)
    array([[[1., 3., 7.]]])
    """
    return _locally_connected(
        1, input, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value,
        layout, weight_layout, activation, out_dtype, out, backend,
    )  # fmt: skip


def locally_connected2d(
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
    """A convolution whose kernel is another one at every output position, over two axes.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) array
        With ``layout="NHWC"`` (N, H, W, C) or (H, W, C).
    weight : (P Q, K, C / groups, R, S) array
        Position p Q + q, then a kernel in the order of ``weight_layout``: "OIHW" beside NCHW,
        "HWIO" beside NHWC by default.
    bias : (K,) or (K, P, Q) array, optional
    stride, padding, dilation, groups and the other keywords
        As for ``conv2d``.

    Returns
    -------
    (N, K, P, Q) array in the input's layout; dtypes as ``conv2d``.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As ``conv2d``.

    Examples
    --------
    >>> import numpy as np
    >>> kernels = np.arange(4.0).reshape(4, 1, 1, 1, 1)
    >>> locally_connected2d(np.ones((1, 1, 2, 2)), kernels)
    array([[[[0., 1.],
             [2., 3.]]]])
    """
    return _locally_connected(
        2, input, weight, bias, stride, padding, dilation, groups, padding_mode, padding_value,
        layout, weight_layout, activation, out_dtype, out, backend,
    )  # fmt: skip


def _locally_connected(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    padding_value: Any,
    layout: str | None,
    weight_layout: str | None,
    activation: Activation,
    out_dtype: Any,
    out: Array | None,
    backend: str | None,
) -> Array:
    name = f"locally_connected{rank}d"
    x, w, b = as_arrays(name, input=input, weight=weight, bias=bias)
    arithmetic = promote(name, (x, w, b), out_dtype)
    layouts = layout, weight_layout
    local = LocalGeometry.of(name, rank, x, w.shape, stride, padding, dilation, groups, *layouts)
    shape, flat_bias = local.windows.out_shape, local.flat_bias(b)
    padded = needs_copy(name, padding_mode, padding_value, arithmetic)
    if out is not None:
        inputs = [array for array in (x, w, b) if array is not None]
        check_out(name, out, shape, arithmetic.result, inputs)
    if padded:
        x = pad_input(x.astype(arithmetic.common), local.windows, padding_mode, padding_value)
        local = LocalGeometry.of(name, rank, x, w.shape, stride, 0, dilation, groups, *layouts)
    columns = at_least_one(local.read_columns(x))
    flat = run_conv(
        "fprop", columns, local.flat_weight(w), flat_bias, local.grouped, arithmetic, activation,
        backend,
    )  # fmt: skip
    result = result_array(out, shape, arithmetic.result)
    local.put_output(flat[..., : local.windows.batch], result)
    return result
