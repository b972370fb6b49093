"""cnnfast.torch in compiled, exported and transformed programs."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch isn't installed")
F = torch.nn.functional

import cnnfast.torch as own  # noqa: E402


def leaf(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def network(x: Any, w: Any, b: Any) -> Any:
    y = own.conv2d(x, w, b, stride=2, padding=1)
    y = own.max_pool2d(y, 2) + own.avg_pool2d(y, 2)
    return own.adaptive_avg_pool2d(y, (1, None))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_functions_compile_into_one_graph(backend: str, dynamic: bool) -> None:
    compiled = torch.compile(network, backend=backend, fullgraph=True, dynamic=dynamic)
    for size in (12, 16):
        tensors = leaf(2, 3, size, size + 1), leaf(4, 3, 3, 3), leaf(4)
        expected, found = network(*tensors), compiled(*tensors)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), tensors), torch.autograd.grad(expected.sum(), tensors)
        )


def convolved(x: Any, w: Any) -> Any:
    return F.conv2d(x, w)


def test_compiled_functions_under_use_are_torchs() -> None:
    x, w = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3)
    expected = F.conv2d(x, w)
    compiled = torch.compile(convolved, backend="aot_eager", fullgraph=True)
    with own.use():
        torch.testing.assert_close(compiled(x, w), expected)


def test_export() -> None:
    class Net(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return own.max_pool2d(own.conv2d(x, torch.ones(4, 3, 3, 3)), 2)

    x = leaf(1, 3, 8, 8).detach()
    program = torch.export.export(Net(), (x,))
    targets = {str(node.target) for node in program.graph.nodes}
    assert {"cnnfast.conv.default", "cnnfast.max_pool.default"} <= targets
    assert torch.equal(program.module()(x), Net()(x))


def test_vmap_goes_slice_by_slice() -> None:
    images, weight = leaf(4, 2, 3, 6, 6).detach(), leaf(4, 5, 3, 3, 3).detach()
    found = torch.func.vmap(own.conv2d, in_dims=(1, None))(images.transpose(0, 1), weight[0])
    assert torch.equal(found, own.conv2d(images.flatten(0, 1), weight[0]).unflatten(0, (4, 2)))
    found = torch.func.vmap(own.conv2d)(images, weight)
    assert all(map(torch.equal, found, map(own.conv2d, images, weight)))
    pooled = torch.func.vmap(lambda x: own.max_pool2d(x, 2, return_indices=True))(images)
    expected = own.max_pool2d(images.flatten(0, 1), 2, return_indices=True)
    assert all(map(torch.equal, pooled, (y.unflatten(0, (4, 2)) for y in expected)))


def test_batched_gradients() -> None:
    """What ``jacobian(vectorize=True)`` asks for."""
    x, w, b = leaf(1, 2, 5, 5), leaf(3, 2, 3, 3), leaf(3)
    grads = torch.randn(4, 1, 3, 3, 3)
    with own.use():
        y = F.conv2d(x, w, b)
    found = torch.autograd.grad(y, (x, w, b), grads, is_grads_batched=True)
    expected = torch.autograd.grad(F.conv2d(x, w, b), (x, w, b), grads, is_grads_batched=True)
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_other_transforms_are_refused() -> None:
    x, w = leaf(1, 2, 5, 5).detach(), leaf(3, 2, 3, 3).detach()
    for transformed in (
        torch.func.grad(lambda w: own.conv2d(x, w).sum()),
        torch.func.jacfwd(lambda w: own.conv2d(x, w)),
        torch.func.jacrev(lambda w: own.conv2d(x, w)),
    ):
        with pytest.raises(NotImplementedError, match=r"no rule for \w+ of torch\.func"):
            transformed(w)
