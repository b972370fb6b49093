"""Programs on a GPU: compiled, loaded and packed once, then launched with raw pointers.

A launch is one call of the driver with a buffer of parameters, in which a call only puts its
pointers. Nothing is allocated, copied or waited for, so that a call can be captured in a graph.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from . import driver
from .compiler import ptx_of, target_of
from .parameters import packed
from .program import Program


class Bound:
    """A program on the current device: ``run(pointers, stream)``, from any thread."""

    def __init__(self, program: Program, capability: int) -> None:
        self.program = program
        self.launches = []
        for launch in program.launches:
            entry = launch.entry
            text, name = ptx_of(entry, target_of(capability, entry.needs))
            function = driver.load(text, name, entry.shared)
            self.launches.append((function, packed(launch)))

    def run(self, pointers: Mapping[str, int], stream: int) -> None:
        """Launch everything on a stream; pointers are those of the operands' first elements."""
        for function, (launch, template, slots) in self.launches:
            parameters = bytearray(template)
            for position, operand, offset in slots:
                struct.pack_into("<Q", parameters, position, pointers[operand] + offset)
            entry = launch.entry
            driver.launch(function, launch.grid, entry.threads, entry.shared, stream, parameters)
