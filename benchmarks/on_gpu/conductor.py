"""Sections one after the other, each in a process that is started again after a crash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnfast.benchmarks.on_gpu import journal

#: Seconds without a line in the log after which a process counts as hung.
STALL = 75.0
#: A section's process is started at most so often.
STARTS = 15
#: Seconds that a process needs before its first item: imports, a context, libraries.
START_SECONDS = 60.0
#: Exit status of what can't be started.
NOT_THERE = 127
#: What a sanitizer says at its end.
SANITIZED = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: .*")
#: Characters of what a process printed that are kept.
TAIL = 3000


@dataclass(frozen=True)
class Section:
    """A section: ``share`` of the time that is left when it begins, among those still to come."""

    name: str
    share: float
    what: str
    #: Words in front of Python's command line: a tool that runs it.
    tool: tuple[str, ...] = ()
    stall: float = STALL


@dataclass(frozen=True)
class Start:
    """How a section's process is started."""

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    patience: float = 1.0


def conduct(
    sections: Sequence[Section], start: Start, seconds: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the sections within ``seconds``, about; the name of each and what it found."""
    stop = time.monotonic() + seconds
    for i, section in enumerate(sections):
        to_come = sum(other.share for other in sections[i:])
        budget = max(0.0, (stop - time.monotonic()) * section.share / to_come)
        print(f"{section.name}: {section.what} (up to {budget:.0f} s)", flush=True)
        result = _section(section, start, budget)
        print(f"    {summary(result)}", flush=True)
        yield section.name, result


def summary(result: dict[str, Any]) -> str:
    """How many items ended as what."""
    counts: dict[str, int] = {}
    for item in result["items"]:
        counts[item["status"]] = counts.get(item["status"], 0) + 1
    parts = [f"{count} {status}" for status, count in counts.items()]
    parts += [f"started {result['starts']} times"] if result["starts"] > 1 else []
    parts += [found[-1] for found in [SANITIZED.findall(result["output"])] if found]
    return f"{', '.join(parts) or 'nothing'}; {result['seconds']:.0f} s"


def _section(section: Section, start: Start, budget: float) -> dict[str, Any]:
    path, began = start.folder / f"{section.name}.jsonl", time.monotonic()
    broken, output, starts = "", "", 0
    while starts < STARTS:
        before, starts = len(journal.items(path)), starts + 1
        left = budget - (time.monotonic() - began)
        if starts > 1 and left <= 0:
            break
        code, output = _process(section, start, path, max(left, 0.0))
        if code == 0:
            break
        open_item = journal.unfinished(path)
        if open_item is not None:
            status = journal.HUNG if code is None else journal.CRASHED
            journal.append(path, {"item": open_item, "status": status, "error": output})
        elif code != journal.LOST:
            broken = f"exit status {code}: {output}"
        if len(journal.items(path)) == before:
            broken = broken or f"exit status {code} before the first item: {output}"
            break
    return {
        "items": journal.items(path),
        "notes": [line["note"] for line in journal.read(path) if "note" in line],
        "seconds": round(time.monotonic() - began, 1),
        "starts": starts,
        "broken": broken,
        "output": output,
    }


def _process(section: Section, start: Start, path: Path, seconds: float) -> tuple[int | None, str]:
    """Run the section's process; its exit status, None if it hung, and its last words."""
    words = [
        *section.tool, *start.command, "--section", section.name, "--journal", str(path),
        "--seconds", f"{seconds:.1f}",
    ]  # fmt: skip
    output = start.folder / f"{section.name}.out"
    with output.open("ab") as file:
        try:
            child = subprocess.Popen(
                words, stdout=file, stderr=subprocess.STDOUT, env=start.environment,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return NOT_THERE, str(error)
        code = _watched(child, path, section.stall * start.patience)
    return code, output.read_bytes()[-TAIL:].decode(errors="replace")


def _watched(child: subprocess.Popen[bytes], path: Path, stall: float) -> int | None:
    size, since = -1, time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                return child.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
            now = path.stat().st_size if path.exists() else -1
            if now != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since > stall:
                return None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def environment(paths: Sequence[Path], **more: str) -> dict[str, str]:
    """The environment of this process with folders in front of Python's path."""
    found = [str(path) for path in paths]
    found += filter(None, [os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(found), **more}


def python(*words: str) -> tuple[str, ...]:
    """The command line of this Python."""
    return (sys.executable, *words)
