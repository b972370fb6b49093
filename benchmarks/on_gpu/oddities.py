"""Odd inputs, everybody's arrays, streams, and CUDA graphs: through the public functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import cnnfast
from cnnfast import grad
from cnnfast._core.config import allow_tf32
from cnnfast.benchmarks.on_gpu import torches
from cnnfast.benchmarks.on_gpu.buffers import Buffer
from cnnfast.benchmarks.on_gpu.conformity import rows
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal, Skip
from cnnfast.benchmarks.workloads import Array
from cnnfast.kernels.registry import Kernel

# Of arrays of any library, which the types of the public functions don't say.
conv2d: Any = cnnfast.conv2d
max_pool2d: Any = cnnfast.max_pool2d
conv2d_input: Any = grad.conv2d_input
conv2d_weight: Any = grad.conv2d_weight
max_pool2d_backward: Any = grad.max_pool2d_backward

#: Input and weight of a convolution padded by 1; a dry run's.
SHAPES, DRY_SHAPES = ((5, 32, 29, 30), (48, 32, 3, 3)), ((1, 4, 5, 6), (6, 4, 3, 3))
#: Bytes that a misaligned array begins behind a multiple of 16.
MISALIGNED = 4
#: Clock cycles that a stream is kept busy for, so that what doesn't wait for it is too early.
BUSY = 20_000_000


def _spread(array: Array) -> Array:
    wide = np.full(tuple(2 * extent + 1 for extent in array.shape), np.nan, array.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def _backwards(array: Array) -> Array:
    reverse = (slice(None, None, -1),) * array.ndim
    return array[reverse].copy()[reverse]


def _last(array: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def _repeated(array: Array) -> Array:
    return np.broadcast_to(array[:1, :1], array.shape)


#: How arrays lie in memory, and by how many bytes they miss a multiple of 16.
VIEWS: dict[str, tuple[Callable[[Array], Array], int]] = {
    "misaligned": (np.ascontiguousarray, MISALIGNED),
    "spread": (_spread, 0),
    "negative strides": (_backwards, 0),
    "channels last": (_last, 0),
    "zero strides": (_repeated, 0),
}


def run(journal: Journal, dry: bool) -> None:
    """All of it; libraries that aren't here are skipped."""
    x, w = (integers(shape) for shape in (DRY_SHAPES if dry else SHAPES))
    for row in rows():
        for name, (view, shift) in list(VIEWS.items())[: 2 if dry else None]:
            item = f"{row.family} {row.name}, {name}"
            journal.run(item, partial(odd, row, view, shift, x, w), row.name)
    journal.run("no images", partial(_no_images, x, w))
    journal.run("arrays of the host", partial(_host_arrays, x, w))
    for name, check in CHECKS.items():
        journal.run(name, partial(check, x, w))


def integers(shape: tuple[int, ...]) -> Array:
    """Small integers, whose sums are exact in every dtype."""
    return np.random.default_rng(list(shape)).integers(-2, 3, shape).astype(np.float32)


def function_of(family: str, x: Array, w: Array) -> tuple[Callable[..., Any], tuple[Array, ...]]:
    """A public function of a family, and arrays for it."""
    gradient = integers((x.shape[0], w.shape[0], *x.shape[2:]))
    pooled = integers((*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2))
    choices: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
        "fprop": (partial(conv2d, padding=1), (x, w)),
        "dgrad": (partial(conv2d_input, x.shape, padding=1), (w, gradient)),
        "wgrad": (lambda a, g, **k: conv2d_weight(a, w.shape, g, padding=1, **k), (x, gradient)),
        "pool": (partial(max_pool2d, kernel_size=2), (x,)),
        "pool_grad": (partial(max_pool2d_backward, kernel_size=2), (pooled, x)),
    }  # fmt: skip
    return choices[family]


