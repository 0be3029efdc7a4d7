"""What a change does to an experiment."""

from __future__ import annotations

from enum import IntEnum


class Harm(IntEnum):
    """What a change does to the experiment: nothing, rounding, or another experiment."""

    EXACT = 0
    NUMERIC = 1
    BEHAVIOUR = 2

    @property
    def label(self) -> str:
        """Lower-case name, as in reports and options."""
        return self.name.lower()
