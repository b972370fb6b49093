"""Keras 3 on NumPy without JAX: its NumPy backend, with convolutions and pools by cnnfast.

With ``KERAS_BACKEND=numpy`` Keras has JAX compute convolutions and pools, and can't be imported
without it. After ``install()`` it can: models are built, saved, loaded and predict as ever, on
NumPy and the kernels of cnnfast alone.

>>> import os
>>> os.environ["KERAS_BACKEND"] = "numpy"
>>> import cnnfast.keras
>>> cnnfast.keras.install()
>>> import keras
>>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, padding="same")])
>>> model.predict(keras.ops.ones((2, 8, 8, 1)), verbose=0).shape
(2, 8, 8, 4)
>>> cnnfast.keras.uninstall()
"""

from __future__ import annotations

from ._installing import install, uninstall
from ._versions import FIRST_VERSION, LIMIT_VERSION

__all__ = ["FIRST_VERSION", "LIMIT_VERSION", "install", "uninstall"]
