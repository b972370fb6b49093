"""Whether programs can run here. Imports neither Numba nor anything that does."""

from __future__ import annotations

import os

from . import driver


def simulated() -> bool:
    """Whether Numba's simulator stands for a GPU (``NUMBA_ENABLE_CUDASIM=1``)."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def without_wgmma() -> str | None:
    """Why warpgroups can't multiply here; None if they can."""
    if simulated():
        return None
    found = driver.capability()
    if found != (9, 0):
        return f"needs a device of compute capability 9.0, this one has {found[0]}.{found[1]}"
    return None


def missing() -> str | None:
    """Why programs can't run here, and what to do about it; None if they can."""
    return None if simulated() else driver.missing()
