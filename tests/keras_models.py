"""A program: networks of Keras, written by its torch backend and read by its NumPy backend.

``KERAS_BACKEND=torch python keras_models.py folder`` writes models, inputs and outputs there;
``KERAS_BACKEND=numpy python keras_models.py folder`` loads, predicts, saves and loads again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {"sequential": (16, 16, 3), "functional": (18, 14, 3), "signals": (40, 2)}


def sequential(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPES["sequential"]),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(12, 3, padding="same", activation="silu"),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def functional(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input(SHAPES["functional"])
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    short = x
    x = layers.Conv2D(8, 3, padding="same", groups=2, activation="elu")(x)
    x = layers.Conv2D(8, 3, padding="same", dilation_rate=2)(x)
    x = layers.ReLU()(layers.add([x, short]))
    big = layers.Conv2DTranspose(4, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.concatenate([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    return keras.Model(image, [big, layers.Dense(5)(x)])


def signals(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPES["signals"]),
            layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="tanh"),
            layers.AveragePooling1D(2),
            layers.SeparableConv1D(6, 3, activation="relu"),
            layers.UpSampling1D(2),
            layers.Conv1DTranspose(4, 3, strides=2),
            layers.GlobalMaxPooling1D(),
        ]
    )


MODELS = {"sequential": sequential, "functional": functional, "signals": signals}


def arrays(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list | tuple) else [result]


def write(keras: Any, name: str, folder: Path) -> None:
    random = np.random.default_rng(3)
    model = MODELS[name](keras)
    for weight in model.weights:
        least = 0.5 if "variance" in weight.path else -0.5
        weight.assign(random.uniform(least, 1, weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
    x = random.standard_normal((7, *SHAPES[name])).astype(np.float32)
    model.save(folder / f"{name}.keras")
    model.save_weights(folder / f"{name}.weights.h5")
    np.savez(folder / f"{name}.torch.npz", x, *arrays(model.predict(x, verbose=0)))


def read(keras: Any, name: str, folder: Path) -> None:
    with np.load(folder / f"{name}.torch.npz") as file:
        x = file["arr_0"]
    model = keras.models.load_model(folder / f"{name}.keras")
    results = arrays(model.predict(x, verbose=0))
    np.savez(folder / f"{name}.numpy.npz", x, *results)
    model.save(folder / f"{name}.again.keras")
    model.save_weights(folder / f"{name}.again.weights.h5")
    again = keras.models.load_model(folder / f"{name}.again.keras")
    for batch_size in (1, 3, 7):
        for other in (model, again):
            for one, two in zip(
                results, arrays(other.predict(x, batch_size=batch_size, verbose=0)), strict=True
            ):
                np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5 * abs(two).max())
    for file_name in (f"{name}.weights.h5", f"{name}.again.weights.h5"):
        built = MODELS[name](keras)
        built.load_weights(folder / file_name)
        for one, two in zip(results, arrays(built.predict(x, verbose=0)), strict=True):
            np.testing.assert_array_equal(one, two)
    for one, two in zip(results, arrays(model(x)), strict=True):
        np.testing.assert_array_equal(one, two)


def main(folder: Path) -> None:
    own = os.environ["KERAS_BACKEND"] == "numpy"
    if own:
        import cnnfast.keras

        cnnfast.keras.install()
    import keras

    for name in MODELS:
        (read if own else write)(keras, name, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
