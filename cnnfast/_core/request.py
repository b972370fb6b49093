"""A backend as users name it: an algorithm, an engine, or both."""

from __future__ import annotations

from typing import NamedTuple

from cnnfast.kernels.registry import ENGINES, KERNELS, Kernel

from .arguments import shown

ALGORITHMS = tuple(dict.fromkeys(row.algorithm for row in KERNELS))
ENGINE_NAMES = {engine.name: folder for folder, engine in ENGINES.items()}


class Request(NamedTuple):
    """What was asked for; None stands for any. ``engine`` is the engine's folder."""

    algorithm: str | None = None
    engine: str | None = None

    @classmethod
    def parse(cls, text: str, name: str = "backend") -> Request:
        """From ``"tiled"``, ``"numba"`` or ``"tiled/numba"``; ``name`` is what errors say.

        >>> Request.parse("tiled/numba")
        Request(algorithm='tiled', engine='numba_cpu')
        """
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a string or None, got {shown(text)}")
        first, slash, second = text.partition("/")
        if not slash and first in ENGINE_NAMES:
            return cls(None, ENGINE_NAMES[first])
        if first in ALGORITHMS and (not slash or second in ENGINE_NAMES):
            return cls(first, ENGINE_NAMES.get(second))
        raise ValueError(
            f"{name} must be an algorithm ({', '.join(ALGORITHMS)}), an engine "
            f"({', '.join(ENGINE_NAMES)}) or 'algorithm/engine', got {shown(text)}"
        )

    def matches(self, row: Kernel) -> bool:
        """Whether the row is one of those asked for."""
        return self.algorithm in (None, row.algorithm) and self.engine in (None, row.engine)

    def within(self, family: str) -> Request:
        """The request without an algorithm that no such row of the family has."""
        known = any(row.family == family and self.matches(row) for row in KERNELS)
        return self if known else Request(None, self.engine)

    def __str__(self) -> str:
        engine = None if self.engine is None else ENGINES[self.engine].name
        return "/".join(part for part in (self.algorithm, engine) if part) or "any"
