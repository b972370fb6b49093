"""A program: layers of Keras on small integers, under the backend that KERAS_BACKEND names.

``python keras_layers.py results.npz`` writes one array per case. Sums of such integers are exact in
float32 on every backend, so the results are to be equal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

Case = tuple[str, str, dict[str, Any], tuple[int, ...]]
#: Name of a case -> result.
Results = dict[str, np.ndarray[Any, Any]]

#: Rank -> spatial shape of inputs.
SHAPES = {1: (11,), 2: (9, 8), 3: (6, 5, 7)}
FORMATS = ("channels_last", "channels_first")
PADDINGS = ("valid", "same")

CONV = [
    {"kernel_size": 3},
    {"kernel_size": 2, "strides": 2, "activation": "relu"},
    {"kernel_size": 1, "strides": 3, "use_bias": False},
    {"kernel_size": 2, "dilation_rate": 2, "activation": "relu6"},
    {"kernel_size": 3, "strides": 2, "groups": 2, "activation": "leaky_relu"},
    {"kernel_size": 4, "activation": "linear", "filters": 2, "groups": 2},
]
DEPTHWISE = [
    {"kernel_size": 3, "activation": "relu"},
    {"kernel_size": 2, "strides": 2, "depth_multiplier": 3},
    {"kernel_size": 2, "dilation_rate": 2, "use_bias": False},
]
TRANSPOSED = [
    {"kernel_size": 3},
    {"kernel_size": 3, "strides": 2, "activation": "relu"},
    {"kernel_size": 2, "strides": 3},
    {"kernel_size": 4, "strides": 2, "use_bias": False},
    {"kernel_size": 1, "strides": 2},
    {"kernel_size": 3, "dilation_rate": 2},
    {"kernel_size": 3, "strides": 2, "output_padding": 1},
]
POOLS = [
    {"pool_size": 2},
    {"pool_size": 3, "strides": 2},
    {"pool_size": 2, "strides": 3},
    {"pool_size": 3, "strides": 1},
]
#: Activations that round on the way.
ROUNDING = ("gelu", "sigmoid", "silu", "tanh", "softmax")


def cases() -> Iterator[Case]:
    for rank, spatial in SHAPES.items():
        for data_format in FORMATS:
            last = data_format == "channels_last"
            shape = (2, *spatial, 4) if last else (2, 4, *spatial)
            for kind, keywords in of_rank(rank, last):
                keywords["data_format"] = data_format
                yield f"{kind} {keywords}", kind, keywords, shape


def of_rank(rank: int, last: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    of_kinds = [
        (f"Conv{rank}D", CONV, {"filters": 6}),
        (f"Conv{rank}DTranspose", TRANSPOSED, {"filters": 3}),
    ]
    if rank < 3:
        of_kinds += [
            (f"DepthwiseConv{rank}D", DEPTHWISE, {}),
            (f"SeparableConv{rank}D", DEPTHWISE, {"filters": 5}),
        ]
    of_kinds += [(f"{kind}Pooling{rank}D", POOLS, {}) for kind in ("Max", "Average")]
    for kind, variants, more in of_kinds:
        for variant in variants:
            for padding in PADDINGS:
                yield kind, {**more, **variant, "padding": padding}
    for kind in ("GlobalMax", "GlobalAverage"):
        yield f"{kind}Pooling{rank}D", {"keepdims": True}
    for kind in ("AdaptiveMax", "AdaptiveAverage"):
        for size in (1, 3, 4):
            yield f"{kind}Pooling{rank}D", {"output_size": (size,) * rank}
    if rank == 1:
        for stride, dilation in ((1, 1), (2, 1), (1, 3)):
            if last or stride == 1:
                yield "Conv1D", {
                    "filters": 3, "kernel_size": 3, "padding": "causal", "strides": stride,
                    "dilation_rate": dilation, "activation": "relu",
                }  # fmt: skip
    if rank == 2:
        for dtype in ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"):
            for kind, keywords in {
                "Conv2D": {"filters": 5, "kernel_size": 3, "activation": "relu"},
                "Conv2DTranspose": {"filters": 5, "kernel_size": 3, "strides": 2},
                "MaxPooling2D": {"pool_size": 2},
            }.items():
                yield kind, {**keywords, "dtype": dtype}
        for activation in ROUNDING:
            yield "Conv2D", {"filters": 5, "kernel_size": 3, "activation": activation}


def compute(kind: str, keywords: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    import keras

    random = np.random.default_rng(7)
    if keras.backend.backend() == "torch":  # what is rounded once is compared with float32
        keywords = {**keywords, "dtype": "float32"}
    layer = getattr(keras.layers, kind)(**keywords)
    layer.build(shape)
    scale = 0.05 if keywords.get("activation") in ROUNDING else 1
    layer.set_weights([random.integers(-3, 4, w.shape) * scale for w in layer.weights])
    x = random.integers(-4, 5, shape).astype(layer.compute_dtype)
    y = np.asarray(keras.ops.convert_to_numpy(layer(x)))
    assert y.dtype == layer.compute_dtype, (y.dtype, layer.compute_dtype)
    return y.astype(np.float64)


def main(path: str) -> None:
    if os.environ["KERAS_BACKEND"] == "numpy":
        import cnnfast.keras

        cnnfast.keras.install()
    import keras

    results = {
        name: compute(kind, keywords, shape)
        for name, kind, keywords, shape in cases()
        if hasattr(keras.layers, kind)  # adaptive pools came with Keras 3.13
    }
    np.savez(path, **results)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1])
