"""A GPU without one: a library that stands in for ``libcuda.so.1``, with a device in Python.

    python tests/fake_cuda script.py            python tests/fake_cuda -m pytest tests/test_x.py
    python tests/fake_cuda -c "..."             fake_cuda.run("...")     (from a test)

Each starts a process in which libcuda is the fake, and ``fake_cuda.installed()`` the device: its
attributes can be changed, calls be made to fail (``fail``), and launches be looked at. With
``tests/ptx_machine`` behind it, launches run the PTX.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Set where the fake is what the process finds as libcuda.
VARIABLE = "FAKE_CUDA_LIBRARY"


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which(os.environ.get("CC", "cc").split()[0]) or shutil.which("gcc")


def build() -> Path:
    """The folder of the library, compiled once for each version of its source."""
    source = HERE / "libcuda.h"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"fake_cuda-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is somebody else's")
    library = folder / "libcuda.so.1"
    if not library.exists():
        found = compiler()
        if found is None:
            raise FileNotFoundError("no C compiler (cc, gcc, or CC) to build the fake libcuda with")
        unfinished = folder / f"unfinished-{os.getpid()}"
        options = ["-O2", "-Wall", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
        subprocess.run([found, *options, "-o", unfinished, "-x", "c", source, "-ldl"], check=True)
        unfinished.rename(library)
    return folder


def environment() -> dict[str, str]:
    """The environment in which the fake is what is found as libcuda."""
    folder = build()

    def first(name: str, path: Path) -> str:
        return os.pathsep.join([str(path), *filter(None, [os.environ.get(name)])])

    return {
        **os.environ,
        VARIABLE: str(folder / "libcuda.so.1"),
        "LD_LIBRARY_PATH": first("LD_LIBRARY_PATH", folder),
        "PYTHONPATH": first("PYTHONPATH", HERE.parent),
    }


def command(*arguments: str) -> list[str]:
    """What starts Python with the fake installed: a script, ``-m`` and a module, or ``-c``."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # Without -P the current folder would come first, where a checkout hides what is installed.
    return [sys.executable, *flags, "-P", "-m", "fake_cuda", *arguments]


def run(code: str, *, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process with the fake, and return what it printed and its exit status."""
    return subprocess.run(
        command("-c", code),
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def installed():  # type: ignore[no-untyped-def]
    """The Device of this process; None if libcuda isn't the fake here."""
    from . import device

    return device.current
