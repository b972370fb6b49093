"""Pooling's operators: means and maxima, each with its adjoint, over windows that slide or that
divide the input into a given number (adaptive)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnfast import functional
from cnnfast import grad as gradients
from cnnfast.kernels import shapes

from .operators import Operator
from .tensors import LAYOUTS, array_of, channels_last, empty, tensor_of, torch

_SLIDING_MEAN = (
    "int[] kernel_size, int[] stride, int[] padding, bool ceil_mode, bool count_include_pad, "
    "int? divisor_override"
)
_SLIDING_MAX = "int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode"
_ADAPTIVE = "SymInt[] output_size"

#: (input, *window) -> the output's extents.
Outputs = Callable[..., list[Any]]


def _slid(
    input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[Any]:
    size = shapes.ceil_output_size if ceil_mode else shapes.output_size
    rows = zip(input.shape[2:], kernel, stride, dilation, padding, padding, strict=True)
    return [size(*row) for row in rows]


def _slid_mean(
    input: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, *divisor: Any
) -> list[Any]:
    return _slid(input, kernel, stride, padding, (1,) * len(kernel), ceil_mode)


def _asked_for(input: Any, output_size: Any) -> list[Any]:
    return list(output_size)


def _given(rank: int, window: Any) -> list[Any]:
    """The window as cnnfast's functions take it: their avg_pool1d has no divisor."""
    if rank == 1:
        window = window[:5]
    return [tuple(value) if isinstance(value, list) else value for value in window]


def _of_ranks(module: Any, name: str) -> dict[int, Callable[..., Any]]:
    return {rank: getattr(module, name.format(rank)) for rank in (1, 2, 3)}


def _layout(tensor: Any, last: bool) -> str | None:
    return LAYOUTS[True][tensor.dim() - 2] if last else None


def _means(name: str, window: str, outputs: Outputs) -> Operator:
    """The operator and its adjoint, which are linear, and each other's gradients."""
    forward = _of_ranks(functional, f"{name}{{}}d")
    backward = _of_ranks(gradients, f"{name}{{}}d_backward")

    def run(input: Any, *window: Any) -> Any:
        rank, last = input.dim() - 2, channels_last(input)
        result = forward[rank](
            array_of(input, last), *_given(rank, window), layout=_layout(input, last)
        )
        return tensor_of(result, last)

    def fake(input: Any, *window: Any) -> Any:
        size = *input.shape[:2], *outputs(input, *window)
        return empty(input, size, channels_last(input))

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.input_size, ctx.last, ctx.window = inputs[0].shape, channels_last(inputs[0]), inputs[1:]

    def gradient(ctx: Any, grad: Any) -> tuple[Any, ...]:
        return (adjoint(grad, ctx.input_size, ctx.last, *ctx.window),)

    def run_adjoint(grad: Any, input_size: Any, last: bool, *window: Any) -> Any:
        rank = grad.dim() - 2
        # Of the input only shape and dtype count.
        input = grad.detach().new_empty(()).expand(input_size)
        given = () if outputs is _asked_for else _given(rank, window)
        result = backward[rank](
            array_of(grad, last), array_of(input, last), *given, layout=_layout(grad, last)
        )
        return tensor_of(result, last)

    def fake_adjoint(grad: Any, input_size: Any, last: bool, *window: Any) -> Any:
        return empty(grad, input_size, last)

    def save_adjoint(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.window = inputs[3:]

    def gradient_of_adjoint(ctx: Any, grad: Any) -> tuple[Any, ...]:
        return (operator(grad, *ctx.window),)

    operator = Operator(name, f"Tensor input, {window}", run, fake, save, gradient)
    adjoint = Operator(
        f"{name}_backward", f"Tensor grad, SymInt[] input_size, bool last, {window}",
        run_adjoint, fake_adjoint, save_adjoint, gradient_of_adjoint,
    )  # fmt: skip
    return operator


def _max_adjoint(name: str, window: str, outputs: Outputs, with_indices: Operator) -> Operator:
    """Sends gradients to where the maxima were; its own gradient takes them from there."""
    backward = _of_ranks(gradients, f"{name}{{}}d_backward")

    def run_adjoint(grad: Any, input: Any, *window: Any) -> Any:
        rank, last = grad.dim() - 2, channels_last(input)
        given = () if outputs is _asked_for else _given(rank, window)
        result = backward[rank](
            array_of(grad, last), array_of(input, last), *given, layout=_layout(grad, last)
        )
        return tensor_of(result, last)

    def fake_adjoint(grad: Any, input: Any, *window: Any) -> Any:
        return empty(grad, input.shape, channels_last(input))

    def save_adjoint(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.window = inputs[2:]

    def gradient_of_adjoint(ctx: Any, grad: Any) -> tuple[Any, ...]:
        (input,) = ctx.saved_tensors
        indices = with_indices(input, *ctx.window)[1]
        taken = grad.flatten(2).gather(2, indices.clamp(min=0).flatten(2)).reshape(indices.shape)
        # Where a window has nothing of the input, nothing was sent.
        return torch.where(indices < 0, 0, taken), None

    return Operator(
        f"{name}_backward", f"Tensor grad, Tensor input, {window}",
        run_adjoint, fake_adjoint, save_adjoint, gradient_of_adjoint,
    )  # fmt: skip


def _maxima(name: str, window: str, outputs: Outputs) -> tuple[Operator, Operator]:
    """The operator, and the one that gives indices as well."""
    forward = _of_ranks(functional, f"{name}{{}}d")

    def results_of(input: Any, window: Any, return_indices: bool) -> Any:
        rank, last = input.dim() - 2, channels_last(input)
        results = forward[rank](
            array_of(input, last), *_given(rank, window), return_indices,
            layout=_layout(input, last),
        )  # fmt: skip
        if not return_indices:
            return tensor_of(results, last)
        return tuple(tensor_of(result, last) for result in results)

    def run(input: Any, *window: Any) -> Any:
        return results_of(input, window, False)

    def run_with_indices(input: Any, *window: Any) -> Any:
        return results_of(input, window, True)

    def fake(input: Any, *window: Any) -> Any:
        size = *input.shape[:2], *outputs(input, *window)
        return empty(input, size, channels_last(input))

    def fake_with_indices(input: Any, *window: Any) -> Any:
        size = *input.shape[:2], *outputs(input, *window)
        last = channels_last(input)
        return empty(input, size, last), empty(input, size, last, torch.int64)

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.window = inputs[1:]

    def save_with_indices(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        save(ctx, inputs, output)

    def gradient(ctx: Any, grad: Any, *of_indices: Any) -> tuple[Any, ...]:
        (input,) = ctx.saved_tensors
        return (adjoint(grad, input, *ctx.window),)

    operator = Operator(name, f"Tensor input, {window}", run, fake, save, gradient)
    with_indices = Operator(
        f"{name}_with_indices", f"Tensor input, {window}",
        run_with_indices, fake_with_indices, save_with_indices, gradient, "(Tensor, Tensor)",
    )  # fmt: skip
    adjoint = _max_adjoint(name, window, outputs, with_indices)
    return operator, with_indices


avg_pool = _means("avg_pool", _SLIDING_MEAN, _slid_mean)
adaptive_avg_pool = _means("adaptive_avg_pool", _ADAPTIVE, _asked_for)
max_pool, max_pool_with_indices = _maxima("max_pool", _SLIDING_MAX, _slid)
adaptive_max_pool, adaptive_max_pool_with_indices = _maxima(
    "adaptive_max_pool", _ADAPTIVE, _asked_for
)
