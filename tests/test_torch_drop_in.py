"""cnnfast.torch's functions and operators against torch's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch isn't installed")
F = torch.nn.functional

import cnnfast.torch as own  # noqa: E402
from cnnfast.torch.tensors import array_of, tensor_of  # noqa: E402

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
#: Float32 accumulates what is stored in fewer bits.
ACCUMULATORS = {torch.float64: torch.float64}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def arranged(tensor: Any, layout: str) -> Any:
    """The same values in another order of memory."""
    if layout == "channels_last" and tensor.dim() in FORMATS:
        return tensor.contiguous(memory_format=FORMATS[tensor.dim()])
    if layout == "transposed":
        return tensor.transpose(-1, 0).contiguous().transpose(-1, 0)
    if layout == "sliced":
        return tensor.repeat_interleave(2, -1)[..., ::2]
    return tensor.contiguous()


class Case:
    """Random arguments of a convolution."""

    def __init__(self, seed: int, rank: int, dtype: Any, transposed: bool):
        rng = np.random.default_rng([seed, rank, transposed])
        self.rank, self.dtype, self.transposed = rank, dtype, transposed
        self.groups = int(rng.choice([1, 1, 2, 3]))
        inward, outward = (self.groups * int(rng.integers(1, 4)) for _ in range(2))
        self.window = {
            "stride": tuple(map(int, rng.integers(1, 4, rank))),
            "dilation": tuple(map(int, rng.integers(1, 3, rank))),
            "padding": tuple(map(int, rng.integers(0, 3, rank))),
        }
        kernel = rng.integers(1, 4, rank)
        spans = (kernel - 1) * self.window["dilation"] + 1
        size = spans + rng.integers(0, 7, rank)
        if transposed:
            most = np.maximum(self.window["stride"], self.window["dilation"])
            self.window["output_padding"] = tuple(map(int, rng.integers(0, most)))
            self.window["padding"] = tuple(map(int, np.minimum(self.window["padding"], spans // 2)))
        elif rng.random() < 0.2:
            self.window |= {"padding": "same", "stride": 1}
        first, second = (inward, outward) if transposed else (outward, inward)
        weight = rng.standard_normal((first, second // self.groups, *kernel))
        batch = (
            [] if rng.random() < 0.2 else [int(rng.choice([0, 1, 2, 3], p=[0.1, 0.3, 0.3, 0.3]))]
        )
        data = rng.standard_normal((*batch, inward, *size))
        layout = rng.choice(["contiguous", "channels_last", "transposed", "sliced"], 3)
        self.layouts = [str(name) for name in layout]
        self.tensors = [arranged(torch.tensor(data).to(dtype), self.layouts[0])]
        self.tensors.append(arranged(torch.tensor(weight).to(dtype), self.layouts[1]))
        if rng.random() < 0.6:
            self.tensors.append(torch.tensor(rng.standard_normal(outward)).to(dtype))
        self.rng = rng

    def function(self, module: Any) -> Callable[..., Any]:
        function = getattr(module, f"conv{'_transpose' * self.transposed}{self.rank}d")
        return lambda *tensors: function(*tensors, **self.window, groups=self.groups)

    @property
    def products(self) -> int:
        """Of the longest sum, that of the result or of a gradient."""
        return max(math.prod(tensor.shape) for tensor in self.tensors) * 8 + 1


def results(function: Callable[..., Any], tensors: Any, grad: Any) -> list[Any]:
    """The function's result and gradients."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    result = function(*leaves)
    return [result.detach(), *torch.autograd.grad(result, leaves, grad)]


