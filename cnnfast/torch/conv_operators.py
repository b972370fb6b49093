"""Convolution's operators. Three are each other's gradients: of its input, its weight and itself;
a transposed one's gradients are among them."""

from __future__ import annotations

from typing import Any

from cnnfast import functional
from cnnfast import grad as gradients
from cnnfast.kernels import shapes

from .operators import Operator
from .tensors import LAYOUTS, array_of, empty, tensor_of

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_INPUT = {1: gradients.conv1d_input, 2: gradients.conv2d_input, 3: gradients.conv3d_input}
_WEIGHT = {1: gradients.conv1d_weight, 2: gradients.conv2d_weight, 3: gradients.conv3d_weight}
#: A weight's axes as torch has them, beside channels-last inputs; and as they lie there.
_FILTERS = {1: "OIW", 2: "OIHW", 3: "OIDHW"}
_LAST = {1: "OWI", 2: "OHWI", 3: "ODHWI"}
_TRANSPOSED = {1: "IOW", 2: "IOHW", 3: "IODHW"}

#: ``last``: results have channels last. Gradients come in the order of the forward call's result,
#: whatever order they are made from.
_WINDOW = "int[] stride, int[] padding, int[] dilation, int groups, bool last"


def _pairs(padding: Any, rank: int) -> Any:
    """Operators take a number per axis, or (before, after) of each in one list."""
    if len(padding) == rank:
        return tuple(padding)
    return tuple(zip(padding[::2], padding[1::2], strict=True))


def _layout(rank: int, last: bool, weights: dict[int, str]) -> dict[str, Any]:
    """Arguments that say in what order arrays come."""
    return {"layout": LAYOUTS[True][rank], "weight_layout": weights[rank]} if last else {}


def _channels_moved(size: Any, last: bool) -> Any:
    return (size[0], *size[2:], size[1]) if last else tuple(size)


def _run_conv(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int,
    last: bool,
) -> Any:  # fmt: skip
    rank = weight.dim() - 2
    x = array_of(input, last)
    result = _CONV[rank](
        x, array_of(weight), None if bias is None else array_of(bias), tuple(stride),
        _pairs(padding, rank), tuple(dilation), groups, **_layout(rank, last, _FILTERS),
        out_dtype=None if input.is_floating_point() else x.dtype,
    )  # fmt: skip
    return tensor_of(result, last)


def _fake_conv(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int,
    last: bool,
) -> Any:  # fmt: skip
    pairs = _both_sides(padding, weight.dim() - 2)
    rows = zip(input.shape[2:], weight.shape[2:], stride, dilation, pairs, strict=True)
    outputs = [shapes.output_size(*row, *pair) for *row, pair in rows]
    return empty(input, (input.shape[0], weight.shape[0], *outputs), last)


def _both_sides(padding: Any, rank: int) -> Any:
    return [(p, p) for p in padding] if len(padding) == rank else _pairs(padding, rank)


def _save_conv(ctx: Any, inputs: Any, output: Any) -> None:
    input, weight, _, *ctx.window = inputs
    _save_two(ctx, input, weight)


def _save_two(ctx: Any, first: Any, second: Any) -> None:
    """Each factor is needed for the other's gradient, and its shape for its own."""
    wanted = ctx.needs_input_grad
    ctx.save_for_backward(first if wanted[1] else None, second if wanted[0] else None)
    ctx.sizes = first.shape, second.shape


