"""What earlier runs on a machine say of the host memory that a process takes beside its tensors."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import NOTHING, Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Resident bytes of the interpreter and its libraries; on a GPU those of CUDA's host side are among them.

    ``usual`` is the most that was seen before a model was there. ``least`` and ``most`` are how far the runs
    went from that, each other and what was predicted for their tensors; beyond the tensors of the ``largest``
    this may grow, by ``growth`` as a share of them. ``date`` is that of the last, a day in ISO 8601.
    """

    runs: int
    date: str
    least: Bytes
    usual: Bytes
    most: Bytes
    largest: Bytes = NOTHING
    growth: float = 0.0
    on_gpu: bool = False

    def __post_init__(self) -> None:
        if self.runs < 1 or not 0 < self.least <= self.usual <= self.most:
            raise ValueError(f"{self.runs} runs with {self.least} to {self.most} say nothing of {self.usual}")

    def beyond(self, tensors: int) -> int:
        """What may come on top of ``most`` with so many bytes of tensors; if negative, go off ``least``."""
        return int(self.growth * max(0, tensors - self.largest))

    @property
    def note(self) -> str:
        """What an estimate says of it."""
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        what = "the libraries' and CUDA's part in host memory" if self.on_gpu else "the libraries' memory"
        return f"{what} is that of {runs} on this machine ({self.date})"
