"""Pooling to a given size with the arguments of ``torch.nn.functional``, on tensors."""

from __future__ import annotations

from typing import Any

from cnnfast._core.arguments import flag, sequence

from . import pool_operators
from .tensors import MEANS, NUMBERS, batched, check


def _adaptive(name: str, rank: int, input: Any, output_size: Any) -> tuple[Any, ...]:
    sizes, given = input.shape[-rank:], sequence(output_size)
    given = (output_size,) * rank if given is None else given
    given = tuple(given) * rank if len(given) == 1 else tuple(given)
    if len(given) != rank:
        raise ValueError(
            f"{name}: output_size must be one integer or {rank} of them (None keeps the input's), "
            f"got {output_size!r}"
        )
    return tuple(
        size if extent is None else extent for extent, size in zip(given, sizes, strict=True)
    )


def _adaptive_max_pool(
    name: str, rank: int, input: Any, output_size: Any, return_indices: bool
) -> Any:
    check(name, rank, NUMBERS, input)
    operator = pool_operators.adaptive_max_pool
    if flag(f"{name}: return_indices", return_indices):
        operator = pool_operators.adaptive_max_pool_with_indices
    return batched(rank, operator, input, _adaptive(name, rank, input, output_size))


def _adaptive_avg_pool(name: str, rank: int, input: Any, output_size: Any) -> Any:
    check(name, rank, MEANS, input)
    size = _adaptive(name, rank, input, output_size)
    return batched(rank, pool_operators.adaptive_avg_pool, input, size)


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """``torch.nn.functional.adaptive_avg_pool1d``;
    as ``adaptive_avg_pool2d``, with inputs (N, C, W).

    >>> from cnnfast.torch.tensors import torch
    >>> adaptive_avg_pool1d(torch.ones(1, 1, 4), 2).shape
    torch.Size([1, 1, 2])
    """
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """``torch.nn.functional.adaptive_avg_pool2d``, with gradients of every order.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) tensor of floats or int64, of any strides
    output_size : int or one per axis (height, width); None keeps the input's

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
    >>> adaptive_avg_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 1)
    tensor([[[[7.5000]]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """``torch.nn.functional.adaptive_avg_pool3d``;
    as ``adaptive_avg_pool2d``, with inputs (N, C, D, H, W).

    >>> from cnnfast.torch.tensors import torch
    >>> adaptive_avg_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """``torch.nn.functional.adaptive_max_pool1d``;
    as ``adaptive_max_pool2d``, with inputs (N, C, W).

    >>> from cnnfast.torch.tensors import torch
    >>> adaptive_max_pool1d(torch.ones(1, 1, 4), 2).shape
    torch.Size([1, 1, 2])
    """
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """``torch.nn.functional.adaptive_max_pool2d``, with gradients of every order.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) tensor of floats or integers, of any strides
    output_size : int or one per axis (height, width); None keeps the input's
    return_indices : bool
        Also return the maxima's flat positions in the input plane.

    Returns
    -------
    (N, C, P, Q) tensor of the input's dtype and memory format, or that and the indices
        (int64).

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> from cnnfast.torch.tensors import torch
    >>> adaptive_max_pool2d(torch.arange(16.0).reshape(1, 1, 4, 4), 1)
    tensor([[[[15.]]]])
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """``torch.nn.functional.adaptive_max_pool3d``;
    as ``adaptive_max_pool2d``, with inputs (N, C, D, H, W).

    >>> from cnnfast.torch.tensors import torch
    >>> adaptive_max_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)
