"""``python tests/fake_cuda script.py``: start again with the fake as libcuda, and run that."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fake_cuda


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(fake_cuda.__doc__)
    if fake_cuda.VARIABLE not in os.environ:
        words = fake_cuda.command(*arguments)
        os.execve(words[0], words, fake_cuda.environment())
    from fake_cuda import device

    device.install()
    if arguments[0] in ("-m", "-c"):
        kind, what, *rest = arguments
        sys.argv = [kind, *rest]
        if kind == "-c":
            exec(compile(what, "<fake_cuda -c>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
