"""``use``: torch's own functions, computed here."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from . import adaptive_pools, convolutions, pools
from .operators import has_forward_mode, is_eager, is_plain
from .tensors import torch

F = torch.nn.functional
_Tensor, _autocast = torch.Tensor, torch.is_autocast_enabled
_compiling = torch.compiler.is_compiling


def _with_indices(function: Callable[..., Any]) -> Callable[..., Any]:
    """What torch calls where indices are asked for; it returns them whatever the flag says."""

    def with_indices(*arguments: Any, return_indices: bool = True, **keywords: Any) -> Any:
        return function(*arguments, return_indices=True, **keywords)

    return with_indices


def _substitutes() -> dict[Any, Callable[..., Any]]:
    """A function of torch's -> the one of the same arguments and results."""
    found = {}
    for rank in (1, 2, 3):
        for module, name in (
            (convolutions, f"conv{rank}d"),
            (convolutions, f"conv_transpose{rank}d"),
            (pools, f"max_pool{rank}d"),
            (pools, f"avg_pool{rank}d"),
            (pools, f"lp_pool{rank}d"),
            (adaptive_pools, f"adaptive_avg_pool{rank}d"),
            (adaptive_pools, f"adaptive_max_pool{rank}d"),
        ):
            function = found[getattr(F, name)] = getattr(module, name)
            if "max" in name:
                found[getattr(F, f"{name}_with_indices")] = _with_indices(function)
        # F's chooses between this one, without indices, and the one with them.
        found[getattr(torch, f"max_pool{rank}d")] = getattr(pools, f"max_pool{rank}d")
    return found


_SUBSTITUTES = _substitutes()


def _takes(arguments: Any) -> bool:
    """Whether all tensors are such that these kernels and autograd are all there is to a call."""
    return not any(isinstance(value, _Tensor) and not is_plain(value) for value in arguments)


class use(torch.overrides.TorchFunctionMode):
    """Send torch's convolutions and pools of CPU tensors here: in a ``with`` block, or in a
    function that this decorates.

    What is sent: ``torch.nn.functional.conv{1,2,3}d``, ``conv_transpose{1,2,3}d``,
    ``{max,avg,lp}_pool{1,2,3}d``, ``adaptive_{max,avg}_pool{1,2,3}d``, the same in ``torch``, and
    with them the modules of ``torch.nn``. What cnnfast doesn't take goes on to torch: tensors on
    other devices, sparse, quantized and complex ones, subclasses; autocast, ``torch.func``,
    forward-mode derivatives, tracing and compiling; and what is wrong, so that errors are torch's.

    Like ``torch.no_grad`` it holds in its thread, may be nested, and changes nothing outside: the
    functions themselves stay as they are.

    Examples
    --------
    >>> from cnnfast.torch.tensors import torch
    >>> net = torch.nn.Conv2d(1, 4, 3)
    >>> with use():
    ...     y = net(torch.ones(1, 1, 8, 8))
    >>> y.shape, y.grad_fn.name()
    (torch.Size([1, 4, 6, 6]), 'cnnfast_convBackward')
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """A call of one of torch's functions within the block."""
        keywords = kwargs or {}
        # Compiling comes first: nothing else here can be traced.
        substitute = None if _compiling() else _SUBSTITUTES.get(func)
        if (
            substitute is not None
            and is_eager()
            and not _autocast("cpu")
            and not has_forward_mode()
            and _takes(args)
            and _takes(keywords.values())
        ):
            try:
                return substitute(*args, **keywords)
            except (TypeError, ValueError, ModuleNotFoundError):
                # Refused before anything was computed; torch takes it, or says what is wrong.
                pass
        return func(*args, **keywords)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, called within the block; a generator's steps are."""
        # A mode for each call; torch wants a factory that isn't a context manager itself.
        decorate = torch.utils._contextlib.context_decorator
        decorated: Callable[..., Any] = decorate(lambda: use(), function)
        return decorated

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the block: this mode goes, also from below others that a generator's caller
        entered since."""
        above = []
        while torch.overrides._len_torch_function_stack():
            mode = torch.overrides._pop_mode()
            if mode is self:
                break
            above.append(mode)
        for mode in reversed(above):
            torch.overrides._push_mode(mode)
