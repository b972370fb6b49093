"""A fair clock: several contenders in one process, in turn, after warm-up."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[], Any]

#: A contender's time is cut into this many turns, so that a noisy moment hits all alike.
TURNS = 5
#: Calls longer than this are made once.
LONG_SECONDS = 1.0
#: A call that long warms itself up: what others left in caches and queues is a small part of it.
WARM_SECONDS = 0.1
#: A sample is at least this long; shorter calls are made several times in it.
SAMPLE_SECONDS = 100e-6
#: The process counts as quiet once it has used less than a tenth of such a stretch of time.
QUIET_SECONDS = 10e-3


@dataclass(frozen=True)
class Timing:
    """Seconds per call."""

    median: float
    minimum: float
    calls: int


@dataclass(frozen=True)
class Pace:
    """How often to call: ``rounds`` samples of ``iterations`` calls each, in ``turns`` turns."""

    rounds: int
    iterations: int
    turns: int


def pace(call_seconds: float, budget: float) -> Pace:
    """How often a call of that length fits the budget: once if it is long, thrice at least if not.

    >>> pace(2.0, 0.3)
    Pace(rounds=1, iterations=1, turns=1)
    >>> pace(0.2, 0.3)
    Pace(rounds=3, iterations=1, turns=3)
    >>> pace(20e-6, 0.25)
    Pace(rounds=2500, iterations=5, turns=5)
    """
    if call_seconds > LONG_SECONDS:
        return Pace(1, 1, 1)
    iterations = max(1, math.ceil(SAMPLE_SECONDS / call_seconds))
    rounds = max(3, math.floor(budget / (call_seconds * iterations)))
    return Pace(rounds, iterations, min(rounds, TURNS))


def settle(limit: float = 0.5) -> None:
    """Wait until the threads of whoever ran last have stopped spinning.

    Thread pools keep their cores busy for a while after a call, in case another follows: 40 ms in
    onnxruntime, 60 in OpenBLAS, 10 in OpenMP. Whoever came next would have to share.
    """
    stop = time.perf_counter() + limit
    while time.perf_counter() < stop:
        used = time.process_time()
        time.sleep(QUIET_SECONDS)
        if time.process_time() - used < QUIET_SECONDS / 10:
            return


def seconds_of(call: Call, iterations: int = 1) -> float:
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(iterations):
        call()
    return (time.perf_counter() - start) / iterations


def timed(call: Call) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@dataclass
class _Run:
    call: Call
    pace: Pace
    warm: bool
    samples: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        settle()
        if not self.warm:
            self.call()
        for _ in range(math.ceil(self.pace.rounds / self.pace.turns)):
            self.samples.append(seconds_of(self.call, self.pace.iterations))

    def timing(self) -> Timing:
        calls = len(self.samples) * self.pace.iterations
        return Timing(statistics.median(self.samples), min(self.samples), calls)


def measure(contenders: Mapping[str, Call], seconds: float = 0.3) -> dict[str, Timing]:
    """Time every contender's call for about ``seconds``, taking turns: A B C A B C ...

    Each is called twice before, once to warm up and once to learn its pace; a turn begins when the
    process is quiet, with an untimed call: nobody pays for the threads and caches of another. Calls
    that warm themselves up do without.
    """
    runs: dict[str, _Run] = {}
    for name, call in contenders.items():
        settle()
        first = seconds_of(call)
        warm = first > WARM_SECONDS
        runs[name] = _Run(call, pace(first if warm else seconds_of(call), seconds), warm)
    for turn in range(TURNS):
        for run in runs.values():
            if turn < run.pace.turns:
                run.take_turn()
    return {name: run.timing() for name, run in runs.items()}
