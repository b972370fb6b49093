"""What is asked of cnnfast beside other libraries: a bar per group of workloads, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnfast.benchmarks.contenders import DEFAULT, NUMBA
from cnnfast.benchmarks.contest import Contest

#: FLOP from which a layer counts as large.
LARGE_FLOPS = 200e6
#: Taps up to which filter2D is matched; above, it turns to Fourier transforms.
FILTER2D_TAPS = {"float32": 21, "float64": 11}

COLUMNS = ("bar", "threads", "layers", "mean", "by minima", "worst", "of", "asked", "verdict")


class Figure(NamedTuple):
    """What a bar looks at: a layer's figure by medians and by minima."""

    layer: str
    value: float
    by_minimum: float


#: A contest's figure, of the given statistic; None where the contest has none.
Measure = Callable[[Contest, str], float | None]


@dataclass(frozen=True)
class Bar:
    """A group's bar: its geometric mean and its worst layer, at least (``most``: at most)."""

    title: str
    mean: float | None = None
    worst: float | None = None
    most: bool = False
    form: str = ".2f"

    def asked(self) -> str:
        """The bar in words."""
        sign = "<=" if self.most else ">="
        limits = {"mean": self.mean, "worst": self.worst}
        words = [
            f"{name} {sign} {limit:{self.form}}"
            for name, limit in limits.items()
            if limit is not None
        ]
        return ", ".join(words) or "no bar"

    def reached(self, value: float, limit: float | None) -> bool:
        """Whether a value is on the right side of a limit."""
        return limit is None or (value <= limit if self.most else value >= limit)


@dataclass(frozen=True)
class Verdict:
    """A bar and what was measured."""

    bar: Bar
    #: Empty where threads have nothing to do with it.
    threads: str
    layers: int
    mean: float
    mean_by_minimum: float
    worst: Figure

    @property
    def met(self) -> bool:
        """Whether the medians clear the bar."""
        bar = self.bar
        return bar.reached(self.mean, bar.mean) and bar.reached(self.worst.value, bar.worst)

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``COLUMNS``."""
        form, has_bar = self.bar.form, (self.bar.mean, self.bar.worst) != (None, None)
        return [
            self.bar.title,
            self.threads,
            str(self.layers),
            f"{self.mean:{form}}",
            f"{self.mean_by_minimum:{form}}",
            f"{self.worst.value:{form}}",
            self.worst.layer,
            self.bar.asked(),
            ("met" if self.met else "MISSED") if has_bar else "",
        ]


def judge(bar: Bar, figures: Sequence[Figure], threads: str = "") -> Verdict | None:
    """The verdict on a group's figures; None without any."""
    if not figures:
        return None
    extreme = max if bar.most else min
    return Verdict(
        bar,
        threads,
        len(figures),
        geometric_mean([figure.value for figure in figures]),
        geometric_mean([figure.by_minimum for figure in figures]),
        extreme(figures, key=lambda figure: figure.value),
    )


def geometric_mean(values: Sequence[float]) -> float:
    """0 if one of the values is.

    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    if min(values) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _ratio(peer: str = "") -> Measure:
    return lambda contest, statistic: contest.ratio(peer, statistic=statistic)


def _filter2d(contest: Contest, statistic: str) -> float | None:
    workload = contest.workload
    within = workload.kernel <= FILTER2D_TAPS[workload.dtype]
    return contest.ratio("cv2", statistic=statistic) if within else None


def _peak(contest: Contest, statistic: str) -> float | None:
    own = contest.own(statistic=statistic)
    large = contest.workload.flops > LARGE_FLOPS
    return contest.peak_share(own, statistic) if own and large else None


def _bandwidth(contest: Contest, statistic: str) -> float | None:
    own = contest.own(statistic=statistic)
    return contest.bandwidth_share(own, statistic) if own else None


def _engine(contest: Contest, statistic: str) -> float | None:
    """Time of the default call over that on Numba's kernels."""
    entries = {entry.name: entry for entry in contest.entries}
    times = [
        float(getattr(entries[name].timing, statistic))
        for name in (DEFAULT.name, NUMBA.name)
        if name in entries
    ]
    return times[0] / times[1] if len(times) == 2 else None


def _microseconds(contest: Contest, statistic: str) -> float | None:
    own = contest.own(statistic=statistic)
    return float(getattr(own.timing, statistic)) * 1e6 if own else None


#: (tag, family or name of the workloads, bar, figure).
BARS: tuple[tuple[str, Bar, Measure], ...] = (
    ("dense", Bar("dense / best peer", 1.05, 0.9), _ratio()),
    ("dense", Bar("dense above 200 MFLOP, of FMA peak", worst=0.85, form=".0%"), _peak),
    ("grouped", Bar("grouped and depthwise / best peer", 1.5, 1.0), _ratio()),
    ("few-channel", Bar("few channels / best peer", 1.2, 0.95), _ratio()),
    ("float64", Bar("float64 / torch", 2.0), _ratio("torch")),
    ("float64", Bar("float64 above 200 MFLOP, of FMA peak", worst=0.8, form=".0%"), _peak),
    ("image", Bar("images / cv2 filter2D", worst=1.0), _filter2d),
    ("image", Bar("images / scipy ndimage", worst=10.0), _ratio("scipy ndimage")),
    ("pool", Bar("pooling / torch", 2.0), _ratio("torch")),
    ("large-map", Bar("pooling of large maps, of copy", worst=0.7, form=".0%"), _bandwidth),
    ("dgrad", Bar("input gradient / torch", 1.0), _ratio("torch")),
    ("wgrad", Bar("weight gradient / torch", 1.0), _ratio("torch")),
    ("tiny", Bar("tiny calls / torch", worst=2.0), _ratio("torch")),
    ("tiny-8", Bar("1x1x8x8, 3x3, microseconds", worst=4.0, most=True), _microseconds),
    ("fprop", Bar("convolution, numba engine / default", 0.9), _engine),
    ("pool", Bar("pooling, numba engine / default", 0.9), _engine),
    ("pool_grad", Bar("gradient of pooling / torch"), _ratio("torch")),
    ("nhwc", Bar("channels last / best peer"), _ratio()),
    ("1d", Bar("1d / best peer"), _ratio()),
    ("3d", Bar("3d / best peer"), _ratio()),
)


def verdicts(contests: Sequence[Contest]) -> list[Verdict]:
    """A verdict per bar and number of threads, of the bars that have figures."""
    counts = dict.fromkeys(contest.threads for contest in contests)
    found = [
        judge(bar, _figures(contests, tag, count, measure), str(count))
        for tag, bar, measure in BARS
        for count in counts
    ]
    return [verdict for verdict in found if verdict is not None]


def _figures(contests: Sequence[Contest], tag: str, threads: int, measure: Measure) -> list[Figure]:
    figures = []
    for contest in contests:
        workload = contest.workload
        if contest.threads != threads or tag not in workload.labels:
            continue
        by_median, by_minimum = measure(contest, "median"), measure(contest, "minimum")
        if by_median is not None and by_minimum is not None:
            figures.append(Figure(workload.name, by_median, by_minimum))
    return figures
