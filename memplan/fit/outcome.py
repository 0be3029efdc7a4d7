"""What is asked of every config below a folder, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.domain.bytes import NOTHING, Bytes
from memplan.domain.harm import Harm
from memplan.domain.plan import Change, Plan
from memplan.domain.target import Target

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading


class Outcome(StrEnum):
    """What became of one config."""

    FITS = "fits"
    FITS_AFTER_CHANGES = "fits_after_changes"
    DOES_NOT_FIT = "does_not_fit"
    UNDECIDED = "undecided"
    UNREADABLE = "unreadable"


class LeftOut(StrEnum):
    """Why a file is not planned."""

    NO_CONFIG = "no config"
    NOT_PLANNED = "a format that is not planned"
    MODEL = "a model's config"
    PART = "part of another config's job"
    LIST = "a list of configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One config: what became of it, and the plan in short.

    ``needs`` is the memory of the process with the ``changes``, ``needed`` without. ``reason`` says why it
    could not be read, or what blocks. ``by_hand`` counts changes that its own file cannot express. ``saved``
    is the plan's file, if one was written.
    """

    path: Path
    outcome: Outcome
    reason: str = ""
    dialect: str | None = None
    target: str = ""
    harm: Harm = Harm.EXACT
    changes: tuple[Change, ...] = ()
    needed: Bytes = NOTHING
    needs: Bytes = NOTHING
    headroom: Bytes = NOTHING
    slowdown: float = 1.0
    by_hand: int = 0
    saved: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of every config. All of it can be handed to another process.

    ``target`` says where a config has to fit; ``reading`` and ``policy`` are further arguments of
    ``memplan.read.read`` and ``memplan.fit.fit``; ``model`` stands in where a config's own is not known or
    not named; ``save`` writes a feasible plan of the config at a path, and says where to.
    """

    target: Callable[[Reading], Target]
    reading: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    save: Callable[[Reading, Plan, Path], Path] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderPlans:
    """The plans of a folder's configs in the order of their paths, and how many files were left out why."""

    folder: Path
    planned: tuple[Planned, ...]
    left_out: Mapping[LeftOut, int]

    def count(self, outcome: Outcome) -> int:
        """How many configs came out so."""
        return sum(each.outcome is outcome for each in self.planned)

    @property
    def exit_code(self) -> int:
        """0 all fit, as they are or with their plans; 1 some do not; 3 of some it cannot be said.

        Configs that cannot be read count only where no other can: then it is 2.
        """
        if self.count(Outcome.UNREADABLE) == len(self.planned):
            return 2
        if self.count(Outcome.DOES_NOT_FIT):
            return 1
        return 3 if self.count(Outcome.UNDECIDED) else 0
