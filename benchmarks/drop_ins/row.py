"""A drop-in's case beside what it replaces."""

from __future__ import annotations

from dataclasses import dataclass

from cnnfast.benchmarks.timing import Timing

COLUMNS = ("case", "threads", "cnnfast ms", "contender", "ms", "ratio", "by minima", "asked", "")


@dataclass(frozen=True)
class DropInRow:
    """Seconds per call of ours (``own``) and of what it stands beside (``timing``)."""

    case: str
    contender: str
    own: Timing
    timing: Timing
    #: How many times as fast as the contender ours is to be; None where nothing is asked.
    asked: float | None = None

    def ratio(self, statistic: str = "median") -> float:
        """The contender's time in units of ours.

        >>> row = DropInRow("a", "b", Timing(1.0, 1.0, 3), Timing(5.0, 4.0, 3))
        >>> row.ratio(), row.ratio("minimum")
        (5.0, 4.0)
        """
        return float(getattr(self.timing, statistic) / getattr(self.own, statistic))

    def cells(self, threads: int) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        asked = self.asked is not None
        return [
            self.case,
            str(threads),
            digits(self.own.median * 1e3),
            self.contender,
            digits(self.timing.median * 1e3),
            digits(self.ratio()),
            digits(self.ratio("minimum")),
            f">= {self.asked:g}" if asked else "",
            ("met" if self.ratio() >= (self.asked or 0) else "MISSED") if asked else "",
        ]


def digits(value: float) -> str:
    """Three digits, and all of those before the point.

    >>> digits(7184.4), digits(22.34), digits(0.000349)
    ('7,184', '22.3', '0.000349')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
