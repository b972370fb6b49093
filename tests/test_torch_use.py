"""``cnnfast.torch.use()``: what it sends here, what it leaves to torch, and that nothing stays."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch isn't installed")
F = torch.nn.functional

import cnnfast.torch as own  # noqa: E402
from cnnfast.torch.tensors import bfloat16  # noqa: E402

#: What torch says of itself as it loads its derivatives of forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


def leaf(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).requires_grad_()


def sent(result: Any) -> bool:
    """Whether cnnfast computed it, by the name of its gradient."""
    node = result.grad_fn
    while node is not None:
        if node.name().startswith("cnnfast_"):
            return True
        node = node.next_functions[0][0] if node.next_functions else None
    return False


IMAGE = {1: (2, 3, 9), 2: (2, 3, 9, 8), 3: (2, 3, 5, 6, 7)}
WEIGHT = {1: (4, 3, 3), 2: (4, 3, 3, 2), 3: (4, 3, 2, 3, 2)}


def calls(rank: int) -> dict[str, Callable[[], Any]]:
    x, w, b = leaf(*IMAGE[rank]), leaf(*WEIGHT[rank]), leaf(4)
    flipped = w.detach().transpose(0, 1).contiguous()
    plain = getattr(torch, f"conv{rank}d")
    module = getattr(torch.nn, f"Conv{rank}d")(3, 4, 3, padding=1)
    pool = getattr(torch.nn, f"MaxPool{rank}d")(2)
    found = {
        "conv": lambda: getattr(F, f"conv{rank}d")(x, w, b, 2, padding=1),
        "torch.conv": lambda: plain(x, weight=w),
        "module": lambda: module(x),
        "conv same": lambda: getattr(F, f"conv{rank}d")(x, w, padding="same", stride=1),
        "conv_transpose": lambda: getattr(F, f"conv_transpose{rank}d")(x, flipped, stride=2),
        "max_pool": lambda: getattr(F, f"max_pool{rank}d")(x, 2),
        "torch.max_pool": lambda: getattr(torch, f"max_pool{rank}d")(x, kernel_size=2),
        "max_pool module": lambda: pool(x),
        "indices": lambda: getattr(F, f"max_pool{rank}d")(x, 2, return_indices=True)[0],
        "direct": lambda: getattr(F, f"max_pool{rank}d_with_indices")(x, 2)[0],
        "avg_pool": lambda: getattr(F, f"avg_pool{rank}d")(x, 2, padding=1),
        "lp_pool": lambda: getattr(F, f"lp_pool{rank}d")(x.exp(), 2, 2),
        "adaptive_avg": lambda: getattr(F, f"adaptive_avg_pool{rank}d")(x, 2),
        "adaptive_max": lambda: getattr(F, f"adaptive_max_pool{rank}d")(x, 2),
        "adaptive indices": lambda: getattr(F, f"adaptive_max_pool{rank}d")(x, 2, True)[0],
        "no batch": lambda: getattr(F, f"conv{rank}d")(x[0], w),
    }
    return found


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_functions_and_modules_are_sent(rank: int) -> None:
    for name, call in calls(rank).items():
        expected = call()
        with own.use():
            found = call()
        assert sent(found), name
        assert not sent(expected), name
        assert not sent(call()), name
        torch.testing.assert_close(found, expected)


def convolved(x: Any = None) -> Any:
    return F.conv2d(leaf(1, 2, 5, 5) if x is None else x, leaf(3, 2, 3, 3))


def test_all_is_as_before_after_an_exception() -> None:
    functions = [vars(F)[name] for name in ("conv2d", "max_pool2d", "avg_pool2d")]

    def fail() -> None:
        with own.use():
            assert sent(convolved())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not sent(convolved())
    assert [vars(F)[name] for name in ("conv2d", "max_pool2d", "avg_pool2d")] == functions
    assert not torch.overrides._get_current_function_mode_stack()


def test_nested_blocks() -> None:
    mode = own.use()
    with mode:
        with own.use(), mode:
            assert sent(convolved())
        assert sent(convolved())
    assert not sent(convolved())


def test_decorated_functions_and_generators() -> None:
    @own.use()
    def once() -> bool:
        return sent(convolved())

    @own.use()
    def twice() -> Iterator[bool]:
        yield sent(convolved())
        yield sent(convolved())

    assert once()
    assert once.__name__ == "once"
    for step in twice():
        assert step
        assert not sent(convolved())  # between a generator's steps


def test_a_generators_block_ends_below_its_callers() -> None:
    def steps() -> Iterator[bool]:
        with own.use():
            yield sent(convolved())

    generator = steps()
    assert next(generator)
    with torch.overrides.BaseTorchFunctionMode() as other:
        generator.close()
        assert torch.overrides._get_current_function_mode_stack() == [other]
    assert not sent(convolved())


def test_a_block_is_its_threads_own() -> None:
    inside = threading.Event()
    seen: dict[str, Any] = {}

    def work() -> None:
        inside.wait(60)
        seen["outside"] = sent(convolved())
        with own.use():
            seen["inside"] = sent(convolved())

    thread = threading.Thread(target=work)
    thread.start()
    with own.use():
        inside.set()
        thread.join(60)
        assert sent(convolved())
    assert seen == {"outside": False, "inside": True}


class Wrapped(torch.Tensor):  # type: ignore[misc]
    """A subclass, with functions of its own."""


def left_to_torch() -> dict[str, Callable[[], Any]]:
    x, w = leaf(1, 2, 5, 5).detach(), leaf(3, 2, 3, 3).detach()

    def autocast() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return F.conv2d(x, w)

    def tangent() -> Any:
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            return torch.autograd.forward_ad.unpack_dual(F.conv2d(dual, w)).tangent

    return {
        "complex": lambda: F.conv2d(x + 0j, w + 0j),
        "mkldnn": lambda: F.conv2d(x.to_mkldnn(), w).to_dense(),
        "meta": lambda: F.conv2d(x.to("meta"), w.to("meta")).shape,
        "subclass": lambda: type(F.conv2d(x.as_subclass(Wrapped), w)),
        "autocast": autocast,
        "tangent": tangent,
        "jvp": lambda: torch.func.jvp(lambda x: F.conv2d(x, w), (x,), (x,))[1],
        "vmap": lambda: torch.func.vmap(lambda x: F.conv2d(x, w))(x[:, None]),
        "grad": lambda: torch.func.grad(lambda w: F.conv2d(x, w).sum())(w),
        "same_sizes": lambda: F.adaptive_avg_pool2d(x, (0, 2)),
        "no channels": lambda: F.max_pool2d(x[..., :2, :2], 2),
    }


@pytest.mark.filterwarnings("ignore:.*mkldnn")
@pytest.mark.parametrize("name", left_to_torch())
def test_what_goes_on_to_torch(name: str) -> None:
    call = left_to_torch()[name]
    expected = call()
    with own.use():
        found = call()
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert found.dtype is expected.dtype
        torch.testing.assert_close(found, expected)
    else:
        assert found == expected


def refused() -> dict[str, Callable[[], Any]]:
    x, w = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3)
    return {
        "channels": lambda: F.conv2d(x, w[:, :1]),
        "dtypes": lambda: F.conv2d(x, w.double()),
        "bias": lambda: F.conv2d(x, w, leaf(4)),
        "stride": lambda: F.conv2d(x, w, stride=0),
        "stride and same": lambda: F.conv2d(x, w, stride=2, padding="same"),
        "window": lambda: F.max_pool2d(x, 9),
        "padding": lambda: F.avg_pool2d(x, 2, padding=2),
        "keyword": lambda: F.conv2d(x, w, strides=2),
        "array": lambda: F.conv2d(x.detach().numpy(), w),
    }


@pytest.mark.parametrize("name", refused())
def test_errors_are_torchs(name: str) -> None:
    call = refused()[name]
    with pytest.raises((RuntimeError, TypeError, ValueError)) as expected:
        call()
    with pytest.raises((RuntimeError, TypeError, ValueError)) as found, own.use():
        call()
    assert type(found.value) is type(expected.value)
    assert str(found.value) == str(expected.value)


def small_network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5, padding=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2, 1), torch.nn.Conv2d(6, 12, 3, groups=3), torch.nn.ReLU(),
        torch.nn.AvgPool2d(2), torch.nn.ConvTranspose2d(12, 4, 3, 2), torch.nn.ReLU(),
        torch.nn.AdaptiveMaxPool2d(4), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    )  # fmt: skip


def trained(order: Any, steps: int = 3) -> list[Any]:
    net, images = small_network().to(memory_format=order), leaf(8, 1, 20, 20).detach()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    labels = torch.arange(8)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(net(images.to(memory_format=order)), labels).backward()
        optimiser.step()
    return [parameter.detach() for parameter in net.parameters()]


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
def test_training_goes_as_with_torch(order: Any) -> None:
    expected = trained(order)
    with own.use():
        found = trained(order)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_results_under_no_grad_and_inference_mode() -> None:
    x, w = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3)
    with own.use():
        expected = F.conv2d(x, w).detach()
        with torch.no_grad():
            y = F.conv2d(x, w)
        with torch.inference_mode():
            z = F.conv2d(x, w)
        assert not y.requires_grad
        y.mul_(leaf(1))  # no view of anything
        assert torch.equal(z, expected)


def test_saved_tensors_are_watched() -> None:
    for change in ("input", "weight"):
        x, w = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3)
        image, filters = x.clone(), w.clone()
        y = own.conv2d(image, filters)
        {"input": image, "weight": filters}[change].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_only_what_is_wanted_is_computed() -> None:
    seen: list[str] = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.namespace == "cnnfast":
                seen.append(func.name())
            return func(*args, **(kwargs or {}))

    x, w = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3)
    for inputs, expected in (
        ((x.detach(), w), ["cnnfast::conv_weight"]),
        ((x, w.detach()), ["cnnfast::conv_input"]),
        ((x, w), ["cnnfast::conv_input", "cnnfast::conv_weight"]),
    ):
        seen.clear()
        y = own.conv2d(*inputs)
        with Recorder():
            y.sum().backward()
        assert seen == expected


def test_checkpointing_and_hooks_on_saved_tensors() -> None:
    x, w = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3)
    (expected,) = torch.autograd.grad(F.conv2d(x, w).sum(), w)
    with own.use():
        y = torch.utils.checkpoint.checkpoint(convolved_with, x, w, use_reentrant=False)
        torch.testing.assert_close(torch.autograd.grad(y.sum(), w)[0], expected)
        with torch.autograd.graph.save_on_cpu():
            y = F.conv2d(x, w)
        torch.testing.assert_close(torch.autograd.grad(y.sum(), w)[0], expected)


def convolved_with(x: Any, w: Any) -> Any:
    return F.conv2d(x, w)


def test_forward_mode_is_refused() -> None:
    x, w = leaf(1, 2, 5, 5).detach(), leaf(3, 2, 3, 3).detach()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(NotImplementedError, match="no derivative of forward mode"):
            own.conv2d(dual, w)


def test_what_functions_refuse() -> None:
    x, w = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3)
    for error, call in (
        (TypeError, lambda: own.conv2d(x.detach().numpy(), w)),
        (TypeError, lambda: own.conv2d(x, w.double())),
        (TypeError, lambda: own.conv2d(x + 0j, w + 0j)),
        (TypeError, lambda: own.avg_pool2d(x.detach().int(), 2)),
        (TypeError, lambda: own.max_pool2d(x.detach().to_sparse(), 2)),
        (TypeError, lambda: own.conv2d(x, w, stride=1.5)),
        (TypeError, lambda: own.max_pool2d(x, 2, ceil_mode=1)),
        (TypeError, lambda: own.adaptive_max_pool2d(x, 2.0)),
        (ValueError, lambda: own.conv2d(x[0, 0], w)),
        (ValueError, lambda: own.conv2d(x, w[0])),
        (ValueError, lambda: own.conv2d(x, w, padding="full")),
        (ValueError, lambda: own.conv2d(x, w, padding="same", stride=2)),
        (ValueError, lambda: own.conv2d(x, w, groups=0)),
        (ValueError, lambda: own.conv_transpose2d(x, w)),
        (ValueError, lambda: own.adaptive_avg_pool2d(x, (1, 2, 3))),
    ):
        with pytest.raises(error):
            call()


def test_bfloat16_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = leaf(1, 2, 5, 5).detach().bfloat16(), leaf(3, 2, 3, 3).detach().bfloat16()
    expected = F.conv2d(x, w)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    bfloat16.cache_clear()
    try:
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'cnnfast\[torch\]'"):
            own.conv2d(x, w)
        with own.use():
            assert torch.equal(F.conv2d(x, w), expected)
    finally:
        bfloat16.cache_clear()


def test_without_torch_its_install_command_is_shown(tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; import cnnfast.torch"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cnnfast.torch needs torch: pip install 'cnnfast[torch]'" in done.stderr
