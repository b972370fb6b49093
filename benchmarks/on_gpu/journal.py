"""A section's log: a line of JSON when an item begins and one when it is over.

Kernels may hang, or lose the process its context. The log is on disk, so that what was found until
then is kept, and another process goes on behind the item that did it (``conductor``).
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnfast import BackendUnavailableError

Facts = dict[str, Any]
#: Exit status of a process that can't use the GPU any more.
LOST = 3
#: What an item may end as; the first three are no failures.
OK, REFUSED, SKIPPED = "ok", "refused", "skipped"
FAILED, HUNG, CRASHED, LATE = "failed", "hung", "crashed", "no time"


class Skip(Exception):
    """An item that can't be tried here, and why."""


class Journal:
    """The log of one section; items that are in it already aren't run again, nor are those of a
    kind that cost a process its life twice."""

    def __init__(self, path: Path, seconds: float, alive: Callable[[], object]) -> None:
        self.path, self.alive = path, alive
        self.stop = time.monotonic() + seconds
        self.seen = {line["item"] for line in read(path) if "item" in line}
        self._deadly = deadly(path)

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.stop - time.monotonic()

    def note(self, **facts: Any) -> None:
        """Write facts that belong to no item."""
        append(self.path, {"note": facts})

    def run(self, item: str, work: Callable[[], Facts | None], kind: str = "") -> None:
        """Do a piece of work and log the facts it returns, or what it raised.

        SystemExit with ``LOST`` if the device doesn't answer after a failure.
        """
        if item in self.seen:
            return
        self.seen.add(item)
        if self.left <= 0:
            append(self.path, {"item": item, "status": LATE})
            return
        if kind and self._deadly.count(kind) > 1:
            why = f"{kind} ended two processes before"
            append(self.path, {"item": item, "status": SKIPPED, "why": why})
            return
        append(self.path, {"begin": item, "kind": kind})
        start, status = time.perf_counter(), OK
        facts: Facts = {}
        try:
            facts = work() or {}
        except Skip as why:
            status, facts = SKIPPED, {"why": str(why)}
        except BackendUnavailableError as why:
            status, facts = REFUSED, {"why": str(why)}
        except Exception:
            status, facts = FAILED, {"error": traceback.format_exc()}
        seconds = round(time.perf_counter() - start, 3)
        lost = status == FAILED and self._lost()
        facts = {**facts, "lost": True} if lost else facts
        append(self.path, {"item": item, "status": status, "seconds": seconds, **facts})
        if lost:
            raise SystemExit(LOST)

    def _lost(self) -> bool:
        try:
            self.alive()
        except Exception:
            return True
        return False


def append(path: Path, line: Facts) -> None:
    """Add a line, whole."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str) + "\n")


def read(path: Path) -> list[Facts]:
    """The lines; one that was cut short is left out."""
    lines = []
    for text in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def items(path: Path) -> list[Facts]:
    """The items that are over."""
    return [line for line in read(path) if "item" in line]


def failed_items(path: Path) -> set[str]:
    """The items that failed, hung or crashed."""
    bad = (FAILED, HUNG, CRASHED)
    return {line["item"] for line in items(path) if line["status"] in bad}


def deadly(path: Path) -> list[str]:
    """The kinds of the items that ended a process, each as often as it did."""
    lines = read(path)
    kinds = {line["begin"]: line.get("kind", "") for line in lines if "begin" in line}
    ended = [
        line["item"] for line in lines if line.get("status") in (HUNG, CRASHED) or line.get("lost")
    ]
    return [kinds.get(item, "") for item in ended]


def unfinished(path: Path) -> str | None:
    """The item that has begun and isn't over."""
    last: Facts = next((line for line in reversed(read(path)) if "note" not in line), {})
    return last.get("begin")
