"""Modules of Keras as they are imported: read without JAX where there is none, then changed."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from cnnfast._core.arrays import Array

#: Modules of Keras' NumPy backend that import JAX, or Keras' JAX backend, in some version.
READERS_OF_JAX = tuple(f"keras.src.backend.numpy.{name}" for name in ("image", "math", "nn"))

Hook = Callable[[ModuleType], None]


class Finder(MetaPathFinder):
    """Finds the modules of ``hooks`` where everyone else does, and calls their hook once loaded."""

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = hooks

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, with a loader around its loader; None for all other modules."""
        if name not in self._hooks and name not in READERS_OF_JAX:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self._hooks.get(name))
                return spec
        return None


class _Loader(Loader):
    """Loads as ``loader`` does, which the module keeps as its own."""

    def __init__(self, loader: Loader, hook: Hook | None) -> None:
        self._loader = loader
        self._hook = hook

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        if module.__name__ in READERS_OF_JAX and not _has_jax():
            # The import statements of this module alone see the stand-in: nothing named jax is in
            # sys.modules, where other libraries look for it.
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        self._loader.exec_module(module)
        if self._hook is not None:
            self._hook(module)


def _has_jax() -> bool:
    try:
        importlib.import_module("jax.lax")
    except ImportError:
        return False
    return True


class _Absent:
    """JAX, or a part of it, in the place of the real one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> _Absent:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return _Absent(f"{self._name}.{attribute}")

    def __call__(self, *_arguments: Any, **_keywords: Any) -> Any:
        raise NotImplementedError(
            f"Keras' NumPy backend calls {self._name} here: pip install jax (convolutions and "
            "pools don't need it after cnnfast.keras.install())"
        )


def _transformed(
    transform: Callable[[Array], Array], parts: tuple[Array, Array]
) -> tuple[Array, Array]:
    real, imaginary = parts
    result = transform(real + 1j * imaginary)
    return result.real.astype(real.dtype), result.imag.astype(real.dtype)


_STAND_INS: dict[str, Any] = {
    "jax": _Absent("jax"),
    # Keras' NumPy backend takes two functions from its JAX backend.
    "keras.src.backend.jax.math": SimpleNamespace(
        fft=lambda parts: _transformed(np.fft.fft, parts),
        fft2=lambda parts: _transformed(np.fft.fft2, parts),
    ),
}


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """What import statements of a module that is read without JAX call."""
    if level == 0 and name in _STAND_INS:
        return _STAND_INS[name]
    return builtins.__import__(name, globals, locals, fromlist, level)
