"""Programs on a GPU: compiled, loaded and packed once, then launched with raw pointers.

Nothing is allocated, copied or waited for while a program runs, so that a call can be captured in
a graph.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from threading import Lock

from . import driver
from .compiler import ptx_of, target_of
from .parameters import packed
from .program import Program


class Bound:
    """A program in the current context: ``run(pointers, stream)``, from any thread.

    ``operands`` names what the pointers, to first elements, are of.
    """

    def __init__(self, program: Program, operands: Sequence[str]) -> None:
        self.program = program
        major, minor = driver.capability()
        capability = 10 * major + minor
        self.launchers = []
        for launch in program.launches:
            entry = launch.entry
            text, name = ptx_of(entry, target_of(capability, entry.needs))
            function = driver.load(text, name, entry.shared)
            _, template, slots = packed(launch)
            launcher = driver.Launcher(
                function, launch.grid, entry.threads, entry.shared, len(template)
            )
            launcher.params.raw = template
            places = [(at, operands.index(operand), offset) for at, operand, offset in slots]
            self.launchers.append((launcher, places))
        self.lock = Lock()

    def run(self, pointers: Sequence[int], stream: int) -> None:
        """Launch everything on a stream."""
        # A launcher's parameters are shared; the driver copies them before it returns.
        with self.lock:
            for launcher, places in self.launchers:
                params = launcher.params
                for position, operand, offset in places:
                    struct.pack_into("<Q", params, position, pointers[operand] + offset)
                launcher(stream)
