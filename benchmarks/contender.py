"""What a contender is: something that can run layers, from this package or from another."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cnnfast.benchmarks.workloads import Array, Workload


@dataclass(frozen=True)
class Prepared:
    """A layer ready to run: ``call()`` is what is timed, and returns a new result each time."""

    call: Callable[[], Any]
    #: What does the work, where the contender's name leaves that open.
    runs: str = ""


@dataclass(frozen=True)
class Contender(ABC):
    """One way to run layers."""

    #: The modules it needs, the library itself first, and the distributions that bring them.
    requires: ClassVar[dict[str, str]] = {}
    #: Whether it uses the threads it is given.
    parallel: ClassVar[bool] = True

    name: str

    @property
    def role(self) -> str:
        """Ours ("own"), another library ("peer"), or our row on plain NumPy ("baseline")."""
        return "peer"

    def missing(self) -> str | None:
        """Why it can't run here at all, or None."""
        for module, distribution in self.requires.items():
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed: pip install {distribution}"
        return None

    def version(self) -> str:
        """The library's name and version."""
        module = importlib.import_module(next(iter(self.requires)))
        return f"{module.__name__} {module.__version__}"

    @abstractmethod
    def refuses(self, workload: Workload) -> str | None:
        """Why it doesn't take the layer, or None if it does."""

    def prepares(self, workload: Workload) -> bool:
        """Whether ``prepare`` does something to the weight that a call would have to do."""
        return False

    @abstractmethod
    def prepare(self, workload: Workload, arrays: tuple[Array, ...], threads: int) -> Prepared:
        """Pin the threads, and make weights, layouts and sessions ready."""

    def as_array(self, result: Any, workload: Workload) -> Array:
        """A call's result as a NumPy array, channels first."""
        return np.asarray(result)
