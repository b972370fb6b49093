"""torch's operators of the namespace ``cnnfast``, and the short way past torch's dispatcher.

An operator is registered with ``torch.library``: kernels, shapes for tracing, gradient. Calls go
through the dispatcher where something there listens (compilers, ``torch.func``, modes, subclasses
of tensors, GPUs); else, with the same result, straight to the kernels, by a
``torch.autograd.Function`` if a gradient will be wanted. The dispatcher's way, most of it Python,
takes longer than a small convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tensors import torch
from .threads import on_torchs_threads

#: Lives as long as the operators do.
LIBRARY = torch.library.Library("cnnfast", "FRAGMENT")

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
_compiling = torch.compiler.is_compiling
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._functorch.peek_interpreter_stack
_tracing = torch._C._is_tracing
#: Gradients that ``is_grads_batched`` makes; other transforms are known by their levels.
_batched = torch._C._functorch.is_legacy_batchedtensor
_vmap = torch._C._functorch.TransformType.Vmap
_strided, _bfloat16 = torch.strided, torch.bfloat16
_grad_enabled = torch.is_grad_enabled
_forward_mode = torch.autograd.forward_ad


def is_eager() -> bool:
    """Whether operators just run: nothing traces, transforms or listens to them.

    >>> is_eager()
    True
    """
    # Compiling comes first: nothing else here can be traced.
    return not (_compiling() or _dispatch_modes() or _transforms() is not None or _tracing())


def is_plain(tensor: Any) -> bool:
    """Whether it is a tensor of torch's own whose memory NumPy can see as it is.

    >>> is_plain(torch.zeros(3)), is_plain(torch.zeros(3, device="meta"))
    (True, False)
    """
    return (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and tensor.layout is _strided
        and not tensor.is_neg()
        and not _batched(tensor)
    )


def has_forward_mode() -> bool:
    """Whether tensors may carry derivatives of forward mode."""
    level: int = _forward_mode._current_level
    return level >= 0


def _refuse_tangents(name: str, tensors: Any) -> None:
    for tensor in tensors:
        if tensor is not None and _forward_mode.unpack_dual(tensor).tangent is not None:
            raise NotImplementedError(f"{name} has no derivative of forward mode")


def _refuse_transforms(name: str) -> None:
    transform = _transforms()
    if transform is not None and transform.key() != _vmap:
        raise NotImplementedError(f"{name} has no rule for {transform.key().name} of torch.func")


class Operator:
    """An operator: a function of tensors, which come first, and of other arguments.

    ``run(*arguments)`` computes, ``fake(*arguments)`` makes empty results of the same shapes and
    strides, ``save(ctx, inputs, output)`` keeps what ``backward(ctx, *grads)`` needs
    to give the tensors' gradients.
    """

    def __init__(
        self,
        name: str,
        arguments: str,
        run: Callable[..., Any],
        fake: Callable[..., Any],
        save: Callable[..., None],
        backward: Callable[..., tuple[Any, ...]],
        results: str = "Tensor",
    ):
        self.tensors = arguments.count("Tensor")
        self.rest = (None,) * (arguments.count(",") + 1 - self.tensors)
        run = on_torchs_threads(run)
        self.run = run
        LIBRARY.define(f"{name}({arguments}) -> {results}", tags=(torch.Tag.pt2_compliant_tag,))
        for device in ("CPU", "CUDA"):
            LIBRARY.impl(name, run, device)

        def gradients(ctx: Any, *grads: Any) -> tuple[Any, ...]:
            return *backward(ctx, *grads), *self.rest

        def forward(ctx: Any, *inputs: Any) -> Any:
            result = run(*inputs)
            save(ctx, inputs, result)
            return result

        qualified = f"cnnfast::{name}"
        torch.library.register_fake(qualified, fake, lib=LIBRARY)
        torch.library.register_vmap(qualified, self._in_turn, lib=LIBRARY)
        torch.library.register_autograd(qualified, gradients, setup_context=save, lib=LIBRARY)
        self.overload = getattr(torch.ops.cnnfast, name).default
        methods = {"forward": staticmethod(forward), "backward": staticmethod(gradients)}
        function: Any = type(f"cnnfast_{name}", (torch.autograd.Function,), methods)
        self._apply = function.apply

    def _in_turn(self, info: Any, in_dims: Any, *arguments: Any) -> Any:
        """What ``torch.vmap`` calls: the operator of one slice after the other."""
        results = [
            self(
                *(
                    value.select(axis, i) if isinstance(axis, int) else value
                    for value, axis in zip(arguments, in_dims, strict=True)
                )
            )
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], tuple):
            stacked = tuple(map(torch.stack, zip(*results, strict=True)))
            return stacked, (0,) * len(stacked)
        return torch.stack(results), 0

    def __call__(self, *arguments: Any) -> Any:
        """The operator of its arguments, given by position and in full."""
        if not is_eager():
            if not _compiling():
                _refuse_transforms(str(self.overload))
            return self.overload(*arguments)
        if has_forward_mode():
            _refuse_tangents(str(self.overload), arguments[: self.tensors])
        wanted = False
        for tensor in arguments[: self.tensors]:
            if tensor is not None:
                # A tensor of bfloat16 is a view of the array's, which autograd must not hear of.
                if not is_plain(tensor) or tensor.dtype is _bfloat16:
                    return self.overload(*arguments)
                wanted = wanted or tensor.requires_grad
        if wanted and _grad_enabled():
            return self._apply(*arguments)
        return self.run(*arguments)
