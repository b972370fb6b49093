"""Our models in torch, written as torchvision has them (which needn't be installed)."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import nn


class BasicBlock(nn.Module):  # type: ignore[misc]
    """Of ResNet-18."""

    def __init__(self, channels: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, features, 1, stride, bias=False), nn.BatchNorm2d(features)
            )

    def forward(self, x: Any) -> Any:
        """The block's result."""
        around = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(x + around)


def resnet18(classes: int = 1000) -> nn.Module:
    """As ``torchvision.models.resnet18``."""
    layers: list[tuple[str, nn.Module]] = [
        ("conv1", nn.Conv2d(3, 64, 7, 2, 3, bias=False)),
        ("bn1", nn.BatchNorm2d(64)),
        ("relu", nn.ReLU()),
        ("maxpool", nn.MaxPool2d(3, 2, 1)),
    ]
    channels = 64
    for i, features in enumerate((64, 128, 256, 512), 1):
        first = BasicBlock(channels, features, 1 if i == 1 else 2)
        layers.append((f"layer{i}", nn.Sequential(first, BasicBlock(features, features, 1))))
        channels = features
    layers += [
        ("avgpool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(512, classes)),
    ]
    return nn.Sequential(OrderedDict(layers))


def _classifier(features: nn.Module, side: int, top: nn.Module) -> nn.Module:
    parts = [("features", features), ("avgpool", nn.AdaptiveAvgPool2d(side))]
    return nn.Sequential(OrderedDict([*parts, ("flatten", nn.Flatten()), ("classifier", top)]))


def alexnet(classes: int = 1000) -> nn.Module:
    """As ``torchvision.models.alexnet``."""
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    top = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, classes),
    )  # fmt: skip
    return _classifier(features, 6, top)


def vgg(configuration: list[int | str], classes: int = 1000) -> nn.Module:
    """As ``torchvision.models.vgg11`` and its kin; "M" is a pooling."""
    features: list[nn.Module] = []
    channels = 3
    for entry in configuration:
        if isinstance(entry, int):
            features += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()]
            channels = entry
        else:
            features.append(nn.MaxPool2d(2, 2))
    top = nn.Sequential(
        nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, classes),
    )  # fmt: skip
    return _classifier(nn.Sequential(*features), 7, top)


def vgg11() -> nn.Module:
    """Configuration A."""
    return vgg([64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"])


def vgg16() -> nn.Module:
    """Configuration D."""
    return vgg([64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"])


def mobilenet_v1(classes: int = 1000) -> nn.Module:
    """MobileNet of 2017."""

    def normed(convolution: nn.Conv2d) -> list[nn.Module]:
        return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]

    features, channels = [nn.Sequential(*normed(nn.Conv2d(3, 32, 3, 2, 1, bias=False)))], 32
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for kernels, stride in zip(widths, strides, strict=True):
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        pointwise = nn.Conv2d(channels, kernels, 1, bias=False)
        features.append(nn.Sequential(*normed(depthwise), *normed(pointwise)))
        channels = kernels
    return _classifier(nn.Sequential(*features), 1, nn.Linear(1024, classes))


def lenet5(classic: bool = False) -> nn.Module:
    """The common variant."""

    def stage() -> list[nn.Module]:
        return [nn.Tanh(), nn.AvgPool2d(2)] if classic else [nn.ReLU(), nn.MaxPool2d(2)]

    def act() -> nn.Module:
        return nn.Tanh() if classic else nn.ReLU()

    names = [
        "c1",
        "act1",
        "s2",
        "c3",
        "act3",
        "s4",
        "flatten",
        "c5",
        "act5",
        "f6",
        "act6",
        "output",
    ]
    layers = [
        nn.Conv2d(1, 6, 5, padding=2), *stage(), nn.Conv2d(6, 16, 5), *stage(), nn.Flatten(),
        nn.Linear(400, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10),
    ]  # fmt: skip
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


class LeNet1998(nn.Module):  # type: ignore[misc]
    """LeNet-5 as published; ``state`` is that of our own."""

    def __init__(self, state: dict[str, Any], table: Any) -> None:
        super().__init__()
        self.table = table
        self.arrays = nn.ParameterDict(
            {name.replace(".", "_"): torch.tensor(array) for name, array in state.items()}
        )

    def forward(self, x: Any) -> Any:
        """Squared distances from the codes."""
        f, a = nn.functional, self.arrays

        def squash(x: Any) -> Any:
            return 1.7159 * torch.tanh(x * (2 / 3))

        def sample(x: Any, name: str) -> Any:
            means = f.avg_pool2d(x, 2) * 4
            weight, bias = a[f"{name}_weight"], a[f"{name}_bias"]
            return means * weight[:, None, None] + bias[:, None, None]

        x = squash(f.conv2d(x, a["c1_weight"], a["c1_bias"]))
        x = squash(sample(x, "s2"))
        kernels = list(a["c3_weight"].unbind())
        maps = []
        for row in self.table:
            of_row, kernels = kernels[: len(row)], kernels[len(row) :]
            maps.append(f.conv2d(x[:, list(row)], torch.stack(of_row)[None]))
        x = squash(torch.cat(maps, 1) + a["c3_bias"][:, None, None])
        x = squash(sample(x, "s4"))
        x = squash(f.conv2d(x, a["c5_weight"], a["c5_bias"])).flatten(1)
        x = squash(f.linear(x, a["f6_weight"], a["f6_bias"]))
        return (x[:, None] - a["output_centres"].detach()).square().sum(-1)


def folded(module: nn.Module) -> nn.Module:
    """A copy in which batch norms are part of the convolutions before them."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    copied = copy.deepcopy(module)
    for parent in list(copied.modules()):
        last = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and last is not None:
                setattr(parent, last[0], fuse_conv_bn_eval(last[1], child))
                setattr(parent, name, nn.Identity())
            if isinstance(child, nn.Conv2d):
                last = name, child
            elif not isinstance(child, nn.ReLU):
                last = None
    return copied