def odd(row: Kernel, view: Callable[[Array], Array], shift: int, x: Array, w: Array) -> Facts:
    """A row on arrays that lie oddly, into a result that does."""
    function, arrays = function_of(row.family, x, w)
    arrays = tuple(map(view, arrays))
    expected = np.asarray(function(*arrays))
    buffers = [Buffer(array, shift=shift) for array in arrays]
    # A result of zero strides is none.
    like = expected if view is _repeated else view(expected)
    out = Buffer(like, written=False, shift=shift)
    with allow_tf32(bool(row.rounded)):
        function(*buffers, backend=row.name, out=out)
    np.testing.assert_array_equal(out.numpy(), expected)
    for buffer, array in zip(buffers, arrays, strict=True):
        np.testing.assert_array_equal(buffer.numpy(), array)
    return {}


def _no_images(x: Array, w: Array) -> Facts:
    result = conv2d(Buffer(x[:0]), Buffer(w), padding=1)
    assert result.shape == (0, w.shape[0], *x.shape[2:]), result.shape
    weights = conv2d_weight(Buffer(x[:0]), w.shape, Buffer(integers(result.shape)), padding=1)
    np.testing.assert_array_equal(weights.numpy(), np.zeros(w.shape))
    return {}


def _host_arrays(x: Array, w: Array) -> Facts:
    result = conv2d(x, w, padding=1, backend="cuda")
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result, expected_of(x, w))
    return {}


def expected_of(x: Array, w: Array) -> Array:
    """The convolution, padded by 1, on the host."""
    return np.asarray(conv2d(x, w, padding=1))


# ---- Everybody's arrays --------------------------------------------------------------------------


def cupy_module() -> Any:
    try:
        import cupy

        cupy.zeros(1)
    except Exception as error:
        raise Skip(f"CuPy isn't here: {error}") from None
    return cupy


def _torch_arrays(x: Array, w: Array) -> Facts:
    module = torches.torch()
    one, two = (module.from_numpy(a).to(torches.DEVICE) for a in (x, w))
    result = conv2d(one, two, padding=1)
    assert isinstance(result, module.Tensor)
    assert result.is_cuda
    np.testing.assert_array_equal(result.cpu().numpy(), expected_of(x, w))
    out = module.full_like(result, float("nan"))
    assert conv2d(one, two, padding=1, out=out) is out
    assert bool((out == result).all())
    for dtype in (module.float16, module.bfloat16):
        narrow = conv2d(one.to(dtype), two.to(dtype), padding=1)
        assert narrow.dtype == dtype
        assert bool((narrow == result.to(dtype)).all()), str(dtype)
    return {}


def _cupy_arrays(x: Array, w: Array) -> Facts:
    cupy = cupy_module()
    one, two = cupy.asarray(x), cupy.asarray(w)
    result = conv2d(one, two, padding=1)
    assert isinstance(result, cupy.ndarray)
    np.testing.assert_array_equal(cupy.asnumpy(result), expected_of(x, w))
    backwards = conv2d(one[:, ::-1, ::-1], two[:, ::-1], padding=1)
    wanted = expected_of(x[:, ::-1, ::-1], w[:, ::-1])
    np.testing.assert_array_equal(cupy.asnumpy(backwards), wanted)
    out = cupy.full_like(result, cupy.nan)
    assert conv2d(one, two, padding=1, out=out) is out
    np.testing.assert_array_equal(cupy.asnumpy(out), expected_of(x, w))
    return {}


def _numba_arrays(x: Array, w: Array) -> Facts:
    from numba import cuda

    try:
        one, two = cuda.to_device(x), cuda.to_device(w)
    except Exception as error:
        raise Skip(f"numba.cuda makes no arrays here: {error}") from None
    result = conv2d(one, two, padding=1)
    np.testing.assert_array_equal(result.copy_to_host(), expected_of(x, w))
    return {}


