"""Tensors as the arrays that kernels take, and back: the same memory, whatever its strides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from cnnfast._core.arguments import per_axis
from cnnfast._core.extras import require

torch = require("cnnfast.torch", "torch")

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NUMBERS = (*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
#: What torch takes means of.
MEANS = (*FLOATS, torch.int64)

#: Layouts by "channels are last" and the number of spatial axes.
LAYOUTS = {
    False: {1: "NCW", 2: "NCHW", 3: "NCDHW"},
    True: {1: "NWC", 2: "NHWC", 3: "NDHWC"},
}
#: torch's names of the dense orders that have channels last.
FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


@cache
def bfloat16() -> Any:
    """NumPy's dtype of that name, which is a package of its own."""
    return np.dtype(require("cnnfast.torch", "ml_dtypes").bfloat16)


def channels_last(*tensors: Any) -> bool:
    """Whether a batched tensor has its channels innermost (``torch.channels_last``), and so has the
    result of an operation on it. Neither an axis of one position nor a slice changes that.

    >>> x = torch.zeros(1, 3, 4, 4)
    >>> channels_last(x), channels_last(x, x.to(memory_format=torch.channels_last))
    (False, True)
    """
    for tensor in tensors:
        if tensor.stride(1) == 1 and tensor.dim() > 3:
            channels, *positions = tensor.shape[1:]
            # With one channel and one pixel there is no telling.
            if tensor.stride(-1) >= channels and (channels > 1 or any(n > 1 for n in positions)):
                return True
    return False


def array_of(tensor: Any, last: bool = False) -> Any:
    """The tensor's memory as an array, ``last`` with the channels' axis moved to the end; of one on
    a GPU the tensor itself, without its gradient."""
    source = tensor.detach() if tensor.requires_grad else tensor
    if not tensor.is_cpu:
        return source.movedim(1, -1) if last else source
    if source.dtype is torch.bfloat16:
        array = source.view(torch.int16).numpy().view(bfloat16())
    else:
        array = source.numpy()
    return array.transpose(0, *range(2, array.ndim), 1) if last else array


def tensor_of(array: Any, last: bool = False) -> Any:
    """The tensor of a result's memory, ``last`` with the channels' axis moved from the end."""
    if not isinstance(array, np.ndarray):
        return array.movedim(-1, 1) if last else array
    if last:
        array = array.transpose(0, -1, *range(1, array.ndim - 1))
    if array.dtype.kind == "V":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def empty(like: Any, shape: Iterable[Any], last: bool, dtype: Any = None) -> Any:
    """What stands for a result while shapes are traced."""
    shape = list(shape)
    order = FORMATS[len(shape) - 2] if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=order)


def numbers(name: str, what: str, value: Any, rank: int, least: int) -> Any:
    """One int per spatial axis from an int or several.

    >>> numbers("conv2d", "stride", 2, 2, 1), numbers("conv2d", "stride", (1, 2), 2, 1)
    ((2, 2), (1, 2))
    """
    # The usual int at once; the kernels' geometry looks at its value.
    if type(value) is int:
        return (value,) * rank
    return per_axis(f"{name}: {what}", value, rank, least)


def check(name: str, rank: int, dtypes: Sequence[Any], input: Any, *others: Any) -> None:
    """TypeError unless all are strided tensors of one of the dtypes, ValueError unless the input
    has channels and ``rank`` spatial axes, and a batch or none."""
    _check_kind(name, dtypes, input)
    for tensor in others:
        if tensor is not None:
            _check_kind(name, dtypes, tensor)
            if tensor.dtype is not input.dtype or tensor.device != input.device:
                raise TypeError(
                    f"{name}: tensors must have one dtype and device, got {input.dtype} on "
                    f"{input.device} and {tensor.dtype} on {tensor.device}"
                )
    if input.dim() not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name}: input must have {rank + 2} axes, or {rank + 1} without a batch, got shape "
            f"{tuple(input.shape)}"
        )


def _check_kind(name: str, dtypes: Sequence[Any], tensor: Any) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} takes tensors, got {type(tensor).__qualname__}")
    if tensor.dtype not in dtypes or tensor.layout is not torch.strided:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(
            f"{name} takes strided tensors of {names}, got {tensor.dtype} and {tensor.layout}"
        )


def batched(rank: int, operator: Callable[..., Any], input: Any, *rest: Any) -> Any:
    """The operator of an input with a batch; of one without, as of a batch of one."""
    if input.dim() == rank + 2:
        return operator(input, *rest)
    results = operator(input.unsqueeze(0), *rest)
    # Three axes have no memory format: torch's are contiguous, and get viewed in other shapes.
    if isinstance(results, tuple):
        return tuple(result.squeeze(0).contiguous() for result in results)
    return results.squeeze(0).contiguous()
