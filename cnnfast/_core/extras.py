"""Packages that a part of cnnfast needs, imported when that part is, and what installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Package -> the extra that brings it.
EXTRAS = {
    "PIL": "demo",
    "dask": "dask",
    "distributed": "dask",
    "keras": "keras",
    "matplotlib": "demo",
    "numba": "numba",
    "onnx": "onnx",
    "rich": "demo",
    "scipy": "sparse",
    "sklearn": "demo",
    "torch": "torch",
}


def require(user: str, module: str) -> Any:
    """Import ``module`` for ``user``, or say what installs it.

    >>> from cnnfast._core.extras import EXTRAS, require
    >>> EXTRAS["no_such_package"] = "demo"
    >>> require("cnnfast.onnx", "no_such_package.reference")
    Traceback (most recent call last):
    ModuleNotFoundError: cnnfast.onnx needs no_such_package: pip install 'cnnfast[demo]'
    >>> del EXTRAS["no_such_package"]
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (package, module):  # it is there, and lacks something itself
            raise
        message = f"{user} needs {package}: pip install 'cnnfast[{EXTRAS[package]}]'"
        raise ModuleNotFoundError(message, name=package) from None
