"""What earlier runs on a machine say of its CUDA context."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The least and the most that CUDA contexts of measured runs took, how many runs, and when the last was.

    ``date`` is a day in ISO 8601.
    """

    runs: int
    date: str
    least: Bytes
    most: Bytes

    def __post_init__(self) -> None:
        if self.runs < 1 or not 0 < self.least <= self.most:
            raise ValueError(f"{self.runs} runs with contexts of {self.least} to {self.most} say nothing")

    @property
    def note(self) -> str:
        """What an estimate says of it."""
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        return f"the CUDA context is that of {runs} on this machine ({self.date})"