class _Exported:
    """An array that offers DLPack's interface alone."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **given: Any) -> Any:
        return self._array.__dlpack__(**given)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def _dlpack(x: Array, w: Array) -> Facts:
    module = torches.torch()
    tensors = [
        module.from_numpy(a).to(torches.DEVICE) for a in (x, w, np.zeros_like(expected_of(x, w)))
    ]
    module.cuda.synchronize()
    one, two, out = map(_Exported, tensors)
    conv2d(one, two, padding=1, out=out)
    module.cuda.synchronize()
    np.testing.assert_array_equal(tensors[2].cpu().numpy(), expected_of(x, w))
    return {}


# ---- Streams and graphs --------------------------------------------------------------------------


def _torch_stream(x: Array, w: Array) -> Facts:
    module = torches.torch()
    one, two = (module.from_numpy(a).to(torches.DEVICE) for a in (x, w))
    conv2d(one, two, padding=1)
    module.cuda.synchronize()
    stream = module.cuda.Stream()
    with module.cuda.stream(stream):
        module.cuda._sleep(BUSY)  # who doesn't wait for the stream reads zeros
        late = module.zeros_like(one)
        module.cuda._sleep(BUSY)
        late.copy_(one)
        result = conv2d(late, two, padding=1)
        copied = result.clone()
    stream.synchronize()
    np.testing.assert_array_equal(copied.cpu().numpy(), expected_of(x, w))
    return {}


def _cupy_stream(x: Array, w: Array) -> Facts:
    cupy = cupy_module()
    one, two = cupy.asarray(x), cupy.asarray(w)
    conv2d(one, two, padding=1)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        late = cupy.zeros_like(one)
        for _ in range(200):
            late += 0
        late[...] = one
        result = conv2d(late, two, padding=1)
        copied = result.copy()
        stream.synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(copied), expected_of(x, w))
    return {}


def _torch_graph(x: Array, w: Array) -> Facts:
    module = torches.torch()
    one, two = (module.from_numpy(a).to(torches.DEVICE) for a in (x, w))
    grads = module.from_numpy(integers(expected_of(x, w).shape)).to(torches.DEVICE)

    def work() -> tuple[Any, ...]:
        return (
            conv2d(one, two, padding=1),
            conv2d_input(tuple(one.shape), two, grads, padding=1),
            conv2d_weight(one, tuple(two.shape), grads, padding=1),
            max_pool2d(one, 2),
        )

    side = module.cuda.Stream()
    side.wait_stream(module.cuda.current_stream())
    with module.cuda.stream(side):
        work()
    module.cuda.current_stream().wait_stream(side)
    graph = module.cuda.CUDAGraph()
    with module.cuda.graph(graph):
        captured = work()
    for factor in (-1, 2):
        one.mul_(factor)
        for result in captured:
            result.fill_(float("nan"))
        graph.replay()
        module.cuda.synchronize()
        for result, eager in zip(captured, work(), strict=True):
            assert bool((result == eager).all()), f"times {factor}"
    return {}


def _cupy_graph(x: Array, w: Array) -> Facts:
    cupy = cupy_module()
    one, two = cupy.asarray(x), cupy.asarray(w)
    out = conv2d(one, two, padding=1)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        conv2d(one, two, padding=1, out=out)
        stream.synchronize()
        stream.begin_capture()
        conv2d(one, two, padding=1, out=out)
        graph = stream.end_capture()
        one *= -1
        out.fill(cupy.nan)
        graph.launch(stream)
        stream.synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(out), expected_of(-x, w))
    return {}


CHECKS: dict[str, Callable[[Array, Array], Facts]] = {
    "torch: arrays, out, dtypes": _torch_arrays,
    "CuPy: arrays, out, views": _cupy_arrays,
    "numba: arrays": _numba_arrays,
    "DLPack: arrays, out": _dlpack,
    "torch: another stream": _torch_stream,
    "CuPy: another stream": _cupy_stream,
    "torch: a graph": _torch_graph,
    "CuPy: a graph": _cupy_graph,
}
