"""From the dense layer to convolution: small steps, each one a layer that trains.

``python examples/derivation.py [folder]`` prints the road and draws pictures into the folder
("out" by default). Needs scikit-learn for its photograph, and matplotlib and Pillow.

The task: on which side is a 3x3 patch of the photograph brighter, right, left, below or above? A
layer of 16 neurons answers, four to a side: the scores are sums of the neurons' results. So the
layer's weights are all that is learned, and the steps can be compared.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import cnnfast
from cnnfast import layers as L
from cnnfast import transform
from cnnfast.analysis import count_parameters as count
from cnnfast.analysis import receptive_field, summary

from patches import SIDES, Task, learn, make_task, photograph
from pictures import draw_counts, draw_edges, draw_kernels, draw_matrices

Array = np.ndarray[Any, Any]


class Step(NamedTuple):
    """A layer that has learned the task."""

    title: str
    layer: L.Layer
    accuracy: float


def main(folder: Path) -> None:
    """Walk the road."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = photograph()
    task = make_task(photo, np.random.default_rng(0))
    count_dense_layers()
    steps = learn_all(task)
    print_steps(steps, task)
    exactly_equal()
    shapes()
    dense_and_back()
    fields()
    cheaper()
    pooling(photo, steps[3].layer)
    layouts()
    draw_counts({step.title: (count(step.layer), step.accuracy) for step in steps}, folder)
    draw_matrices({step.title: as_matrix(step.layer) for step in steps}, folder)
    draw_kernels([array for step in steps for array in step.layer.params.values()], folder)
    draw_edges(photo, feature_maps(photo, steps[3].layer), SIDES, folder)


def as_matrix(layer: L.Layer) -> Array:
    """A layer as a dense one, (neurons, pixels): its responses to single bright pixels."""
    pixels = np.eye(9, dtype=np.float32).reshape(9, 1, 3, 3)
    return layer(pixels).reshape(9, -1).T


def count_dense_layers() -> None:
    """Every neuron reads every pixel, and weights soon run into millions."""
    section("Fully connected")
    nets = {
        "3x3 pixels, 16 neurons": L.Linear(9, 16, bias=False),
        "9 - 90 - 50": L.Sequential(L.Linear(9, 90, bias=False), L.Linear(90, 50, bias=False)),
        "32x32 pixels, 500 neurons": L.Linear(32 * 32, 500, bias=False),
        "1000x1000 pixels, 100 neurons, biases": L.Linear(1000 * 1000, 100),
    }
    for name, net in nets.items():
        print(f"{name:40}{count(net):>12,} weights")


def learn_all(task: Task) -> list[Step]:
    """The same task, with fewer and fewer weights."""
    layers = {
        "fully connected": L.Sequential(L.Flatten(), L.Linear(9, 16, bias=False, rng=1)),
        "4 groups that share weights": L.Sequential(
            L.Flatten(), L.GroupedLinear(9, 16, groups=4, bias=False, rng=1)
        ),
        "2x2 fields, unshared": L.LocallyConnected2d(1, 4, 2, input_size=3, bias=False, rng=1),
        "2x2 fields, a kernel a group": L.Conv2d(1, 4, 2, bias=False, rng=1),
        "one group, right or left": L.Conv2d(1, 1, 2, bias=False, rng=1),
    }
    return [Step(title, layer, learn(layer, task)) for title, layer in layers.items()]


def print_steps(steps: list[Step], task: Task) -> None:
    """What each layer is as a dense one: zeros where a neuron is blind, repeats where it shares."""
    section("Fewer weights for the same task")
    print(f"learned from {len(task.sides)} patches, asked about {len(task.new_sides):,} others")
    print(f"{'':32}weights   as a dense layer: nonzero   different   new patches right")
    for step in steps:
        matrix = as_matrix(step.layer)
        nonzero = matrix[matrix != 0]
        in_matrix = f"{nonzero.size:28}{np.unique(nonzero).size:12}"
        print(f"{step.title:32}{count(step.layer):7}{in_matrix}{step.accuracy:18.1%}")


