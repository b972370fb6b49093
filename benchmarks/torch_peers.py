"""torch, in both layouts, with its weights as they come and reordered beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from cnnfast.benchmarks.contender import Contender, Prepared
from cnnfast.benchmarks.workloads import Array, ConvWorkload, PoolWorkload, Workload

#: A single channel with more taps than this isn't waited for: 7 x 7 on 4096 x 4096 takes 2 s in
#: float32, 6 s in float64, and cv2 50 ms.
PLANE_TAPS = 25
#: The same where oneDNN takes it: 11 x 11 takes 1.2 s, and cv2 0.16 s.
PACKED_PLANE_TAPS = 121


@dataclass(frozen=True)
class Torch(Contender):
    """``torch.nn.functional`` and the operators behind its autograd, in torch's default layout or
    channels last; there, the weight of a forward pass may be ``laid_out`` alike beforehand.
    """

    requires: ClassVar[dict[str, str]] = {"torch": "torch"}

    channels_last: bool = False
    laid_out: bool = False

    def refuses(self, workload: Workload) -> str | None:
        """Channels last where torch has no such layout, and what would take minutes."""
        if self.channels_last and workload.rank == 1:
            return "has no channels-last layout for one axis"
        if workload.is_plane and workload.kernel**2 > PLANE_TAPS:
            return f"not waited for on one channel with more than {PLANE_TAPS} taps"
        return None

    def prepares(self, workload: Workload) -> bool:
        """The weight's layout."""
        return self.laid_out and workload.family == "fprop"

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Tensors in the layout; no recording of gradients."""
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        tensors = [torch.from_numpy(array) for array in arrays]
        if self.channels_last:
            last = _channels_last(workload.rank)
            unprepared = workload.family == "fprop" and not self.laid_out
            tensors = [
                tensor if i and unprepared else tensor.contiguous(memory_format=last)
                for i, tensor in enumerate(tensors)
            ]
        return Prepared(operation(workload, tensors))


def _channels_last(rank: int) -> Any:
    import torch

    return torch.channels_last if rank == 2 else torch.channels_last_3d


def operation(workload: Workload, tensors: list[Any]) -> Callable[[], Any]:
    """What torch has for a workload, of tensors in its order, on their device."""
    import torch

    functional = torch.nn.functional
    if isinstance(workload, ConvWorkload):
        if workload.family == "fprop":
            convolve = getattr(functional, f"conv{workload.rank}d")
            return partial(convolve, *tensors, **workload.arguments)
        return _conv_gradient(workload, tensors)
    assert isinstance(workload, PoolWorkload)
    name = f"{'max' if workload.reduction == 'max' else 'avg'}_pool{workload.rank}d"
    if workload.family == "pool":
        return partial(getattr(functional, name), *tensors, **workload.arguments)
    return _pool_gradient(workload, name, tensors)


def _conv_gradient(workload: ConvWorkload, tensors: list[Any]) -> Callable[[], Any]:
    import torch

    steps = [[n] * workload.rank for n in (workload.stride, workload.padding, workload.dilation)]
    rest = (None, *steps, False, [0] * workload.rank, workload.groups)
    backward = torch.ops.aten.convolution_backward
    if workload.family == "dgrad":
        weight, grad = tensors
        x = _like(grad, workload.input)
        return lambda: backward(grad, x, weight, *rest, [True, False, False])[0]
    x, grad = tensors
    weight = _like(grad, workload.weight)
    return lambda: backward(grad, x, weight, *rest, [False, True, False])[1]


def _like(tensor: Any, shape: tuple[int, ...]) -> Any:
    """An operand whose shape alone is read, in the layout of another."""
    import torch

    empty = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
    return (
        empty
        if tensor.is_contiguous()
        else empty.contiguous(memory_format=_channels_last(len(shape) - 2))
    )


def _pool_gradient(workload: PoolWorkload, name: str, tensors: list[Any]) -> Callable[[], Any]:
    import torch

    grad, x = tensors
    windows = [[n] * workload.rank for n in workload.arguments.values()]
    if workload.reduction == "mean":
        backward = getattr(torch.ops.aten, f"{name}_backward")
        return partial(backward, grad, x, *windows, False, True, None)
    # As autograd does: the forward pass has remembered where the maxima are.
    forward = getattr(torch.nn.functional, name)
    _, indices = forward(x, **workload.arguments, return_indices=True)
    backward = getattr(torch.ops.aten, f"{name}_with_indices_backward")
    return partial(backward, grad, x, *windows, [1] * workload.rank, False, indices)


@dataclass(frozen=True)
class TorchPacked(Contender):
    """The operator that ``torch.compile`` puts in: channels last, weight reordered by oneDNN."""

    requires: ClassVar[dict[str, str]] = {"torch": "torch"}

    def refuses(self, workload: Workload) -> str | None:
        """What oneDNN's operator doesn't take, and what would take minutes."""
        if workload.dtype != "float32":
            return f"takes float32, not {workload.dtype}"
        if workload.rank == 1:
            return "takes two or three axes"
        if workload.is_plane and workload.kernel**2 > PACKED_PLANE_TAPS:
            return f"not waited for on one channel with more than {PACKED_PLANE_TAPS} taps"
        return None

    def prepares(self, workload: Workload) -> bool:
        """The weight's blocks."""
        return True

    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Reorder the weight for this input."""
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        assert isinstance(workload, ConvWorkload)
        x, weight = (torch.from_numpy(array) for array in arrays)
        x = x.contiguous(memory_format=_channels_last(workload.rank))
        steps = [
            [n] * workload.rank for n in (workload.padding, workload.stride, workload.dilation)
        ]
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, *steps, workload.groups, list(workload.input)
        )
        return Prepared(
            partial(
                torch.ops.mkldnn._convolution_pointwise,
                *(x, packed, None, *steps, workload.groups, "none", [], ""),
            )
        )


PLAIN: tuple[Contender, ...] = (
    Torch("torch NCHW"),
    Torch("torch NHWC", channels_last=True, laid_out=True),
)
CONV: tuple[Contender, ...] = (
    *PLAIN,
    Torch("torch NHWC unprepared", channels_last=True),
    TorchPacked("torch NHWC packed"),
)
