"""Models against torch: names and shapes of states, results, gradients, steps of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnfast import layers as L
from cnnfast import models

torch = pytest.importorskip("torch", reason="torch isn't installed")

from cnnfast.benchmarks import torch_models as theirs  # noqa: E402

#: Relative to the largest element, in float64.
BOUND = 1e-10
#: In float32 we are at most as many times as far from torch's float64 as torch's float32 is.
AS_TORCH = 4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for one another a hundred times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loaded(ours: L.Layer, module: Any) -> Any:
    """The torch module in the dtype of our layer, with its state."""
    state = {name: torch.tensor(array) for name, array in ours.state_dict().items()}
    module = module.to(torch.float64 if ours.dtype == np.float64 else torch.float32)
    module.load_state_dict(state, strict=True)
    return module


def close(ours: Any, other: Any, bound: float, what: str = "") -> None:
    expected = other.detach().numpy()
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    largest = max(float(np.abs(expected).max()), 1e-30)
    assert float(np.abs(ours - expected).max()) <= bound * largest, what


def stirred(net: L.Layer, seed: int) -> L.Layer:
    """Other weights, biases and statistics of norms than ones and zeros."""
    rng = np.random.default_rng(seed)
    for name, array in net.state_dict().items():
        if array.ndim == 1 and "num_batches" not in name:
            array += rng.uniform(0, 0.3, array.shape).astype(array.dtype)
    return net


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg16", "resnet18", "mobilenet_v1"])
def test_states_have_torchs_names_and_shapes(name: str) -> None:
    """In torch's order; on its meta device, which allocates nothing."""
    net = getattr(models, name)()
    with torch.device("meta"):
        module = getattr(theirs, name)()
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    ours = {
        f"{path}.{key}" if path else key: parameter.shape
        for path, layer in net.walk()
        for key, parameter in (*layer._parameters.items(), *layer._buffers.items())
    }
    assert ours == expected
    assert list(ours) == list(expected)


CASES: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "resnet18": (models.resnet18, theirs.resnet18, (2, 3, 48, 48)),
    "mobilenet_v1": (models.mobilenet_v1, theirs.mobilenet_v1, (4, 3, 32, 32)),
    "lenet5": (models.lenet5, theirs.lenet5, (4, 1, 28, 28)),
    "lenet5, classic": (
        lambda **made: models.lenet5(classic=True, **made),
        lambda: theirs.lenet5(classic=True),
        (4, 1, 28, 28),
    ),
}


def near(ours: Any, single: Any, double: Any, what: str) -> None:
    """Our float32 is about as near to torch's float64 as torch's float32 is."""
    expected = double.detach().numpy()
    assert ours.dtype == np.float32
    assert ours.shape == expected.shape
    rounding = float(np.finfo(np.float32).eps) * _size(expected)
    theirs = _size(single.detach().numpy() - expected)
    assert _size(ours - expected) <= AS_TORCH * theirs + rounding, what


def _size(values: Any) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def run(net: Any, x: Any, grad: Any) -> dict[str, Any]:
    """What a layer or a torch module gives: in evaluation, in training, gradients, buffers."""
    if isinstance(net, L.Layer):
        found = {"evaluation": net.eval()(x), "training": net.train()(x)}
        found["input"] = net.backward(grad)
        return found | net.grads | net.buffers
    source = torch.tensor(x, requires_grad=True)
    with torch.no_grad():
        found = {"evaluation": net.eval()(source)}
    found["training"] = net.train()(source)
    found["training"].backward(torch.tensor(grad))
    found["input"] = source.grad
    found |= {name: parameter.grad for name, parameter in net.named_parameters()}
    return found | dict(net.named_buffers())


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_torchs(name: str) -> None:
    build, peer, shape = CASES[name]
    rng = np.random.default_rng(4)
    x = rng.standard_normal(shape)
    grad = rng.standard_normal((shape[0], 1000 if shape[1] == 3 else 10))
    single = stirred(build(rng=3), 5)
    double = build(rng=3, dtype=np.float64)
    double.load_state_dict(single.state_dict())
    wide = run(loaded(double, peer()), x, grad)
    narrow = run(loaded(single, peer()), x.astype(np.float32), grad.astype(np.float32))
    found = run(double, x, grad)
    assert set(found) == set(wide)
    for key, value in found.items():
        close(value, wide[key], BOUND, key)
    x, grad = x.astype(np.float32), grad.astype(np.float32)
    for key, value in run(single, x, grad).items():
        if "num_batches" not in key:
            near(value, narrow[key], wide[key], key)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg16"])
