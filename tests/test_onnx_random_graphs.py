"""Random graphs by ``cnnfast.onnx.Session`` and by onnxruntime: what is fused, overwritten and
computed in another's memory, in combinations that nobody thought of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="pip install 'cnnfast[onnx]'")
pytest.importorskip("onnxruntime", reason="what results are compared with")

from onnx_graphs import assert_like_runtime, model_of, node

#: Nodes of a graph, before those that reshape back.
NODES = 12


class Growing:
    """A graph that gets a random node at a time; every value is (batch, channels, 6, 5)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.batch = int(self.rng.integers(1, 3))
        self.values = {"x": 4}
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {"shape": np.array([self.batch, -1, 6, 5])}
        for _ in range(NODES):
            getattr(self, str(self.rng.choice(self.kinds())))(self.pick())

    def kinds(self) -> list[str]:
        return [name for name in dir(self) if name.startswith("add_")]

    def pick(self, channels: int | None = None) -> str:
        """A value, rather a late one, with so many channels."""
        names = [name for name, c in self.values.items() if channels in (None, c)]
        return names[max(-len(names), -1 - int(self.rng.geometric(0.5)) + 1)]

    def constant(self, *shape: int, least: float | None = None) -> str:
        name = f"k{len(self.constants)}"
        drawn = self.rng.standard_normal(shape).astype(np.float32)
        self.constants[name] = drawn * np.float32(0.3) if least is None else np.abs(drawn) + least
        return name

    def grow(self, kind: str, inputs: str, channels: int, **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(kind, inputs, name, **attributes))
        self.values[name] = channels

    def add_conv(self, x: str) -> None:
        out = int(self.rng.integers(1, 6))
        bias = self.constant(out) if self.rng.random() < 0.5 else "_"
        weight = self.constant(out, self.values[x], 3, 3)
        self.grow("Conv", f"{x} {weight} {bias}", out, pads=[1, 1, 1, 1])

    add_another_conv = add_conv

    def add_norm(self, x: str) -> None:
        c = self.values[x]
        names = [self.constant(c) for _ in range(3)] + [self.constant(c, least=0.5)]
        self.grow("BatchNormalization", " ".join([x, *names]), c)

    def add_relu(self, x: str) -> None:
        self.grow("Relu", x, self.values[x])

    def add_clip(self, x: str) -> None:
        most = f"k{len(self.constants)}"
        self.constants[most] = np.float32(self.rng.choice([6, 1]))
        self.constants.setdefault("zero", np.float32(0))
        self.grow("Clip", f"{x} zero {most}", self.values[x])

    def add_sigmoid(self, x: str) -> None:
        self.grow("Sigmoid", x, self.values[x])

    def add_sum(self, x: str) -> None:
        kind = str(self.rng.choice(["Add", "Sum", "Mul"]))
        self.grow(kind, f"{x} {self.pick(self.values[x])}", self.values[x])

    def add_longer_sum(self, x: str) -> None:
        others = [self.pick(self.values[x]) for _ in range(self.rng.choice([0, 2]))]
        self.grow("Sum", " ".join([x, *others]), self.values[x])

    def add_affine(self, x: str) -> None:
        c = self.values[x]
        number = self.constant(*[(c, 1, 1), (1, c, 1, 1), (5,), ()][self.rng.integers(4)])
        kind = str(self.rng.choice(["Add", "Mul", "Sub"]))
        self.grow(kind, f"{x} {number}" if self.rng.random() < 0.5 else f"{number} {x}", c)

    def add_concat(self, x: str) -> None:
        names = [x, self.pick(), self.pick()][: self.rng.integers(2, 4)]
        total = sum(self.values[n] for n in names)
        self.grow("Concat", " ".join(names), total, axis=1)
        if self.rng.random() < 0.7:  # may be overwritten, and what is computed in it with it
            joined = list(self.values)[-1]
            self.add_relu(joined)
            del self.values[joined]

    add_another_concat = add_concat

    def add_pool(self, x: str) -> None:
        kind = str(self.rng.choice(["MaxPool", "AveragePool"]))
        self.grow(kind, x, self.values[x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def add_view(self, x: str) -> None:
        """Another value in the same memory, through a shape that nothing else has."""
        c = self.values[x]
        if self.rng.random() < 0.5:
            self.grow("Identity", x, c)
            return
        self.grow("Flatten", x, c)
        flat = list(self.values)[-1]
        del self.values[flat]
        self.grow("Reshape", f"{flat} shape", c)

    def model(self) -> Any:
        last = list(self.values)[-1]
        some = [name for name in list(self.values)[1:-1] if self.rng.random() < 0.15]
        return model_of(self.nodes, [last, *some], self.constants, {"x": (self.batch, 4, 6, 5)})


@pytest.mark.parametrize("seed", range(60))
def test_a_random_graph(seed: int) -> None:
    assert_like_runtime(Growing(seed).model())
