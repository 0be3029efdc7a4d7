"""What each process of a distributed run holds for itself: predicted, and measured when it ran."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import Bytes
from memplan.domain.measurement import TOLERANCES


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Bytes of one rank: the storages of its parameters and buffers, gradients and optimizer states.

    Parameters are those between steps, gradients those that the optimizer is about to use, and states those
    it leaves, without single numbers, most of which are kept on the host. ``peak_allocated`` is the most
    that tensors took at once in a step, without what the library that exchanges them takes for itself.
    """

    parameters: Bytes
    gradients: Bytes
    optimizer_state: Bytes
    peak_allocated: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank by its number."""

    number: int
    predicted: Holdings
    measured: Holdings

    @property
    def exact(self) -> bool:
        """Whether parameters, gradients and states are what was predicted, to the byte."""
        predicted, measured = self.predicted, self.measured
        return (
            predicted.parameters == measured.parameters
            and predicted.gradients == measured.gradients
            and predicted.optimizer_state == measured.optimizer_state
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedRun:
    """A run of several processes. ``notes`` say what the measurements rest on."""

    device: str
    sharding: str
    ranks: tuple[Rank, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every rank is exact, and its peak within the device's tolerance."""
        return all(self.accepts(rank) for rank in self.ranks)

    def accepts(self, rank: Rank) -> bool:
        """Whether one rank is."""
        within = TOLERANCES[self.device].within
        return rank.exact and within(rank.predicted.peak_allocated, rank.measured.peak_allocated)

    @property
    def heaviest(self) -> Rank:
        """The rank with the highest measured peak."""
        return max(self.ranks, key=lambda rank: rank.measured.peak_allocated)
