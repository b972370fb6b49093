"""One workload, one number of threads: contenders checked, then timed in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cnnfast.benchmarks import machine, timing
from cnnfast.benchmarks.checking import check
from cnnfast.benchmarks.contender import Contender, Prepared
from cnnfast.benchmarks.contenders import DEFAULT, PACKED
from cnnfast.benchmarks.timing import Timing
from cnnfast.benchmarks.workloads import Workload


@dataclass(frozen=True)
class Entry:
    """One contender that got the workload right."""

    name: str
    role: str
    version: str
    #: Whether its weight was made ready beforehand.
    prepared: bool
    #: What did the work, where the name leaves that open.
    runs: str
    timing: Timing
    max_error: float


@dataclass(frozen=True)
class Contest:
    """Who took part in the order of the contenders, and who didn't."""

    workload: Workload
    threads: int
    entries: tuple[Entry, ...]
    #: Name -> reason, of contenders that don't take the layer, and that raised or got it wrong.
    refused: dict[str, str]
    failed: dict[str, str]

    def own(self, prepared: bool = True, statistic: str = "median") -> Entry | None:
        """Our default backend; the faster of the plain call and, if ``prepared``, the one with the
        weight packed.
        """
        names = (DEFAULT.name, PACKED.name) if prepared else (DEFAULT.name,)
        return self._fastest([e for e in self.entries if e.name in names], statistic)

    def peer(
        self, name: str = "", prepared: bool = True, statistic: str = "median"
    ) -> Entry | None:
        """The fastest other library whose name has ``name`` in it; without ``prepared`` of those
        whose weights came as they are.
        """
        peers = [e for e in self.entries if e.role == "peer" and name in e.name]
        return self._fastest([e for e in peers if prepared or not e.prepared], statistic)

    def ratio(
        self, name: str = "", prepared: bool = True, statistic: str = "median"
    ) -> float | None:
        """Time of ``peer`` over that of ``own``: above 1 we are faster. None without either."""
        own, peer = self.own(prepared, statistic), self.peer(name, prepared, statistic)
        if own is None or peer is None:
            return None
        return float(getattr(peer.timing, statistic) / getattr(own.timing, statistic))

    def flops_rate(self, entry: Entry, statistic: str = "median") -> float:
        """FLOP/s."""
        return self.workload.flops / float(getattr(entry.timing, statistic))

    def bytes_rate(self, entry: Entry, statistic: str = "median") -> float:
        """Bytes/s to and from memory, at least."""
        return self.workload.bytes_moved / float(getattr(entry.timing, statistic))

    def peak_share(self, entry: Entry, statistic: str = "median") -> float | None:
        """FLOP/s over the measured peak of that many cores; None for pooling or without a probe."""
        peak = machine.fma_peak(self.workload.dtype)
        if peak is None or self.workload.family.startswith("pool"):
            return None
        return self.flops_rate(entry, statistic) / (peak * self.threads)

    def bandwidth_share(self, entry: Entry, statistic: str = "median") -> float:
        """Bytes/s over what a copy on that many threads reaches."""
        return self.bytes_rate(entry, statistic) / machine.copy_bandwidth(self.threads)

    @staticmethod
    def _fastest(entries: Sequence[Entry], statistic: str) -> Entry | None:
        return min(entries, key=lambda e: float(getattr(e.timing, statistic)), default=None)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        workload = self.workload
        return {
            "layer": workload.name,
            "title": workload.title,
            "tags": workload.tags,
            "family": workload.family,
            "dtype": workload.dtype,
            "threads": self.threads,
            "flops": workload.flops,
            "bytes": workload.bytes_moved,
            "entries": [asdict(entry) for entry in self.entries],
            "refused": self.refused,
            "failed": self.failed,
        }


def text(value: float | None, form: str) -> str:
    """A number in a table, nothing for None."""
    return "" if value is None else format(value, form)


def contest(
    workload: Workload,
    threads: int,
    contenders: Sequence[Contender],
    seconds: float,
    known: Iterable[Entry] = (),
) -> Contest:
    """Check every contender's result, and time those that are right for about ``seconds`` each.

    A peer whose one checked call was long isn't called again. ``known`` are entries of contenders
    that needn't be run at all.
    """
    arrays = workload.arrays()
    done = {entry.name: entry for entry in known}
    ready: dict[str, Prepared] = {}
    entries: dict[str, Entry] = {}
    refused: dict[str, str] = {}
    failed: dict[str, str] = {}
    for contender in contenders:
        name = contender.name
        if (reason := contender.refuses(workload)) is not None:
            refused[name] = reason
            continue
        if name in done:
            entries[name] = done[name]
            continue
        try:
            prepared = contender.prepare(workload, arrays, threads)
            once, result = timing.timed(prepared.call)
            error = check(contender.as_array(result, workload), workload)
        except Exception as failure:
            failed[name] = f"{type(failure).__name__}: {str(failure).strip() or 'no message'}"
            continue
        entries[name] = Entry(
            name=name,
            role=contender.role,
            version=contender.version(),
            prepared=contender.prepares(workload),
            runs=prepared.runs,
            timing=Timing(once, once, 1),
            max_error=error,
        )
        # Ours may have compiled in that call.
        if contender.role != "peer" or once <= timing.LONG_SECONDS:
            ready[name] = prepared
    timings = timing.measure({name: prepared.call for name, prepared in ready.items()}, seconds)
    for name, measured in timings.items():
        entries[name] = replace(entries[name], timing=measured)
    return Contest(workload, threads, tuple(entries.values()), refused, failed)