def exactly_equal() -> None:
    """Whole numbers are added without rounding, so equal means equal."""
    section("Exactly equal")
    rng = np.random.default_rng(2)
    images = rng.integers(-9, 10, (5, 1, 3, 3)).astype(np.float32)
    one = L.Conv2d(1, 1, 2, bias=False)
    layers = {
        "groups": L.Sequential(L.Flatten(), L.GroupedLinear(9, 16, 4, bias=False)),
        "unshared fields": L.LocallyConnected2d(1, 4, 2, input_size=3, bias=False),
        "shared fields": L.Conv2d(1, 4, 2, bias=False),
        "one group": one,
    }
    for name, layer in layers.items():
        for array in layer.params.values():
            array[...] = rng.integers(-9, 10, array.shape)
        matrix = as_matrix(layer)
        dense = L.Linear(9, len(matrix), bias=False)
        dense.load_state_dict({"weight": matrix})
        equal = np.array_equal(layer(images).reshape(5, -1), dense(images.reshape(5, 9)))
        print(f"{name:16} = a dense layer with zeros and repeats: {equal}")
        if isinstance(layer, L.Conv2d):
            toeplitz, _ = transform.conv_to_linear(layer.params["weight"], None, (1, 3, 3))
            print(f"{'':16}   which conv_to_linear writes down: {np.array_equal(matrix, toeplitz)}")
    y = cnnfast.conv2d(images, one.params["weight"], stride=1)
    print(f"{'one group':16} = conv2d: {np.array_equal(one(images), y)}")


def shapes() -> None:
    """Maps, biases, padding rings, strides, and which way round a kernel lies."""
    section("Convolution")
    maps = L.Conv2d(1, 8, 3)
    print(f"8 feature maps of 3x3 kernels with biases: {count(maps)} weights, on any image:")
    for size in (3, 28, 1000):
        print(f"  {size}x{size} -> {maps.output_shape((1, 1, size, size))[1:]}")
    print("size of the output: (n + 2 padding - kernel) // stride + 1")
    for n, k, s, p in ((28, 3, 1, 1), (28, 5, 2, 0), (224, 11, 4, 2), (7, 7, 1, 0)):
        size = L.Conv2d(1, 1, k, s, p).output_shape((1, 1, n, n))[2]
        print(f"  n {n:3}, kernel {k:2}, stride {s}, padding {p}: {size}")
    step, kernel = np.array([[[0.0, 0, 0, 1, 1, 1]]]), np.array([[[1.0, 2, 3]]])
    ring = L.Conv2d(1, 1, 3, padding=1, padding_value=7, bias=False)
    ring.params["weight"][...] = 1
    print("the sum of a pixel of 1 in a ring of sevens:", ring(np.ones((1, 1, 1, 1), "f4")).item())
    print("cross-correlation, as networks have it:", cnnfast.conv1d(step, kernel)[0, 0])
    print("true convolution, the kernel flipped:  ", cnnfast.conv1d(step, kernel[..., ::-1])[0, 0])


def dense_and_back() -> None:
    """A kernel as large as the image leaves one position: a dense layer. On larger ones it slides.

    The classifier takes 32x32 pixels, and halves them three times.
    """
    section("A dense layer is a convolution")
    sizes = ((3, 8), (8, 8), (8, 3))
    stages = [L.Sequential(L.Conv2d(c, k, 2, stride=2, bias=False), L.ReLU()) for c, k in sizes]
    classifier = L.Sequential(*stages, L.Flatten(), L.Linear(4 * 4 * 3, 10, bias=False))
    rng = np.random.default_rng(3)
    for array in classifier.params.values():
        array[...] = rng.integers(-1, 2, array.shape)
    dense = classifier.params["4.weight"]
    kernels, _ = transform.linear_to_conv(dense, None, (3, 4, 4))
    both = " and ".join(f"{weight.size} weights {weight.shape}" for weight in (dense, kernels))
    print(f"4x4x3 into 10: {both}")
    sliding = transform.to_fully_convolutional(classifier, (1, 3, 32, 32))
    image = rng.integers(-9, 10, (1, 3, 64, 64)).astype(np.float32)
    scores, field = sliding(image), receptive_field(sliding, image.shape)[""][0]
    print(f"64x64 pixels: {scores.shape}, of windows of {field.size} at stride {field.stride}")
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (32, 32), (1, 2))[:, ::8, ::8]
    crops = windows.transpose(1, 2, 0, 3, 4).reshape(25, 3, 32, 32)
    equal = np.array_equal(scores[0].reshape(10, 25).T, classifier(crops))
    print(f"equal to the classifier on {len(crops)} crops: {equal}")
    work = classifier.flops(crops.shape) / sliding.flops(image.shape)
    print(f"in one pass, for {work:.1f} times less work")