def test_trunks_give_torchs_maps(name: str) -> None:
    """And their dense layers, most of up to 138 million numbers, are torch's kind by kind."""
    net = getattr(models, name)(rng=3)
    with torch.device("meta"):
        module = getattr(theirs, name)().eval()
    trunk, dense = net["features"], net["classifier"].children().values()
    state = {key: torch.from_numpy(array) for key, array in trunk.state_dict().items()}
    module.features.load_state_dict(state, strict=True, assign=True)
    x = np.random.default_rng(4).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = module.features(torch.from_numpy(x))
    close(trunk.eval()(x), expected, 1e-5)
    kinds = [type(layer).__name__ for layer in dense]
    assert kinds == [type(layer).__name__ for layer in module.classifier]


def steps(
    net: L.Layer, module: Any, shape: tuple[int, ...], sign: float, kind: str = "SGD",
    **options: Any,
) -> None:  # fmt: skip
    """Ten steps of both on the same batches; the parameters stay the same to rounding."""
    rng = np.random.default_rng(6)
    options = options or {"lr": 0.05, "momentum": 0.9}
    loss, optimiser = L.CrossEntropyLoss(), getattr(L, kind)(net, **options)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    peer = getattr(torch.optim, kind)(trained, **options)
    for step in range(10):
        x = rng.standard_normal(shape)
        target = rng.integers(0, 10, len(x))
        ours = loss(sign * net(x), target)
        net.backward(sign * loss.backward(), to_input=False)
        peer.zero_grad()
        other = torch.nn.functional.cross_entropy(
            sign * module(torch.tensor(x)), torch.tensor(target)
        )
        other.backward()
        gradients = {
            key.removeprefix("arrays."): parameter.grad
            for key, parameter in module.named_parameters()
        }
        for key, gradient in net.grads.items():
            expected = gradients.get(key, gradients.get(key.replace(".", "_")))
            close(gradient, expected, 1e-9, f"step {step}: {key}")
        assert float(ours) == pytest.approx(other.item(), rel=1e-10)
        optimiser.step()
        peer.step()
    found = dict(module.state_dict())
    for key, value in net.state_dict().items():
        tensor = found.get(key, found.get("arrays." + key.replace(".", "_")))
        close(value, tensor, 1e-10, key)


@pytest.mark.parametrize("classic", [False, True])
def test_ten_steps_of_lenet5_are_torchs(classic: bool) -> None:
    net = models.lenet5(classic=classic, dtype=np.float64, rng=8)
    steps(net, loaded(net, theirs.lenet5(classic)), (8, 1, 28, 28), 1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.001}),
        ("Adam", {"lr": 0.002, "weight_decay": 0.001}),
    ],
)
def test_ten_steps_of_other_optimisers_are_torchs(kind: str, options: dict[str, Any]) -> None:
    net = models.lenet5(dtype=np.float64, rng=8)
    steps(net, loaded(net, theirs.lenet5()), (8, 1, 28, 28), 1, kind, **options)


def test_ten_steps_of_lenet5_of_1998_are_torchs() -> None:
    from cnnfast.models.lenet_1998 import C3_TABLE

    net = models.lenet5_1998(dtype=np.float64, rng=8)
    module = theirs.LeNet1998(net.state_dict(), C3_TABLE)
    module.arrays["output_centres"].requires_grad_(False)
    x = np.random.default_rng(9).standard_normal((3, 1, 32, 32))
    close(net.eval()(x), module(torch.tensor(x)), 1e-12, "evaluation")
    steps(net.train(), module, (8, 1, 32, 32), -0.5)
