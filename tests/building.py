"""What tests of the package as it is built share: the repository, and commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What building leaves there.
BUILT = ("build", "dist", "out", "__pycache__", "*.so", "*.egg-info", ".*")


def run(
    *command: object, cwd: Path, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert not check or result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result
