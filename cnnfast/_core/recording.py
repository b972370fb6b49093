"""Calls made up to their kernels, which are noted instead of run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from .conv_geometry import ConvGeometry
from .planner import Plan
from .pool_geometry import PoolGeometry


class Step(NamedTuple):
    """A kernel that a call runs."""

    family: str
    geometry: ConvGeometry | PoolGeometry
    plan: Plan


recorder: ContextVar[list[Step] | None] = ContextVar("cnnfast_recorder", default=None)


@contextmanager
def recorded_steps() -> Iterator[list[Step]]:
    """Inside, calls note their kernels in the list instead of running them."""
    steps: list[Step] = []
    token = recorder.set(steps)
    try:
        yield steps
    finally:
        recorder.reset(token)


def recording() -> bool:
    """Whether nothing is to be run or written."""
    return recorder.get() is not None


def note(family: str, geometry: ConvGeometry | PoolGeometry, plan: Plan) -> None:
    """Add a kernel to the steps, where they are recorded."""
    steps = recorder.get()
    if steps is not None:
        steps.append(Step(family, geometry, plan))
