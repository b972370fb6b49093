"""Convolutions with the arguments of ``torch.nn.functional``, on tensors."""

from __future__ import annotations

from typing import Any

from . import conv_operators
from .tensors import NUMBERS, batched, channels_last, check, numbers


def _padding(name: str, padding: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
    """Numbers, one per axis; or, where a name makes them differ, (before, after) of each axis."""
    rank = len(stride)
    if not isinstance(padding, str):
        return numbers(name, "padding", padding, rank, 0)
    if padding == "valid":
        return (0,) * rank
    if padding != "same":
        raise ValueError(f"{name}: padding must be numbers, 'valid' or 'same', got {padding!r}")
    if any(step != 1 for step in stride):
        raise ValueError(f"{name}: padding='same' needs stride 1, got stride {stride}")
    totals = [gap * (taps - 1) for taps, gap in zip(kernel, dilation, strict=True)]
    if not any(total % 2 for total in totals):
        return tuple(total // 2 for total in totals)
    return tuple(side for total in totals for side in (total // 2, total - total // 2))


def _check_weight(name: str, rank: int, weight: Any) -> None:
    if weight.dim() != rank + 2:
        raise ValueError(
            f"{name}: weight must have {rank + 2} axes, got shape {tuple(weight.shape)}"
        )


def _conv(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Any:  # fmt: skip
    check(name, rank, NUMBERS, input, weight, bias)
    _check_weight(name, rank, weight)
    steps = numbers(name, "stride", stride, rank, 1)
    gaps = numbers(name, "dilation", dilation, rank, 1)
    sides = _padding(name, padding, weight.shape[2:], steps, gaps)
    last = channels_last(input, weight)
    return batched(rank, conv_operators.conv, input, weight, bias, steps, sides, gaps, groups, last)


def _conv_transpose(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Any:  # fmt: skip
    check(name, rank, NUMBERS, input, weight, bias)
    _check_weight(name, rank, weight)
    window = (
        numbers(name, "stride", stride, rank, 1),
        numbers(name, "padding", padding, rank, 0),
        numbers(name, "output_padding", output_padding, rank, 0),
        groups,
        numbers(name, "dilation", dilation, rank, 1),
        channels_last(input, weight),
    )
    return batched(rank, conv_operators.conv_transpose, input, weight, bias, *window)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """``torch.nn.functional.conv1d``; as ``conv2d``, with inputs (N, C, W).

    >>> from cnnfast.torch.tensors import torch
    >>> conv1d(torch.arange(6.0).reshape(1, 1, 6), torch.tensor([[[1.0, 0.0, -1.0]]]))
    tensor([[[-2., -2., -2., -2.]]])
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """``torch.nn.functional.conv2d`` by cnnfast's kernels, with gradients of every order.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) tensor, of any strides, on the CPU (or a GPU)
    weight : (K, C / groups, R, S) tensor
    bias : (K,) tensor, optional
    stride, padding, dilation : int or one per axis (height, width)
        ``padding`` may be "valid", or "same" with stride 1.
    groups : int

    Returns
    -------
    (N, K, P, Q) tensor of the inputs' dtype: float32, float64, float16, bfloat16 (the two last
        summed in float32), or an integer's. In ``torch.channels_last`` if input or weight is.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> from cnnfast.torch.tensors import torch
    >>> image = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> edge = torch.tensor([[[[-1.0, 1.0]]]], requires_grad=True)
    >>> conv2d(image, edge, stride=(2, 1)).sum().backward()
    >>> edge.grad
    tensor([[[[30., 36.]]]])
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """``torch.nn.functional.conv3d``; as ``conv2d``, with inputs (N, C, D, H, W).

    >>> from cnnfast.torch.tensors import torch
    >>> conv3d(torch.ones(1, 1, 3, 3, 3), torch.ones(1, 1, 3, 3, 3), padding=1)[0, 0, 1, 1]
    tensor([18., 27., 18.])
    """
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """``torch.nn.functional.conv_transpose1d``; as ``conv_transpose2d``, with inputs (N, C, W).

    >>> from cnnfast.torch.tensors import torch
    >>> conv_transpose1d(torch.tensor([[[1.0, 2.0]]]), torch.ones(1, 1, 2), stride=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups,
        dilation,
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
) -> Any:
    """``torch.nn.functional.conv_transpose2d`` by cnnfast's kernels, with gradients of every order.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W) tensor, of any strides, on the CPU (or a GPU)
    weight : (C, K / groups, R, S) tensor
    bias : (K,) tensor, optional
    stride, padding, output_padding, dilation : int or one per axis (height, width)
        ``output_padding`` is less than stride or dilation.
    groups : int

    Returns
    -------
    (N, K, P, Q) tensor; dtypes and memory formats as ``conv2d``.

    Raises
    ------
    ValueError, TypeError
        With the rule and the values, before anything is computed.

    Examples
    --------
    >>> from cnnfast.torch.tensors import torch
    >>> conv_transpose2d(torch.ones(1, 1, 2, 2), torch.ones(1, 3, 3, 3), stride=2).shape
    torch.Size([1, 3, 5, 5])
    """
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups,
        dilation,
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
) -> Any:
    """``torch.nn.functional.conv_transpose3d``; as ``conv_transpose2d``, with inputs
    (N, C, D, H, W).

    >>> from cnnfast.torch.tensors import torch
    >>> conv_transpose3d(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 2, 3, 3, 3)).shape
    torch.Size([1, 2, 3, 3, 3])
    """
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups,
        dilation,
    )  # fmt: skip
