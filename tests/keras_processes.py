"""Processes with Keras, each with a backend and a version of its own.

``CNNFAST_KERAS_VERSIONS`` names a folder of folders, each with another version of Keras
(``pip install --no-deps --target FOLDER/3.8 'keras==3.8.*'``), which are tested too.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: What programs begin with.
INSTALL = "import sys, cnnfast.keras; cnnfast.keras.install(); "
ONES = "ones = keras.ops.ones((1, 4, 4, 1)); "

#: Where other versions of Keras lie.
FOLDERS = sorted(Path(os.environ.get("CNNFAST_KERAS_VERSIONS", os.devnull)).resolve().glob("*"))
VERSIONS = [pytest.param(None, id="installed"), *(pytest.param(f, id=f.name) for f in FOLDERS)]

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason="Keras isn't installed"
)
without_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is not None, reason="JAX is installed"
)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch isn't installed"
)


def python(
    *arguments: str, home: Path, backend: str | None = "numpy", keras: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A process that takes warnings for errors, but for those of Keras' torch backend."""
    paths = [str(keras)] if keras else []
    paths += [path for path in [os.environ.get("PYTHONPATH")] if path]
    environment = {**os.environ, "KERAS_HOME": str(home), "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("KERAS_BACKEND", None)
    if backend:
        environment["KERAS_BACKEND"] = backend
    strict = () if backend == "torch" else ("-W", "error")
    return subprocess.run(
        [sys.executable, *strict, *arguments],
        env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def printed(code: str, home: Path, backend: str | None = "numpy", keras: Path | None = None) -> str:
    done = python("-c", code, home=home, backend=backend, keras=keras)
    assert done.returncode == 0, done.stderr
    return done.stdout


def error(code: str, home: Path, backend: str | None = "numpy", keras: Path | None = None) -> str:
    """The last line of what the program dies of."""
    done = python("-c", code, home=home, backend=backend, keras=keras)
    assert done.returncode == 1, done.stderr
    return done.stderr.strip().splitlines()[-1]