def _grad_of_conv(ctx: Any, grad: Any) -> tuple[Any, ...]:
    (input, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad
    input_size, weight_size = ctx.sizes
    return (
        conv_input(weight, grad, input_size, *ctx.window) if wanted[0] else None,
        conv_weight(input, grad, weight_size, *ctx.window) if wanted[1] else None,
        _over_positions(grad) if wanted[2] else None,
    )


def _over_positions(grad: Any) -> Any:
    """A bias' gradient."""
    return grad.sum([0, *range(2, grad.dim())])


def _run_input(
    weight: Any, grad: Any, input_size: Any, stride: Any, padding: Any, dilation: Any,
    groups: int, last: bool,
) -> Any:  # fmt: skip
    rank = weight.dim() - 2
    result = _INPUT[rank](
        _channels_moved(input_size, last), array_of(weight), array_of(grad, last), tuple(stride),
        _pairs(padding, rank), tuple(dilation), groups, **_layout(rank, last, _FILTERS),
    )  # fmt: skip
    return tensor_of(result, last)


def _fake_input(weight: Any, grad: Any, input_size: Any, *window: Any) -> Any:
    return empty(grad, input_size, window[-1])


def _save_input(ctx: Any, inputs: Any, output: Any) -> None:
    weight, grad, _, *ctx.window = inputs
    _save_two(ctx, weight, grad)


def _grad_of_input(ctx: Any, x: Any) -> tuple[Any, ...]:
    (weight, grad), wanted = ctx.saved_tensors, ctx.needs_input_grad
    return (
        conv_weight(x, grad, ctx.sizes[0], *ctx.window) if wanted[0] else None,
        conv(x, weight, None, *ctx.window) if wanted[1] else None,
    )


def _run_weight(
    input: Any, grad: Any, weight_size: Any, stride: Any, padding: Any, dilation: Any,
    groups: int, last: bool,
) -> Any:  # fmt: skip
    rank = input.dim() - 2
    result = _WEIGHT[rank](
        array_of(input, last), _channels_moved(weight_size, last), array_of(grad, last),
        tuple(stride), _pairs(padding, rank), tuple(dilation), groups,
        **_layout(rank, last, _LAST),
    )  # fmt: skip
    return tensor_of(result, last)


def _fake_weight(input: Any, grad: Any, weight_size: Any, *window: Any) -> Any:
    return empty(input, weight_size, window[-1])


def _save_weight(ctx: Any, inputs: Any, output: Any) -> None:
    input, grad, _, *ctx.window = inputs
    _save_two(ctx, input, grad)


def _grad_of_weight(ctx: Any, weight: Any) -> tuple[Any, ...]:
    (input, grad), wanted = ctx.saved_tensors, ctx.needs_input_grad
    return (
        conv_input(weight, grad, ctx.sizes[0], *ctx.window) if wanted[0] else None,
        conv(input, weight, None, *ctx.window) if wanted[1] else None,
    )


def _run_transpose(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any,
    groups: int, dilation: Any, last: bool,
) -> Any:  # fmt: skip
    rank = weight.dim() - 2
    x = array_of(input, last)
    result = _TRANSPOSE[rank](
        x, array_of(weight), None if bias is None else array_of(bias), tuple(stride),
        tuple(padding), tuple(output_padding), groups, tuple(dilation),
        **_layout(rank, last, _TRANSPOSED),
        out_dtype=None if input.is_floating_point() else x.dtype,
    )  # fmt: skip
    return tensor_of(result, last)


def _fake_transpose(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any,
    groups: int, dilation: Any, last: bool,
) -> Any:  # fmt: skip
    rows = zip(
        input.shape[2:], weight.shape[2:], stride, dilation, padding, padding, output_padding,
        strict=True,
    )  # fmt: skip
    outputs = [shapes.transposed_output_size(*row) for row in rows]
    size = input.shape[0], weight.shape[1] * groups, *outputs
    return empty(input, size, last)


def _grad_of_transpose(ctx: Any, grad: Any) -> tuple[Any, ...]:
    (input, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad
    stride, padding, output_padding, groups, dilation, last = ctx.window
    image = grad
    if any(output_padding):
        # What output padding lays bare takes the place of padding behind; what is more, no window
        # of the convolution reaches.
        behind = [pad - extra for pad, extra in zip(padding, output_padding, strict=True)]
        for axis, pad in enumerate(behind, 2):
            if pad < 0:
                image = image.narrow(axis, 0, image.shape[axis] + pad)
        sides = zip(padding, behind, strict=True)
        padding = [side for before, after in sides for side in (before, max(after, 0))]
    window = stride, padding, dilation, groups, last
    return (
        conv(image, weight, None, *window) if wanted[0] else None,
        conv_weight(image, input, ctx.sizes[1], *window) if wanted[1] else None,
        _over_positions(grad) if wanted[2] else None,
    )


conv = Operator(
    "conv", f"Tensor input, Tensor weight, Tensor? bias, {_WINDOW}",
    _run_conv, _fake_conv, _save_conv, _grad_of_conv,
)  # fmt: skip
conv_input = Operator(
    "conv_input", f"Tensor weight, Tensor grad, SymInt[] input_size, {_WINDOW}",
    _run_input, _fake_input, _save_input, _grad_of_input,
)  # fmt: skip
conv_weight = Operator(
    "conv_weight", f"Tensor input, Tensor grad, SymInt[] weight_size, {_WINDOW}",
    _run_weight, _fake_weight, _save_weight, _grad_of_weight,
)  # fmt: skip
conv_transpose = Operator(
    "conv_transpose",
    "Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
    "int[] output_padding, int groups, int[] dilation, bool last",
    _run_transpose, _fake_transpose, _save_conv, _grad_of_transpose,
)  # fmt: skip
