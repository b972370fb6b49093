"""Pooling by windows with the arguments of ``torch.nn.functional``, on tensors."""

from __future__ import annotations

import math
from typing import Any

from cnnfast._core.arguments import flag, is_empty_sequence

from . import pool_operators
from .tensors import FLOATS, MEANS, NUMBERS, batched, check, numbers


def _sliding(name: str, rank: int, kernel_size: Any, stride: Any, padding: Any) -> Any:
    kernel = numbers(name, "kernel_size", kernel_size, rank, 1)
    steps = kernel
    if stride is not None and not is_empty_sequence(stride):
        steps = numbers(name, "stride", stride, rank, 1)
    return kernel, steps, numbers(name, "padding", padding, rank, 0)


def _max_pool(
    name: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    check(name, rank, NUMBERS, input)
    window = (
        *_sliding(name, rank, kernel_size, stride, padding),
        numbers(name, "dilation", dilation, rank, 1),
        flag(f"{name}: ceil_mode", ceil_mode),
    )
    indices = flag(f"{name}: return_indices", return_indices)
    operator = pool_operators.max_pool_with_indices if indices else pool_operators.max_pool
    return batched(rank, operator, input, *window)


def _avg_pool(
    name: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any,
    ceil_mode: bool, count_include_pad: bool, divisor_override: Any = None,
) -> Any:  # fmt: skip
    check(name, rank, MEANS, input)
    window = (
        *_sliding(name, rank, kernel_size, stride, padding),
        flag(f"{name}: ceil_mode", ceil_mode),
        flag(f"{name}: count_include_pad", count_include_pad),
        divisor_override,
    )
    return batched(rank, pool_operators.avg_pool, input, *window)


def _lp_pool(
    name: str, rank: int, input: Any, norm_type: float, kernel_size: Any, stride: Any,
    ceil_mode: bool,
) -> Any:  # fmt: skip
    """As torch has it: of powers a mean, which a partial window's counts as if it were whole."""
    check(name, rank, FLOATS, input)
    if norm_type in (math.inf, -math.inf):  # the limits: the largest and the smallest of |x|
        sizes = kernel_size, stride, 0, 1, ceil_mode, False
        if norm_type > 0:
            return _max_pool(name, rank, input.abs(), *sizes)
        return -_max_pool(name, rank, -input.abs(), *sizes)
    taps = 1
    for extent in numbers(name, "kernel_size", kernel_size, rank, 1):
        taps *= extent
    powers = input.pow(norm_type)
    means = _avg_pool(name, rank, powers, kernel_size, stride, 0, ceil_mode, True)
    return (means.sign() * means.abs().relu() * taps).pow(1.0 / norm_type)


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool1d``; as ``max_pool2d``, with inputs (N, C, W).

    >>> from cnnfast.torch.tensors import torch
    >>> max_pool1d(torch.ones(1, 1, 4), 2).shape
    torch.Size([1, 1, 2])
    """
    return _max_pool(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode,
        return_indices,
    )  # fmt: skip


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool2d`` by cnnfast's kernels, with gradients of every order.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) tensor of floats or integers, of any strides
    kernel_size, stride, padding, dilation : int or one per axis (height, width)
        ``stride`` is the window by default; ``padding`` at most half of it.
    ceil_mode : bool
        Keep a last, partial window.
    return_indices : bool
        Also return the maxima's flat positions in the input plane.

    Returns
    -------
    (N, C, P, Q) tensor of the input's dtype and memory format, or that and the indices (int64).

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> from cnnfast.torch.tensors import torch
    >>> max_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    return _max_pool(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode,
        return_indices,
    )  # fmt: skip


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool3d``; as ``max_pool2d``, with inputs (N, C, D, H, W).

    >>> from cnnfast.torch.tensors import torch
    >>> max_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _max_pool(
        "max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode,
        return_indices,
    )  # fmt: skip


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """``torch.nn.functional.avg_pool1d``; as ``avg_pool2d``, with inputs (N, C, W).

    >>> from cnnfast.torch.tensors import torch
    >>> avg_pool1d(torch.ones(1, 1, 4), 2).shape
    torch.Size([1, 1, 2])
    """
    return _avg_pool(
        "avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
    )  # fmt: skip


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """``torch.nn.functional.avg_pool2d`` by cnnfast's kernels, with gradients of every order.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) tensor of floats or int64, of any strides
    kernel_size, stride, padding : int or one per axis (height, width)
        ``stride`` is the window by default; ``padding`` at most half of it.
    ceil_mode : bool
        Keep a last, partial window.
    count_include_pad : bool
        Whether padding counts in the divisor.
    divisor_override : int, optional
        Divide each window's sum by this instead.

    Returns
    -------
    (N, C, P, Q) tensor of the input's dtype and memory format.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> from cnnfast.torch.tensors import torch
    >>> avg_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 2)
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """``torch.nn.functional.avg_pool3d``; as ``avg_pool2d``, with inputs (N, C, D, H, W).

    >>> from cnnfast.torch.tensors import torch
    >>> avg_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip


def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Any:
    """``torch.nn.functional.lp_pool1d``; as ``lp_pool2d``, with inputs (N, C, W).

    >>> from cnnfast.torch.tensors import torch
    >>> lp_pool1d(torch.ones(1, 1, 4), 2, 2).shape
    torch.Size([1, 1, 2])
    """
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Any:
    """``torch.nn.functional.lp_pool2d``: powers by torch, their means by cnnfast's kernels.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) tensor of floats, of any strides
    norm_type : float
        The power p of (sum of x ** p) ** (1 / p); if infinite, the maximum (minimum) of abs(x).
    kernel_size, stride : int or one per axis (height, width)
        ``stride`` is the window by default.
    ceil_mode : bool
        Keep a last, partial window.

    Returns
    -------
    (N, C, P, Q) tensor of the input's dtype and memory format.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> from cnnfast.torch.tensors import torch
    >>> lp_pool2d(torch.full((1, 1, 2, 2), 3.0), 2, 2)
    tensor([[[[6.]]]])
    """
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Any:
    """``torch.nn.functional.lp_pool3d``; as ``lp_pool2d``, with inputs (N, C, D, H, W).

    >>> from cnnfast.torch.tensors import torch
    >>> lp_pool3d(torch.ones(1, 1, 4, 4, 4), 2, 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)
