"""The allocation at which a real run was out of memory, and what it held then."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import Bytes
from memplan.domain.trace import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """``tried`` bytes were asked for in ``phase``, for ``tensor``, on top of ``allocated`` of a ``budget``.

    ``alive`` is what was held then, by component, and ``predicted`` what the prediction holds where it comes
    to the same end, or at its peak.
    """

    budget: Bytes
    tried: Bytes
    allocated: Bytes
    phase: Phase
    tensor: str
    alive: tuple[tuple[str, Bytes], ...]
    predicted: tuple[tuple[str, Bytes], ...]

    @property
    def message(self) -> str:
        """What happened, in a sentence."""
        return (
            f"out of memory in {self.phase}: {self.tried.rounded()} asked for {self.tensor}, with"
            f" {self.allocated.rounded()} of {self.budget.rounded()} in use"
        )