def assert_near(found: Any, expected: Any, scale: Any, dtype: Any, products: int) -> None:
    """Within the bound of tests/conformance.py, ``scale`` being the sum of magnitudes."""
    assert found.dtype is dtype
    assert found.shape == expected.shape
    stored = torch.finfo(dtype).eps
    summed = torch.finfo(ACCUMULATORS.get(dtype, torch.float32)).eps
    bound = stored * expected.abs() + (products + 2) * summed * scale
    bound += torch.finfo(dtype).tiny * stored  # the step of subnormal numbers
    assert torch.all((found.double() - expected).abs() <= bound)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_convolutions_and_gradients(dtype: Any, rank: int, transposed: bool) -> None:
    for seed in range(10):
        case = Case(seed, rank, dtype, transposed)
        exact = [tensor.double() for tensor in case.tensors]
        shape = case.function(F)(*exact).shape
        grad = arranged(torch.tensor(case.rng.standard_normal(shape)).to(dtype), case.layouts[2])
        expected = results(case.function(F), exact, grad.double())
        magnitudes = [tensor.abs() for tensor in exact]
        scales = results(case.function(F), magnitudes, grad.double().abs())
        found = results(case.function(own), case.tensors, grad)
        for one, two, scale in zip(found, expected, scales, strict=True):
            assert_near(one, two, scale, dtype, case.products)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8], ids=str
)
def test_convolutions_of_integers(dtype: Any, rank: int, transposed: bool) -> None:
    """They come in the inputs' dtype and wrap around, as torch's do where it has them."""
    for seed in range(4):
        case = Case(seed, rank, torch.float64, transposed)
        tensors = [(tensor * 9).long().to(dtype) for tensor in case.tensors]
        expected = case.function(F)(*[tensor.double() for tensor in tensors])
        assert torch.equal(case.function(own)(*tensors), expected.long().to(dtype))


