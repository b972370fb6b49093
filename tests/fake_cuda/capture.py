"""Streams that are captured, and the graphs that come of it."""

from __future__ import annotations

from collections.abc import Callable


class Graph:
    """What a stream was given while it was captured."""

    def __init__(self, stream: int, captured: dict[int, Graph]) -> None:
        self.stream, self._captured = stream, captured
        self.nodes: list[Callable[[], None]] = []
        self.valid = True

    def __enter__(self) -> Graph:
        assert self.stream not in (0, 1), "the legacy stream can't be captured"
        self._captured[self.stream] = self
        return self

    def __exit__(self, *exception: object) -> None:
        del self._captured[self.stream]

    def launch(self) -> None:
        """Do all of it, as cuGraphLaunch would."""
        assert self.valid, "the capture was ended by a call that can't be captured"
        for node in self.nodes:
            node()
