"""What a run tells while it goes on: steps and phases it enters, and what its tensors turned out to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from memplan.domain.trace import Phase

Named = tuple[Any, str, str, str]
"""A tensor with its component, its name, and what it is for that name (``grad``, ``exp_avg``)."""


class Meter(Protocol):
    """Listens to a run. Whoever measures decides what a phase means to it."""

    def begin_step(self) -> None:
        """An optimizer step, or a call of ``generate``, begins."""

    def enter(self, phase: Phase, /) -> None:
        """Everything from here on belongs to ``phase``."""

    def leave(self, phase: Phase, /) -> None:
        """What the phase was for is done: forward has returned, gradients or new weights are there."""

    def name(self, tensors: Iterable[Named]) -> None:
        """Say what tensors turned out to be."""


class Deaf:
    """A meter for runs nobody looks at."""

    def begin_step(self) -> None:
        """Nothing is kept."""

    def enter(self, phase: Phase, /) -> None:
        """Nothing is kept."""

    def leave(self, phase: Phase, /) -> None:
        """Nothing is kept."""

    def name(self, tensors: Iterable[Named]) -> None:
        """Nothing is kept."""
