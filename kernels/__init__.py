"""The kernels: one table, a folder per engine, a file per algorithm.

``load`` gives one row of the table as a plain callable for code that plans for itself.
"""

from __future__ import annotations

from .loading import LoadedKernel, load
from .registry import KERNELS, Kernel

__all__ = ["KERNELS", "Kernel", "LoadedKernel", "load"]
