"""Layers of torch under ``cnnfast.torch.use()`` beside torch alone, on as many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cnnfast._core.extras import require
from cnnfast.benchmarks.drop_ins.row import DropInRow
from cnnfast.benchmarks.timing import measure

CONTENDER = "torch"
Call = Callable[[], Any]


def layers(torch: Any) -> Iterator[tuple[str, Any, Any]]:
    """Names, modules and inputs."""
    nn = torch.nn
    yield "conv 64 -> 64, 3x3, 56x56", nn.Conv2d(64, 64, 3, padding=1), (1, 64, 56, 56)
    last = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    yield "the same, channels last", last, (1, 64, 56, 56)
    yield (
        "depthwise 128, 3x3, 56x56",
        nn.Conv2d(128, 128, 3, padding=1, groups=128),
        (1, 128, 56, 56),
    )
    yield "LeNet's first, 32 images", nn.Conv2d(1, 6, 5, padding=2), (32, 1, 28, 28)
    yield "conv 64 -> 64, float64, 28x28", nn.Conv2d(64, 64, 3, padding=1).double(), (1, 64, 28, 28)
    yield "transposed 32 -> 32, 4x4/2, 28x28", nn.ConvTranspose2d(32, 32, 4, 2, 1), (1, 32, 28, 28)
    yield "max pool 3x3/2, 64x112x112", nn.MaxPool2d(3, 2, 1), (1, 64, 112, 112)
    yield "average pool 3x3/2, 64x112x112", nn.AvgPool2d(3, 2, 1), (1, 64, 112, 112)
    yield "conv 3 -> 4, 3x3, 8x8", nn.Conv2d(3, 4, 3), (1, 3, 8, 8)


def lenet(torch: Any) -> Any:
    """LeNet-5 as it is built today."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84),
        nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def residual(torch: Any) -> Any:
    """The beginning of ResNet-18: its stem and a stage of two blocks without their sums."""
    nn = torch.nn
    blocks = [
        part
        for _ in range(4)
        for part in (nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    ]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def step(torch: Any, net: Any, images: Any) -> Call:
    """Forward, loss, backward; nothing changes, so that steps are alike."""
    labels = torch.arange(len(images)) % 10

    def call() -> Any:
        net.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        return loss

    return call


def cases(torch: Any) -> Iterator[tuple[str, Call]]:
    """What is timed; each gives a tensor."""
    for name, layer, shape in layers(torch):
        dtype = next((p.dtype for p in layer.parameters()), torch.float32)
        x = torch.randn(shape, dtype=dtype)
        if "channels last" in name:
            x = x.to(memory_format=torch.channels_last)

        def forward(layer: Any = layer, x: Any = x) -> Any:
            with torch.no_grad():
                return layer(x)

        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        wanted = [given, *layer.parameters()]
        grad = torch.ones_like(forward())

        def backward(
            layer: Any = layer, x: Any = given, wanted: Any = wanted, grad: Any = grad
        ) -> Any:
            return torch.autograd.grad(layer(x), wanted, grad)[0]

        yield name, forward
        yield f"{name}, and gradients", backward
    yield "training step, LeNet-5, 32 images", step(torch, lenet(torch), torch.randn(32, 1, 28, 28))
    images = torch.randn(2, 3, 128, 128)
    yield "training step, ResNet-18's beginning", step(torch, residual(torch), images)


def rows(seconds: float, threads: int) -> list[DropInRow]:
    """Every case on that many threads of either."""
    torch = require("cnnfast.torch", "torch")
    from cnnfast.torch import use

    def under_use(call: Call) -> Call:
        def used() -> Any:
            with use():
                return call()

        return used

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    found = []
    try:
        for name, call in cases(torch):
            own = under_use(call)
            torch.testing.assert_close(own(), call(), rtol=1e-4, atol=1e-4)
            times = measure({"cnnfast": own, CONTENDER: call}, seconds)
            found.append(DropInRow(name, CONTENDER, times["cnnfast"], times[CONTENDER]))
    finally:
        torch.set_num_threads(before)
    return found
