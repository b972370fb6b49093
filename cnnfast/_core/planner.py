"""From a geometry to a row of the table: filter, rank by cost, end at the reference."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from cnnfast.kernels.registry import KERNELS, Kernel, load_row, row_missing

from . import config
from .conv_geometry import ConvGeometry
from .pool_geometry import PoolGeometry
from .request import Request

AnyGeometry = ConvGeometry | PoolGeometry

#: Below these estimated nanoseconds a call stays on its own thread: of rows in C, whose helpers may
#: be awake, and of others, which wait for Python's threads.
SERIAL_IN_C = 35_000.0
SERIAL = 120_000.0

#: Plans that are remembered.
KEPT_PLANS = 512


class PerformanceWarning(UserWarning):
    """A call landed on the reference: right, but slow."""


class BackendUnavailableError(RuntimeError):
    """A backend asked for by name can't serve; the message says why and what to install."""


class Plan(NamedTuple):
    """The row that runs, its estimated nanoseconds on one core, why each other one doesn't run (row
    name -> reason), and what to warn of."""

    row: Kernel
    cost: float
    rejected: tuple[tuple[str, str], ...]
    warning: str | None = None

    @property
    def function(self) -> Callable[..., None]:
        """The row's callable, imported on first use."""
        return load_row(self.row)

    @property
    def alone(self) -> bool:
        """Whether there is too little work for several threads."""
        return self.cost < (SERIAL_IN_C if self.row.engine == "cython_cpu" else SERIAL)

    @property
    def little(self) -> bool:
        """Whether what surrounds the kernels counts beside them."""
        return self.cost < SERIAL

    def threads_for(self, geometry: AnyGeometry, most: int, limit: int) -> int:
        """Threads that a call gets: one for little work, no more than ``limit`` bytes have scratch
        for. Results don't depend on it.
        """
        threads = 1 if self.alone else most
        while threads > 1 and self.row.scratch_bytes(geometry, threads) > limit:
            threads -= 1
        return threads


#: Rows' names, and why each of them doesn't run.
Rejected = tuple[tuple[str, str], ...]


class Circumstances(NamedTuple):
    """What a choice depends on besides the problem: the request, bytes of scratch at most, whether
    the arrays are on a GPU, whether float32 may be rounded to tf32 there, and rows that these
    arrays have rejected."""

    request: Request
    limit: int
    on_device: bool
    tf32: bool
    without: Rejected = ()


_plans: dict[tuple[str, AnyGeometry, Circumstances], Plan] = {}


def plan(
    family: str, geometry: AnyGeometry, backend: str | None = None, on_device: bool = False,
    without: Rejected = (),
) -> Plan:  # fmt: skip
    """The cheapest row of ``family`` that is here, fits, and was asked for.

    ``backend`` (else ``use_backend``, else ``CNNFAST_BACKEND``) narrows the choice; if nothing is
    left, BackendUnavailableError gives the reasons. Landing unasked on the reference is to be
    warned of. Arrays ``on_device`` are computed where they are, arrays of the host move to a GPU
    only if that is asked for. Rows named in ``without`` don't serve, for the reasons there.
    """
    if backend is not None:
        request = Request.parse(backend, f"{geometry.name}: backend")
    else:
        request = config.ambient_backend().within(family)
    around = Circumstances(
        request, config.get_workspace_limit(), on_device, config.get_allow_tf32(), without
    )
    key = family, geometry, around
    chosen = _plans.get(key)
    if chosen is None:
        if len(_plans) >= KEPT_PLANS:
            _plans.clear()
        # A copy of the geometry as key: the tables that a call adds to its own aren't kept alive.
        chosen = _plans[family, replace(geometry), around] = _plan(*key)
    return chosen


def warn(message: str) -> None:
    """Give a PerformanceWarning to the caller of the package."""
    warnings.warn(message, PerformanceWarning, stacklevel=_levels_to_caller())


def _by_reason(rejected: Iterable[tuple[str, str]]) -> str:
    """Each reason once, behind the rows that it holds for."""
    rows: dict[str, list[str]] = {}
    for name, why in rejected:
        rows.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in rows.items())


def _levels_to_caller() -> int:
    """How far up from ``warn`` the first frame outside of the package is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("cnnfast."):
        level, frame = level + 1, frame.f_back
    return level


def _plan(family: str, geometry: AnyGeometry, around: Circumstances) -> Plan:
    costs: list[tuple[float, Kernel]] = []
    rejected: list[tuple[str, str]] = []
    for row in KERNELS:
        if row.family != family:
            continue
        reason = _why_not(row, geometry, around)
        if reason is None:
            costs.append((row.cost(geometry), row))
        else:
            rejected.append((row.name, reason))
    for cost, row in sorted(costs, key=lambda entry: (entry[1].fallback, entry[0])):
        try:
            load_row(row)
        except ImportError as error:
            rejected.append((row.name, f"its engine doesn't import: {error}"))
            continue
        tried = {name for name, _ in rejected}
        others = [
            (other.name, _slower(row, cost, other, price))
            for price, other in costs
            if other is not row and other.name not in tried
        ]
        given_way = (*others, *rejected)
        warning = None
        if row.algorithm == "reference" and around.request.algorithm is None:
            warning = (
                f"{geometry.name}: no fast kernel serves, the slow reference does "
                f"({_by_reason(given_way)})"
            )
        return Plan(row, cost, given_way, warning)
    asked = [entry for entry in rejected if entry[1] != _NOT_ASKED]
    reasons = _by_reason(asked) or f"this version has no such {family} kernel"
    raise BackendUnavailableError(
        f"{geometry.name}: backend {str(around.request)!r} can't serve: {reasons}"
    )


_NOT_ASKED = "not asked for"


def _slower(row: Kernel, cost: float, other: Kernel, price: float) -> str:
    if other.fallback > row.fallback:
        return "a fallback, for where no other row serves"
    return f"estimated {price / 1e3:.3g} us against {cost / 1e3:.3g} us"


def _why_not(row: Kernel, geometry: AnyGeometry, around: Circumstances) -> str | None:
    request, limit, on_device, tf32, without = around
    on_gpu = row.engine == "numba_cuda"
    if not request.matches(row) or (on_gpu and not on_device and request.engine is None):
        return _NOT_ASKED
    if on_device and not on_gpu:
        return "the arrays are on a GPU"
    reason = dict(without).get(row.name) or row_missing(row) or row.unsupported(geometry)
    if reason is None and not tf32 and row.rounds(geometry):
        reason = "rounds float32 to tf32, which cnnfast.allow_tf32() would allow"
    if reason is None and (needs := row.scratch_bytes(geometry)) > limit:
        reason = f"needs {needs} bytes of scratch, the workspace limit is {limit}"
    return reason
