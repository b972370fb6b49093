"""Arrays by name in a file, ``.npz`` or ``.safetensors``: written whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cnnfast._core.arrays import Array

SUFFIXES = (".npz", ".safetensors")


def save_arrays(path: str | PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays; ``path`` ends in ``.npz`` or ``.safetensors``.

    A file of that name is replaced when the new one is complete and on disk. OSError if it can't
    be written; what was there stays then. bfloat16, which NumPy reads from neither, is written as
    float32. TypeError for arrays of anything but numbers and text.
    """
    target = _checked(path)
    whole = {name: _storable(name, array) for name, array in arrays.items()}

    def write(file: BinaryIO) -> None:
        if target.suffix == ".npz":
            np.savez(file, **whole)  # type: ignore[arg-type]
        else:
            from safetensors.numpy import save

            file.write(save(whole))

    write_whole(target, write)


def load_arrays(path: str | PathLike[str]) -> dict[str, Array]:
    """Read what ``save_arrays`` wrote. ValueError for a file that is broken, OSError for one that
    isn't there; nothing in it is run."""
    source = _checked(path)
    with source.open("rb") as file:
        try:
            if source.suffix == ".npz":
                return _unzipped(file)
            from safetensors.numpy import load

            arrays: dict[str, Array] = load(file.read())
            return arrays
        except ImportError:
            raise
        except Exception as error:  # zip, zlib, NumPy and safetensors raise some ten kinds
            raise ValueError(f"{source} isn't a whole {source.suffix} file: {error}") from None


def _storable(name: str, array: Array) -> Array:
    whole: Array = np.asarray(array, order="C")
    if whole.dtype.name == "bfloat16":
        return whole.astype(np.float32)
    if whole.dtype.kind not in "biufcU":
        raise TypeError(f"{name} must hold numbers or text, got {whole.dtype}")
    return whole


def _unzipped(file: BinaryIO) -> dict[str, Array]:
    # A sum is compared where a member is read to its end, and an array with a broken header may end
    # before: all sums first.
    with zipfile.ZipFile(file) as members:
        if broken := members.testzip():
            raise ValueError(f"{broken} isn't what was written")
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} isn't an array")
    return arrays


def write_whole(target: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Have ``write`` fill a file beside ``target`` that takes its name when it is on disk.

    OSError, of ``target``, if it can't be written.
    """
    try:
        descriptor, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(beside, 0o666 & ~_umask())
            os.replace(beside, target)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _checked(path: str | PathLike[str]) -> Path:
    found = Path(path)
    if found.suffix not in SUFFIXES:
        raise ValueError(f"a file of arrays ends in {' or '.join(SUFFIXES)}, got {str(path)!r}")
    return found
