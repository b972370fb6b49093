"""From an entry to PTX, with Numba as a compiler alone: no GPU and no driver are asked.

PTX is kept on disk (``CNNFAST_CACHE_DIR``, else the user's cache folder), under a key of everything
it depends on: the sources of this package, the entry, the target, and the compiler's versions.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock, get_ident
from types import SimpleNamespace
from typing import Any

import numba
import numba_cuda
from numba import cuda
from numba.cuda import types

from ..problem import ConvProblem
from .program import Entry

#: Targets: of compute capability 9.0, whose own instructions need it by name, and of all others
#: from 8.0 on, for which the driver compiles the PTX of 8.0.
HOPPER, AMPERE = (9, 0, "a"), (8, 0)


def target_of(capability: int, needs: str = "80") -> tuple[Any, ...]:
    """The target that an entry is compiled for on a device.

    >>> target_of(90), target_of(89)
    ((9, 0, 'a'), (8, 0))
    """
    return HOPPER if capability == 90 or needs == "90a" else AMPERE


def parameter_type(text: str) -> Any:
    """Numba's type of a parameter as ``Entry.signature`` writes it."""
    if text == "problem":
        return types.NamedUniTuple(types.int32, len(ConvProblem._fields), ConvProblem)
    if text.endswith("*"):
        return types.CPointer(getattr(types, text[:-1]))
    name, bracket, count = text.rstrip("]").partition("[")
    element = getattr(types, name)
    return types.UniTuple(element, int(count)) if bracket else element


@cache
def ptx_of(entry: Entry, target: tuple[Any, ...]) -> tuple[str, str]:
    """The PTX of an entry, and its name there; from disk if it was compiled before."""
    folder = cache_folder()
    # A function among the constants is the user's: its source isn't among those of the key.
    own = not any(map(callable, entry.constants))
    path = folder / f"{_key(entry, target)}.ptx" if folder is not None and own else None
    if path is not None:
        try:
            return _named(_read(path))
        except (OSError, ValueError):
            pass  # not there, or not what was written: compiled again
    text = _compile(entry, target)
    if path is not None:
        _write(path, text)
    return _named(text)


def _compile(entry: Entry, target: tuple[Any, ...]) -> str:
    function = entry.build(*entry.constants)
    with _as_if_on(target):
        text, _ = cuda.compile(
            function,
            tuple(map(parameter_type, entry.signature)),
            device=False,
            abi="numba",
            cc=target,
            launch_bounds=(entry.threads, entry.blocks),
        )
    # Numba's name spells out every type, and every parameter repeats it.
    return str(text).replace(_named(text)[1], f"cnnfast_{function.__name__}")


_compiling = Lock()


@contextmanager
def _as_if_on(target: tuple[Any, ...]) -> Iterator[None]:
    """Device functions ask the driver for the device's capability while they are compiled; here
    they are told the target's. Other threads, which may be launching kernels of their own, are
    told the truth."""
    from numba.cuda import compiler, dispatcher

    modules = dispatcher, compiler
    device = SimpleNamespace(compute_capability=target[:2])
    compiling = get_ident()

    def instead_of(ask: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: device if get_ident() == compiling else ask()

    with _compiling:
        before = [module.get_current_device for module in modules]
        try:
            for module, ask in zip(modules, before, strict=True):
                module.get_current_device = instead_of(ask)
            yield
        finally:
            for module, ask in zip(modules, before, strict=True):
                module.get_current_device = ask


def _named(text: str) -> tuple[str, str]:
    """PTX and the name of its entry; ValueError if it isn't whole."""
    found = re.search(r"\.visible \.entry (\w+)\(", text)
    if found is None or not text.rstrip().endswith("}"):
        raise ValueError("no PTX, or not all of it")
    return text, found[1]


def _key(entry: Entry, target: tuple[Any, ...]) -> str:
    build = f"{entry.build.__module__}.{entry.build.__qualname__}"
    parts = (build, entry.constants, entry.signature, entry.threads, entry.blocks, target)
    return hashlib.sha256(f"{_sources()} {parts!r}".encode()).hexdigest()


@cache
def _sources() -> str:
    """A digest of what compiles and of what is compiled."""
    versions = f"{numba.__version__} {numba_cuda.__version__} {cuda.__file__}"
    digest = hashlib.sha256(versions.encode())
    here = Path(__file__).parent
    for path in (here.parent / "problem.py", *sorted(here.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cache_folder() -> Path | None:
    """Where PTX is kept; None if there is no such folder and none can be made."""
    given, caches = os.environ.get("CNNFAST_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(given or Path(caches or Path.home() / ".cache") / "cnnfast")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a user without a home is a RuntimeError
        return None
    return folder


def _read(path: Path) -> str:
    """The text of a file; ValueError if it isn't what was written."""
    digest, _, text = path.read_text("ascii").partition("\n")
    if digest != _digest(text):
        raise ValueError(f"{path} isn't as it was written")
    return text


def _write(path: Path, text: str) -> None:
    """Put a file in place as a whole, so that no other process reads a part; its first line says
    what the rest has to be."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            try:
                file.write(f"{_digest(text)}\n{text}")
                file.flush()
            except OSError:
                os.unlink(file.name)
                raise
        os.replace(file.name, path)
    except OSError:
        pass  # a full or read-only disk costs the next start its seconds, nothing else


def _digest(text: str) -> str:
    return f"// {hashlib.sha256(text.encode()).hexdigest()}"
