"""Memory that is made anew again and again, whether or not there is much of it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from memplan.domain.bytes import Bytes
from memplan.domain.trace import Phase, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """Allocations of one round of a run, loading not among them: how many, and their bytes together."""

    count: int
    bytes: Bytes

    @classmethod
    def of(cls, trace: Trace) -> Self:
        """The allocations of a trace after loading."""
        begin = next((start for start, phase in trace.phases if phase is not Phase.LOAD), len(trace.events))
        blocks = [block for block in trace.events[begin:] if block >= 0]
        return cls(count=len(blocks), bytes=Bytes(sum(trace.sizes[block] for block in blocks)))

    def times(self, rounds: int) -> Churn:
        """Of several rounds alike."""
        return Churn(count=self.count * rounds, bytes=Bytes(self.bytes * rounds))

    def __add__(self, other: Churn) -> Churn:
        return Churn(count=self.count + other.count, bytes=Bytes(self.bytes + other.bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What a run makes anew although one buffer would hold it, because of a ``setting``; what would mend it.

    ``refused`` says that the run is not to do so, by its own settings.
    """

    setting: str
    message: str
    fix: str
    refused: bool