# Pools: (function, arguments) by rank.
WINDOWS: list[tuple[str, dict[str, Any]]] = [
    ("max_pool{}d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool{}d", {"kernel_size": 2}),
    ("max_pool{}d", {"kernel_size": 2, "dilation": 2, "ceil_mode": True}),
    ("max_pool{}d", {"kernel_size": (3,), "stride": 1, "padding": 1, "dilation": 2}),
    ("avg_pool{}d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool{}d", {"kernel_size": 2, "ceil_mode": True}),
    ("avg_pool{}d", {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    ("avg_pool{}d", {"kernel_size": 3, "divisor_override": 2}),
    ("lp_pool{}d", {"norm_type": 2, "kernel_size": 3, "stride": 2}),
    ("lp_pool{}d", {"norm_type": 3.0, "kernel_size": 2, "ceil_mode": True}),
    ("lp_pool{}d", {"norm_type": float("inf"), "kernel_size": 2, "stride": 3}),
    ("lp_pool{}d", {"norm_type": -float("inf"), "kernel_size": 3, "ceil_mode": True}),
    ("adaptive_avg_pool{}d", {"output_size": 3}),
    ("adaptive_avg_pool{}d", {"output_size": 1}),
    ("adaptive_max_pool{}d", {"output_size": 2}),
    ("adaptive_max_pool{}d", {"output_size": 5}),
]


def pools(rank: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name.format(rank), window)
        for name, window in WINDOWS
        if rank > 1 or "divisor_override" not in window
    ]


def image(seed: int, rank: int, dtype: Any, layout: str, batch: bool = True) -> Any:
    """Small integers, so that there are ties and sums are exact."""
    rng = np.random.default_rng([seed, rank])
    images = torch.tensor(rng.integers(-8, 9, (2, 3, *(7, 6, 5)[:rank]))).to(dtype)
    return arranged(images, layout)[slice(2) if batch else 1]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed", "sliced"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_pools_and_gradients(dtype: Any, rank: int, layout: str) -> None:
    for seed, (name, window) in enumerate(pools(rank)):
        for batch in (True, False):
            x = image(seed, rank, dtype, layout, batch)
            x = x.abs() if "lp" in name else x

            def of(module: Any, x: Any, name: str = name, window: Any = window) -> Any:
                return getattr(module, name)(x, **window)

            expected = of(F, x.double())
            grad = torch.tensor(3.0, dtype=dtype).expand(expected.shape)
            found = results(lambda x, of=of: of(own, x), [x], grad)
            expected = results(lambda x, of=of: of(F, x), [x.double()], grad.double())
            for one, two in zip(found, expected, strict=True):
                assert one.dtype is dtype
                if "max" in name:
                    assert torch.equal(one.double(), two), (name, window)
                else:
                    # A mean is rounded, its terms' powers are, and so is the root.
                    tolerance = 32 * torch.finfo(dtype).eps
                    torch.testing.assert_close(one.double(), two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_indices_and_nan(rank: int) -> None:
    for seed, (name, window) in enumerate(pools(rank)):
        if "max" not in name:
            continue
        for layout in ("contiguous", "channels_last"):
            x = image(seed, rank, torch.float32, layout)
            x[x > 7] = torch.nan
            found = getattr(own, name)(x, **window, return_indices=True)
            expected = getattr(F, name)(x, **window, return_indices=True)
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("rank", [2, 3])
def test_memory_formats_are_kept(rank: int, layout: str) -> None:
    """As torch keeps them, which some pools of three axes don't."""
    weight = torch.ones(4, 3, *[2] * rank)
    x = image(0, rank, torch.float32, layout).requires_grad_()
    calls: list[Callable[..., Any]] = [
        lambda module, name=name, window=window: getattr(module, name)(x, **window)
        for name, window in pools(rank)
    ]
    calls += [
        lambda module: getattr(module, f"conv{rank}d")(x, weight),
        lambda module: getattr(module, f"conv_transpose{rank}d")(x, weight.transpose(0, 1)),
    ]
    for call in calls:
        found = call(own)
        assert found.stride() == arranged(found, layout).stride()
        if rank == 2:
            assert found.stride() == call(F).stride()
        (grad,) = torch.autograd.grad(found.sum(), x)
        assert grad.stride() == x.stride()


def test_results_without_a_batch_are_contiguous() -> None:
    """As torch's pools have them; code views them in other shapes."""
    photo = torch.rand(8, 8, 3).permute(2, 0, 1)
    for name, window in pools(2):
        for module in (F, own):
            assert getattr(module, name)(photo, **window).is_contiguous(), (module, name)
    assert own.conv2d(photo, torch.ones(4, 3, 3, 3)).view(-1).shape == (4 * 36,)


def test_memory_is_shared_with_arrays() -> None:
    for dtype in FLOATS:
        for layout in ("contiguous", "channels_last", "transposed", "sliced"):
            for last in (False, True):
                x = image(0, 2, dtype, layout).requires_grad_()
                array = array_of(x, last)
                assert array.__array_interface__["data"][0] == x.data_ptr()
                back = tensor_of(array, last)
                assert (back.data_ptr(), back.stride()) == (x.data_ptr(), x.stride())
                assert torch.equal(back, x.detach())


def leaf(*shape: int) -> Any:
    generator = torch.Generator().manual_seed(math.prod(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


#: Name -> function of tensors, tensors: what the checks of derivatives and operators go through.
DIFFERENTIABLE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "conv1d": (lambda *t: own.conv1d(*t, 2, 1, 2), (leaf(2, 2, 7), leaf(3, 2, 2), leaf(3))),
    "conv2d": (lambda *t: own.conv2d(*t, (2, 1), 1), (leaf(2, 2, 4, 3), leaf(3, 2, 3, 2), leaf(3))),
    "conv2d_same": (
        lambda *t: own.conv2d(*t, padding="same", groups=2),
        (leaf(1, 2, 4, 3), leaf(4, 1, 2, 3)),
    ),
    "conv3d": (lambda *t: own.conv3d(*t), (leaf(1, 2, 2, 3, 2), leaf(2, 2, 2, 2, 1), leaf(2))),
    "conv_transpose1d": (
        lambda *t: own.conv_transpose1d(*t, 2, 1, 1),
        (leaf(2, 2, 4), leaf(2, 3, 3), leaf(3)),
    ),
    "conv_transpose2d": (
        lambda *t: own.conv_transpose2d(*t, 2, 0, 1, 2),
        (leaf(1, 2, 3, 2), leaf(2, 2, 2, 2), leaf(4)),
    ),
    # More output padding than padding and stride: positions that no window reaches.
    "conv_transpose2d_dilated": (
        lambda x, w: own.conv_transpose2d(x, w, None, 1, (1, 0), 2, 1, 3),
        (leaf(1, 2, 2, 3), leaf(2, 1, 2, 2)),
    ),
    "conv_transpose3d": (
        lambda *t: own.conv_transpose3d(*t),
        (leaf(1, 1, 2, 1, 2), leaf(1, 2, 1, 2, 2)),
    ),
    "max_pool1d": (lambda x: own.max_pool1d(x, 2), (leaf(2, 2, 6),)),
    "max_pool2d": (lambda x: own.max_pool2d(x, 3, 2, 1), (leaf(2, 1, 5, 4),)),
    "max_pool2d_indices": (
        lambda x: own.max_pool2d(x, 2, return_indices=True)[0],
        (leaf(1, 2, 4, 5),),
    ),
    "max_pool3d": (lambda x: own.max_pool3d(x, 2, 1), (leaf(1, 1, 3, 3, 2),)),
    "avg_pool1d": (lambda x: own.avg_pool1d(x, 2), (leaf(2, 2, 6),)),
    "avg_pool2d": (lambda x: own.avg_pool2d(x, 3, 2, 1), (leaf(2, 1, 5, 4),)),
    "avg_pool3d": (lambda x: own.avg_pool3d(x, 2, 1), (leaf(1, 1, 3, 3, 2),)),
    "lp_pool2d": (lambda x: own.lp_pool2d(x.exp(), 2, 2), (leaf(1, 2, 4, 4),)),
    "adaptive_avg_pool1d": (lambda x: own.adaptive_avg_pool1d(x, 3), (leaf(2, 1, 7),)),
    "adaptive_avg_pool2d": (lambda x: own.adaptive_avg_pool2d(x, (2, None)), (leaf(1, 2, 5, 3),)),
    "adaptive_avg_pool3d": (lambda x: own.adaptive_avg_pool3d(x, 2), (leaf(1, 1, 3, 2, 3),)),
    "adaptive_max_pool1d": (lambda x: own.adaptive_max_pool1d(x, 3), (leaf(2, 1, 7),)),
    "adaptive_max_pool2d": (
        lambda x: own.adaptive_max_pool2d(x, 2, return_indices=True)[0],
        (leaf(1, 2, 5, 3),),
    ),
    "adaptive_max_pool3d": (lambda x: own.adaptive_max_pool3d(x, 2), (leaf(1, 1, 3, 2, 3),)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_first_and_second_derivatives(name: str) -> None:
    function, tensors = DIFFERENTIABLE[name]
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


def test_third_derivatives() -> None:
    def slope(x: Any, weight: Any) -> Any:
        return torch.autograd.grad(
            own.conv2d(x, weight, padding=1).pow(3).sum(), x, create_graph=True
        )[0]

    tensors = leaf(1, 1, 3, 3), leaf(1, 1, 2, 2)
    assert torch.autograd.gradgradcheck(slope, tensors)


def test_a_windows_maximum_that_is_none_has_no_gradient() -> None:
    """A dilated window may miss the input altogether."""
    x = leaf(1, 1, 2)
    y = own.max_pool1d(x, 2, 1, 1, 3)
    assert torch.isneginf(y).all()
    assert torch.autograd.gradgradcheck(lambda x: own.max_pool1d(x, 2, 1, 1, 3).nan_to_num(), (x,))


@functools.cache
def recorded() -> dict[str, list[Any]]:
    """Operator -> its arguments, as the functions and their derivatives call it."""
    calls: dict[str, list[Any]] = {}

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.namespace == "cnnfast":
                calls.setdefault(func.name(), []).append(
                    [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args]
                )
            return func(*args, **(kwargs or {}))

    with Recorder():
        for function, tensors in DIFFERENTIABLE.values():
            result = function(*tensors)
            grads = torch.autograd.grad(result.sin().sum(), tensors, create_graph=True)
            sum(grad.sin().sum() for grad in grads).backward(inputs=list(tensors))
    for _, tensors in DIFFERENTIABLE.values():
        for tensor in tensors:
            tensor.grad = None
    return calls


OPERATORS = [
    "conv", "conv_input", "conv_weight", "conv_transpose",
    "avg_pool", "avg_pool_backward", "adaptive_avg_pool", "adaptive_avg_pool_backward",
    "max_pool", "max_pool_with_indices", "max_pool_backward",
    "adaptive_max_pool", "adaptive_max_pool_with_indices", "adaptive_max_pool_backward",
]  # fmt: skip


def test_every_operator_is_called() -> None:
    registered = [name for name in torch._C._dispatch_get_all_op_names() if "cnnfast::" in name]
    assert sorted(registered) == sorted(f"cnnfast::{name}" for name in OPERATORS)
    assert set(recorded()) == set(registered)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name: str, layout: str) -> None:
    operator = getattr(torch.ops.cnnfast, name).default
    calls = recorded()[f"cnnfast::{name}"]
    for arguments in (calls[0], calls[-1]):
        given = [
            arranged(value.detach(), layout).requires_grad_()
            if isinstance(value, torch.Tensor)
            else value
            for value in arguments
        ]
        torch.library.opcheck(operator, given)
