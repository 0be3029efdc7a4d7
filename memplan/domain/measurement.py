"""What a run did to memory when somebody looked, beside what was predicted for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import DeviceMemory
from memplan.domain.trace import Phase

SHARE = 0.001
"""By how much of a measured amount a prediction may be off."""

SMALLEST = Bytes(2**20)
"""A difference that always passes: a mebibyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """GPU memory of one run, as PyTorch counts it.

    ``phases`` holds the allocated peak of each phase, ``components`` what was alive at the highest of them.
    """

    peak_allocated: Bytes
    peak_reserved: Bytes
    phases: tuple[tuple[Phase, Bytes], ...]
    components: tuple[tuple[str, Bytes], ...]

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
    """A prediction and a measurement of the same run. ``notes`` say what the measurement rests on."""

    device: str
    predicted: Measurement
    measured: Measurement
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every allocated peak is within a thousandth, or a mebibyte, of what was measured."""
        predicted = dict(self.predicted.phases)
        phases = [within(predicted.get(phase, Bytes(0)), seen) for phase, seen in self.measured.phases]
        return all(phases) and within(self.predicted.peak_allocated, self.measured.peak_allocated)


def within(predicted: int, measured: int) -> bool:
    """Whether a predicted amount is as good as a measured one."""
    return abs(predicted - measured) <= max(SHARE * measured, SMALLEST)


def error(predicted: int, measured: int) -> float | None:
    """The error of a prediction in percent of what was measured; ``None`` when nothing was."""
    if not measured:
        return None if predicted else 0.0
    return 100 * (predicted - measured) / measured
