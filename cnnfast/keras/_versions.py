"""Which Keras is served: checked before anything of it is touched."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import metadata
from pathlib import Path

from cnnfast._core.extras import require

#: Versions of Keras that are tested: from the first on, below the limit.
FIRST_VERSION, LIMIT_VERSION = (3, 8), (3, 16)


def check_version() -> None:
    """RuntimeError unless Keras is of a version that is tested, or loaded already and of one."""
    loaded = sys.modules.get("keras")
    if loaded is not None:
        version = str(loaded.__version__)
    else:
        try:
            version = metadata.version("keras")
        except metadata.PackageNotFoundError:
            require("cnnfast.keras", "keras")
            raise
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or not FIRST_VERSION <= tuple(map(int, found.groups())) < LIMIT_VERSION:
        first, limit = (".".join(map(str, bound)) for bound in (FIRST_VERSION, LIMIT_VERSION))
        raise RuntimeError(
            f"cnnfast.keras is tested with Keras >= {first}, < {limit}, and this is Keras "
            f"{version}: pip install 'keras>={first},<{limit}'"
        )


def check_backend() -> None:
    """RuntimeError unless Keras uses its NumPy backend, or will when it is imported."""
    config = sys.modules.get("keras.src.backend.config")
    name = config.backend() if config is not None else _configured_backend()
    if name == "numpy":
        return
    if config is not None:
        raise RuntimeError(
            f"cnnfast.keras.install() serves Keras' NumPy backend, and Keras is loaded with "
            f"{name!r}: set KERAS_BACKEND=numpy before `import keras`, in a new process"
        )
    raise RuntimeError(
        f"cnnfast.keras.install() serves Keras' NumPy backend, and Keras is set to use {name!r}: "
        'set KERAS_BACKEND=numpy (os.environ["KERAS_BACKEND"] = "numpy") before'
    )


def _configured_backend() -> str:
    """What Keras will use: the environment's, or that of keras.json, or TensorFlow."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
    folder = Path(os.environ.get("KERAS_HOME") or home / ".keras").expanduser()
    try:
        settings = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "tensorflow"
    return str(settings.get("backend", "tensorflow"))