def fields() -> None:
    """Small kernels one after the other see as much as a large one, with fewer weights."""
    section("What a neuron sees")
    deep = L.Sequential(L.Conv2d(1, 4, 3), L.ReLU(), L.Conv2d(4, 4, 3), L.MaxPool2d(2))
    print(summary(deep, (1, 1, 28, 28)))


def cheaper() -> None:
    """Channels apart, then pixels apart."""
    section("1x1, depthwise, separable")
    full = L.Conv2d(3, 4, 3, padding=1, bias=False)
    depthwise = L.DepthwiseConv2d(3, 3, padding=1, bias=False)
    pointwise = L.PointwiseConv2d(3, 4, bias=False)
    separable = L.SeparableConv2d(3, 4, 3, padding=1, bias=False)
    shape = (1, 3, 32, 32)
    for name, layer in {
        "3 to 4 channels at 3x3": full,
        "depthwise 3x3, each channel alone": depthwise,
        "pointwise 1x1, each pixel alone": pointwise,
        "separable, one after the other": separable,
    }.items():
        flops = layer.flops(shape)
        print(f"{name:36}{count(layer):4} weights{flops:9,} FLOP at 32x32 pixels")
    print(f"ratio of FLOP: {separable.flops(shape) / full.flops(shape):.4f} = 1/4 + 1/9")


def pooling(photo: Array, detector: L.Layer) -> None:
    """No weights, and less that hangs on where exactly something is."""
    section("Pooling")
    pool = L.MaxPool2d(2)
    print(f"weights: {count(pool)}, channels stay: (4, 8, 8) -> {pool.output_shape((4, 8, 8))}")
    image = np.array([[[[1.0, 3, 0, 1], [2, 0, 5, 1]]]])
    for layer in (L.MaxPool2d(2), L.AvgPool2d(2)):
        back = layer.backward(np.ones_like(layer(image)))
        print(f"{type(layer).__name__}: {layer(image).ravel()}, gradient {back[0, 0].tolist()}")
    maps = feature_maps(photo, detector)
    for size in (1, 2, 4, 8):
        pooled = L.MaxPool2d(size)
        here, there = pooled(maps[..., :-1]), pooled(maps[..., 1:])
        change = np.abs(here - there).mean() / here.mean()
        print(f"edges in a photograph moved by a pixel, {size}x{size} maxima: {change:.0%} other")


def feature_maps(photo: Array, detector: L.Layer) -> Array:
    """What was learned from patches of 3x3, on a whole photograph: (4, H, W)."""
    maps: Array = np.maximum(detector(photo[None, None])[0], 0)
    return maps


def layouts() -> None:
    """The same layer for pixels of channels, and for volumes."""
    section("Channels last, and volumes")
    last = L.Conv2d(3, 8, 5, layout="NHWC", weight_layout="IOHW")
    volume = L.Conv3d(1, 8, 3)
    for layer, shape in ((last, (1, 32, 32, 3)), (volume, (1, 1, 16, 32, 32))):
        kernels = layer.parameter_shapes()["weight"]
        print(f"{type(layer).__name__}: {shape} -> {layer.output_shape(shape)}, kernels {kernels}")


def section(title: str) -> None:
    """A heading."""
    print(f"\n{title}\n{'-' * len(title)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
