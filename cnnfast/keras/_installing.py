"""What is changed in Keras, and how it is put back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array

from . import _layers
from ._loading import Finder, Hook
from ._operations import Operations
from ._versions import check_backend, check_version

_CORE = "keras.src.backend.numpy.core"
_NN = "keras.src.backend.numpy.nn"
_CONVOLUTIONAL = "keras.src.layers.convolutional"


@dataclass(frozen=True)
class _Change:
    owner: Any
    name: str
    before: Any
    after: Any


#: What ``uninstall`` puts back, in the order it was changed.
_changes: list[_Change] = []


def _change(owner: Any, name: str, after: Any) -> None:
    _changes.append(_Change(owner, name, getattr(owner, name), after))
    setattr(owner, name, after)


def _change_functions(nn: ModuleType) -> None:
    operations = Operations(nn)
    for name in Operations.NAMES:
        if hasattr(nn, name):  # adaptive pools came with Keras 3.13
            _change(nn, name, getattr(operations, name))


def _change_variable(core: ModuleType) -> None:
    """NumPy 2 passes what ``Variable.__array__`` doesn't take, and warns whenever one is saved."""

    def as_array(self: Any, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.value, dtype, copy=copy)

    _change(core.Variable, "__array__", as_array)


def _change_layer(module: ModuleType) -> None:
    nn = sys.modules.get(_NN)
    if nn is None:  # `keras.config.set_backend` went to another backend
        return
    name, make = _layers.CALLS[module.__name__.rpartition(".")[2]]
    layer = getattr(module, name)
    _change(layer, "call", make(layer, Operations(nn)))


#: Module of Keras -> what is done to it when it has been imported.
_HOOKS: dict[str, Hook] = {
    _CORE: _change_variable,
    _NN: _change_functions,
    **{f"{_CONVOLUTIONAL}.{module}": _change_layer for module in _layers.CALLS},
}
_FINDER = Finder(_HOOKS)


def install() -> None:
    """Make Keras' NumPy backend run convolutions and pools on cnnfast, without JAX.

    Call it before ``import keras``, with ``KERAS_BACKEND=numpy``; where JAX is installed, after
    it will do. Convolution layers add their bias and apply relu, relu6, sigmoid, tanh, silu and
    gelu in the kernel. A second call changes nothing.

    JAX is stood in for only where it can't be imported, and only in the modules of Keras' NumPy
    backend that import it: to everything else it stays missing. Functions that call it
    raise NotImplementedError: ``keras.ops.image.resize`` in Keras 3.8 and 3.9, later none.

    Raises
    ------
    RuntimeError
        If Keras has, or is set to have, another backend, or a version that isn't tested.
    ModuleNotFoundError
        If Keras isn't installed, with what installs it.

    Examples
    --------
    >>> import os
    >>> os.environ["KERAS_BACKEND"] = "numpy"
    >>> install()
    >>> import keras
    >>> keras.ops.max_pool(keras.ops.ones((1, 4, 4, 1)), 2).shape
    (1, 2, 2, 1)
    >>> uninstall()
    """
    if _FINDER in sys.meta_path:
        return
    check_version()
    check_backend()
    sys.meta_path.insert(0, _FINDER)
    for name, hook in _HOOKS.items():
        if name in sys.modules:
            hook(sys.modules[name])


def uninstall() -> None:
    """Put back what ``install`` changed; without it, nothing happens.

    A Keras that was imported without JAX stays imported: its convolutions and pools raise
    NotImplementedError until ``install()`` is called again.
    """
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    while _changes:
        change = _changes.pop()
        if getattr(change.owner, change.name) is change.after:  # else someone changed it since
            setattr(change.owner, change.name, change.before)
