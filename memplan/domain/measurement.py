"""What a run did to memory when somebody looked, beside what was predicted for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from memplan.domain.bytes import Bytes
from memplan.domain.churn import Churn
from memplan.domain.estimate import DeviceMemory
from memplan.domain.shortage import Shortage
from memplan.domain.trace import Phase

SMALLEST = Bytes(2**20)
"""A difference on a GPU that always passes: a mebibyte."""

SEGMENT = Bytes(2 * 2**20)
"""The least that is reserved at once: a difference in reserved memory that always passes."""

BOOKKEEPING = Bytes(2**16)
"""The same in host memory, where nothing is rounded: positions, counters, states of random generators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """By how much a prediction may be off: a ``share`` of what was measured, or ``slack`` bytes.

    ``rss`` is the share of the resident set, ``reserved`` that of reserved memory: None is not judged.
    ``disk`` is the share of a file.
    """

    share: float = 0.001
    slack: Bytes = SMALLEST
    rss: float = 0.06
    reserved: float | None = None
    disk: float = 0.005

    def within(self, predicted: int, measured: int) -> bool:
        """Whether a predicted amount of allocated memory is as good as a measured one."""
        return abs(predicted - measured) <= max(self.share * measured, self.slack)


TOLERANCES = {
    "fake": Tolerance(),
    "cpu": Tolerance(share=0.005, slack=BOOKKEEPING),
    "cuda": Tolerance(share=0.003, reserved=0.02),
}
"""What every device is held to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Memory of one run, as PyTorch counts it.

    ``phases`` holds the allocated peak of each phase, ``components`` what was alive at the highest of them.
    ``rss`` is the most of the process that was resident, and ``resident`` the same by phase. ``process`` is
    what the driver saw the process hold of a GPU, its ``context`` included: that is what it held beside the
    reserved memory of the same moment. None is what a device has not got, or nobody told: host memory is not
    reserved. ``overhead`` is what was resident beside tensors. ``disk`` are the files of a checkpoint, if one
    was saved, ``churn`` the allocations of one round where each of them is foretold.
    """

    peak_allocated: Bytes
    peak_reserved: Bytes | None
    phases: tuple[tuple[Phase, Bytes], ...]
    components: tuple[tuple[str, Bytes], ...]
    rss: Bytes | None = None
    resident: tuple[tuple[Phase, Bytes], ...] = ()
    process: Bytes | None = None
    context: Bytes | None = None
    overhead: Bytes | None = None
    disk: tuple[tuple[str, Bytes], ...] = ()
    churn: Churn | None = None

    @classmethod
    def of(cls, memory: DeviceMemory) -> Self:
        """The part of an estimate that can be measured."""
        return cls(
            peak_allocated=memory.peak_allocated,
            peak_reserved=memory.peak_reserved,
            phases=memory.phases,
            components=tuple((part.name, part.bytes) for part in memory.components),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A prediction and a measurement of the same run. ``notes`` say what the measurement rests on.

    ``checks`` say what the run has verified, and what it has not. ``shortage`` is the allocation that the run
    died of; ``foreseen`` says that the prediction dies as well.
    """

    device: str
    predicted: Measurement
    measured: Measurement
    notes: tuple[str, ...] = ()
    checks: tuple[tuple[str, bool], ...] = ()
    shortage: Shortage | None = None
    foreseen: bool = False

    @property
    def tolerance(self) -> Tolerance:
        """What this device is held to."""
        return TOLERANCES[self.device]

    @property
    def passed(self) -> bool:
        """Whether the run went through, and every peak was within the tolerance of what was measured."""
        seen = self._allocated() and self._reserved() and self._resident()
        return self.shortage is None and seen and self._stored() and self._churned()

    def _allocated(self) -> bool:
        predicted = dict(self.predicted.phases)
        within = self.tolerance.within
        phases = [within(predicted.get(phase, Bytes(0)), seen) for phase, seen in self.measured.phases]
        return all(phases) and within(self.predicted.peak_allocated, self.measured.peak_allocated)

    def _reserved(self) -> bool:
        share = self.tolerance.reserved
        predicted, measured = self.predicted.peak_reserved, self.measured.peak_reserved
        if share is None or predicted is None or measured is None:
            return True
        return abs(predicted - measured) <= max(share * measured, SEGMENT)

    def _churned(self) -> bool:
        predicted, measured = self.predicted.churn, self.measured.churn
        if predicted is None or measured is None:
            return True
        counts = (predicted.count, measured.count), (predicted.bytes, measured.bytes)
        return all(abs(before - after) <= self.tolerance.share * after for before, after in counts)

    def _resident(self) -> bool:
        predicted, measured = self.predicted.rss, self.measured.rss
        if predicted is None or measured is None:
            return True
        return abs(predicted - measured) <= self.tolerance.rss * measured

    def _stored(self) -> bool:
        predicted, share = dict(self.predicted.disk), self.tolerance.disk
        return all(
            abs(predicted.get(name, Bytes(0)) - size) <= max(share * size, BOOKKEEPING)
            for name, size in self.measured.disk
        )


def error(predicted: int, measured: int) -> float | None:
    """The error of a prediction in percent of what was measured; ``None`` when nothing was."""
    if not measured:
        return None if predicted else 0.0
    return 100 * (predicted - measured) / measured
