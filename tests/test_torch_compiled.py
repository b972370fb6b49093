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
